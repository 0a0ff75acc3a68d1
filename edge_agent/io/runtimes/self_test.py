"""A model of one operator, made on the spot, to ask a back-end whether it works at all when no model is at hand."""

from __future__ import annotations

from typing import Final

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema

from edge_agent.records import Form

SHAPE = (1, 64)


# ModelProto of onnx.proto, opset 17: output = Add(input, input), float32 of SHAPE
_ONNX: Final = (
    b'\x08\x08\x12\x05tests:Y\n\x1b\n\x05input\n\x05input\x12\x06output"\x03Add\x12\x07network'
    b"Z\x17\n\x05input\x12\x0e\n\x0c\x08\x01\x12\x08\n\x02\x08\x01\n\x02\x08@"
    b"b\x18\n\x06output\x12\x0e\n\x0c\x08\x01\x12\x08\n\x02\x08\x01\n\x02\x08@B\x02\x10\x11"
)


def self_test_model(form: Form = "tflite") -> bytes:
    """A model that adds its input to itself. As .tflite in int8: XNNPACK and every delegate for quantised models know
    ADD."""
    if form == "onnx":
        return _ONNX
    model = schema.ModelT()
    model.version = 3
    model.buffers = [schema.BufferT()]
    code = schema.OperatorCodeT()
    code.builtinCode = code.deprecatedBuiltinCode = schema.BuiltinOperator.ADD
    model.operatorCodes = [code]
    model.subgraphs = [_graph()]
    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


def _graph() -> schema.SubGraphT:
    add = schema.OperatorT()
    add.opcodeIndex = 0
    add.inputs, add.outputs = [0, 0], [1]
    add.builtinOptionsType = schema.BuiltinOptions.AddOptions
    add.builtinOptions = schema.AddOptionsT()
    graph = schema.SubGraphT()
    graph.tensors = [_tensor(b"input", 1.0), _tensor(b"output", 2.0)]
    graph.inputs, graph.outputs = [0], [1]
    graph.operators = [add]
    return graph


def _tensor(name: bytes, scale: float) -> schema.TensorT:
    tensor = schema.TensorT()
    tensor.name = name
    tensor.shape = list(SHAPE)
    tensor.type = schema.TensorType.INT8
    tensor.buffer = 0
    tensor.quantization = schema.QuantizationParametersT()
    tensor.quantization.scale = np.array([scale], np.float32)
    tensor.quantization.zeroPoint = np.array([0], np.int64)
    return tensor
