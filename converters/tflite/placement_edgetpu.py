"""What the Edge TPU compiler would map, predicted from the graph alone.

Rules: Google's table of supported operations and their limits ("TensorFlow models on the Edge TPU", runtime 14), the
reasons in logs of compiler 16.0 that users published, and the op versions of TFLite 2.5, which that compiler holds.
Checked against what is known of two models of google-coral/test_data, never against the compiler itself.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np
from msgspec import Struct

from converters.tflite.graph_values import EDGETPU_OP, Graph, Op, Subgraph, Tensor
from converters.tflite.placement import Placement, Verdict, placement

BASIS = "documented rules of edgetpu_compiler 16.0"
SOFTMAX_MOST = 16_000
MEAN_DEPTH_MULTIPLE = 4
QUANTIZE_FULLY = "quantise the model fully: edge-convert quantize --scheme int8"
_EIGHT_BIT = ("int8", "uint8")
_LIMITED_FUSED = ("NONE", "RELU", "RELU6", "RELU_N1_TO_1")
# Newest version of each op that the compiler's TFLite registers (op_version map of TensorFlow 2.5); it refuses a file
# with a newer one as a whole: "Didn't find op for builtin opcode".
NEWEST: Mapping[str, int] = {
    "ADD": 3,
    "AVERAGE_POOL_2D": 3,
    "CAST": 1,
    "CONCATENATION": 3,
    "CONV_2D": 5,
    "DEPTHWISE_CONV_2D": 6,
    "DEQUANTIZE": 4,
    "DIV": 2,
    "EXP": 1,
    "EXPAND_DIMS": 1,
    "FULLY_CONNECTED": 9,
    "L2_NORMALIZATION": 2,
    "LEAKY_RELU": 2,
    "LOGISTIC": 3,
    "LSTM": 4,
    "MAXIMUM": 4,
    "MAX_POOL_2D": 3,
    "MEAN": 3,
    "MINIMUM": 4,
    "MUL": 4,
    "PACK": 3,
    "PAD": 3,
    "PRELU": 1,
    "QUANTIZE": 2,
    "REDUCE_MAX": 3,
    "REDUCE_MIN": 3,
    "RELU": 2,
    "RELU6": 3,
    "RESHAPE": 1,
    "RESIZE_BILINEAR": 4,
    "RESIZE_NEAREST_NEIGHBOR": 4,
    "RSQRT": 1,
    "SLICE": 5,
    "SOFTMAX": 3,
    "SPACE_TO_DEPTH": 2,
    "SPLIT": 4,
    "SQUARED_DIFFERENCE": 2,
    "SQUEEZE": 2,
    "STRIDED_SLICE": 5,
    "SUB": 5,
    "SUM": 2,
    "TANH": 3,
    "TRANSPOSE": 5,
    "TRANSPOSE_CONV": 3,
    "UNIDIRECTIONAL_SEQUENCE_LSTM": 3,
}
_SUPPORTED = frozenset(NEWEST) - {"CAST", "DEQUANTIZE", "DIV", "EXP", "LEAKY_RELU"}
_REPLACEMENTS: Mapping[str, str] = {
    **dict.fromkeys(("LEAKY_RELU", "HARD_SWISH", "ELU", "GELU"), "train with ReLU or ReLU6 in its place"),
    "TFLite_Detection_PostProcess": "nothing: it always runs on the CPU, after the network",
    "DIV": "multiply by the inverse instead",
    "CAST": "keep one data type from input to output",
}


class Refusal(Struct, frozen=True):
    reason: str
    fix: str = ""
    border: bool = False


def predict_edgetpu(graph: Graph) -> Placement:
    """A file that was compiled already is read as it is: its Edge TPU op is taken, all others run on the CPU."""
    if graph.compiled_for_edgetpu:
        compiled = [
            Verdict(op.name == EDGETPU_OP, "" if op.name == EDGETPU_OP else "not compiled") for op in _ops(graph)
        ]
        return placement("edgetpu", "compiled for the Edge TPU", graph, compiled, measured=True)
    too_new = next((op for op in _ops(graph) if op.version > NEWEST.get(op.name, op.version)), None)
    if too_new is not None:
        whole = f"the compiler refuses the whole file: {too_new.name} version {too_new.version}, it knows up to "
        refused = Verdict(False, f"{whole}{NEWEST[too_new.name]}", "convert with an older converter")
        return placement("edgetpu", BASIS, graph, [refused for _ in _ops(graph)], measured=False)
    return placement("edgetpu", BASIS, graph, _in_order(graph), measured=False)


def _at_border(subgraph: Subgraph, op: Op) -> bool:
    """Whether the op only converts a float input or output of the model: on the CPU, and no obstacle to the rest."""
    kinds = {tensor.dtype for tensor in subgraph.of((*op.inputs, *op.outputs))}
    if "float32" not in kinds:
        return False
    if op.name == "QUANTIZE":
        return op.inputs[0] in subgraph.inputs
    return op.name == "DEQUANTIZE" and op.outputs[0] not in subgraph.consumers()


def _ops(graph: Graph) -> Sequence[Op]:
    return graph.main.ops


def _in_order(graph: Graph) -> list[Verdict]:
    """The compiler maps one connected part: what depends on an op that stays on the CPU stays there too."""
    subgraph, verdicts = graph.main, list[Verdict]()
    obstacle: dict[int, Op] = {}  # by tensor: the first op on its way that stays on the CPU
    for op in subgraph.ops:
        refusal = next(_refusals(graph, op), None)
        before = next((obstacle[tensor] for tensor in op.inputs if tensor in obstacle), None)
        if refusal:
            verdicts.append(Verdict(False, refusal.reason, refusal.fix, refusal.border))
        elif before:
            verdicts.append(Verdict(False, f"comes after op {before.index} {before.name}, which stays on the CPU"))
        else:
            verdicts.append(_taken(op))
        if not verdicts[-1].taken and not verdicts[-1].border:
            obstacle |= dict.fromkeys(op.outputs, before or op)
    return verdicts


def _taken(op: Op) -> Verdict:
    """With what the documentation leaves open."""
    if op.name.startswith("RESIZE_"):
        return Verdict(True, "may stay on the CPU: depends on its sizes")
    return Verdict(True)


def _refusals(graph: Graph, op: Op) -> Iterator[Refusal]:
    subgraph = graph.main
    if _at_border(subgraph, op):
        yield Refusal("converts from or to float at the border", "an int8 input and output spare it", border=True)
    if op.custom:
        yield Refusal("a custom op", _REPLACEMENTS.get(op.name, "use operations of TFLite itself"))
    moving = [t for t in subgraph.of((*op.inputs, *op.outputs)) if not t.is_constant]
    kinds = {tensor.dtype for tensor in moving if not tensor.variable}
    if wide := sorted(kinds - {*_EIGHT_BIT}):
        yield Refusal(f"{', '.join(wide)} activations, it takes int8 and uint8", QUANTIZE_FULLY)
    if op.name not in _SUPPORTED:
        yield Refusal("not among the Edge TPU's operations", _REPLACEMENTS.get(op.name, "use another operation"))
    if any(not tensor.static for tensor in moving):
        yield Refusal("a size that only a run decides", "export the model with a fixed batch of 1")
    if any(_outer(tensor.shape[:-3]) for tensor in moving):
        yield Refusal("more than 3 inner dimensions above 1", "export the model with a batch of 1")
    if op.activation not in _LIMITED_FUSED:
        yield Refusal(f"fused activation {op.activation}", "train with ReLU or ReLU6 in its place")
    yield from _RULES.get(op.name, _no_rule)(graph, op)


def _outer(sizes: Sequence[int]) -> bool:
    return any(size != 1 for size in sizes)


def _no_rule(graph: Graph, op: Op) -> Iterator[Refusal]:
    yield from ()


def _pool(graph: Graph, op: Op) -> Iterator[Refusal]:
    if op.activation != "NONE":
        yield Refusal(f"fused activation {op.activation}, it takes none here", "put the activation elsewhere")


def _weighted(graph: Graph, op: Op) -> Iterator[Refusal]:
    weights = graph.main.of(op.inputs[1:3] if op.name != "TRANSPOSE_CONV" else op.inputs[1:2])
    if any(not tensor.is_constant for tensor in weights):
        yield Refusal("its weights are not constant", "keep them constant, or multiply outside the model")
    if any(tensor.dtype not in (*_EIGHT_BIT, "int32") for tensor in weights):
        yield Refusal(f"{weights[0].dtype} weights, it takes int8 and uint8", QUANTIZE_FULLY)
    if op.options.get("DilationWFactor", 1) != op.options.get("DilationHFactor", 1):
        yield Refusal("different dilation in x and y", "use the same dilation in x and y")


def _fully_connected(graph: Graph, op: Op) -> Iterator[Refusal]:
    yield from _weighted(graph, op)
    if op.options.get("WeightsFormat"):
        yield Refusal("weights in a format of their own", "convert it again without shuffled or sparse weights")
    if _outer(graph.main.of(op.outputs)[0].shape[:-1]):
        yield Refusal(
            "its output has more than one dimension", "flatten before the dense layer, or use a 1x1 convolution"
        )
    if graph.main.tensors[op.inputs[1]].per_channel:
        yield Refusal(
            "one scale for each row of its weights, the compiler's TFLite knows one scale (assumed to be refused)",
            "quantise dense layers per tensor",
        )


def _concatenation(graph: Graph, op: Op) -> Iterator[Refusal]:
    yield from _pool(graph, op)
    inputs = graph.main.of(op.inputs)
    constant = [tensor for tensor in inputs if tensor.is_constant]
    if constant and (len(inputs) != 2 or not _all_zero(graph, constant[0])):
        yield Refusal("a constant input that is not zero padding of one other", "fold the constant into another layer")


def _all_zero(graph: Graph, tensor: Tensor) -> bool:
    values = graph.values(tensor)
    return values is not None and bool(np.all(values == (tensor.zero_points or (0,))[0]))


def _reduction(graph: Graph, op: Op) -> Iterator[Refusal]:
    data, axes = graph.main.of(op.inputs)[:2]
    along = _numbers(graph, axes)
    rank = len(data.shape)
    if along is None or (rank > 1 and 0 in {axis % rank for axis in along}):
        yield Refusal("reduces over the batch, or over an axis that is not constant", "reduce over the inner axes only")
    elif op.name == "MEAN" and rank and rank - 1 in {axis % rank for axis in along} and data.shape[-1] % 4:
        yield Refusal(
            f"mean over {data.shape[-1]} channels, not a multiple of {MEAN_DEPTH_MULTIPLE}",
            f"make the channels a multiple of {MEAN_DEPTH_MULTIPLE}",
        )


def _numbers(graph: Graph, tensor: Tensor) -> list[int] | None:
    values = graph.values(tensor)
    return None if values is None else [int(value) for value in values.ravel()]


def _pad(graph: Graph, op: Op) -> Iterator[Refusal]:
    data, paddings = graph.main.of(op.inputs)[:2]
    values = _numbers(graph, paddings)
    if values is None or (len(data.shape) > 1 and any(values[:2])):
        yield Refusal("pads the batch, or by an amount that is not constant", "pad the inner dimensions only")


def _softmax(graph: Graph, op: Op) -> Iterator[Refusal]:
    shape = graph.main.of(op.inputs)[0].shape
    if _outer(shape[:-1]) or (shape and shape[-1] > SOFTMAX_MOST):
        yield Refusal(f"softmax of {list(shape)}, it takes one row of at most {SOFTMAX_MOST}", "apply it on the device")


def _along(position: int) -> Callable[[Graph, Op], Iterator[Refusal]]:
    """For SPLIT, whose axis is its first input, and PACK, whose axis is an option (``position`` -1)."""

    def rule(graph: Graph, op: Op) -> Iterator[Refusal]:
        if op.name == "SPLIT" and len(op.outputs) == 1:
            return  # nothing is split
        data = graph.main.of(op.inputs)[-1]
        axes = [int(op.options.get("Axis", 0))] if position < 0 else _numbers(graph, graph.main.of(op.inputs)[position])
        rank = max(len(data.shape), 1)
        if axes is None or (rank > 1 and any(axis % rank == 0 for axis in axes)):
            yield Refusal(f"{op.name} along the batch, or an axis that is not constant", "use an inner axis")

    return rule


def _strided_slice(graph: Graph, op: Op) -> Iterator[Refusal]:
    strides = _numbers(graph, graph.main.of(op.inputs)[-1])
    if strides is None or any(stride != 1 for stride in strides):
        yield Refusal("strides other than 1", "slice without a stride")
    if op.options.get("EllipsisMask") or op.options.get("NewAxisMask"):
        yield Refusal("an ellipsis or a new axis in the slice", "slice with explicit bounds")


def _prelu(graph: Graph, op: Op) -> Iterator[Refusal]:
    if _outer(graph.main.of(op.inputs)[1].shape[:-1]):
        yield Refusal("a slope for each position", "share the slopes over height and width (shared_axes=[1, 2])")


_RULES: Mapping[str, Callable[[Graph, Op], Iterator[Refusal]]] = {
    "AVERAGE_POOL_2D": _pool,
    "MAX_POOL_2D": _pool,
    "CONV_2D": _weighted,
    "DEPTHWISE_CONV_2D": _weighted,
    "TRANSPOSE_CONV": _weighted,
    "FULLY_CONNECTED": _fully_connected,
    "CONCATENATION": _concatenation,
    **dict.fromkeys(("MEAN", "SUM", "REDUCE_MAX", "REDUCE_MIN"), _reduction),
    "PAD": _pad,
    "SOFTMAX": _softmax,
    "SPLIT": _along(0),
    "PACK": _along(-1),
    "STRIDED_SLICE": _strided_slice,
    "PRELU": _prelu,
}
