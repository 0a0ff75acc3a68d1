"""What a page is made of: sections of blocks, numbers already in words. The template knows these alone."""

from __future__ import annotations

from typing import ClassVar, Literal

from msgspec import Struct

from converters.report.drawing import Chart

Tone = Literal["plain", "good", "bad", "note"]


class Paragraph(Struct, frozen=True):
    kind: ClassVar[str] = "paragraph"
    text: str
    tone: Tone = "plain"


class Tile(Struct, frozen=True):
    """One number that matters: ``value`` large, ``note`` small below it."""

    label: str
    value: str
    note: str = ""


class Tiles(Struct, frozen=True):
    kind: ClassVar[str] = "tiles"
    tiles: tuple[Tile, ...]


class Column(Struct, frozen=True):
    """``numeric`` ones stand at the right; ``wide`` ones may break anywhere (hashes, names of layers)."""

    name: str
    numeric: bool = False
    wide: bool = False


class Table(Struct, frozen=True):
    """The first column names the row. ``marked`` rows are the ones that count. ``folded``: opened by the reader."""

    kind: ClassVar[str] = "table"
    caption: str
    columns: tuple[Column, ...]
    rows: tuple[tuple[str, ...], ...]
    marked: tuple[int, ...] = ()
    folded: bool = False


class Picture(Struct, frozen=True):
    """A chart; ``caption`` says what to see in it."""

    kind: ClassVar[str] = "picture"
    chart: Chart
    caption: str


class Cell(Struct, frozen=True):
    """``share`` 0..1 is how strongly it is tinted; ``tone`` in which colour."""

    text: str
    share: float = 0.0
    tone: Literal["first", "second", "good", "bad"] = "first"


class Matrix(Struct, frozen=True):
    """Rows are the truth, columns the answer, both in the order of ``names``."""

    kind: ClassVar[str] = "matrix"
    caption: str
    names: tuple[str, ...]
    cells: tuple[tuple[Cell, ...], ...]


class HeatMap(Struct, frozen=True):
    """The same for too many classes to write numbers: ``uri`` is a PNG of one pixel for each pair."""

    kind: ClassVar[str] = "heat_map"
    caption: str
    uri: str
    text: str


class Outline(Struct, frozen=True):
    """A box on a picture, corners in percent of its sides. ``whose``: "truth", "float" or "deployed"."""

    whose: str
    label: str
    left: float
    top: float
    width: float
    height: float


class Shot(Struct, frozen=True):
    """One sample: its picture as a data URI, empty for a model without one, and what was answered."""

    title: str
    uri: str
    text: str
    lines: tuple[tuple[str, str], ...]
    readings: tuple[tuple[str, str], ...]
    outlines: tuple[Outline, ...] = ()
    wrong: bool = False


class Gallery(Struct, frozen=True):
    kind: ClassVar[str] = "gallery"
    shots: tuple[Shot, ...]


class Code(Struct, frozen=True):
    """Text as it is, opened by the reader."""

    kind: ClassVar[str] = "code"
    caption: str
    text: str


class Columns(Struct, frozen=True):
    """Blocks beside each other where there is room; ``narrow`` ones three in a line, others two."""

    kind: ClassVar[str] = "columns"
    blocks: tuple[Block, ...]
    narrow: bool = False


Block = Paragraph | Tiles | Table | Picture | Matrix | HeatMap | Gallery | Code | Columns


class Section(Struct, frozen=True):
    """``anchor`` is its place in the page's address."""

    anchor: str
    title: str
    blocks: tuple[Block, ...]


class Page(Struct, frozen=True):
    """``verdict`` is one sentence, ``tone`` whether it is good news; ``subtitle`` says which file this is about."""

    title: str
    subtitle: str
    sha256: str
    verdict: str
    tone: Tone
    tiles: Tiles
    sections: tuple[Section, ...]
    warnings: tuple[str, ...] = ()
    footer: str = ""
