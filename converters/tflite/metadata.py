"""Standard TFLite metadata, written into the flatbuffer: what other tools read of names, normalisation and labels.

Without TensorFlow.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema

from converters.tflite.packing import AlignedBuffer, packed, unpacked

METADATA_NAME = "TFLITE_METADATA"
# Union and enumeration values of TensorFlow Lite's metadata_schema.fbs, version 1.1.0
_FEATURE_PROPERTIES, _IMAGE_PROPERTIES, _BOUNDING_BOX_PROPERTIES = 1, 2, 3
_COLORS = {"rgb": 1, "gray": 2}
_NORMALIZATION_OPTIONS = 1
_TENSOR_AXIS_LABELS, _TENSOR_VALUE_LABELS = 2, 3
_BOUNDARIES, _RATIO = 1, 0
_BOX_ORDER = (1, 0, 3, 2)  # where left, top, right and bottom stand

Field = tuple[int, str, Any]  # number in the table, "offset" or the scalar's type, value
Tensor = Callable[[flatbuffers.Builder], int]


def with_metadata(model: bytes, metadata: bytes) -> bytes:
    """The model with ``metadata`` as its TFLITE_METADATA buffer; one that it already has is replaced."""
    parsed = unpacked(model)
    content = np.frombuffer(metadata, np.uint8)
    for entry in parsed.metadata or []:
        if entry.name == METADATA_NAME.encode():
            parsed.buffers[entry.buffer] = AlignedBuffer(content)
            return packed(parsed)
    entry = schema.MetadataT()
    entry.name, entry.buffer = METADATA_NAME, len(parsed.buffers)
    parsed.metadata = [*(parsed.metadata or []), entry]
    parsed.buffers.append(AlignedBuffer(content))
    return packed(parsed)


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


def image_tensor(name: str, description: str, color: str, mean: Sequence[float], std: Sequence[float]) -> Tensor:
    """A picture: ``color`` is "rgb" or "gray" (the standard knows no BGR: "unknown"); real = (pixel - mean) / std."""

    def make(builder: flatbuffers.Builder) -> int:
        properties = _table(builder, [(0, "Int8", _COLORS.get(color, 0))])
        options = _table(builder, [(0, "offset", _floats(builder, mean)), (1, "offset", _floats(builder, std))])
        unit = _table(builder, [(0, "Uint8", _NORMALIZATION_OPTIONS), (1, "offset", options)])
        return _tensor(builder, name, description, _IMAGE_PROPERTIES, properties, [(4, [unit])])

    return make


def feature_tensor(name: str, description: str) -> Tensor:
    """Numbers of any meaning."""

    def make(builder: flatbuffers.Builder) -> int:
        return _tensor(builder, name, description, _FEATURE_PROPERTIES, _table(builder, []), [])

    return make


def labelled_tensor(name: str, description: str, labels: str, *, of_values: bool = False) -> Tensor:
    """A tensor with one element for each line of the file ``labels``; ``of_values``: its values are line numbers."""

    def make(builder: flatbuffers.Builder) -> int:
        file = builder.CreateString(labels)
        kind = _TENSOR_VALUE_LABELS if of_values else _TENSOR_AXIS_LABELS
        associated = _table(builder, [(0, "offset", file), (2, "Int8", kind)])
        return _tensor(builder, name, description, _FEATURE_PROPERTIES, _table(builder, []), [(6, [associated])])

    return make


def boxes_tensor(name: str, description: str) -> Tensor:
    """Boxes as TFLite_Detection_PostProcess delivers them: (top, left, bottom, right) as ratios of the picture."""

    def make(builder: flatbuffers.Builder) -> int:
        order = int(builder.CreateNumpyVector(np.array(_BOX_ORDER, np.uint32)))
        properties = _table(builder, [(0, "offset", order), (1, "Int8", _BOUNDARIES), (2, "Int8", _RATIO)])
        return _tensor(builder, name, description, _BOUNDING_BOX_PROPERTIES, properties, [])

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
    return int(builder.EndObject())


def _vector(builder: flatbuffers.Builder, offsets: Sequence[int]) -> int:
    builder.StartVector(4, len(offsets), 4)
    for offset in reversed(offsets):
        builder.PrependUOffsetTRelative(offset)
    return int(builder.EndVector())


def _floats(builder: flatbuffers.Builder, values: Sequence[float]) -> int:
    return int(builder.CreateNumpyVector(np.array(values, np.float32)))
