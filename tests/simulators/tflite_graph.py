"""Float .tflite files built op by op, as bytes, without TensorFlow."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema

from edge_agent.records import Array


class GraphBuilder:
    """One subgraph, built op by op. Tensors are numbers, as in the file; every shape is given with its batch of 1."""

    def __init__(self) -> None:
        self._model = schema.ModelT()
        self._model.version, self._model.description = 3, "made for a test"
        self._model.buffers, self._model.operatorCodes = [schema.BufferT()], []
        self._graph = schema.SubGraphT()
        self._graph.tensors, self._graph.operators = [], []
        self._codes: dict[int, int] = {}

    def tensor(self, name: str, shape: Sequence[int], values: Array | None = None) -> int:
        """A float32 tensor, or a constant of the values' own dtype (float32 or int32)."""
        tensor = schema.TensorT()
        tensor.name, tensor.shape, tensor.buffer = name, list(shape), 0
        tensor.type = schema.TensorType.FLOAT32
        tensor.quantization = schema.QuantizationParametersT()
        if values is not None:
            tensor.type = schema.TensorType.INT32 if values.dtype == np.int32 else schema.TensorType.FLOAT32
            buffer = schema.BufferT()
            buffer.data = np.frombuffer(np.ascontiguousarray(values).tobytes(), np.uint8)
            tensor.buffer = len(self._model.buffers)
            self._model.buffers.append(buffer)
        self._graph.tensors.append(tensor)
        return len(self._graph.tensors) - 1

    def constant(self, name: str, values: Any) -> int:
        array = np.asarray(values)
        array = array.astype(np.int32 if array.dtype.kind == "i" else np.float32)
        return self.tensor(name, array.shape, array)

    def op(self, kind: str, inputs: Sequence[int], shape: Sequence[int], name: str, options: Any = None) -> int:
        """An op with one output, ``name``; ``kind`` is a name of the schema's BuiltinOperator."""
        output = self.tensor(name, shape)
        operator = schema.OperatorT()
        operator.opcodeIndex = self._code(getattr(schema.BuiltinOperator, kind))
        operator.inputs, operator.outputs = list(inputs), [output]
        if options is not None:
            table = type(options).__name__.removesuffix("T")
            operator.builtinOptionsType = getattr(schema.BuiltinOptions, table)
            operator.builtinOptions = options
        self._graph.operators.append(operator)
        return output

    def conv(self, source: int, weights: Array, bias: Array, name: str, *, stride: int = 1, relu: bool = True) -> int:
        """CONV_2D, padding SAME. ``weights``: (out, height, width, in)."""
        options = schema.Conv2DOptionsT()
        constants = [self.constant(f"{name}/weights", weights), self.constant(f"{name}/bias", bias)]
        shape = self._convolved(source, options, stride, len(weights), relu)
        return self.op("CONV_2D", [source, *constants], shape, name, options)

    def depthwise(self, source: int, weights: Array, bias: Array, name: str, *, stride: int = 1) -> int:
        """DEPTHWISE_CONV_2D with ReLU, padding SAME. ``weights``: (1, height, width, channels)."""
        options = schema.DepthwiseConv2DOptionsT()
        options.depthMultiplier = 1
        constants = [self.constant(f"{name}/weights", weights), self.constant(f"{name}/bias", bias)]
        shape = self._convolved(source, options, stride, weights.shape[3], relu=True)
        return self.op("DEPTHWISE_CONV_2D", [source, *constants], shape, name, options)

    def dense(self, source: int, weights: Array, bias: Array, name: str, *, relu: bool = True) -> int:
        """FULLY_CONNECTED. ``weights``: (out, in)."""
        options = schema.FullyConnectedOptionsT()
        options.fusedActivationFunction = _activation(relu)
        constants = [self.constant(f"{name}/weights", weights), self.constant(f"{name}/bias", bias)]
        return self.op("FULLY_CONNECTED", [source, *constants], (1, len(weights)), name, options)

    def mean(self, source: int, name: str) -> int:
        """Global average over height and width."""
        axes = self.constant(f"{name}/axes", np.array([1, 2]))
        return self.op("MEAN", [source, axes], (1, self.shape(source)[3]), name, schema.ReducerOptionsT())

    def reshape(self, source: int, shape: Sequence[int], name: str) -> int:
        options = schema.ReshapeOptionsT()
        options.newShape = list(shape)
        return self.op("RESHAPE", [source, self.constant(f"{name}/shape", np.array(shape))], shape, name, options)

    def concat(self, sources: Sequence[int], name: str) -> int:
        """Along the last axis of (1, n) tensors."""
        options = schema.ConcatenationOptionsT()
        options.axis = 1
        width = sum(self.shape(source)[1] for source in sources)
        return self.op("CONCATENATION", sources, (1, width), name, options)

    def softmax(self, source: int, name: str) -> int:
        options = schema.SoftmaxOptionsT()
        options.beta = 1.0
        return self.op("SOFTMAX", [source], self.shape(source), name, options)

    def subtract(self, source: int, values: Array, name: str) -> int:
        constant = self.constant(f"{name}/values", values)
        return self.op("SUB", [source, constant], self.shape(source), name, schema.SubOptionsT())

    def multiply(self, source: int, values: Array, name: str) -> int:
        constant = self.constant(f"{name}/values", values)
        return self.op("MUL", [source, constant], self.shape(source), name, schema.MulOptionsT())

    def shape(self, tensor: int) -> tuple[int, ...]:
        return tuple(self._graph.tensors[tensor].shape)

    def finish(self, inputs: Mapping[str, int], outputs: Mapping[str, int]) -> bytes:
        """The file, with one signature; inputs and outputs stand in the given order."""
        self._graph.inputs, self._graph.outputs = list(inputs.values()), list(outputs.values())
        signature = schema.SignatureDefT()
        signature.signatureKey, signature.subgraphIndex = "serving_default", 0
        signature.inputs, signature.outputs = _named(inputs), _named(outputs)
        self._model.subgraphs, self._model.signatureDefs = [self._graph], [signature]
        builder = flatbuffers.Builder(1 << 16)
        builder.Finish(self._model.Pack(builder), file_identifier=b"TFL3")
        return bytes(builder.Output())

    def _code(self, builtin: int) -> int:
        if builtin not in self._codes:
            code = schema.OperatorCodeT()
            code.builtinCode = code.deprecatedBuiltinCode = builtin
            code.version = 1
            self._codes[builtin] = len(self._model.operatorCodes)
            self._model.operatorCodes.append(code)
        return self._codes[builtin]

    def _convolved(self, source: int, options: Any, stride: int, channels: int, relu: bool) -> tuple[int, ...]:
        options.padding = schema.Padding.SAME
        options.strideH = options.strideW = stride
        options.dilationHFactor = options.dilationWFactor = 1
        options.fusedActivationFunction = _activation(relu)
        _, height, width, _ = self.shape(source)
        return (1, -(-height // stride), -(-width // stride), channels)


def _named(tensors: Mapping[str, int]) -> list[Any]:
    maps = []
    for name, index in tensors.items():
        entry = schema.TensorMapT()
        entry.name, entry.tensorIndex = name, index
        maps.append(entry)
    return maps


def _activation(relu: bool) -> int:
    kind = schema.ActivationFunctionType.RELU if relu else schema.ActivationFunctionType.NONE
    return int(kind)
