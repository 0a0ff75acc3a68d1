"""Puts everything that a model needs into its one file: standard metadata inside the flatbuffer, files behind it.

The files are a zip after the flatbuffer, stored and with fixed dates: the same parts give the same bytes, and the
model's own bytes stay as they were. Without TensorFlow.
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema

METADATA_NAME = "TFLITE_METADATA"
BUFFER_ALIGNMENT = 16  # schema.fbs: Buffer.data has force_align 16
FIXED_DATE = (1980, 1, 1, 0, 0, 0)
# Union and enumeration values of TensorFlow Lite's metadata_schema.fbs, version 1.1.0
_FEATURE_PROPERTIES, _IMAGE_PROPERTIES = 1, 2
_RGB = 1
_NORMALIZATION_OPTIONS = 1
_TENSOR_AXIS_LABELS = 2

Field = tuple[int, str, Any]  # number in the table, "offset" or the scalar's type, value
Tensor = Callable[[flatbuffers.Builder], int]


class _AlignedBuffer(schema.BufferT):
    """The generated code packs a buffer's bytes without the alignment that the schema asks for."""

    def __init__(self, data: Any) -> None:
        super().__init__()
        self.data = data

    def Pack(self, builder: flatbuffers.Builder) -> int:  # noqa: N802  # the generated method's name
        data = None
        if self.data is not None and len(self.data):
            octets = np.asarray(self.data, np.uint8).tobytes()
            builder.StartVector(1, len(octets), BUFFER_ALIGNMENT)
            builder.head -= len(octets)
            builder.Bytes[builder.Head() : builder.Head() + len(octets)] = octets
            data = builder.EndVector()
        schema.BufferStart(builder)
        if data is not None:
            schema.BufferAddData(builder, data)
        return schema.BufferEnd(builder)


def with_metadata(model: bytes, metadata: bytes) -> bytes:
    """The model with ``metadata`` as its TFLITE_METADATA buffer; one that it already has is replaced."""
    parsed = schema.ModelT.InitFromPackedBuf(model, 0)
    entry = schema.MetadataT()
    entry.name, entry.buffer = METADATA_NAME, len(parsed.buffers)
    parsed.metadata = [m for m in parsed.metadata or [] if m.name != METADATA_NAME.encode()] + [entry]
    contents = [buffer.data for buffer in parsed.buffers] + [np.frombuffer(metadata, np.uint8)]
    parsed.buffers = [_AlignedBuffer(content) for content in contents]
    builder = flatbuffers.Builder(len(model) + len(metadata) + 4096)
    builder.Finish(parsed.Pack(builder), file_identifier=b"TFL3")
    return bytes(builder.Output())


def with_members(model: bytes, members: Mapping[str, bytes]) -> bytes:
    """The model with the named files behind it, in the given order."""
    stream = io.BytesIO()
    stream.write(model)
    with zipfile.ZipFile(stream, "a", zipfile.ZIP_STORED) as archive:
        for name, content in members.items():
            entry = zipfile.ZipInfo(name, FIXED_DATE)
            entry.external_attr = 0o644 << 16
            archive.writestr(entry, content)
    return stream.getvalue()


def model_metadata(
    name: str, description: str, version: str, inputs: Sequence[Tensor], outputs: Sequence[Tensor]
) -> bytes:
    """A ModelMetadata flatbuffer. Tensors stand in the order of the model's own lists."""
    builder = flatbuffers.Builder(1024)
    tensors = [_vector(builder, [make(builder) for make in side]) for side in (inputs, outputs)]
    subgraph = _table(builder, [(2, "offset", tensors[0]), (3, "offset", tensors[1])])
    fields = [
        (number, "offset", builder.CreateString(text)) for number, text in enumerate((name, description, version))
    ]
    fields += [(3, "offset", _vector(builder, [subgraph])), (7, "offset", builder.CreateString("1.0.0"))]
    builder.Finish(_table(builder, fields), file_identifier=b"M001")
    return bytes(builder.Output())


def image_tensor(name: str, description: str, mean: float, std: float) -> Tensor:
    def make(builder: flatbuffers.Builder) -> int:
        properties = _table(builder, [(0, "Int8", _RGB)])
        options = _table(builder, [(0, "offset", _floats(builder, [mean])), (1, "offset", _floats(builder, [std]))])
        unit = _table(builder, [(0, "Uint8", _NORMALIZATION_OPTIONS), (1, "offset", options)])
        return _tensor(builder, name, description, _IMAGE_PROPERTIES, properties, [(4, [unit])])

    return make


def feature_tensor(name: str, description: str) -> Tensor:
    def make(builder: flatbuffers.Builder) -> int:
        return _tensor(builder, name, description, _FEATURE_PROPERTIES, _table(builder, []), [])

    return make


def labelled_tensor(name: str, description: str, labels: str) -> Tensor:
    """A tensor with one element for each line of the file ``labels``."""

    def make(builder: flatbuffers.Builder) -> int:
        file = builder.CreateString(labels)
        associated = _table(builder, [(0, "offset", file), (2, "Int8", _TENSOR_AXIS_LABELS)])
        return _tensor(builder, name, description, _FEATURE_PROPERTIES, _table(builder, []), [(6, [associated])])

    return make


def _tensor(
    builder: flatbuffers.Builder,
    name: str,
    description: str,
    kind: int,
    properties: int,
    lists: Sequence[tuple[int, list[int]]],
) -> int:
    content = _table(builder, [(0, "Uint8", kind), (1, "offset", properties)])
    fields: list[Field] = [(number, "offset", _vector(builder, items)) for number, items in lists]
    fields += [(0, "offset", builder.CreateString(name)), (1, "offset", builder.CreateString(description))]
    return _table(builder, [*fields, (3, "offset", content)])


def _table(builder: flatbuffers.Builder, fields: Sequence[Field]) -> int:
    builder.StartObject(max((number for number, _, _ in fields), default=-1) + 1)
    for number, kind, value in fields:
        if kind == "offset":
            builder.PrependUOffsetTRelativeSlot(number, value, 0)
        else:
            getattr(builder, f"Prepend{kind}Slot")(number, value, 0)
    return builder.EndObject()


def _vector(builder: flatbuffers.Builder, offsets: Sequence[int]) -> int:
    builder.StartVector(4, len(offsets), 4)
    for offset in reversed(offsets):
        builder.PrependUOffsetTRelative(offset)
    return builder.EndVector()


def _floats(builder: flatbuffers.Builder, values: Sequence[float]) -> int:
    return builder.CreateNumpyVector(np.array(values, np.float32))
