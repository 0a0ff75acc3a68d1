"""Small .tflite files put together by hand, op by op: for graphs that no converter would make on request."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from converters.tflite.packing import packed

DTYPES = {
    "float32": schema.TensorType.FLOAT32,
    "float16": schema.TensorType.FLOAT16,
    "int8": schema.TensorType.INT8,
    "uint8": schema.TensorType.UINT8,
    "int16": schema.TensorType.INT16,
    "int32": schema.TensorType.INT32,
    "int64": schema.TensorType.INT64,
    "bool": schema.TensorType.BOOL,
}
QUANTIZED = {"int8": (0.05, 3), "uint8": (0.05, 128), "int16": (0.001, 0)}


class HandmadeModel:
    """Tensors and ops are added in order; each method returns the index that the next ones take."""

    def __init__(self, *, description: str = "") -> None:
        self._model = schema.ModelT()
        self._model.version = 3
        self._model.description = description
        self._model.buffers = [schema.BufferT()]
        self._model.operatorCodes = []
        self._model.metadata = []
        self._model.signatureDefs = []
        self._graph = schema.SubGraphT()
        self._graph.name = "main"
        self._graph.tensors, self._graph.operators = [], []
        self._model.subgraphs = [self._graph]

    def tensor(
        self,
        name: str,
        shape: Sequence[int],
        dtype: str = "float32",
        *,
        scale: Sequence[float] | float | None = None,
        zero_point: int | None = None,
        axis: int = 0,
        data: Any = None,
        signature: Sequence[int] | None = None,
    ) -> int:
        """A tensor; with ``data`` a constant. 8-bit and 16-bit activations get a scale where none is given."""
        tensor = schema.TensorT()
        tensor.name, tensor.shape, tensor.type = name, list(shape), DTYPES[dtype]
        tensor.shapeSignature = None if signature is None else list(signature)
        tensor.buffer = 0
        if scale is None and dtype in QUANTIZED:
            scale, zero_point = QUANTIZED[dtype][0], QUANTIZED[dtype][1] if zero_point is None else zero_point
        if scale is not None:
            tensor.quantization = schema.QuantizationParametersT()
            tensor.quantization.scale = np.atleast_1d(np.array(scale, np.float32))
            tensor.quantization.zeroPoint = np.full(len(tensor.quantization.scale), zero_point or 0, np.int64)
            tensor.quantization.quantizedDimension = axis
        if data is not None:
            buffer = schema.BufferT()
            buffer.data = np.frombuffer(np.ascontiguousarray(data, np.dtype(dtype)).tobytes(), np.uint8)
            tensor.buffer = len(self._model.buffers)
            self._model.buffers.append(buffer)
        self._graph.tensors.append(tensor)
        return len(self._graph.tensors) - 1

    def constant(self, name: str, values: Any, dtype: str = "float32", **options: Any) -> int:
        array = np.array(values, np.dtype(dtype))
        return self.tensor(name, array.shape, dtype, data=array, **options)

    def shape(self, tensor: int) -> list[int]:
        return list(self._graph.tensors[tensor].shape)

    def share_buffer(self, tensor: int, other: int) -> None:
        """Let two constant tensors have the same bytes."""
        self._graph.tensors[tensor].buffer = self._graph.tensors[other].buffer

    def op(
        self,
        name: str,
        inputs: Sequence[int],
        outputs: Sequence[int],
        *,
        version: int = 1,
        options: str | None = None,
        **values: Any,
    ) -> int:
        """An op by its schema name, or a custom op by any other; ``options`` is the options' table, ``values`` its
        fields in the generated code's spelling."""
        operator = schema.OperatorT()
        operator.opcodeIndex = self._code(name, version)
        operator.inputs, operator.outputs = list(inputs), list(outputs)
        if options:
            operator.builtinOptionsType = getattr(schema.BuiltinOptions, options)
            operator.builtinOptions = getattr(schema, f"{options}T")()
            for key, value in values.items():
                setattr(operator.builtinOptions, key, value)
        self._graph.operators.append(operator)
        return len(self._graph.operators) - 1

    def metadata(self, name: str, content: bytes) -> None:
        entry, buffer = schema.MetadataT(), schema.BufferT()
        buffer.data = np.frombuffer(content, np.uint8)
        entry.name, entry.buffer = name, len(self._model.buffers)
        self._model.buffers.append(buffer)
        self._model.metadata.append(entry)

    def signature(self, inputs: Mapping[str, int], outputs: Mapping[str, int], key: str = "serving_default") -> None:
        signature = schema.SignatureDefT()
        signature.signatureKey, signature.subgraphIndex = key, 0
        signature.inputs = [_binding(name, index) for name, index in inputs.items()]
        signature.outputs = [_binding(name, index) for name, index in outputs.items()]
        self._model.signatureDefs.append(signature)

    def content(self, inputs: Sequence[int], outputs: Sequence[int]) -> bytes:
        self._graph.inputs, self._graph.outputs = list(inputs), list(outputs)
        return packed(self._model)

    def _code(self, name: str, version: int) -> int:
        number = getattr(schema.BuiltinOperator, name, None)
        code = schema.OperatorCodeT()
        code.version = version
        code.builtinCode = schema.BuiltinOperator.CUSTOM if number is None else number
        code.customCode = name if number is None else None
        code.deprecatedBuiltinCode = min(code.builtinCode, 127)
        self._model.operatorCodes.append(code)
        return len(self._model.operatorCodes) - 1


