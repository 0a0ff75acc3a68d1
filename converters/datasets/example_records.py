"""TFRecord files of tf.train.Example: what the records' keys mean, and their pictures read again when asked for."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from msgspec import Struct
from msgspec.structs import replace

from converters.datasets.columns import Names, RowReader, bind, unused_note
from converters.datasets.record_file import Values, is_compressed, parse_example, scan
from converters.datasets.rows import Row
from converters.datasets.splits import read_split
from converters.datasets.spool import Spool, Stored, files_sha256
from converters.progress import Progress
from converters.records import Split
from edge_agent.core.card_schema import DetectionOutput
from edge_agent.core.model_card import ResolvedCard
from edge_agent.errors import ConfigError
from edge_agent.io.image_file import decode_image
from edge_agent.records import Array, Pixels

_FILE = re.compile(r".*(\.tfrecords?(-\d+-of-\d+)?(\.gz)?|-\d+-of-\d+)", re.IGNORECASE)
_SPLIT = re.compile(r"[a-z]+", re.IGNORECASE)  # the first word of a shard's name
_TEXT_MOST = 4096  # bytes; a longer value is a mask or a sound, which no cell is made from
_LIST_MOST = 16
# The keys of TensorFlow's own image data sets, as the columns that they are. A name is surer than a number: the numbers
# of its detection data sets begin at 1.
_CLASS_KEYS = ("image/class/text", "image/class/label")
_CORNER_KEYS = tuple(f"image/object/bbox/{side}" for side in ("xmin", "ymin", "xmax", "ymax"))
_BOX_CLASS_KEYS = ("image/object/class/text", "image/object/class/label")
_FILE_NAME = "image/filename"
_PICTURE = object()  # stands for the bytes of a picture, which stay in the file


class _Place(Struct, frozen=True):
    """Where a record lies in its file; ``stored`` where that is compressed and its records were unpacked."""

    path: Path
    number: int
    offset: int
    length: int
    stored: Stored | None


class RecordTable:
    """Rows of records; ``keys`` is the key of each picture by input tensor."""

    def __init__(self, rows: list[Row], notes: tuple[str, ...], keys: dict[str, str], records: _Records) -> None:
        self.rows = rows
        self.notes = notes
        self._keys = keys
        self._records = records

    def images(self, index: int) -> dict[str, Pixels]:
        where = self.rows[index].where
        values = parse_example(self._records.content(index), where)
        return {tensor: decode_image(values[key][0], f'{where}, key "{key}"') for tensor, key in self._keys.items()}

    def trained(self, index: int) -> dict[str, Array] | None:
        return None

    def sha256(self) -> str:
        return files_sha256([(path.name, path) for path in self._records.paths])


def is_records(spec: str) -> bool:
    """A TFRecord file, a pattern for some, or a folder that has them."""
    return bool(_shards(spec)) or (bool(_FILE.fullmatch(spec)) and not Path(spec).is_dir())


def read_records(spec: str, card: ResolvedCard, progress: Progress) -> RecordTable:
    """Every record is read and its checksums are checked. Raises ConfigError: names file, record, key."""
    paths = _shards(spec)
    if not paths:
        raise ConfigError(f"{spec}: no such file, and no TFRecord matches it")
    records = _Records(spec, paths, card)
    with progress.step(f"checking {spec}", len(paths)) as advance:
        for done, path in enumerate(paths):
            records.add(path)
            advance(done + 1)
    columns_of = _columns_of(card, records.keys)
    names = Names(spec, "key", tuple(columns_of))
    columns = bind(card, names)
    pictures = {tensor: columns_of[column] for tensor, column in columns.images.items()}
    reader = RowReader(card, names, columns)
    splits = {} if columns.split else _splits_of(paths)
    rows = []
    for place, cells in zip(records.places, records.cells, strict=True):
        where = f"{place.path}, record {place.number}"
        for tensor, key in pictures.items():
            if cells.get(key) is not _PICTURE:
                raise ConfigError(
                    f'{where}, key "{key}": no picture for the input {tensor!r}; encoded bytes are needed'
                )
        identity = cells.get(_FILE_NAME) or f"{place.path.name}:{place.number}"
        row = reader.read({column: cells.get(key) for column, key in columns_of.items()}.get, where, str(identity))
        rows.append(replace(row, split=splits[place.path]) if splits else row)
    return RecordTable(rows, unused_note(columns, names), pictures, records)


class _Records:
    """The records of some files: their cells by key in memory, their contents where they are."""

    def __init__(self, source: str, paths: Sequence[Path], card: ResolvedCard) -> None:
        self.paths = paths
        self.places: list[_Place] = []
        self.cells: list[dict[str, object]] = []
        self.keys: dict[str, None] = {}  # a set that keeps its order
        self._spool = Spool(source)
        self._pictures = frozenset(key for item in card.image_inputs for key in _picture_keys(item.tensor))
        self._detects = any(isinstance(output, DetectionOutput) for output in card.outputs)

    def add(self, path: Path) -> None:
        compressed = is_compressed(path)
        for number, (offset, content) in enumerate(scan(path), start=1):
            where = f"{path}, record {number}"
            cells = {key: _cell(found, key in self._pictures) for key, found in self._values(content, where).items()}
            stored = self._spool.add(np.frombuffer(content, np.uint8)) if compressed else None
            self.keys |= dict.fromkeys(cells)
            self.cells.append(cells)
            self.places.append(_Place(path, number, offset, len(content), stored))

    def content(self, index: int) -> bytes:
        place = self.places[index]
        if place.stored is not None:
            return self._spool.get(place.stored).tobytes()
        try:
            with place.path.open("rb") as stream:
                stream.seek(place.offset)
                return stream.read(place.length)
        except OSError as error:
            raise ConfigError(f"{place.path}: can't be read: {error.strerror or error}") from error

    def _values(self, content: bytes, where: str) -> Values:
        values = parse_example(content, where)
        if self._detects and any(key in values for key in _CORNER_KEYS):
            corners = [values.pop(key, []) for key in _CORNER_KEYS]
            names, indices = (values.pop(key, []) for key in _BOX_CLASS_KEYS)
            classes = [name.decode(errors="replace") for name in names] or indices
            if len({len(classes), *map(len, corners)}) > 1:
                lengths = ", ".join(map(str, map(len, (*corners, classes))))
                raise ConfigError(f"{where}: {', '.join(_CORNER_KEYS)} and the classes have {lengths} elements")
            values["boxes"] = [list(zip(classes, *corners, strict=True))]
        return values


def _picture_keys(tensor: str) -> tuple[str, ...]:
    return ("image/encoded", "image", f"image/{tensor}/encoded", f"image/{tensor}")


def _cell(found: list[Any], is_picture: bool) -> object:
    """What a row is made from: nothing, one value, or a few."""
    if not found:
        return None
    if is_picture:
        return _PICTURE if isinstance(found[0], bytes) and len(found) == 1 else None
    values = [_text(value) if isinstance(value, bytes) else value for value in found[:_LIST_MOST]]
    return values[0] if len(found) == 1 else values


def _text(value: bytes) -> str:
    return value.decode(errors="replace") if len(value) <= _TEXT_MOST else f"{len(value)} bytes"


def _columns_of(card: ResolvedCard, keys: Iterable[str]) -> dict[str, str]:
    """Column -> the key that holds it. The other keys are columns under their own names."""
    columns = {key: key for key in keys}
    pictures = {"image": "image/encoded"}
    pictures |= {f"image/{item.tensor}": f"image/{item.tensor}/encoded" for item in card.image_inputs}
    for column, key in pictures.items():
        if key in columns:
            columns[column] = columns.pop(key)
    labelled = any(card.labels.values())
    for key in _CLASS_KEYS if labelled else _CLASS_KEYS[::-1]:
        if key in columns and "label" not in columns:
            columns["label"] = columns.pop(key)
    return columns


def _splits_of(paths: Sequence[Path]) -> dict[Path, Split | None]:
    """By the first word of each shard's name, where they tell at least two splits apart; else empty."""
    words = {path: match[0] if (match := _SPLIT.match(path.name)) else "" for path in paths}
    try:
        splits = {path: read_split(word) for path, word in words.items()}
    except ValueError:
        return {}
    return splits if len(set(splits.values())) > 1 else {}


def _shards(spec: str) -> list[Path]:
    """The files, in the order of their names."""
    path = Path(spec)
    if path.is_dir():
        found = list(path.iterdir())
    else:
        found = [path] if path.exists() else list(Path(path.anchor).glob(spec[len(path.anchor) :]))
    return sorted(each for each in found if each.is_file() and _FILE.fullmatch(each.name))
