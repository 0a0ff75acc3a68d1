"""Reads a CSV file as text cells: comma, semicolon or tab, with or without a BOM, any line ends."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

from msgspec import Struct

from edge_agent.errors import ConfigError

DELIMITERS = ",;\t"


class Line(Struct, frozen=True):
    """``number`` is the row's last line in the file, from 1."""

    number: int
    cells: dict[str, str]


def read_csv(path: Path) -> tuple[tuple[str, ...], list[Line]]:
    """The header's names and the rows below it, cells without spaces around. Blank rows are left out.

    A column without a name (the row numbers that pandas writes) is left out. Raises ConfigError for what is no UTF-8
    text or no CSV, a name that stands twice, and a row with more or fewer cells than the header.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            delimiter = _delimiter(file.readline())
            file.seek(0)
            rows = csv.reader(file, delimiter=delimiter, skipinitialspace=True, strict=True)
            return _read(path, rows, delimiter)
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: not UTF-8 text ({error.reason}); save it as CSV UTF-8") from None
    except csv.Error as error:
        raise ConfigError(f"{path}: not a CSV file: {error}") from None
    except OSError as error:
        raise ConfigError(f"{path}: can't be read: {error.strerror or error}") from error


def _delimiter(header: str) -> str:
    """What parts the header's names; the sniffing of the standard library takes letters for it in short files."""
    outside_quotes = "".join(header.split('"')[::2])
    return max(DELIMITERS, key=outside_quotes.count)


def _read(path: Path, rows: Any, delimiter: str) -> tuple[tuple[str, ...], list[Line]]:
    header = [cell.strip() for cell in next(rows, [])]
    if not any(header):
        raise ConfigError(f"{path}: the first row is empty; it must name the columns")
    if not "".join(header).isprintable():
        raise ConfigError(f"{path}: the first row has control characters; it must name the columns in one line of text")
    for place, name in enumerate(header):
        if name and name in header[:place]:
            raise ConfigError(f"{path}: two columns are named {name!r}; each needs a name of its own")
    lines = []
    for row in rows:
        if not any(cell.strip() for cell in row):
            continue
        number: int = rows.line_num
        if len(row) != len(header):
            raise ConfigError(
                f"{path}, line {number}: {len(row)} cells, the header has {len(header)} (parted by {delimiter!r}); "
                "a cell with that character in it stands in double quotes"
            )
        lines.append(Line(number, {name: cell.strip() for name, cell in zip(header, row, strict=True) if name}))
    return tuple(filter(None, header)), lines
