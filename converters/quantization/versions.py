"""Which version of an op integer types need, and the oldest TFLite runtime that has it.

AI Edge Quantizer leaves the versions of the float model in place: an old runtime would load the file and be wrong.
Source: op_version.cc and runtime_version.cc in TensorFlow's tensorflow/lite/tools/versioning. Versions of a runtime are
TensorFlow's and tflite-runtime's; every LiteRT is younger than all of them.
"""

from __future__ import annotations

import copy
from typing import Any, NamedTuple

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from converters.quantization.flatbuffer import is_constant, kind_of

MINIMUM_RUNTIME = "min_runtime_version"  # the standard metadata entry: text in 16 bytes, filled up with zeros
_ENTRY_BYTES = 16


class _Needed(NamedTuple):
    """Op versions by what the op computes in: int8 or int16 throughout; float with int8 weights that have one scale,
    or one a channel."""

    int8: int = 1
    int16: int = 1
    weights: int = 1
    channels: int = 1


_PLAIN = _Needed(2, 3)
_NEEDED = {
    "ADD": _PLAIN,
    "AVERAGE_POOL_2D": _PLAIN,
    "BATCH_MATMUL": _PLAIN,
    "BROADCAST_TO": _Needed(3, 3),
    "CONCATENATION": _PLAIN,
    "CONV_2D": _Needed(3, 4, 2, 5),
    "DEPTHWISE_CONV_2D": _Needed(3, 5, 4, 6),
    "EMBEDDING_LOOKUP": _Needed(weights=3),
    "EQUAL": _Needed(2, 4),
    "FULLY_CONNECTED": _Needed(4, 7, 3, 12),
    "GATHER": _Needed(2, 4),
    "GATHER_ND": _Needed(1, 3),
    "GELU": _Needed(2, 2),
    "LOGISTIC": _PLAIN,
    "MAXIMUM": _Needed(2, 4),
    "MAX_POOL_2D": _PLAIN,
    "MEAN": _PLAIN,
    "MIRROR_PAD": _PLAIN,
    "MUL": _Needed(2, 4),
    "NOT_EQUAL": _Needed(2, 2),
    "PACK": _PLAIN,
    "PAD": _PLAIN,
    "PADV2": _PLAIN,
    "REDUCE_MIN": _PLAIN,
    "RELU": _PLAIN,
    "RESIZE_BILINEAR": _Needed(2, 4),
    "RESIZE_NEAREST_NEIGHBOR": _Needed(2, 4),
    "RSQRT": _PLAIN,
    "SELECT": _Needed(2, 2),
    "SLICE": _Needed(2, 4),
    "SOFTMAX": _PLAIN,
    "SPACE_TO_DEPTH": _Needed(2, 2),
    "SPLIT": _Needed(2, 4),
    "SQUARED_DIFFERENCE": _Needed(2, 2),
    "STRIDED_SLICE": _Needed(2, 2),
    "SUB": _Needed(2, 5),
    "SUM": _Needed(2, 2),
    "TANH": _PLAIN,
    "TRANSPOSE": _Needed(2, 5),
    "TRANSPOSE_CONV": _Needed(2, 3),
    "UNPACK": _Needed(2, 4),
}

