"""The board's own sensors: ``hwmon:NAME`` (the chip's ``name`` file) or ``hwmon:hwmon0`` for a hwmon chip,
``hwmon:thermal/TYPE`` or ``hwmon:thermal_zone0`` for a thermal zone, or the folder's full path.

Values are in whole units, divided as the hwmon ABI says (https://docs.kernel.org/hwmon/sysfs-interface.html): temp
in degree Celsius, in (voltage) in volt, curr in ampere, power in watt, energy in joule, humidity in percent, fan in
revolutions a minute, freq in hertz; a thermal zone's temp is in degree Celsius. Anything else is as it is read.
"""

from __future__ import annotations

import re
from functools import partial
from pathlib import Path

from edge_agent.config.schema import SensorConfig
from edge_agent.errors import ConfigError
from edge_agent.io.sensors.context import SensorContext, choices, selectors, source_of
from edge_agent.io.sensors.sysfs import Attribute, SysfsSensor, directories, find_directory

SYSFS = Path("/sys")

_DIVISORS = {"temp": 1e3, "in": 1e3, "curr": 1e3, "humidity": 1e3, "power": 1e6, "energy": 1e6}
_VALUE = re.compile(r"(temp|in|curr|power|energy|humidity|fan|freq|pwm)\d+(_input|_average)?|temp")


class HwmonSensor(SysfsSensor):
    """One chip or zone; a field's ``select`` is an attribute such as ``temp1_input`` (or ``temp1``), a zone's
    is ``temp``."""

    def __init__(self, config: SensorConfig, argument: str, context: SensorContext, root: Path = SYSFS) -> None:
        """Raises ConfigError when the chip is there and has no such attribute."""
        super().__init__(config, context, partial(_attributes, config, argument, root))


def chips(root: Path = SYSFS) -> list[Path]:
    """The folders of all hwmon chips."""
    return directories(root / "class/hwmon", "hwmon")


def zones(root: Path = SYSFS) -> list[Path]:
    """The folders of all thermal zones."""
    return directories(root / "class/thermal", "thermal_zone")


def values(directory: Path) -> list[str]:
    """The attributes that hold a value, by name."""
    return sorted(path.name for path in directory.iterdir() if _VALUE.fullmatch(path.name))


def _attributes(config: SensorConfig, argument: str, root: Path) -> dict[str, Attribute]:
    directory = _directory(config, argument, root)
    known = values(directory)
    attributes = {}
    for name, select in selectors(config).items():
        file = select if select in known else f"{select}_input"
        if file not in known:
            allowed = choices(select, known)
            raise ConfigError(f'{source_of(config)} has no value "{select}" for field "{name}"; {allowed}')
        kind = re.match("[a-z]+", file)
        attributes[name] = Attribute(directory / file, divisor=_DIVISORS.get(kind[0] if kind else "", 1.0))
    return attributes


def _directory(config: SensorConfig, argument: str, root: Path) -> Path:
    if argument.startswith("thermal/"):
        return find_directory(config, zones(root), argument.removeprefix("thermal/"), ["type"])
    if re.fullmatch(r"thermal_zone\d+", argument):
        return find_directory(config, zones(root), argument, [])
    return find_directory(config, chips(root), argument, ["name"])
