"""Sensors whose values are small text files of the kernel: what iio and hwmon have in common.

A device is looked up again at every open: its number changes when it is plugged in anew.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from edge_agent.config.schema import SensorConfig
from edge_agent.errors import ConfigError, DeviceError
from edge_agent.io.sensors.context import SensorContext, choices, source_of
from edge_agent.io.sensors.pacing import Pacer
from edge_agent.records import RawSample


@dataclass(frozen=True, slots=True)
class Attribute:
    """One file with one value: (content + offset) * scale / divisor, as the kernel's ABI documents say."""

    path: Path
    scale: float = 1.0
    offset: float = 0.0
    divisor: float = 1.0

    def read(self) -> float | str:
        """The value, or the text where it is no number. Raises OSError."""
        text = read_text(self.path)
        try:
            return (float(text) + self.offset) * self.scale / self.divisor
        except ValueError:
            return text


class SysfsSensor:
    """Asks every attribute once each ``interval``.

    An attribute that fails alone leaves its field out; when all fail, the device is taken for lost.
    """

    def __init__(
        self, config: SensorConfig, context: SensorContext, resolve: Callable[[], Mapping[str, Attribute]]
    ) -> None:
        """``resolve`` finds each field's attribute; it raises DeviceError while the device is not there, ConfigError
        when the device is there and the source or a ``select`` does not fit it."""
        self._source = source_of(config)
        self._clock = context.clock
        self._pacer = Pacer(config, context)
        self._resolve = resolve
        self._attributes: Mapping[str, Attribute] = {}
        # Not attached yet is no mistake of the configuration: open will say it.
        with contextlib.suppress(DeviceError, OSError):
            resolve()

    def open(self) -> None:
        """Find the device and its attributes. Raises DeviceError."""
        try:
            self._attributes = self._resolve()
        except ConfigError as error:
            raise DeviceError(str(error)) from None
        except OSError as error:  # unplugged while it was looked at
            raise DeviceError(f"{self._source} is lost: {error.filename}: {error.strerror}") from None

    def read(self, timeout_s: float) -> RawSample | None:
        """The next sample, stamped in the middle of its reading. Raises DeviceError when no attribute answers."""
        if not self._pacer.wait(timeout_s):
            return None
        begin = self._clock.monotonic_ns()
        values: dict[str, object] = {}
        failure: OSError | None = None
        for name, attribute in self._attributes.items():
            try:
                values[name] = attribute.read()
            except OSError as error:  # a bus error, or the device is gone
                failure = error
        if not values:
            why = f"{failure.filename}: {failure.strerror}" if failure else "it is not open"
            raise DeviceError(f"{self._source} can't be read: {why}; check that the device is attached")
        return RawSample((begin + self._clock.monotonic_ns()) // 2, values)

    def close(self) -> None:
        """Nothing is held open between two readings."""
        self._attributes = {}


def read_text(path: Path) -> str:
    """The file's text without the white space around it. Raises OSError."""
    return path.read_text(encoding="utf-8", errors="replace").strip()


def label(directory: Path, file: str) -> str | None:
    """What a device calls itself in that file; None where it has none or is just going away."""
    with contextlib.suppress(OSError):
        return read_text(directory / file)
    return None


def directories(parent: Path, prefix: str) -> list[Path]:
    """The device folders ``prefix0``, ``prefix1``, … in the order of their numbers."""
    return sorted(parent.glob(f"{prefix}[0-9]*"), key=lambda path: (len(path.name), path.name))


def find_directory(config: SensorConfig, found: Iterable[Path], wanted: str, label_files: Iterable[str]) -> Path:
    """The one folder among ``found`` that is, or calls itself, ``wanted``; an absolute path stands for itself.

    Raises DeviceError when there is none, ConfigError when several have that name.
    """
    if wanted.startswith("/"):
        if not Path(wanted).is_dir():
            raise DeviceError(f"{source_of(config)} is not there; attach the device or correct the path")
        return Path(wanted)
    names = {path: {path.name} | {label(path, file) or path.name for file in label_files} for path in found}
    matches = [path for path, own in names.items() if wanted in own]
    if not matches:
        present = choices(wanted, set().union(*names.values()))
        raise DeviceError(f"{source_of(config)} is not attached, or its driver is not loaded; {present}")
    if len(matches) > 1:
        which = " or ".join(path.name for path in matches)
        raise ConfigError(f"{source_of(config)} stands for {len(matches)} devices; write {which} instead of the name")
    return matches[0]
