"""What numbers a graph computes with: the one word for its quantisation, and which ops break ranks."""

from __future__ import annotations

from collections import Counter
from typing import Literal

from msgspec import Struct

from converters.tflite.graph_values import EDGETPU_OP, Graph, Op, Subgraph

Kind = Literal["float32", "float16", "dynamic", "weight-only", "int8", "uint8", "16x8", "mixed", "edgetpu", "none"]
_CONVERSIONS = frozenset({"QUANTIZE", "DEQUANTIZE"})
_FLOATS = frozenset({"float32", "float16", "float64", "bfloat16"})
_PACKED = frozenset({"int8", "uint8", "int4", "uint4", "int2"})


class FloatOp(Struct, frozen=True):
    """``tensor`` is the name of its first output."""

    op: int
    name: str
    tensor: str


class Arithmetic(Struct, frozen=True):
    """``text`` is for a person. ``float_ops``: those that compute in float though others do not; all ops of a float
    model do, and none is listed. Conversions between the two are not counted."""

    kind: Kind
    text: str
    float_ops: tuple[FloatOp, ...] = ()


def arithmetic(graph: Graph) -> Arithmetic:
    """Of the main subgraph."""
    subgraph = graph.main
    if graph.compiled_for_edgetpu:
        rest = sum(op.name != EDGETPU_OP for op in subgraph.ops)
        left = f"{rest} ops remain for the CPU" if rest else "no op remains for the CPU"
        return Arithmetic("edgetpu", f"compiled for the Edge TPU, {left}")
    kinds = {op.index: activation_type(subgraph, op) for op in subgraph.ops if op.name not in _CONVERSIONS}
    floats = [subgraph.ops[index] for index, dtype in kinds.items() if dtype in _FLOATS]
    whole = {dtype for dtype in kinds.values() if dtype in ("int8", "uint8", "int16")}
    if floats and whole:
        return _mixed(subgraph, floats)
    if floats:
        return _of_float(subgraph, floats)
    if "int16" in whole:
        return Arithmetic("16x8", f"16x8 (int16 activations, int8 weights){_borders(subgraph)}")
    if whole:
        kind: Kind = "int8" if "int8" in whole else "uint8"
        return Arithmetic(kind, f"full {kind}{_borders(subgraph)}")
    return Arithmetic("none", "no op computes in float or quantised")


def activation_type(subgraph: Subgraph, op: Op) -> str:
    """The data type that an op computes in: float where any of its activations is, else that of its first output."""
    dtypes = [t.dtype for t in subgraph.of((*op.outputs, *op.inputs)) if not t.is_constant]
    return next((dtype for dtype in dtypes if dtype in _FLOATS), dtypes[0] if dtypes else "")


def weight_type(subgraph: Subgraph, op: Op) -> str:
    """The data type of the largest constant that an op takes; "" where it takes none that was trained."""
    trained = [t for t in subgraph.of(op.inputs) if t.is_constant and (t.scales or t.dtype in _FLOATS)]
    return max(trained, key=lambda tensor: tensor.elements).dtype if trained else ""


def _mixed(subgraph: Subgraph, floats: list[Op]) -> Arithmetic:
    counted = Counter(op.name for op in floats)
    names = ", ".join(f"{count} x {name}" if count > 1 else name for name, count in counted.items())
    text = f"mixed: {len(floats)} float op{'s' if len(floats) > 1 else ''}: {names}"
    return Arithmetic(
        "mixed", text, tuple(FloatOp(op.index, op.name, subgraph.of(op.outputs)[0].name) for op in floats)
    )


def _of_float(subgraph: Subgraph, floats: list[Op]) -> Arithmetic:
    direct = {weight_type(subgraph, op) for op in floats}
    unpacked = {
        tensor.dtype
        for op in subgraph.ops
        if op.name == "DEQUANTIZE"
        for tensor in subgraph.of(op.inputs)
        if tensor.is_constant
    }
    if direct & _PACKED:
        return Arithmetic("dynamic", f"dynamic range ({_names(direct & _PACKED)} weights, float activations)")
    if unpacked & _PACKED:
        return Arithmetic("weight-only", f"{_names(unpacked & _PACKED)} weights, unpacked to float before use")
    if "float16" in direct | unpacked:
        return Arithmetic("float16", "float16 weights")
    return Arithmetic("float32", "float32")


def _names(dtypes: set[str]) -> str:
    return " and ".join(sorted(dtypes))


def _borders(subgraph: Subgraph) -> str:
    """What inputs and outputs are, where they differ from what is inside."""
    inside = {activation_type(subgraph, op) for op in subgraph.ops if op.name not in _CONVERSIONS}
    sides: dict[str, list[str]] = {}
    for side, indices in (("inputs", subgraph.inputs), ("outputs", subgraph.outputs)):
        for dtype in sorted({subgraph.tensors[index].dtype for index in indices} - inside):
            sides.setdefault(dtype, []).append(side)
    return "".join(f", {dtype} {' and '.join(names)}" for dtype, names in sides.items())
