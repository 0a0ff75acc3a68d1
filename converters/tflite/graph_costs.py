"""What each op of a graph costs: bytes of constants that it owns, multiply-accumulates of one run."""

from __future__ import annotations

import math

from msgspec import Struct

from converters.tflite.graph_values import Op, Subgraph


class Cost(Struct, frozen=True):
    """``constant_bytes``: of the constants that no earlier op takes, so that shared ones count once. ``macs``:
    multiply-accumulates of convolutions and matrix products with a batch as stored; other arithmetic counts 0."""

    op: int
    constant_bytes: int
    macs: int


def op_costs(subgraph: Subgraph) -> tuple[Cost, ...]:
    """One entry for each op, in order."""
    counted: set[int] = set()
    costs = []
    for op in subgraph.ops:
        own = {t.buffer: t.constant_bytes for t in subgraph.of(op.inputs) if t.is_constant and t.buffer not in counted}
        counted |= own.keys()
        costs.append(Cost(op.index, sum(own.values()), macs(subgraph, op)))
    return tuple(costs)


def parameters(subgraph: Subgraph) -> int:
    """Trained numbers: elements of constants that are float or have a scale. Shapes and axes are neither; a shared
    constant counts once."""
    by_buffer = {t.buffer: t for t in subgraph.tensors if t.is_constant and (t.dtype.startswith("float") or t.scales)}
    return sum(tensor.elements for tensor in by_buffer.values())


def macs(subgraph: Subgraph, op: Op) -> int:
    """Multiply-accumulates of one op; 0 for a graph whose shapes do not fit the op."""
    inputs = [subgraph.tensors[index].shape if index >= 0 else () for index in op.inputs]
    outputs = subgraph.of(op.outputs)
    if not outputs or len(inputs) < 2 or not inputs[0] or not inputs[1]:
        return 0
    data, weights, made = inputs[0], inputs[1], outputs[0].elements
    if op.name == "TRANSPOSE_CONV" and len(inputs) > 2:
        return math.prod(inputs[2]) * math.prod(weights[:3])
    each = {
        "CONV_2D": math.prod(weights[1:]),
        "DEPTHWISE_CONV_2D": math.prod(weights[1:3]),
        "FULLY_CONNECTED": weights[-1],
        "BATCH_MATMUL": data[-2] if op.options.get("AdjX") and len(data) > 1 else data[-1],
    }
    return made * each.get(op.name, 0)
