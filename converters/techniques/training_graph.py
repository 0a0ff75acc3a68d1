"""A float .tflite, with the steps that its int8 file has, as plain values that a training process can rebuild; and the
trained weights put back.

The file is changed in place: only bytes of weights differ afterwards, so names, order and signature stay.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
import numpy as np
from msgspec import Struct

from converters.quantization.calibration import Calibration, Range
from converters.quantization.every_tensor import EveryTensor
from converters.quantization.flatbuffer import parse
from converters.records import Tensors
from converters.tflite.graph import Tensor, read_graph
from edge_agent.errors import ConfigError
from edge_agent.records import Array

_QMIN, _QMAX = -128, 127


class TrainingTensor(Struct, frozen=True):
    """``name`` is unique. ``buffer`` is the number of a constant's array, None for what a run computes. ``scale``: in
    the int8 file, one, or one for each index of ``axis``; empty where it is not int8 there."""

    name: str
    shape: tuple[int, ...]
    dtype: str
    buffer: int | None
    scale: tuple[float, ...] = ()
    zero_point: int = 0
    axis: int = 0


class TrainingOp(Struct, frozen=True):
    """``kind`` is the schema's name; an input of -1 is one that was left out."""

    kind: str
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    activation: str
    options: dict[str, int | float | bool]


class TrainingGraph(Struct, frozen=True):
    """``inputs`` and ``outputs``: tensor numbers by the names that callers use."""

    tensors: tuple[TrainingTensor, ...]
    ops: tuple[TrainingOp, ...]
    inputs: dict[str, int]
    outputs: dict[str, int]

    def to_json(self) -> dict[str, Any]:
        plain: dict[str, Any] = msgspec.to_builtins(self)
        return plain


def training_graph(content: bytes, quantised: bytes) -> tuple[TrainingGraph, dict[int, Array]]:
    """(graph of the float model ``content`` with the steps of its int8 file ``quantised``, constants by buffer).

    Tensors of the two are matched by name. Raises ConfigError for what can't be trained as one graph.
    """
    graph = read_graph(content)
    if len(graph.subgraphs) != 1:
        raise ConfigError(
            f"the model has {len(graph.subgraphs)} graphs (IF, WHILE or a loop over time): fine-tuning works on one"
        )
    parsed = parse(content).subgraphs[0]
    names = [tensor.name.decode() for tensor in parsed.tensors]
    steps = _steps(quantised)
    tensors = tuple(_tensor(tensor, name, steps) for tensor, name in zip(graph.main.tensors, names, strict=True))
    constants = {
        tensor.buffer: values
        for tensor in graph.main.tensors
        if tensor.is_constant and (values := graph.values(tensor)) is not None
    }
    ops = tuple(
        TrainingOp(op.name, op.inputs, op.outputs, op.activation, _options(operator))
        for op, operator in zip(graph.main.ops, parsed.operators, strict=True)
    )
    inputs, outputs = ({name: index for index, name in side.items()} for side in graph.names())
    return TrainingGraph(tensors, ops, inputs, outputs), constants


def with_constants(content: bytes, constants: Mapping[int, Array]) -> bytes:
    """The same file with other values in those buffers, of the same size."""
    changed = bytearray(content)
    places = {tensor.buffer: tensor for tensor in read_graph(content).main.tensors if tensor.is_constant}
    for buffer, values in constants.items():
        (start, size), octets = places[buffer].data, np.ascontiguousarray(values).tobytes()
        if len(octets) != size:
            raise ValueError(f"buffer {buffer} has {size} bytes, not {len(octets)}")
        changed[start : start + size] = octets
    return bytes(changed)


def computed_values(content: bytes, graph: TrainingGraph, sample: Tensors) -> Tensors:
    """What the interpreter computes for one sample: the output of each op, by its tensor's number as text."""
    numbers = {graph.tensors[op.outputs[0]].name: op.outputs[0] for op in graph.ops}
    every = EveryTensor(content, numbers)
    return {str(numbers[name]): np.array(values) for name, values in every.run(sample)}


def learnt_calibration(calibration: Calibration, graph: TrainingGraph, scales: Mapping[str, float]) -> Calibration:
    """The ranges that the int8 file's steps span, with the ``scales`` that training learnt, by tensor name. What the
    int8 file keeps in float has the range that was measured."""
    ranges: dict[str, Range] = dict(calibration.ranges)
    for tensor in graph.tensors:
        if tensor.buffer is None and len(tensor.scale) == 1:
            scale = scales.get(tensor.name, tensor.scale[0])
            ranges[tensor.name] = ((_QMIN - tensor.zero_point) * scale, (_QMAX - tensor.zero_point) * scale)
    return msgspec.structs.replace(calibration, ranges=ranges)


def _options(operator: Any) -> dict[str, int | float | bool]:
    """Of every kind of operation, named as the schema names them: "StrideW"."""
    found = vars(operator.builtinOptions) if operator.builtinOptions is not None else {}
    return {name[0].upper() + name[1:]: value for name, value in found.items() if isinstance(value, (bool, int, float))}


def _steps(quantised: bytes) -> dict[str, Tensor]:
    tensors = read_graph(quantised).main.tensors
    return {tensor.name: tensor for tensor in tensors if tensor.dtype == "int8" and tensor.scales}


def _tensor(tensor: Tensor, name: str, steps: Mapping[str, Tensor]) -> TrainingTensor:
    step = steps.get(name)
    return TrainingTensor(
        name=name,
        shape=tensor.shape,
        dtype=tensor.dtype,
        buffer=tensor.buffer if tensor.is_constant else None,
        scale=step.scales if step else (),
        zero_point=step.zero_points[0] if step else 0,
        axis=step.axis if step else 0,
    )
