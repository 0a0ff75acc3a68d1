"""A CSV file of readings as sorted columns: the header row names them, one column is the time.

Only the wanted columns are kept, 8 bytes a cell. A row without a readable time (a line cut by a loss of power) is
left out, counted and logged; a cell that is no number is kept as its text, and an empty one as nothing.
"""

from __future__ import annotations

import csv
import difflib
import logging
import math
import re
from array import array
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime, timezone
from decimal import Decimal, InvalidOperation
from pathlib import Path

import numpy as np
import numpy.typing as npt

from edge_agent.config.schema import SensorConfig
from edge_agent.errors import ConfigError, DeviceError
from edge_agent.io.sensors.context import UNREADABLE_CHARS, choices, selectors

TIMES_ALLOWED = 'ISO 8601 such as "2013-07-04 00:00:00", or a number of seconds'
COLUMNS_SHOWN = 12  # of a header in an error message, which stays one line of about 1 kB at most

_log = logging.getLogger(__name__)
_INT64_MOST = 2**63 - 1
_NANO = Decimal("1e-9")
_EPOCH = datetime(1970, 1, 1)
_EPOCH_UTC = _EPOCH.replace(tzinfo=timezone.utc)
# What datetime.fromisoformat lacks: nanoseconds and, in Python 3.10, Z, +0100 and a fraction of any length.
_ISO = re.compile(r"(\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d)(?:[.,](\d+))?\s*(?:(Z|z)|([+-]\d\d):?(\d\d)?)?")
_CONTROL = re.compile(r"[\x00-\x08\x0e-\x1f\x7f]")  # not in text; tab and line ends are


@dataclass(slots=True)
class Column:
    """Numbers by line; ``other`` holds the cells that are none, by line: their text, "" for an empty one."""

    place: int
    numbers: array[float] = field(default_factory=lambda: array("d"))
    other: dict[int, str] = field(default_factory=dict)

    def append(self, cell: str) -> None:
        try:
            number = float(cell)
        except ValueError:
            number = math.nan
        # float() also takes 1_000, which no device means as a number
        if math.isnan(number) or "_" in cell:
            self.other[len(self.numbers)] = cell.strip()
        self.numbers.append(number)


@dataclass(frozen=True, slots=True)
class CsvTable:
    """``times_ns`` is int64 (rows), ascending, since 1970 UTC or since the file's own zero; ``order`` int64 (rows)
    says which line each row was."""

    times_ns: npt.NDArray[np.int64]
    order: npt.NDArray[np.int64]
    columns: dict[str, Column]
    unreadable_rows: int

    def values(self, row: int) -> dict[str, object]:
        """Field -> number, or text where the cell is none; fields with an empty cell are left out."""
        line = int(self.order[row])
        values: dict[str, object] = {}
        for name, column in self.columns.items():
            text = column.other.get(line)
            if text is None:
                values[name] = column.numbers[line]
            elif text:
                values[name] = text
        return values


def load_table(config: SensorConfig, path: Path) -> CsvTable:
    """Raises DeviceError for a file that is not there or can't be read, ConfigError for one that does not fit."""
    if not path.is_file():
        raise DeviceError(f'sensor "{config.name}": there is no file {path}; put it there or correct the source')
    try:
        # Replaced, not refused: a degree sign in Latin-1 in some other column is no reason to stop.
        with path.open(newline="", encoding="utf-8-sig", errors="replace") as file:
            return _load(config, path, csv.reader(file))
    except csv.Error as error:
        raise ConfigError(f'sensor "{config.name}": {path} is no CSV file: {error}') from None
    except OSError as error:
        raise DeviceError(f'sensor "{config.name}": {path} can\'t be read: {error.strerror}') from None


def parse_time(text: str) -> int:
    """Nanoseconds of a time in either form. Raises ValueError, also for one that 64 bits can't hold (year 2262)."""
    try:
        time_ns = _seconds(text)
    except ValueError:
        time_ns = _iso(text)
    if abs(time_ns) > _INT64_MOST:
        raise ValueError(f"{text} is too far from 1970")
    return time_ns


