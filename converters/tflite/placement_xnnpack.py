"""What XNNPACK takes on a CPU: predicted by the checks of its delegate's source, and measured with the interpreter."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from converters.tflite.graph_values import Graph, Op, Subgraph
from converters.tflite.placement import Placement, Verdict, placement

BASIS = "rules of LiteRT 2.3's XNNPACK delegate"
MEASURE_S = 60.0
_EIGHT_BIT = ("int8", "uint8")
# From the delegate's VisitNode, each tried with a model of one op on LiteRT 2.3.0 (x86-64).
_QUANTIZED = """
    ADD CONCATENATION CONV_2D DEPTHWISE_CONV_2D DEPTH_TO_SPACE DEQUANTIZE FULLY_CONNECTED LEAKY_RELU LOGISTIC
    MAX_POOL_2D MEAN MUL PAD QUANTIZE REDUCE_MAX REDUCE_MIN RESHAPE RESIZE_BILINEAR SLICE SPACE_TO_DEPTH SPLIT
    STRIDED_SLICE SUB SUM TANH TRANSPOSE TRANSPOSE_CONV
""".split()  # noqa: SIM905  # forty names are read better as text
_FLOAT = """
    ABS AVERAGE_POOL_2D BATCH_MATMUL CEIL COS DIV ELU EXP FLOOR GELU HARD_SWISH LOG MAXIMUM MINIMUM NEG PRELU RELU
    RELU6 RELU_N1_TO_1 ROUND RSQRT SIN SOFTMAX SQRT SQUARE SQUARED_DIFFERENCE
""".split()  # noqa: SIM905
_CUSTOM = frozenset({"Convolution2DTransposeBias", "MaxPoolingWithArgmax2D", "MaxUnpooling2D"})
_WEIGHTED = frozenset({"CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED", "TRANSPOSE_CONV"})
_HYBRID = frozenset({"CONV_2D", "FULLY_CONNECTED", "BATCH_MATMUL"})  # float activations on int8 weights
_CONCATENATED_MOST = 5
_SPLIT = (2, 4)  # outputs
_SUM_RATIO = (2**-10, 2**8)  # scale of an input / of the output
_PRODUCT_RATIO = (2**-16, 2**8)  # product of the inputs' scales / of the output


def predict_xnnpack(graph: Graph) -> Placement:
    """By the delegate's rules."""
    verdicts = [_verdict(graph.main, op) for op in graph.main.ops]
    return placement("xnnpack", BASIS, graph, verdicts, measured=False)


def measure_xnnpack(graph: Graph) -> Placement | str:
    """What the delegate really took on this machine; a reason where the interpreter does not load the model.

    Asked in a child process, since a damaged model may kill the interpreter.
    """
    try:
        done = subprocess.run(
            [sys.executable, "-m", "converters.tflite.delegated_child"],
            input=graph.content,
            capture_output=True,
            timeout=MEASURE_S,
            check=False,
            cwd="/",  # -m puts the working folder first on the path: a stray numpy.py in it would be run
            env={**os.environ, "PYTHONPATH": os.pathsep.join(str(Path(entry).absolute()) for entry in sys.path)},
        )
        answer = json.loads(done.stdout)
    except subprocess.TimeoutExpired:
        return f"the interpreter did not load it within {MEASURE_S:g} s"
    except ValueError:
        return "the interpreter died on it: the model is damaged, or breaks this runtime"
    if "error" in answer:
        return str(answer["error"])
    taken = set(answer["taken"])
    predicted = [_verdict(graph.main, op) for op in graph.main.ops]
    verdicts = [
        Verdict(True) if op.index in taken else Verdict(False, rule.reason or "the delegate did not take it", rule.fix)
        for op, rule in zip(graph.main.ops, predicted, strict=True)
    ]
    return placement("xnnpack", answer["runtime"], graph, verdicts, measured=True)


def _verdict(subgraph: Subgraph, op: Op) -> Verdict:
    reason = next(_refusals(subgraph, op), "")
    return Verdict(not reason, reason)


