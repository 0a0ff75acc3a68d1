"""Which sensors this board has, for ``doctor`` and for a person who writes the configuration. Reads names only."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from edge_agent.io.lasting_names import lasting_names
from edge_agent.io.sensors import hwmon, iio
from edge_agent.io.sensors.sysfs import label

SYSFS = Path("/sys")
DEVICES = Path("/dev")


@dataclass(frozen=True, slots=True)
class FoundSensor:
    """``source`` as it is written in the configuration; ``selects`` are what its fields may select, where the
    kernel says so."""

    source: str
    detail: str
    selects: tuple[str, ...] = ()


def find_sensors(root: Path = SYSFS, devices: Path = DEVICES) -> list[FoundSensor]:
    """IIO devices, hwmon chips, thermal zones and serial ports, in that order. Never raises."""
    return [
        *_named("iio:", iio.devices(root), "name", iio.channels),
        *_named("hwmon:", hwmon.chips(root), "name", hwmon.values),
        *_named("hwmon:thermal/", hwmon.zones(root), "type", hwmon.values),
        *_serial_ports(root, devices),
    ]


def _named(
    scheme: str, directories: list[Path], label_file: str, selects: Callable[[Path], list[str]]
) -> list[FoundSensor]:
    """A device goes by its name where that is the only one; several of a kind go by their folders."""
    names = {path: label(path, label_file) or path.name for path in directories}
    counts = Counter(names.values())
    found = []
    for path, name in names.items():
        argument = name if counts[name] == 1 else path.name
        try:
            found.append(FoundSensor(f"{scheme}{argument}", f"{name} in {path}", tuple(selects(path))))
        except OSError:  # unplugged since it was listed
            continue
    return found


def _serial_ports(root: Path, devices: Path) -> list[FoundSensor]:
    """Ports with hardware behind them, by a name that lasts where there is one: type 0 is a port that the kernel only
    reserved a number for."""
    ports = sorted(path for path in (root / "class/tty").glob("tty*") if (path / "device").exists())
    real = [str(devices / path.name) for path in ports if label(path, "type") != "0"]
    lasting = lasting_names(devices / "serial")
    return [FoundSensor(f"serial:{lasting.get(node, node)}", f"serial port {Path(node).name}") for node in real]