# The oldest runtime of version 1, 2, ... of an op. "-" where the source has none.
_RUNTIMES = {
    "ADD": "1.5.0 1.14.0 2.4.0 2.6.0",
    "AVERAGE_POOL_2D": "1.5.0 1.14.0 2.3.0",
    "BATCH_MATMUL": "2.3.0 2.3.0 2.4.0 2.5.0",
    "BROADCAST_TO": "- 2.5.0 2.5.0",
    "CONCATENATION": "1.5.0 1.14.0 2.3.0",
    "CONV_2D": "1.5.0 1.14.0 1.14.0 2.3.0 2.4.0 2.9.0",
    "DEPTHWISE_CONV_2D": "1.5.0 1.12.0 1.14.0 2.2.0 2.3.0 2.3.0",
    "DEQUANTIZE": "1.13.1 1.14.0 1.15.0 2.2.0 2.7.0",
    "DIV": "1.6.0 2.3.0",
    "DYNAMIC_UPDATE_SLICE": "2.9.0",
    "EMBEDDING_LOOKUP": "1.13.0 1.14.0 1.14.0",
    "EQUAL": "1.14.0 1.14.0 2.3.0",
    "EXP": "1.7.0",
    "EXPAND_DIMS": "1.10.0",
    "FULLY_CONNECTED": "1.5.0 1.10.0 1.14.0 1.14.0 2.0.0 2.1.0 2.3.0 2.3.0 2.3.0",
    "GATHER": "1.6.0 1.14.0 1.15.0 2.4.0 2.5.0",
    "GATHER_ND": "1.14.0 2.3.0 2.5.0",
    "GELU": "2.9.0 2.9.0",
    "HARD_SWISH": "1.15.0",
    "L2_NORMALIZATION": "1.5.0 1.14.0",
    "LEAKY_RELU": "1.13.1 2.3.0",
    "LOG": "1.14.0",
    "LOGISTIC": "1.14.0 1.14.0 2.3.0",
    "MAXIMUM": "1.14.0 1.14.0 2.3.0 2.3.0",
    "MAX_POOL_2D": "1.5.0 1.14.0 2.3.0",
    "MEAN": "1.6.0 1.14.0 2.4.0",
    "MINIMUM": "1.14.0 1.14.0 2.3.0 2.3.0",
    "MIRROR_PAD": "1.13.1 2.3.0",
    "MUL": "1.5.0 1.14.0 1.15.0 2.3.0 2.6.0",
    "NEG": "1.9.0",
    "NOT_EQUAL": "1.14.0 1.14.0 2.3.0",
    "PACK": "1.11.0 1.14.0 2.3.0",
    "PAD": "1.5.0 1.14.0 2.4.0 2.6.0",
    "PADV2": "1.9.0 1.14.0 2.4.0 2.6.0",
    "POW": "1.10.0",
    "PRELU": "1.8.0",
    "QUANTIZE": "1.14.0 1.15.0 2.7.0",
    "REDUCE_MAX": "1.11.0 1.14.0 2.5.0",
    "REDUCE_MIN": "1.11.0 1.14.0 2.5.0",
    "RELU": "1.5.0 2.1.0 2.5.0",
    "RELU6": "1.5.0 1.14.0 2.5.0",
    "RESHAPE": "1.5.0",
    "RESIZE_BILINEAR": "1.7.0 1.14.0 2.2.0 2.5.0",
    "RESIZE_NEAREST_NEIGHBOR": "1.13.1 1.14.0 2.3.0 2.4.0",
    "RSQRT": "1.10.0 2.5.0",
    "SELECT": "1.14.0 1.14.0",
    "SELECT_V2": "2.2.0",
    "SLICE": "1.14.0 1.14.0 1.14.0 2.4.0 2.5.0",
    "SOFTMAX": "1.5.0 1.14.0 2.3.0",
    "SPACE_TO_DEPTH": "1.5.0 1.14.0",
    "SPLIT": "1.5.0 1.14.0 1.14.0 2.3.0",
    "SQRT": "1.10.0",
    "SQUARE": "1.12.0",
    "SQUARED_DIFFERENCE": "1.13.1 2.5.0",
    "SQUEEZE": "1.6.0 2.5.0",
    "STRIDED_SLICE": "1.6.0 1.14.0 2.1.0 2.2.0 2.5.0 2.6.0",
    "SUB": "1.6.0 1.14.0 2.3.0 2.4.0 2.4.0",
    "SUM": "1.10.0 1.15.0",
    "TANH": "1.14.0 1.14.0 2.3.0",
    "TRANSPOSE": "1.6.0 1.14.0 1.15.0 2.3.0 2.4.0",
    "TRANSPOSE_CONV": "1.9.0 2.2.0 2.3.0",
    "UNPACK": "1.11.0 1.14.0 2.2.0 2.3.0",
}


