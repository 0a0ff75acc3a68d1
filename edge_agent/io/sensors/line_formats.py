"""Bytes into lines, and a line of text into values by field name: ``format = "json"``, ``"csv"`` or ``"regex"``.

Pure: no port and no clock. What a device sends can raise ValueError at most, and one bad line harms no other.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from edge_agent.config.schema import SensorConfig
from edge_agent.errors import ConfigError
from edge_agent.io.sensors.context import choices, selectors
from edge_agent.io.sensors.json_path import JsonFields

LINE_BYTES_MOST = 4096  # a longer line is no reading: a wrong baud rate, or a device that sends no line ends

LineParser = Callable[[str], dict[str, object]]
"""The values of one line, at least one. Raises ValueError for a line that has none."""


@dataclass(frozen=True, slots=True)
class Line:
    content: bytes
    cut: bool = False  # its end is missing: it was longer than LINE_BYTES_MOST


@dataclass(slots=True)
class LineBuffer:
    """Bytes in, whole lines out. What comes before the first line end is dropped: its beginning may be missing."""

    _held: bytes = b""
    _dropping: bool = True

    def feed(self, chunk: bytes) -> list[Line]:
        """The lines that this chunk ends, without blank ones. Line ends are CR, LF or both."""
        *ended, self._held = re.split(rb"[\r\n]", self._held + chunk)
        if ended and self._dropping:
            del ended[0]
            self._dropping = False
        lines = [Line(line[:LINE_BYTES_MOST], len(line) > LINE_BYTES_MOST) for line in ended if line.strip()]
        if len(self._held) > LINE_BYTES_MOST and not self._dropping:
            lines.append(Line(self._held[:LINE_BYTES_MOST], cut=True))
            self._dropping = True
        if self._dropping:
            self._held = b""
        return lines


def line_parser(config: SensorConfig, columns: list[str]) -> LineParser:
    """The parser of the sensor's format; ``columns`` are names for ``format = "csv"``, in the line's order.

    Raises ConfigError for a pattern or a ``select`` that does not fit the format.
    """
    if config.pattern is not None and config.format != "regex":
        raise ConfigError(f'sensor "{config.name}" has a pattern, which needs format = "regex"; add it')
    if config.format == "regex":
        return _regex_parser(config)
    if config.format == "csv":
        return _csv_parser(config, columns)
    return JsonFields(config).values


def _regex_parser(config: SensorConfig) -> LineParser:
    if config.pattern is None:
        raise ConfigError(f'sensor "{config.name}" has format = "regex" and no pattern; add one with named groups')
    try:
        pattern = re.compile(config.pattern)
    except re.error as error:
        raise ConfigError(f'sensor "{config.name}": pattern is no regular expression: {error}') from None
    groups = selectors(config)
    for name, group in groups.items():
        if group not in pattern.groupindex:
            allowed = choices(group, pattern.groupindex)
            raise ConfigError(f'sensor "{config.name}", field "{name}": pattern has no group "{group}"; {allowed}')

    def parse(line: str) -> dict[str, object]:
        match = pattern.search(line)
        return _some({name: match[group] for name, group in groups.items()} if match else {})

    return parse


def _csv_parser(config: SensorConfig, columns: list[str]) -> LineParser:
    places: dict[str, int] = {}
    for name, column in selectors(config).items():
        if column in columns:
            places[name] = columns.index(column)
        elif re.fullmatch("[0-9]{1,3}", column):
            places[name] = int(column)
        else:
            raise ConfigError(
                f'sensor "{config.name}", field "{name}": select "{column}" is no column; allowed: a number from 0 on, '
                f"or a name from columns=… in the source ({', '.join(columns) or 'which names none'})"
            )

    def parse(line: str) -> dict[str, object]:
        try:
            cells = [cell.strip() for cell in next(csv.reader([line]), [])]
        except csv.Error as error:
            raise ValueError(str(error)) from None
        return _some({name: cells[place] for name, place in places.items() if place < len(cells)})

    return parse


def _some(values: dict[str, Any]) -> dict[str, object]:
    """Without what the line left empty. Raises ValueError when nothing is left."""
    there: dict[str, object] = {name: value for name, value in values.items() if value not in (None, "")}
    if not there:
        raise ValueError("none of the sensor's fields is in the line")
    return there