def _refusals(subgraph: Subgraph, op: Op) -> Iterator[str]:
    """Why XNNPACK leaves the op; nothing where it takes it."""
    if op.custom:
        if op.name not in _CUSTOM:
            yield "a custom op"
        return
    if op.name not in _FLOAT and op.name not in _QUANTIZED:
        yield "not among its ops"
    moving = [t for t in subgraph.of((*op.inputs, *op.outputs)) if not t.is_constant]
    if any(not tensor.static for tensor in moving):
        yield "a size that only a run decides"
    kinds = {tensor.dtype for tensor in moving}
    if wide := kinds - {"float32", *_EIGHT_BIT}:
        yield f"{', '.join(sorted(wide))} tensors"
    if kinds & {*_EIGHT_BIT} and op.name not in _QUANTIZED:
        yield f"takes {op.name} in float only"
    if op.activation in ("TANH", "SIGN_BIT"):
        yield f"fused activation {op.activation}"
    yield from _RULES.get(op.name, _no_rule)(subgraph, op)


def _no_rule(subgraph: Subgraph, op: Op) -> Iterator[str]:
    yield from ()


def _quantize(subgraph: Subgraph, op: Op) -> Iterator[str]:
    kinds = [tensor.dtype for tensor in subgraph.of((*op.inputs, *op.outputs))]
    if kinds[0] != "float32" and kinds[0] != kinds[-1]:
        yield f"from {kinds[0]} to {kinds[-1]}"


def _concatenation(subgraph: Subgraph, op: Op) -> Iterator[str]:
    inputs, output = subgraph.of(op.inputs), subgraph.of(op.outputs)[0]
    if not 2 <= len(inputs) <= _CONCATENATED_MOST:
        yield f"inputs: {len(inputs)}, it takes 2 to {_CONCATENATED_MOST}"
    if output.dtype == "uint8" and any(
        (t.scales, t.zero_points) != (output.scales, output.zero_points) for t in inputs
    ):
        yield "uint8 inputs of different scales"


def _split(subgraph: Subgraph, op: Op) -> Iterator[str]:
    if not _SPLIT[0] <= len(op.outputs) <= _SPLIT[1]:
        yield f"outputs: {len(op.outputs)}, it takes {_SPLIT[0]} to {_SPLIT[1]}"


def _softmax(subgraph: Subgraph, op: Op) -> Iterator[str]:
    if op.options.get("Beta") != 1:
        yield "beta is not 1"


def _weighted(subgraph: Subgraph, op: Op) -> Iterator[str]:
    data, weights = subgraph.of(op.inputs[:2])
    if not weights.is_constant and _made_at_run_time(subgraph, op):
        yield "its weights are not constant"
    if op.name in ("CONV_2D", "DEPTHWISE_CONV_2D") and (len(op.inputs) < 3 or op.inputs[2] < 0):
        yield "it has no bias"
    if data.dtype == "float32" and weights.dtype != "float32" and op.name not in _HYBRID:
        yield f"float activations on {weights.dtype} weights"


def _made_at_run_time(subgraph: Subgraph, op: Op) -> bool:
    """Whether the weights are more than constants unpacked (float16 or int8 behind a DEQUANTIZE, sparse ones)."""
    producer = subgraph.producers().get(op.inputs[1])
    if producer is None:
        return True
    unpack = subgraph.ops[producer]
    return unpack.name not in ("DEQUANTIZE", "DENSIFY") or not subgraph.of(unpack.inputs)[0].is_constant


def _sum(subgraph: Subgraph, op: Op) -> Iterator[str]:
    output = subgraph.of(op.outputs)[0]
    for tensor in subgraph.of(op.inputs):
        if tensor.scales and output.scales and not _inside(tensor.scales[0], output.scales[0], _SUM_RATIO):
            yield "scales of input and output too far apart"


def _product(subgraph: Subgraph, op: Op) -> Iterator[str]:
    scales = [tensor.scales[0] for tensor in subgraph.of((*op.inputs, *op.outputs)) if tensor.scales]
    if len(scales) == 3 and not _inside(scales[0] * scales[1], scales[2], _PRODUCT_RATIO):
        yield "scales of inputs and output too far apart"


def _inside(scale: float, other: float, bounds: tuple[float, float]) -> bool:
    return other > 0 and bounds[0] <= scale / other < bounds[1]


_RULES: Mapping[str, Callable[[Subgraph, Op], Iterator[str]]] = {
    "QUANTIZE": _quantize,
    "CONCATENATION": _concatenation,
    "SPLIT": _split,
    "SOFTMAX": _softmax,
    "ADD": _sum,
    "SUB": _sum,
    "MUL": _product,
    **dict.fromkeys(_WEIGHTED, _weighted),
}
