"""ONNX graphs as values: batch 1, pictures with their channels last, the card inside. Needs the package onnx alone, so
that it serves the environments "torch" and "onnx".
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import onnx

from converters.workers.layout import TO_CHANNELS_FIRST, channels_last_shape
from converters.workers.protocol import RefusedError

CARD_KEY = "edge-agent/card.json"  # in metadata_props, as the member's name in a .tflite
Model = Any  # onnx.ModelProto


class Tensor(NamedTuple):
    """``shape``: None where a size is open; ``dtype`` as numpy calls it."""

    shape: tuple[int | None, ...]
    dtype: str


def load(path: Path) -> Model:
    """The model with its weights, wherever they lie. Raises RefusedError."""
    from google.protobuf.message import DecodeError  # type: ignore[import-untyped]

    try:
        model = onnx.load(str(path))
    except (DecodeError, ValueError) as error:
        raise RefusedError(f"{path}: not an ONNX model ({error}); export it again") from None
    except (OSError, onnx.checker.ValidationError) as error:
        raise RefusedError(
            f"{path}: can't be read ({error}); weights in a file of their own must lie beside it"
        ) from None
    check(model, str(path))
    return model


def check(model: Model, where: str) -> None:
    """Raises RefusedError where the graph breaks ONNX's own rules."""
    try:
        onnx.checker.check_model(model)
    except onnx.checker.ValidationError as error:
        reason = str(error).strip().splitlines()[0]
        raise RefusedError(f"{where}: not a valid ONNX model: {reason}") from None


def inputs(model: Model) -> dict[str, Tensor]:
    """What must be fed, in the graph's order: old files list weights among the inputs too."""
    weights = {initializer.name for initializer in model.graph.initializer}
    return {value.name: _tensor(value) for value in model.graph.input if value.name not in weights}


def shapes(model: Model) -> dict[str, tuple[int, ...]]:
    """Of the inputs of a model with a fixed batch."""
    return {name: tuple(size or 1 for size in tensor.shape) for name, tensor in inputs(model).items()}


def outputs(model: Model) -> dict[str, Tensor]:
    return {value.name: _tensor(value) for value in model.graph.output}


def opset(model: Model) -> int:
    """Of ONNX's own operators."""
    return int(next(entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")))


def fix_batch(model: Model, where: str) -> Model:
    """A copy whose inputs have batch 1. Raises RefusedError where another size is built in or another axis is open."""
    fixed = onnx.ModelProto()
    fixed.CopyFrom(model)
    wanted = inputs(fixed)
    for value in fixed.graph.input:
        if value.name not in wanted:
            continue
        first, *rest = wanted[value.name].shape or (None,)
        if first not in (None, 1):
            raise RefusedError(
                f"{where}: input {value.name!r} has a fixed batch of {first}; export it with 1 or an open one"
            )
        if None in rest:
            shape = ", ".join("?" if size is None else str(size) for size in (first, *rest))
            raise RefusedError(
                f"{where}: input {value.name!r} has shape ({shape}): only the batch may be open; export it with fixed "
                "sizes"
            )
        value.type.tensor_type.shape.dim[0].dim_value = 1
    del fixed.graph.value_info[:]  # measured with the open batch: inferred anew
    for value in fixed.graph.output:
        value.type.tensor_type.ClearField("shape")
    return onnx.shape_inference.infer_shapes(fixed, data_prop=True)


def rename(model: Model, names: Mapping[str, str]) -> None:
    """Give tensors other names, wherever they are used."""
    for graph in _graphs(model.graph):
        for value in (*graph.input, *graph.output, *graph.value_info, *graph.initializer):
            value.name = names.get(value.name, value.name)
        for node in graph.node:
            node.input[:] = [names.get(name, name) for name in node.input]
            node.output[:] = [names.get(name, name) for name in node.output]


def take_channels_last(model: Model, pictures: Iterable[str]) -> dict[str, str]:
    """Put a Transpose behind these inputs, which then take (1, height, width, channels) under their own names, as the
    device gives them. Returns the name of each tensor behind it."""
    behind = {}
    taken = {name for graph in _graphs(model.graph) for node in graph.node for name in (*node.input, *node.output)}
    for name in pictures:
        inner = next(tried for tried in _tries(f"{name}_channels_first") if tried not in taken)
        value = next(value for value in model.graph.input if value.name == name)
        shape = channels_last_shape([size.dim_value for size in value.type.tensor_type.shape.dim])
        for graph in _graphs(model.graph):
            for node in graph.node:
                node.input[:] = [inner if used == name else used for used in node.input]
        for dimension, size in zip(value.type.tensor_type.shape.dim, shape, strict=True):
            dimension.dim_value = size
        node = onnx.helper.make_node("Transpose", [name], [inner], name=f"{inner}_transpose", perm=TO_CHANNELS_FIRST)
        model.graph.node.insert(0, node)
        behind[name] = inner
    return behind


def finish(model: Model) -> None:
    """Take out what only its maker needs (paths of the machine, stack traces), and an older card."""
    for graph in _graphs(model.graph):
        for part in (graph, *graph.node, *graph.value_info, *graph.input, *graph.output, *graph.initializer):
            part.doc_string = ""
            if "metadata_props" in part.DESCRIPTOR.fields_by_name:
                del part.metadata_props[:]
    kept = [entry for entry in model.metadata_props if entry.key != CARD_KEY]
    del model.metadata_props[:]
    model.metadata_props.extend(kept)


def described(tensors: Mapping[str, Tensor]) -> dict[str, dict[str, Any]]:
    """For an answer in JSON; an open size is -1."""
    return {
        name: {"shape": [-1 if size is None else size for size in tensor.shape], "dtype": tensor.dtype}
        for name, tensor in tensors.items()
    }


def _tensor(value: Any) -> Tensor:
    kind = value.type.tensor_type
    shape = tuple(size.dim_value if size.dim_value > 0 else None for size in kind.shape.dim)
    return Tensor(shape, onnx.helper.tensor_dtype_to_np_dtype(kind.elem_type).name)


def _graphs(graph: Any) -> Iterator[Any]:
    """The graph and those inside its nodes (If, Loop), which use its tensors by name."""
    yield graph
    for node in graph.node:
        for attribute in node.attribute:
            for inner in (attribute.g, *attribute.graphs) if attribute.type in _HOLDS_GRAPHS else ():
                yield from _graphs(inner)


_HOLDS_GRAPHS = (onnx.AttributeProto.GRAPH, onnx.AttributeProto.GRAPHS)


def _tries(name: str) -> Iterator[str]:
    yield name
    number = 2
    while True:
        yield f"{name}_{number}"
        number += 1