def set_versions(model: Any) -> str:
    """Give each op of ``model`` the version that its types need and write the oldest runtime into the metadata.

    Returns that runtime; "" where nothing is known of it. What the float model said counts where an op is unknown.
    """
    said = _said(model)
    places: dict[tuple[int, int], int] = {}
    codes: list[Any] = []
    oldest: list[str] = []
    for graph in model.subgraphs:
        for operator in graph.operators:
            code = copy.copy(model.operatorCodes[operator.opcodeIndex])
            kind = kind_of(model, operator)
            code.version = max(code.version, _version(model, graph, operator, kind))
            key = (operator.opcodeIndex, code.version)
            if key not in places:
                places[key] = len(codes)
                codes.append(code)
                oldest.append(_runtime(kind, code.version) or said)
            operator.opcodeIndex = places[key]
    model.operatorCodes = codes
    minimum = max(oldest, key=_numbers, default="")
    if minimum:
        _say(model, minimum)
    return minimum


def _version(model: Any, graph: Any, operator: Any, kind: str) -> int:
    tensors = [graph.tensors[index] for index in [*operator.inputs, *operator.outputs] if index >= 0]
    constants = [tensor for tensor in tensors if is_constant(model, tensor)]
    computed = {tensor.type for tensor in tensors if not is_constant(model, tensor)}
    types = schema.TensorType
    if kind in ("QUANTIZE", "DEQUANTIZE"):
        return _converting(kind, tensors)
    needed = _NEEDED.get(kind, _Needed())
    if types.INT16 in computed:
        return needed.int16
    if types.INT8 in computed:
        return max(needed.int8, _special(kind, operator, tensors))
    weights = [tensor for tensor in constants if tensor.type == types.INT8]
    if weights:
        return needed.channels if len(weights[0].quantization.scale) > 1 else needed.weights
    return 1


def _converting(kind: str, tensors: list[Any]) -> int:
    source, target = tensors[0], tensors[-1]
    types = schema.TensorType
    if kind == "QUANTIZE":
        return 2 if target.type == types.INT16 else 1
    if source.type == types.INT8:
        return 5 if len(source.quantization.scale) > 1 else 2
    return 3 if source.type in (types.INT16, types.FLOAT16) else 1


def _special(kind: str, operator: Any, tensors: list[Any]) -> int:
    if kind == "TRANSPOSE_CONV":
        return 3 if len(operator.inputs) == 4 else 1  # with a bias
    if kind == "MUL":
        first, second, product = (float(tensor.quantization.scale[0]) for tensor in tensors)
        return 3 if first * second / product >= 1 else 1
    return 1


def _runtime(kind: str, version: int) -> str:
    known = _RUNTIMES.get(kind, "").split()
    return known[version - 1] if version <= len(known) and known[version - 1] != "-" else ""


def _said(model: Any) -> str:
    for entry in model.metadata or []:
        if entry.name == MINIMUM_RUNTIME.encode() and model.buffers[entry.buffer].data is not None:
            return bytes(model.buffers[entry.buffer].data).rstrip(b"\0").decode("ascii", "replace")
    return ""


def _say(model: Any, minimum: str) -> None:
    entry, buffer = schema.MetadataT(), schema.BufferT()
    buffer.data = np.frombuffer(minimum.encode().ljust(_ENTRY_BYTES, b"\0"), np.uint8)
    entry.name, entry.buffer = MINIMUM_RUNTIME, len(model.buffers)
    model.buffers.append(buffer)
    others = [other for other in model.metadata or [] if other.name != MINIMUM_RUNTIME.encode()]
    model.metadata = [*others, entry]


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".") if part.isdigit())
