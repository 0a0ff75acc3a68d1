"""``serial:/dev/ttyUSB0?baud=9600``: a device that writes lines of text to a serial port.

Query keys: baud, parity (none, even, odd, mark, space), stopbits (1, 1.5, 2), bytesize (5 to 8) and, with
format = "csv", columns (``columns=a,b,c``). What was read of a line stays held from one read to the next.
"""

from __future__ import annotations

import contextlib
import errno
import math
import os
import re
import select
import termios
from collections import deque
from typing import Any
from urllib.parse import parse_qsl

import serial

from edge_agent.config.schema import SensorConfig
from edge_agent.errors import ConfigError, DeviceError
from edge_agent.io.sensors.context import SensorContext, choices, source_of, unreadable
from edge_agent.io.sensors.line_formats import Line, LineBuffer, line_parser
from edge_agent.records import RawSample

_CHUNK_BYTES = 4096  # the kernel's own buffer of a terminal

_CHOICES: dict[str, dict[str, Any]] = {
    "parity": {"none": "N", "even": "E", "odd": "O", "mark": "M", "space": "S"},
    "stopbits": {"1": 1, "1.5": 1.5, "2": 2},
    "bytesize": {"5": 5, "6": 6, "7": 7, "8": 8},
}

_WHY = {
    errno.ENOENT: "is not there; attach it",
    errno.EACCES: "may not be opened; add the user to the group dialout",
    errno.EBUSY: "is in use by another program; stop that one",
    errno.EAGAIN: "is in use by another program; stop that one",  # the lock of pyserial's exclusive mode
}


class SerialLinesSensor:
    """One sample a line, stamped when its end arrived. A line that can't be read gives an ``unreadable`` value."""

    def __init__(self, config: SensorConfig, argument: str, context: SensorContext) -> None:
        """Raises ConfigError for the query, the pattern or a ``select`` that does not fit the format."""
        self._config = config
        self._clock = context.clock
        self._path, _, query = argument.partition("?")
        self._settings, columns = _settings(config, query)
        self._parse = line_parser(config, columns)
        self._port: serial.Serial | None = None
        self._lines = LineBuffer()
        self._ready: deque[RawSample] = deque()

    def open(self) -> None:
        """Raises DeviceError."""
        self.close()
        try:
            # timeout 0: waiting is done with poll, so that no byte is lost between two reads
            self._port = serial.Serial(self._path, timeout=0, exclusive=True, **self._settings)
        except (OSError, ValueError, termios.error) as error:  # SerialException is an OSError, termios.error is not
            why = _WHY.get(getattr(error, "errno", None) or 0, f"can't be opened: {error}")
            raise DeviceError(f"{source_of(self._config)}: {self._path} {why}") from None

    def read(self, timeout_s: float) -> RawSample | None:
        """The next line's values. Raises DeviceError when the port is gone."""
        deadline_ns = self._clock.monotonic_ns() + round(timeout_s * 1e9)
        while not self._ready:
            left_ns = deadline_ns - self._clock.monotonic_ns()
            chunk = self._receive(max(0, left_ns))
            if chunk is None:
                return None
            now = self._clock.monotonic_ns()
            self._ready.extend(RawSample(now, self._values(line)) for line in self._lines.feed(chunk))
        return self._ready.popleft()

    def close(self) -> None:
        """What was held of a line is dropped with the port."""
        port, self._port = self._port, None
        if port is not None:
            with contextlib.suppress(OSError):
                port.close()
        self._lines = LineBuffer()
        self._ready.clear()

    def _receive(self, left_ns: int) -> bytes | None:
        """The bytes that are there, within that time; None when there are none."""
        if self._port is None:
            raise DeviceError(f"{source_of(self._config)} is not open")
        handle = self._port.fileno()
        poll = select.poll()
        poll.register(handle, select.POLLIN)
        try:
            if not poll.poll(math.ceil(left_ns / 1e6)):
                return None
            chunk = os.read(handle, _CHUNK_BYTES)
        except BlockingIOError:
            return None
        except OSError as error:
            raise DeviceError(f"{source_of(self._config)} is lost: {error.strerror}; check the plug") from None
        if not chunk:
            raise DeviceError(f"{source_of(self._config)} is lost: it was unplugged or hung up; check the plug")
        return chunk

    def _values(self, line: Line) -> dict[str, object]:
        text = line.content.decode("utf-8", errors="replace").strip()
        try:
            if not line.cut:
                return self._parse(text)
        except ValueError:
            pass
        return unreadable(self._config, text)


def _settings(config: SensorConfig, query: str) -> tuple[dict[str, Any], list[str]]:
    """pyserial's settings and the names of the columns."""
    try:
        pairs = dict(parse_qsl(query, keep_blank_values=True, strict_parsing=True)) if query else {}
    except ValueError as error:
        raise ConfigError(f"{source_of(config)} has a malformed query: {error}; write key=value&key=value") from None
    settings: dict[str, Any] = {}
    for key, value in pairs.items():
        if key == "baud":
            settings["baudrate"] = _baud(config, value)
        elif key in _CHOICES:
            settings[key] = _choice(config, key, value)
        elif key != "columns":
            keys = choices(key, ["baud", "columns", *_CHOICES])
            raise ConfigError(f'{source_of(config)} has the unknown query key "{key}"; {keys}')
    columns = pairs.get("columns", "")
    if columns and config.format != "csv":
        raise ConfigError(f'{source_of(config)} names columns, which needs format = "csv", found "{config.format}"')
    return settings, [name.strip() for name in columns.split(",")] if columns else []


def _choice(config: SensorConfig, key: str, value: str) -> object:
    if value not in _CHOICES[key]:
        raise ConfigError(f'{source_of(config)} has {key} "{value}"; {choices(value, _CHOICES[key])}')
    return _CHOICES[key][value]


def _baud(config: SensorConfig, value: str) -> int:
    if not re.fullmatch("[1-9][0-9]{1,7}", value):
        raise ConfigError(f'{source_of(config)} has baud "{value}"; allowed: a whole number such as 9600 or 115200')
    return int(value)
