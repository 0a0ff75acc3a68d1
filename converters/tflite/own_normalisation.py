"""Finds normalisation that a model does itself, between an input and its first layer: (x - mean) / std in the graph.

Quantised with the rest it is ruinous for sensors, since all raw ranges then share one scale; its ops have to stay in
float. For pictures it does no harm, and is told for information.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Literal

import numpy as np
from msgspec import Struct

from converters.tflite.graph_values import Graph, Op, Subgraph
from edge_agent.records import Array

FOLLOWED_MOST = 2**22  # elements of an input whose mean and std are worked out: a picture of 1180 x 1180
_ARITHMETIC = frozenset({"ADD", "SUB", "MUL", "DIV"})
# What only moves values, or clips them: it may stand before, between or after the arithmetic.
_RESHAPING = frozenset({"RESHAPE", "SQUEEZE", "EXPAND_DIMS", "CAST", "DEQUANTIZE", "QUANTIZE"})
_MOVING = _RESHAPING | frozenset(
    {"CONCATENATION", "SPLIT", "SPLIT_V", "STRIDED_SLICE", "SLICE", "PACK", "UNPACK", "GATHER", "TRANSPOSE"}
)
_CLIPPING = frozenset({"MINIMUM", "MAXIMUM"})


class OwnNormalisation(Struct, frozen=True):
    """One input that the graph normalises. ``ops`` and ``tensors`` (their outputs' names): what computes it, so what
    has to stay in float. ``mean`` and ``std``, (x - mean) / std, have a value for each element of the input, or for
    each channel of a picture; None where they can't be told."""

    input: str
    role: Literal["features", "image"]
    ops: tuple[int, ...]
    op_names: tuple[str, ...]
    tensors: tuple[str, ...]
    mean: tuple[float, ...] | None
    std: tuple[float, ...] | None

    def text(self) -> str:
        """For a person."""
        known = f", mean {_short(self.mean)}, std {_short(self.std)}" if self.mean and self.std else ""
        return f"{self.input!r} is normalised inside the model ({', '.join(self.op_names)}{known})"


class _Values(Struct, frozen=True):
    """What is known of a tensor that depends on nothing but inputs: y = slope * x + offset, element by element, where x
    is element ``source`` of all inputs in a row; None where the positions or the factors were lost. ``inputs``: which
    of them; ``needs``: ops up to here; ``arithmetic``: those up to the last one that computes."""

    inputs: frozenset[str]
    needs: frozenset[int] = frozenset()
    arithmetic: frozenset[int] = frozenset()
    source: Array | None = None
    slope: Array | None = None
    offset: Array | None = None


def find_own_normalisation(
    graph: Graph, feature_inputs: Sequence[str], image_inputs: Sequence[str] = ()
) -> tuple[OwnNormalisation, ...]:
    """Of a float graph. Inputs by the names that callers use; one that the graph does not have is passed over.

    Found is arithmetic with constants (SUB, ADD, MUL, DIV without a fused activation) that a value meets before its
    first layer, also behind RESHAPE, CAST, SPLIT, CONCATENATION and the like. A Dense layer's own bias is none.
    """
    found = _found(graph, feature_inputs, "features") + _found(graph, image_inputs, "image")
    return tuple(found)


def _found(graph: Graph, names: Sequence[str], role: Literal["features", "image"]) -> list[OwnNormalisation]:
    subgraph = graph.main
    indices = {name: index for index, name in graph.names()[0].items() if name in names}
    first = _first_elements(subgraph, indices)
    reached = _reach(graph, indices, first)
    result = []
    for name, index in indices.items():
        ends = [values for values in reached.values() if name in values.inputs and values.arithmetic]
        ops = sorted({op for values in ends for op in values.arithmetic if _depends(reached, subgraph, op, name)})
        if not ops:
            continue
        mean, std = _mean_std(ends, first[name], subgraph.tensors[index].elements)
        if role == "image":
            mean, std = (_by_channel(side, subgraph.tensors[index].shape) for side in (mean, std))
        result.append(
            OwnNormalisation(
                input=name,
                role=role,
                ops=tuple(ops),
                op_names=tuple(subgraph.ops[op].name for op in ops),
                tensors=tuple(t.name for op in ops for t in subgraph.of(subgraph.ops[op].outputs)),
                mean=mean,
                std=std,
            )
        )
    return result


def _first_elements(subgraph: Subgraph, indices: Mapping[str, int]) -> dict[str, int]:
    first, count = {}, 0
    for name, index in indices.items():
        first[name] = count
        count += subgraph.tensors[index].elements
    return first


def _reach(graph: Graph, indices: Mapping[str, int], first: Mapping[str, int]) -> dict[int, _Values]:
    """By tensor, for all that is made from the inputs alone and before any layer."""
    subgraph = graph.main
    reached = {}
    for name, index in indices.items():
        shape, count = subgraph.tensors[index].shape, subgraph.tensors[index].elements
        reached[index] = _Values(frozenset({name}))
        if count <= FOLLOWED_MOST and all(size >= 0 for size in shape):
            source = np.arange(first[name], first[name] + count).reshape(shape)
            reached[index] = _Values(frozenset({name}), source=source, slope=np.ones(shape), offset=np.zeros(shape))
    constants = _constants(graph)
    for op in subgraph.ops:
        moving = [tensor for tensor in op.inputs if tensor >= 0 and tensor not in constants]
        if moving and all(tensor in reached for tensor in moving):
            reached.update(_step(graph, op, moving, reached, constants))
    return reached


def _constants(graph: Graph) -> dict[int, Array | None]:
    """By tensor: constants, also those that are stored as float16 and unpacked."""
    subgraph = graph.main
    found = {tensor.index: graph.values(tensor) for tensor in subgraph.tensors if tensor.is_constant}
    for op in subgraph.ops:
        if op.name == "DEQUANTIZE" and op.inputs[0] in found:
            packed = found[op.inputs[0]]
            found[op.outputs[0]] = packed if packed is not None and packed.dtype.kind == "f" else None
    return found


def _step(
    graph: Graph, op: Op, moving: list[int], reached: Mapping[int, _Values], constants: Mapping[int, Array | None]
) -> dict[int, _Values]:
    """What an op makes of values that are reached; nothing where it is a layer."""
    before = [reached[tensor] for tensor in moving]
    inputs = frozenset[str]().union(*(values.inputs for values in before))
    needs = frozenset({op.index}).union(*(values.needs for values in before))
    done = frozenset[int]().union(*(values.arithmetic for values in before))
    same_size = graph.main.of(op.outputs)[:1] and graph.main.of(op.outputs)[0].elements == sum(
        graph.main.tensors[tensor].elements for tensor in moving
    )
    if op.name in _ARITHMETIC and len(moving) == 1 and op.activation == "NONE" and same_size:
        affine = _affine(op, before[0], constants, graph.main.of(op.outputs)[0].shape)
        return {op.outputs[0]: _Values(inputs, needs, needs, *affine)}
    if op.name in _CLIPPING and len(moving) == 1 and same_size:
        values = before[0]
        return {op.outputs[0]: _Values(inputs, needs, done, values.source, values.slope, values.offset)}
    if op.name not in _MOVING or op.activation != "NONE":
        return {}
    moved = [_move(graph, op, moving, [_part(values, field) for values in before]) for field in range(3)]
    return {
        tensor: _Values(inputs, needs, done, *(side[number] for side in moved))
        for number, tensor in enumerate(op.outputs)
    }


def _part(values: _Values, field: int) -> Array | None:
    return (values.source, values.slope, values.offset)[field]


def _affine(
    op: Op, before: _Values, constants: Mapping[int, Array | None], shape: tuple[int, ...]
) -> tuple[Array | None, Array | None, Array | None]:
    """(source, slope, offset) after an op with a constant."""
    constant_first = op.inputs[0] in constants
    constant = constants[op.inputs[0 if constant_first else 1]]
    if constant is None or before.slope is None or before.offset is None or (op.name == "DIV" and constant_first):
        return None, None, None
    slope, offset = before.slope, before.offset
    with np.errstate(invalid="ignore"):  # a damaged constant may hold anything
        factor = constant.astype(np.float64)
    if factor.size > slope.size or not _broadcasts(factor.shape, slope.shape):
        return None, None, None
    with np.errstate(divide="ignore", invalid="ignore"):
        if op.name == "ADD":
            offset = offset + factor
        elif op.name == "SUB":
            slope, offset = (-slope, factor - offset) if constant_first else (slope, offset - factor)
        else:
            factor = factor if op.name == "MUL" else 1 / factor
            slope, offset = slope * factor, offset * factor
    if before.source is None or before.source.size != offset.size:
        return None, None, None
    slope, offset = np.broadcast_arrays(slope, offset)
    return before.source.reshape(shape), slope.reshape(shape), offset.reshape(shape)


def _broadcasts(shape: tuple[int, ...], other: tuple[int, ...]) -> bool:
    try:
        np.broadcast_shapes(shape, other)
    except ValueError:
        return False
    return True


def _move(graph: Graph, op: Op, moving: list[int], sides: Sequence[Array | None]) -> list[Array | None]:
    """Where an op puts the elements: one array for each output, None where that is not followed."""
    outputs = graph.main.of(op.outputs)
    lost: list[Array | None] = [None] * len(outputs)
    known = [side for side in sides if side is not None]
    if len(known) < len(sides):
        return lost
    mover = _MOVERS.get("RESHAPE" if op.name in _RESHAPING else op.name)
    if mover is None or (op.name == "CONCATENATION" and len(moving) != len(op.inputs)):
        return lost
    try:
        made = [*mover(graph, op, known)]
    except (ValueError, IndexError):  # shapes that do not fit the op
        return lost
    if len(made) != len(outputs) or any(a.size != t.elements for a, t in zip(made, outputs, strict=True)):
        return lost
    return [array.reshape(tensor.shape) for array, tensor in zip(made, outputs, strict=True)]


def _concatenation(graph: Graph, op: Op, sides: list[Array]) -> Iterable[Array]:
    axis = int(op.options.get("Axis", 0))
    if -sides[0].ndim <= axis < sides[0].ndim and len({side.ndim for side in sides}) == 1:
        yield np.concatenate(sides, axis)


def _split(graph: Graph, op: Op, sides: list[Array]) -> Iterable[Array]:
    axis = graph.values(graph.main.of(op.inputs)[0])
    if axis is not None and axis.size == 1 and sides[0].shape[int(axis.ravel()[0])] % len(op.outputs) == 0:
        yield from np.split(sides[0], len(op.outputs), int(axis.ravel()[0]))


def _strided_slice(graph: Graph, op: Op, sides: list[Array]) -> Iterable[Array]:
    """With begin and end masks; an axis that is dropped has one element, so the shape of the output settles it."""
    bounds = [graph.values(tensor) for tensor in graph.main.of(op.inputs)[1:4]]
    if op.options.get("EllipsisMask") or op.options.get("NewAxisMask") or any(side is None for side in bounds):
        return
    begins, ends, steps = ([int(v) for v in side.ravel()] for side in bounds if side is not None)
    index = []
    for axis, (begin, end, step) in enumerate(zip(begins, ends, steps, strict=True)):
        bit = 1 << axis
        if int(op.options.get("ShrinkAxisMask", 0)) & bit:
            index.append(slice(begin, begin + 1 or None))
        else:
            first = None if int(op.options.get("BeginMask", 0)) & bit else begin
            index.append(slice(first, None if int(op.options.get("EndMask", 0)) & bit else end, step))
    yield sides[0][tuple(index)]


def _pack(graph: Graph, op: Op, sides: list[Array]) -> Iterable[Array]:
    axis = int(op.options.get("Axis", 0))
    if len({side.shape for side in sides}) == 1 and -sides[0].ndim - 1 <= axis <= sides[0].ndim:
        yield np.stack(sides, axis)


_MOVERS: Mapping[str, Callable[[Graph, Op, list[Array]], Iterable[Array]]] = {
    "RESHAPE": lambda graph, op, sides: [sides[0]],
    "CONCATENATION": _concatenation,
    "SPLIT": _split,
    "STRIDED_SLICE": _strided_slice,
    "PACK": _pack,
}


def _depends(reached: Mapping[int, _Values], subgraph: Subgraph, op: int, name: str) -> bool:
    return any(name in reached[t].inputs for t in subgraph.ops[op].inputs if t in reached)


def _mean_std(ends: Sequence[_Values], first: int, count: int) -> tuple[tuple[float, ...] | None, ...]:
    """(mean, std) of the elements of one input, where each of them has one and only one way to be normalised."""
    slopes, offsets = np.full(count, np.nan), np.full(count, np.nan)
    last = max((len(values.arithmetic) for values in ends), default=0)
    for values in sorted(ends, key=lambda values: (len(values.arithmetic), len(values.needs))):
        if values.source is None or values.slope is None or values.offset is None:
            if len(values.arithmetic) == last:
                return None, None
            continue
        own = (values.source >= first) & (values.source < first + count)
        slopes[values.source[own] - first] = values.slope[own]
        offsets[values.source[own] - first] = values.offset[own]
    if not np.isfinite(slopes).all() or not slopes.all():
        return None, None
    return tuple((-offsets / slopes).tolist()), tuple((1 / slopes).tolist())


def _by_channel(values: tuple[float, ...] | None, shape: tuple[int, ...]) -> tuple[float, ...] | None:
    """One value for each channel of a picture, one for all where they are the same."""
    if values is None or not shape or not shape[-1]:
        return values
    by_pixel = np.array(values).reshape(-1, shape[-1])
    if not np.allclose(by_pixel, by_pixel[0]):
        return None
    return (float(by_pixel[0, 0]),) if np.allclose(by_pixel[0], by_pixel[0, 0]) else tuple(by_pixel[0].tolist())


def _short(values: tuple[float, ...]) -> str:
    shown = ", ".join(f"{value:.4g}" for value in values[:4])
    return f"{shown}, …" if len(values) > 4 else shown
