"""What the GPU delegate would take, predicted by the checks of its source (gpu_compatibility.cc of TensorFlow Lite and
the data types of its model builder, with quantised models allowed, which is its default). Never run here."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from converters.tflite.graph_values import Graph, Op, Subgraph
from converters.tflite.placement import Placement, Verdict, placement

BASIS = "rules of TFLite's GPU delegate"
RANK_MOST = 4
_TYPES = ("float32", "float16", "int8", "uint8")
_INDEXED = frozenset({"CAST", "GATHER", "ONE_HOT", "SELECT", "SELECT_V2", "EMBEDDING_LOOKUP"})  # may take int32 or bool
_CUSTOM = frozenset({"Convolution2DTransposeBias", "MaxPoolingWithArgmax2D", "MaxUnpooling2D", "Resampler"})
_OPS = """
    ABS ADD ADD_N ATAN2 AVERAGE_POOL_2D BATCH_MATMUL CAST CEIL CONCATENATION CONV_2D COS CUMSUM DENSIFY
    DEPTHWISE_CONV_2D DEPTH_TO_SPACE DEQUANTIZE DIV DYNAMIC_UPDATE_SLICE ELU EMBEDDING_LOOKUP EQUAL EXP FLOOR
    FLOOR_DIV FLOOR_MOD FULLY_CONNECTED GATHER GELU GREATER GREATER_EQUAL HARD_SWISH LEAKY_RELU LESS LESS_EQUAL
    LOG LOGICAL_AND LOGISTIC LSTM MAXIMUM MAX_POOL_2D MEAN MINIMUM MIRROR_PAD MUL NEG NOT_EQUAL ONE_HOT PACK PAD
    PADV2 POW PRELU QUANTIZE REDUCE_MAX REDUCE_MIN REDUCE_PROD RELU RELU6 RELU_N1_TO_1 RESHAPE RESIZE_BILINEAR
    RESIZE_NEAREST_NEIGHBOR RSQRT SELECT SELECT_V2 SIGN SIN SLICE SOFTMAX SPACE_TO_DEPTH SPLIT SPLIT_V SQRT
    SQUARE SQUARED_DIFFERENCE STRIDED_SLICE SUB SUM TANH TILE TRANSPOSE TRANSPOSE_CONV
""".split()  # noqa: SIM905  # ninety names are read better as text


def predict_gpu(graph: Graph) -> Placement:
    """By the delegate's rules. Which part of them a device's driver can do is not known here."""
    reasons = (next(_refusals(graph.main, op), "") for op in graph.main.ops)
    return placement("gpu", BASIS, graph, [Verdict(not reason, reason) for reason in reasons], measured=False)


def _refusals(subgraph: Subgraph, op: Op) -> Iterator[str]:
    if op.custom and op.name not in _CUSTOM:
        yield "a custom op"
    if not op.custom and op.name not in _OPS:
        yield "not among its ops"
    moving = [t for t in subgraph.of((*op.inputs, *op.outputs)) if not t.is_constant]
    if any(not tensor.static for tensor in moving):
        yield "a size that only a run decides"
    wide = {t.dtype for t in moving} - {*_TYPES, *(("int32", "bool") if op.name in _INDEXED else ())}
    if wide:
        yield f"{', '.join(sorted(wide))} tensors"
    if any(len(tensor.shape) > RANK_MOST for tensor in moving):
        yield f"more than {RANK_MOST} dimensions"
    if op.activation == "SIGN_BIT":
        yield "fused activation SIGN_BIT"
    yield from _RULES.get(op.name, _no_rule)(subgraph, op)


def _no_rule(subgraph: Subgraph, op: Op) -> Iterator[str]:
    yield from ()


def _softmax(subgraph: Subgraph, op: Op) -> Iterator[str]:
    if op.options.get("Beta") != 1:
        yield "beta is not 1"


def _fully_connected(subgraph: Subgraph, op: Op) -> Iterator[str]:
    if op.options.get("WeightsFormat"):
        yield "weights in a format of their own"


def _slice(subgraph: Subgraph, op: Op) -> Iterator[str]:
    if len(subgraph.of(op.inputs)[0].shape) not in (3, 4):
        yield "slices tensors of 3 or 4 dimensions only"
    if any(op.options.get(mask) for mask in ("EllipsisMask", "NewAxisMask", "ShrinkAxisMask")):
        yield "an ellipsis, a new or a dropped axis in the slice"


def _constant_axes(subgraph: Subgraph, op: Op) -> Iterator[str]:
    inputs = subgraph.of(op.inputs)
    if len(inputs) < 2 or not inputs[1].is_constant or inputs[1].dtype != "int32":
        yield "axes that are not constant int32"


_RULES: Mapping[str, Callable[[Subgraph, Op], Iterator[str]]] = {
    "SOFTMAX": _softmax,
    "FULLY_CONNECTED": _fully_connected,
    **dict.fromkeys(("SLICE", "STRIDED_SLICE"), _slice),
    **dict.fromkeys(("MEAN", "SUM", "REDUCE_MAX", "REDUCE_MIN", "REDUCE_PROD"), _constant_axes),
}
