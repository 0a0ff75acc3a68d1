"""Sensors of the kernel's Industrial I/O subsystem: ``iio:bmp280``, ``iio:iio:device0`` or the folder's full path.

Values are in the units of the IIO ABI, and the field's scale, offset and unit convert them: temperature is in
milli degree Celsius, humidity in milli percent, pressure in kilopascal, voltage in millivolt, current in milliampere,
power in milliwatt, acceleration in m/s2, angular velocity in rad/s, magnetic field in gauss, illuminance in lux,
proximity in metre or without unit, distance in metre, resistance in ohm
(https://docs.kernel.org/admin-guide/abi-testing.html, sysfs-bus-iio).
"""

from __future__ import annotations

import re
from functools import partial
from pathlib import Path

from edge_agent.config.schema import SensorConfig
from edge_agent.errors import ConfigError, DeviceError
from edge_agent.io.sensors.context import SensorContext, choices, selectors, source_of
from edge_agent.io.sensors.sysfs import Attribute, SysfsSensor, directories, find_directory, read_text

SYSFS = Path("/sys")
LABEL_FILES = ("name", "label")

_VALUE = re.compile(r"(in_.+)_(?:input|raw)")
# in_voltage0, in_accel_x, in_voltage0-voltage1: direction, type, index, the other half of a difference, modifier
_CHANNEL = re.compile(r"(?P<way>in)_(?P<type>[a-z]+)\d*(?P<minus>-(?P<type2>[a-z]+)\d*)?(?:_.+)?")


class IioSensor(SysfsSensor):
    """One IIO device; a field's ``select`` is a channel such as ``in_temp`` or ``in_voltage0``."""

    def __init__(self, config: SensorConfig, argument: str, context: SensorContext, root: Path = SYSFS) -> None:
        """Raises ConfigError when the device is attached and has no such channel."""
        super().__init__(config, context, partial(_attributes, config, argument, root))


def devices(root: Path = SYSFS) -> list[Path]:
    """The folders of all IIO devices."""
    return directories(root / "bus/iio/devices", "iio:device")


def channels(device: Path) -> list[str]:
    """The channels that deliver a value, by name."""
    return sorted({match[1] for path in device.glob("in_*") if (match := _VALUE.fullmatch(path.name))})


def _attributes(config: SensorConfig, argument: str, root: Path) -> dict[str, Attribute]:
    device = find_directory(config, devices(root), argument, LABEL_FILES)
    known = channels(device)
    attributes = {}
    for name, channel in selectors(config).items():
        if channel not in known:
            allowed = choices(channel, known)
            raise ConfigError(f'{source_of(config)} has no channel "{channel}" for field "{name}"; {allowed}')
        attributes[name] = _attribute(config, device, channel)
    return attributes


def _attribute(config: SensorConfig, device: Path, channel: str) -> Attribute:
    processed = device / f"{channel}_input"
    if processed.exists():
        return Attribute(processed)
    return Attribute(
        device / f"{channel}_raw",
        scale=_shared(config, device, channel, "scale", 1.0),
        offset=_shared(config, device, channel, "offset", 0.0),
    )


def _shared(config: SensorConfig, device: Path, channel: str, what: str, default: float) -> float:
    """The channel's own attribute, or the one shared by all of its type, of its direction or of the device."""
    names = [f"{channel}_{what}"]
    if match := _CHANNEL.fullmatch(channel):
        other = f"-{match['type2']}" if match["minus"] else ""
        names += [f"{match['way']}_{match['type']}{other}_{what}", f"{match['way']}_{what}", what]
    for name in names:
        path = device / name
        if path.exists():
            try:
                return float(read_text(path))
            except (OSError, ValueError) as error:
                raise DeviceError(
                    f"{source_of(config)}: {path} can't be read as a number: {error}; check the device"
                ) from None
    return default
