"""Reads a flatbuffer model to change it, and writes it back with the alignment that its readers count on. Without
TensorFlow."""

from __future__ import annotations

from typing import Any

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema

from converters.tflite.archive import bare_model
from edge_agent.errors import ModelError

BUFFER_ALIGNMENT = 16  # schema.fbs: Buffer.data has force_align 16


def unpacked(content: bytes) -> Any:
    """The model as a ``schema.ModelT``, without what is appended to it. Large models keep their buffers behind the
    flatbuffer: they are fetched, and ``packed`` writes them inside. Raises ModelError."""
    from ai_edge_litert.tools import flatbuffer_utils

    bare = bare_model(content)
    if bare[4:8] != b"TFL3":
        raise ModelError("not a .tflite file: bytes 4 to 8 are not TFL3")
    model = flatbuffer_utils.read_model_from_bytearray(bare)
    for buffer in model.buffers:
        if isinstance(buffer.data, bytes):  # it lay behind the flatbuffer
            buffer.data = np.frombuffer(buffer.data, np.uint8)
    return model


def packed(model: Any) -> bytes:
    """The bytes of a ``schema.ModelT``, whose buffers are replaced by aligned ones."""
    model.buffers = [AlignedBuffer(buffer.data) for buffer in model.buffers]
    size = sum(len(buffer.data) for buffer in model.buffers if buffer.data is not None)
    builder = flatbuffers.Builder(size + 65536)
    builder.Finish(model.Pack(builder), file_identifier=b"TFL3")
    return bytes(builder.Output())


class AlignedBuffer(schema.BufferT):  # type: ignore[misc]  # generated code without types
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
        return int(schema.BufferEnd(builder))
