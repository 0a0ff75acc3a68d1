"""The TFLITE_METADATA buffer inside a .tflite: what standard tools wrote about its tensors and their labels.

Field numbers are those of the public schemas (schema.fbs and metadata_schema.fbs of TensorFlow Lite). The bytes may
come from anywhere: each vector is bounded by the bytes that are there before it is walked; damage is a ValueError.
"""

from __future__ import annotations

import struct
from typing import Literal

from flatbuffers.number_types import Int8Flags, Uint8Flags, Uint32Flags
from flatbuffers.table import Table

from edge_agent.records import StandardMetadata, TensorMetadata

BUFFER_NAME = "TFLITE_METADATA"
IDENTIFIER = b"M001"
TEXT_BYTES_MOST = 4096  # of a name or version; descriptions are never read
ENTRIES_MOST = 256  # tensors, process units, associated files, metadata entries

Content = Literal["image", "feature", "bounding_box", "unknown"]
Color = Literal["rgb", "gray"]

_COLORS: dict[int, Color] = {1: "rgb", 2: "gray"}  # ColorSpaceType
_FEATURE, _IMAGE, _BOUNDING_BOX = 1, 2, 3  # the union ContentProperties
_NORMALIZATION = 1  # the union ProcessUnitOptions
_AXIS_LABELS, _VALUE_LABELS = 2, 3  # AssociatedFileType
# BoundingBoxType.BOUNDARIES is (left, top, right, bottom); this order makes it (top, left, bottom, right), which is
# what TFLite_Detection_PostProcess delivers and all that is decoded.
_BOUNDARIES, _RATIO = 1, 0
_DETECTION_ORDER = (1, 0, 3, 2)


def standard_metadata(content: bytes) -> StandardMetadata | None:
    """What the model's TFLITE_METADATA says; None where it has none. Raises ValueError when it can't be read."""
    try:
        buffer = _metadata_buffer(_View(content, _root(content)))
        return None if buffer is None else _model_metadata(buffer)
    except (struct.error, TypeError, IndexError, OverflowError, ValueError) as error:
        raise ValueError(f"the {BUFFER_NAME} buffer is damaged ({error})") from None


class _View:
    """One table of a flatbuffer. flatbuffers' own accessors trust the bytes; these do not."""

    def __init__(self, content: bytes, position: int) -> None:
        if not 0 < position <= len(content) - 4:
            raise ValueError(f"a table at byte {position} of {len(content)}")
        self._content = content
        self._table = Table(content, position)

    def number(self, field: int, flags: type) -> int:
        return int(self._table.GetSlot(_slot(field), 0, flags))

    def text(self, field: int) -> str:
        raw = self.octets(field)
        if len(raw) > TEXT_BYTES_MOST:
            raise ValueError(f"a text of {len(raw)} bytes")
        return raw.decode("utf-8")

    def octets(self, field: int) -> bytes:
        start, count = self._vector(field, 1)
        return self._content[start : start + count]

    def numbers(self, field: int, code: Literal["f", "I"]) -> tuple[float, ...]:
        start, count = self._vector(field, 4)
        return struct.unpack_from(f"<{min(count, ENTRIES_MOST)}{code}", self._content, start)

    def child(self, field: int) -> _View | None:
        offset = self._table.Offset(_slot(field))
        return _View(self._content, self._table.Indirect(self._table.Pos + offset)) if offset else None

    def children(self, field: int) -> list[_View]:
        start, count = self._vector(field, 4)
        if count > ENTRIES_MOST:
            raise ValueError(f"a list of {count} tables")
        return [self._element(start, index) for index in range(count)]

    def nth(self, field: int, index: int) -> _View:
        start, count = self._vector(field, 4)
        if not index < count:
            raise ValueError(f"entry {index} of {count}")
        return self._element(start, index)

    def _element(self, start: int, index: int) -> _View:
        return _View(self._content, self._table.Indirect(start + 4 * index))

    def _vector(self, field: int, width: int) -> tuple[int, int]:
        """(position of the first element, number of elements), all of them inside the content."""
        offset = self._table.Offset(_slot(field))
        if not offset:
            return 0, 0
        start, count = self._table.Vector(offset), self._table.VectorLen(offset)
        if start + width * count > len(self._content):
            raise ValueError(f"a list of {count} entries beyond the end")
        return start, count


def _slot(field: int) -> int:
    return 4 + 2 * field


def _root(content: bytes) -> int:
    return int(struct.unpack_from("<I", content, 0)[0])


def _metadata_buffer(model: _View) -> bytes | None:
    for entry in model.children(6):
        if entry.text(0) == BUFFER_NAME:
            return model.nth(4, entry.number(1, Uint32Flags)).octets(0)
    return None


def _model_metadata(buffer: bytes) -> StandardMetadata:
    if buffer[4:8] != IDENTIFIER:
        raise ValueError(f"identifier {buffer[4:8]!r}, expected {IDENTIFIER!r}")
    model = _View(buffer, _root(buffer))
    subgraphs = model.children(3)
    inputs = subgraphs[0].children(2) if subgraphs else []
    outputs = subgraphs[0].children(3) if subgraphs else []
    return StandardMetadata(
        name=model.text(0),
        version=model.text(2),
        inputs=tuple(_tensor(item) for item in inputs),
        outputs=tuple(_tensor(item) for item in outputs),
    )


def _tensor(tensor: _View) -> TensorMetadata:
    content, color = _content(tensor.child(3))
    mean, std = _normalization(tensor.children(4))
    labels, of_values = _labels(tensor.children(6))
    return TensorMetadata(
        name=tensor.text(0),
        content=content,
        color=color,
        mean=mean,
        std=std,
        labels=labels,
        labels_of="values" if of_values else "elements",
    )


def _content(content: _View | None) -> tuple[Content, Color | None]:
    kind = content.number(0, Uint8Flags) if content else 0
    properties = content.child(1) if content else None
    if properties is None:
        return "unknown", None
    if kind == _IMAGE:
        return "image", _COLORS.get(properties.number(0, Int8Flags))
    if kind == _BOUNDING_BOX:
        known = (
            properties.numbers(0, "I") == _DETECTION_ORDER
            and properties.number(1, Int8Flags) == _BOUNDARIES
            and properties.number(2, Int8Flags) == _RATIO
        )
        return ("bounding_box" if known else "unknown"), None
    return ("feature" if kind == _FEATURE else "unknown"), None


def _normalization(units: list[_View]) -> tuple[tuple[float, ...] | None, tuple[float, ...] | None]:
    for unit in units:
        options = unit.child(1) if unit.number(0, Uint8Flags) == _NORMALIZATION else None
        if options is not None:
            return options.numbers(0, "f") or None, options.numbers(1, "f") or None
    return None, None


def _labels(files: list[_View]) -> tuple[str | None, bool]:
    """The first file of labels (further ones are translations), and whether they name values, not elements."""
    for file in files:
        kind = file.number(2, Int8Flags)
        if kind in (_AXIS_LABELS, _VALUE_LABELS):
            return file.text(0), kind == _VALUE_LABELS
    return None, False
