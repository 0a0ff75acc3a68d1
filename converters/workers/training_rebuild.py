"""A Keras model as a plan of calls, and a smaller model made from a plan: the same layers with fewer channels."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from converters.workers.protocol import Array, RefusedError
from converters.workers.training_channels import (
    DEPTHWISE,
    PRODUCERS,
    SEPARABLE,
    TRANSPOSED,
    Call,
    Channels,
    Plan,
)

_MEASURED = ("Normalization",)  # its weights are a fact about the data: also a model trained anew has them


def plan_of(model: Any) -> Plan:
    """The calls of a functional or sequential model in order, nested models opened. Raises RefusedError for a layer
    that is called twice, and for what is no layer."""
    reader = _Reader()
    inputs = [reader.number(tensor) for tensor in model.inputs]
    reader.read(model, inputs)
    outputs = [reader.number(tensor) for tensor in model.outputs]
    return Plan(reader.calls, inputs, outputs, reader.shapes)


class _Reader:
    def __init__(self) -> None:
        self.calls: list[Call] = []
        self.shapes: dict[int, tuple[int | None, ...]] = {}
        self._numbers: dict[int, int] = {}  # by id of a symbolic tensor
        self._alive: list[Any] = []  # an id is only good as long as its object lives

    def number(self, tensor: Any) -> int:
        if id(tensor) not in self._numbers:
            self._alive.append(tensor)
            self._numbers[id(tensor)] = len(self._numbers)
            self.shapes[self._numbers[id(tensor)]] = tuple(tensor.shape)
        return self._numbers[id(tensor)]

    def read(self, model: Any, inputs: list[int]) -> list[int]:
        """Add the calls of ``model`` on those tensors; returns its outputs."""
        graph = getattr(model, "_functional", None) or model  # a sequential model of Keras 3 has its graph inside
        for tensor, number in zip(graph.inputs, inputs, strict=True):
            self._alive.append(tensor)
            self._numbers[id(tensor)] = number
        for depth in sorted(graph._nodes_by_depth, reverse=True):
            for node in graph._nodes_by_depth[depth]:
                self._read_node(node)
        return [self.number(tensor) for tensor in graph.outputs]

    def _read_node(self, node: Any) -> None:
        layer, sources, results, listed = _parts(node)
        if not sources:  # an input layer
            return
        inputs = [self.number(tensor) for tensor in sources]
        if hasattr(layer, "_nodes_by_depth") or hasattr(layer, "_functional"):
            self._require_new(layer)
            for tensor, number in zip(results, self.read(layer, inputs), strict=True):
                self._alive.append(tensor)
                self._numbers[id(tensor)] = number
            return
        if not hasattr(layer, "get_config") or not hasattr(layer, "trainable_weights") or len(results) != 1:
            raise RefusedError(
                f"{layer.name!r} ({type(layer).__name__}) is no layer with one output, so its channels can't be "
                "followed: write it with a layer, such as keras.layers.Add for +"
            )
        self._require_new(layer)
        self.calls.append(Call(layer, tuple(inputs), self.number(results[0]), listed))

    def _require_new(self, layer: Any) -> None:
        if any(call.layer is layer for call in self.calls):
            raise RefusedError(
                f"the layer {layer.name!r} is used more than once with the same weights: channels of such a model "
                "can't be removed soundly; use --method magnitude"
            )


def _parts(node: Any) -> tuple[Any, list[Any], list[Any], bool]:
    """(layer, input tensors, output tensors, whether the layer takes them as a list) of a node of either version.
    Raises RefusedError for a layer that is called with more than its tensors."""
    if hasattr(node, "operation"):  # Keras 3
        layer, inputs, results = node.operation, list(node.input_tensors), list(node.outputs)
        arguments, named = node.arguments.args, node.arguments.kwargs
    else:
        import tensorflow as tf

        layer, inputs, results = node.layer, tf.nest.flatten(node.keras_inputs), tf.nest.flatten(node.outputs)
        arguments, named = node.call_args, node.call_kwargs
    listed = bool(arguments) and isinstance(arguments[0], (list, tuple))
    expected = len(arguments[0]) if listed else 1
    further = [name for name, value in named.items() if name not in ("training", "mask") and value is not None]
    if inputs and (len(arguments) != 1 or further or len(inputs) != expected):
        raise RefusedError(
            f"{layer.name!r} ({type(layer).__name__}) is called with more than its tensors, so its channels can't be "
            "followed soundly: use --method magnitude, or write it with a layer, such as keras.layers.Add for +"
        )
    return layer, inputs, results, listed


class Removal:
    """What remains of a plan without some channels. ``removed``: channel numbers of ``channels``."""

    def __init__(self, channels: Channels, removed: set[int]) -> None:
        self.plan = channels.plan
        self._kept: dict[int, Array] = {}
        self._gone: dict[int, Array] = {}
        for tensor in channels.tensors:
            gone = np.array([number in removed for number in channels.of(tensor).tolist()], bool)
            self._kept[tensor], self._gone[tensor] = np.flatnonzero(~gone), np.flatnonzero(gone)

    def build(self, keras: Any, model: Any) -> tuple[Any, dict[str, Any]]:
        """(the smaller model with new weights, its layers by the old ones' names), with the names and the structure of
        the inputs and outputs of ``model``."""
        tensors = {
            number: keras.Input(tuple(tensor.shape[1:]), name=tensor.name, dtype=_dtype(tensor))
            for number, tensor in zip(self.plan.inputs, model.inputs, strict=True)
        }
        new = {id(tensor): tensors[number] for number, tensor in zip(self.plan.inputs, model.inputs, strict=True)}
        inputs, layers = _like(model, "input", new), {}
        for call in self.plan.calls:
            layer = type(call.layer).from_config(self._config(call))
            given = [tensors[number] for number in call.inputs]
            tensors[call.output] = layer(given if call.listed else given[0])
            layers[call.layer.name] = layer
        ends = [self._named(keras, model, place, tensors[number]) for place, number in enumerate(self.plan.outputs)]
        new = {id(tensor): end for tensor, end in zip(model.outputs, ends, strict=True)}
        return keras.Model(inputs, _like(model, "output", new), name=model.name), layers

    def _named(self, keras: Any, model: Any, place: int, tensor: Any) -> Any:
        """An output is called as its layer; one that came out of a nested model was called as that."""
        names = getattr(model, "output_names", None) or [model.layers[-1].name]
        made_by = [call.layer.name for call in self.plan.calls if call.output == self.plan.outputs[place]]
        if made_by == [names[place]] or isinstance(getattr(model, "output", None), Mapping):
            return tensor
        return keras.layers.Activation("linear", name=names[place])(tensor)

    def copy_weights(self, layers: Mapping[str, Any]) -> None:
        """Into each layer what remains of its weights."""
        for call in self.plan.calls:
            _set_weights(layers[call.layer.name], self._remaining(call))

    def copy_measured(self, layers: Mapping[str, Any]) -> None:
        """Only what is no result of training."""
        for call in self.plan.calls:
            if type(call.layer).__name__ in _MEASURED:
                _set_weights(layers[call.layer.name], call.layer.get_weights())

    def silence(self) -> None:
        """Zero, in the original's own layers, the weights that read a removed channel: it then computes what the
        smaller model must compute."""
        for call in self.plan.calls:
            kind = type(call.layer).__name__
            gone = self._gone[call.inputs[0]]
            if kind not in PRODUCERS or not gone.size:
                continue
            weights = [np.array(array) for array in call.layer.get_weights()]
            if kind in TRANSPOSED:
                weights[0][..., gone] = 0
            else:  # (..., in, out), and a separable convolution's (..., in, multiplier)
                weights[0][..., gone, :] = 0
            call.layer.set_weights(weights)

    def _config(self, call: Call) -> dict[str, Any]:
        config, kind = dict(call.layer.get_config()), type(call.layer).__name__
        kept = len(self._kept[call.output])
        if kind in PRODUCERS:
            config[PRODUCERS[kind]] = kept
        if kind == "Reshape" and kept != self.plan.shapes[call.output][-1]:
            config["target_shape"] = (*self.plan.shapes[call.output][1:-1], kept)
        return config

    def _remaining(self, call: Call) -> list[Array]:
        kind, weights = type(call.layer).__name__, call.layer.get_weights()
        source, out = self._kept[call.inputs[0]], self._kept[call.output]
        if not any(self._gone[tensor].size for tensor in (*call.inputs, call.output)):
            return list(weights)
        if kind in TRANSPOSED:
            return [weights[0][..., out, :][..., source], *(bias[out] for bias in weights[1:])]
        if kind in SEPARABLE:
            multiplier = call.layer.depth_multiplier
            inner = (source[:, None] * multiplier + np.arange(multiplier)).ravel()
            pointwise = weights[1][..., inner, :][..., out]
            return [weights[0][..., source, :], pointwise, *(bias[out] for bias in weights[2:])]
        if kind in PRODUCERS:
            return [weights[0][..., source, :][..., out], *(bias[out] for bias in weights[1:])]
        if kind in DEPTHWISE:
            return [weights[0][..., source, :], *(bias[out] for bias in weights[1:])]
        whole = self.plan.shapes[call.output][-1]
        return [array[..., out] if array.ndim and array.shape[-1] == whole else array for array in weights]


def _set_weights(layer: Any, weights: list[Array]) -> None:
    layer.set_weights(weights)
    if type(layer).__name__ in _MEASURED:
        layer.finalize_state()  # it computes with copies of its weights


def _like(model: Any, side: str, new: Mapping[int, Any]) -> Any:
    """The new tensors, by the id of the old ones, in the structure that the model takes or gives."""
    structure = getattr(model, side, None)
    if isinstance(structure, Mapping):
        return {key: new[id(tensor)] for key, tensor in structure.items()}
    if isinstance(structure, (list, tuple)):
        return [new[id(tensor)] for tensor in structure]
    (only,) = new.values()
    return only


def _dtype(tensor: Any) -> str:
    return str(getattr(tensor.dtype, "name", tensor.dtype))
