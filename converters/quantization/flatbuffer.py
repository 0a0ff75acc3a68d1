"""A .tflite as objects that can be changed, and back: every buffer inside, aligned, nothing unused left.

Tensors and ops are known by name here: names are unique after ``parse``, the same in every step.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from converters.tflite.packing import packed, unpacked

OP_NAMES: dict[int, str] = {
    value: name for name, value in vars(schema.BuiltinOperator).items() if isinstance(value, int)
}


class Op(NamedTuple):
    """One op of the main graph: ``kind`` as the schema names it ("CONV_2D"), ``name`` is its first output tensor's."""

    name: str
    kind: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]


def parse(content: bytes) -> Any:
    """The file as a schema.ModelT; a tensor name that occurs twice gets a number. Raises ModelError."""
    model = unpacked(content)
    taken: set[str] = set()
    for graph in model.subgraphs:
        for position, tensor in enumerate(graph.tensors):
            name = tensor.name.decode("utf-8", "replace") if tensor.name else f"tensor-{position}"
            while name in taken:
                name += f"#{position}"
            taken.add(name)
            tensor.name = name.encode()
    return model


def pack(model: Any) -> bytes:
    """The file of ``model``; tensors, op codes and buffers that nothing uses are left out. Same model, same bytes."""
    for graph in model.subgraphs:
        _drop_unused_tensors(graph, model.signatureDefs if graph is model.subgraphs[0] else None)
    _drop_unused_codes(model)
    _drop_unused_buffers(model)
    return packed(model)


def ops_of(model: Any) -> tuple[Op, ...]:
    """The ops of the main graph, in order."""
    graph = model.subgraphs[0]

    def names(indices: Any) -> tuple[str, ...]:
        return tuple(graph.tensors[index].name.decode() for index in indices if index >= 0)

    found = []
    for operator in graph.operators:
        inputs, outputs = names(operator.inputs), names(operator.outputs)
        found.append(Op((outputs or inputs)[0], kind_of(model, operator), inputs, outputs))
    return tuple(found)


def kind_of(model: Any, operator: Any) -> str:
    code = model.operatorCodes[operator.opcodeIndex]
    return OP_NAMES[max(code.builtinCode, code.deprecatedBuiltinCode)]


def is_constant(model: Any, tensor: Any) -> bool:
    data = model.buffers[tensor.buffer].data
    return data is not None and len(data) > 0


def activations_of(model: Any) -> dict[str, int]:
    """Name to number of each float32 tensor of the main graph that a run computes or takes in."""
    graph = model.subgraphs[0]
    return {
        tensor.name.decode(): index
        for index, tensor in enumerate(graph.tensors)
        if tensor.type == schema.TensorType.FLOAT32 and not is_constant(model, tensor)
    }


def signature_names(model: Any) -> tuple[dict[str, str], dict[str, str]]:
    """(inputs, outputs): the name in the signature to the tensor's; a model without one uses the tensor's own."""
    graph = model.subgraphs[0]

    def name(index: int) -> str:
        text: str = graph.tensors[index].name.decode()
        return text

    signatures = [entry for entry in model.signatureDefs or [] if entry.subgraphIndex == 0]
    if signatures:
        first = signatures[0]
        return (
            {entry.name.decode(): name(entry.tensorIndex) for entry in first.inputs},
            {entry.name.decode(): name(entry.tensorIndex) for entry in first.outputs},
        )
    return {name(index): name(index) for index in graph.inputs}, {name(index): name(index) for index in graph.outputs}


def replace_output(model: Any, old: int, new: int) -> None:
    """Tensor ``new`` takes the place of ``old`` among the outputs of the main graph and its signatures."""
    graph = model.subgraphs[0]
    graph.outputs = [new if index == old else index for index in graph.outputs]
    for signature in model.signatureDefs or []:
        if signature.subgraphIndex == 0:
            for entry in signature.outputs:
                entry.tensorIndex = new if entry.tensorIndex == old else entry.tensorIndex


def _drop_unused_tensors(graph: Any, signatures: Any) -> None:
    used = {*graph.inputs, *graph.outputs}
    for operator in graph.operators:
        used |= {*operator.inputs, *operator.outputs, *_listed(operator.intermediates)}
    kept = [index for index in range(len(graph.tensors)) if index in used]
    places = {index: place for place, index in enumerate(kept)}
    places[-1] = -1  # an optional input that is not there
    graph.tensors = [graph.tensors[index] for index in kept]
    graph.inputs = [places[index] for index in graph.inputs]
    graph.outputs = [places[index] for index in graph.outputs]
    for operator in graph.operators:
        operator.inputs = [places[index] for index in operator.inputs]
        operator.outputs = [places[index] for index in operator.outputs]
        if operator.intermediates is not None:
            operator.intermediates = [places[index] for index in operator.intermediates]
    for signature in signatures or []:
        if signature.subgraphIndex == 0:
            for entry in [*signature.inputs, *signature.outputs]:
                entry.tensorIndex = places[entry.tensorIndex]


def _drop_unused_codes(model: Any) -> None:
    operators = [operator for graph in model.subgraphs for operator in graph.operators]
    kept = sorted({operator.opcodeIndex for operator in operators})
    places = {index: place for place, index in enumerate(kept)}
    model.operatorCodes = [model.operatorCodes[index] for index in kept]
    for operator in operators:
        operator.opcodeIndex = places[operator.opcodeIndex]


def _drop_unused_buffers(model: Any) -> None:
    holders = [tensor for graph in model.subgraphs for tensor in graph.tensors] + list(model.metadata or [])
    kept = [0, *sorted({holder.buffer for holder in holders if holder.buffer})]
    places = {index: place for place, index in enumerate(kept)}
    model.buffers = [model.buffers[index] for index in kept]
    for holder in holders:
        holder.buffer = places[holder.buffer]


def _listed(values: Any) -> list[int]:
    return [] if values is None else list(np.asarray(values).tolist())