def _binding(name: str, index: int) -> schema.TensorMapT:
    binding = schema.TensorMapT()
    binding.name, binding.tensorIndex = name, index
    return binding


def float_hybrid(*, embedding: bool = False) -> bytes:
    """A float model of a picture ``image`` (1, 8, 8, 3) and ``sensors`` (1, 3); output ``fault`` (1, 4). Weights are
    random, the same always. ``embedding``: a second output, the 24 values ``both`` of picture and sensors."""
    rng = np.random.default_rng(2026)
    model = HandmadeModel(description="made for a test")

    def weights(name: str, *shape: int) -> int:
        return model.constant(name, rng.normal(0, 0.2, shape).astype(np.float32))

    sensors, image = model.tensor("serve_sensors:0", (1, 3)), model.tensor("serve_image:0", (1, 8, 8, 3))
    conv, mean = model.tensor("conv", (1, 8, 8, 16)), model.tensor("mean", (1, 16))
    deep, dense = model.tensor("deep", (1, 8, 8, 16)), model.tensor("dense", (1, 8))
    both, logits, fault = model.tensor("both", (1, 24)), model.tensor("logits", (1, 4)), model.tensor("fault", (1, 4))
    window = {"strideW": 1, "strideH": 1, "dilationWFactor": 1, "dilationHFactor": 1, "fusedActivationFunction": 1}
    kernel = [image, weights("kernel", 16, 3, 3, 3), weights("bias", 16)]
    model.op("CONV_2D", kernel, [conv], options="Conv2DOptions", **window)
    kernel = [conv, weights("deep kernel", 1, 3, 3, 16), weights("deep bias", 16)]
    model.op("DEPTHWISE_CONV_2D", kernel, [deep], options="DepthwiseConv2DOptions", depthMultiplier=1, **window)
    model.op("MEAN", [deep, model.constant("axes", [1, 2], "int32")], [mean], options="ReducerOptions")
    for source, made, size, taken in ((sensors, dense, 8, 3), (both, logits, 4, 24)):
        if source == both:
            model.op("CONCATENATION", [mean, dense], [both], options="ConcatenationOptions", axis=1)
        name = f"dense {size}"
        layer = [source, weights(name, size, taken), weights(f"{name} bias", size)]
        model.op("FULLY_CONNECTED", layer, [made], options="FullyConnectedOptions")
    model.op("SOFTMAX", [logits], [fault], options="SoftmaxOptions", beta=1.0)
    outputs = {"fault": fault, "both": both} if embedding else {"fault": fault}
    model.signature({"image": image, "sensors": sensors}, outputs)
    return model.content([sensors, image], list(outputs.values()))


@cache
def dynamic_range_hybrid() -> bytes:
    """The same with int8 weights and float activations."""
    from ai_edge_quantizer import quantizer, recipe

    quantize = quantizer.Quantizer(bytearray(float_hybrid()), recipe.dynamic_wi8_afp32())
    return bytes(quantize.quantize(None).quantized_model)


def one_op(
    name: str,
    inputs: Sequence[tuple[int, ...] | Any],
    outputs: Sequence[tuple[int, ...]],
    dtype: str = "int8",
    *,
    version: int = 1,
    options: str | None = None,
    **values: Any,
) -> bytes:
    """A model of one op. An input given as a shape is the model's own, given as an array is a constant."""
    model = HandmadeModel()
    taken = [
        model.tensor(f"input {number}", side, dtype) if isinstance(side, tuple) else _constant(model, number, side)
        for number, side in enumerate(inputs)
    ]
    made = [model.tensor(f"output {number}", shape, dtype) for number, shape in enumerate(outputs)]
    model.op(name, taken, made, version=version, options=options, **values)
    own = [index for index, side in zip(taken, inputs, strict=True) if isinstance(side, tuple)]
    return model.content(own, made)


def _constant(model: HandmadeModel, number: int, values: Any) -> int:
    array = np.asarray(values)
    dtype = array.dtype.name if array.dtype.name in DTYPES and array.dtype.name != "int64" else "int32"
    scale = {"int8": 0.05, "uint8": 0.05, "int32": None}.get(dtype)
    return model.constant(f"constant {number}", array, dtype, scale=scale)