def _load(config: SensorConfig, path: Path, rows: Iterator[list[str]]) -> CsvTable:
    header = [cell.strip() for cell in next(rows, [])]
    if not any(header):
        raise ConfigError(f'sensor "{config.name}": {path} is empty; its first row must name the columns')
    if _CONTROL.search("".join(header)):
        raise ConfigError(
            f'sensor "{config.name}": {path} is no CSV file: its first row has control characters, found '
            f'"{_shown(",".join(header))}"; allowed: UTF-8 text; export it anew or correct the source'
        )
    time_place = _place(config, path, header, config.time_column) if config.time_column is not None else 0
    columns = {name: Column(_place(config, path, header, select)) for name, select in selectors(config).items()}
    times, unreadable, example = _read_rows(rows, time_place, list(columns.values()))
    if not times:
        found = f'"{_shown(example)}"' if unreadable else "no row"
        raise ConfigError(
            f'sensor "{config.name}": {path} has no readable time in column "{_shown(header[time_place])}", '
            f"found {found}; allowed: {TIMES_ALLOWED}"
        )
    if unreadable:
        _log.warning('sensor "%s": %s: %d rows have no readable time', config.name, path, unreadable)
    times_ns = np.frombuffer(times, np.int64)
    order = np.argsort(times_ns, kind="stable")
    return CsvTable(times_ns[order], order, columns, unreadable)


def _place(config: SensorConfig, path: Path, header: list[str], wanted: str) -> int:
    if wanted not in header:
        allowed = _columns_allowed(wanted, header)
        raise ConfigError(
            f'sensor "{config.name}": {path} has no column "{_shown(wanted)}" in its first row; {allowed}'
        )
    return header.index(wanted)


def _columns_allowed(wanted: str, header: list[str]) -> str:
    names = [_shown(name) for name in header]
    listed = names[:COLUMNS_SHOWN]
    if len(listed) == len(names):
        return choices(wanted, names)
    listed += difflib.get_close_matches(wanted, names[COLUMNS_SHOWN:], n=1)
    return f"{choices(wanted, listed)}; {len(names) - len(listed)} more columns are not shown"


def _shown(text: str) -> str:
    """What a file says, for an error message: one line, escaped and cut off."""
    return repr(text[:UNREADABLE_CHARS])[1:-1] + ("..." if len(text) > UNREADABLE_CHARS else "")


def _read_rows(rows: Iterator[list[str]], time_place: int, columns: list[Column]) -> tuple[array[int], int, str]:
    """Fills the columns; returns the times in nanoseconds, how many cells were no time and the last of them."""
    times: array[int] = array("q")
    unreadable, example = 0, ""
    parse: Callable[[str], int] | None = None
    for row in rows:
        if not row:
            continue
        time = row[time_place] if time_place < len(row) else ""
        try:
            parse = parse or _parser(time)
            times.append(parse(time))
        except (ValueError, OverflowError):
            unreadable, example = unreadable + 1, time
            continue
        for column in columns:
            column.append(row[column.place] if column.place < len(row) else "")
    return times, unreadable, example


def _parser(time: str) -> Callable[[str], int]:
    """One form for all rows, decided by the first readable one. Raises ValueError."""
    try:
        _seconds(time)
    except ValueError:
        _iso(time)
        return _iso
    return _seconds


def _seconds(text: str) -> int:
    # Never through float: near 1.7e9 its neighbours are 238 ns apart, and a row at a limit would miss it.
    try:
        # quantize refuses what is infinite or beyond 28 digits; int refuses NaN.
        return int(Decimal(text).quantize(_NANO).scaleb(9))
    except InvalidOperation:
        raise ValueError(f"{text} is no number of seconds") from None


def _iso(text: str) -> int:
    """A time without a zone is UTC: what a logger's local time meant can't be known."""
    text = text.strip()
    match = _ISO.fullmatch(text)
    if match:
        zone = "+00:00" if match[3] else f"{match[4]}:{match[5] or '00'}" if match[4] else ""
        moment = datetime.fromisoformat(f"{match[1]}{zone}")
        fraction_ns = _seconds(f"0.{match[2]}") if match[2] else 0
    else:
        moment = datetime.fromisoformat(text)
        fraction_ns = moment.microsecond * 1000
    since = moment - (_EPOCH if moment.tzinfo is None else _EPOCH_UTC)
    return (since.days * 86400 + since.seconds) * 10**9 + fraction_ns
