"""Which channels of a Keras model hang together, and which of them matter least.

Every channel of every tensor carries a number. A layer that computes new channels gives new numbers, one that works
channel by channel passes them on, an addition makes two numbers one: so what must be removed together has one number.
Channels that go into what is not understood, or out of the model, are kept: the layer then sees what it always saw.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from converters.workers.protocol import Array

# Layers that compute new channels out of all that come in, with the attribute that says how many.
PRODUCERS = {
    "Dense": "units",
    "Conv1D": "filters",
    "Conv2D": "filters",
    "Conv3D": "filters",
    "Conv1DTranspose": "filters",
    "Conv2DTranspose": "filters",
    "SeparableConv1D": "filters",
    "SeparableConv2D": "filters",
}
DEPTHWISE = ("DepthwiseConv1D", "DepthwiseConv2D")
SEPARABLE = ("SeparableConv1D", "SeparableConv2D")
TRANSPOSED = ("Conv1DTranspose", "Conv2DTranspose")
_BY_CHANNEL = (
    *("Activation", "ReLU", "LeakyReLU", "ELU", "PReLU", "ThresholdedReLU", "BatchNormalization", "Rescaling"),
    *("Dropout", "SpatialDropout1D", "SpatialDropout2D", "GaussianNoise", "GaussianDropout", "AlphaDropout"),
    *("MaxPooling1D", "MaxPooling2D", "AveragePooling1D", "AveragePooling2D", "GlobalMaxPooling1D"),
    *("GlobalMaxPooling2D", "GlobalAveragePooling1D", "GlobalAveragePooling2D", "ZeroPadding1D", "ZeroPadding2D"),
    *("Cropping1D", "Cropping2D", "UpSampling1D", "UpSampling2D", "ActivityRegularization", "Identity"),
)
_ELEMENT_BY_ELEMENT = ("Add", "Subtract", "Multiply", "Average", "Maximum", "Minimum")
_ACROSS_CHANNELS = ("softmax", "log_softmax", "glu", "sparsemax")  # activations that mix channels


class Call(NamedTuple):
    """One layer at work: ``inputs`` and ``output`` are tensors by number, ``listed`` whether it takes a list."""

    layer: Any
    inputs: tuple[int, ...]
    output: int
    listed: bool


class Plan(NamedTuple):
    """A model as calls, its tensors by number. ``shapes``: with the batch in front."""

    calls: list[Call]
    inputs: list[int]
    outputs: list[int]
    shapes: dict[int, tuple[int | None, ...]]


class Channels:
    """The numbers of all channels of a plan. ``kept_whole``: layers that are not understood and why, by name."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.kept_whole: dict[str, str] = {}
        self._numbers: dict[int, Array] = {}  # by tensor, one for each index of its last axis
        self._parents: list[int] = []
        self._fixed: set[int] = set()
        for tensor in plan.inputs:
            self._numbers[tensor] = self._new(plan.shapes[tensor])
            self._fix(self._numbers[tensor])
        for call in plan.calls:
            self._numbers[call.output] = self._through(call)
        for tensor in plan.outputs:
            self._fix(self._numbers[tensor])

    @property
    def tensors(self) -> list[int]:
        """Those that the model computes or takes in."""
        return list(self._numbers)

    def of(self, tensor: int) -> Array:
        """(channels,) int64: the numbers of a tensor's channels."""
        return np.array([self._root(number) for number in self._numbers[tensor]], np.int64)

    def removable(self) -> dict[tuple[str, ...], Array]:
        """Channels that can be removed one by one: by the names of the layers that compute them together, sorted
        numbers."""
        fixed = {self._root(number) for number in self._fixed}
        makers: dict[int, list[str]] = {}
        for call in self.plan.calls:
            if type(call.layer).__name__ in PRODUCERS:
                for number in self.of(call.output):
                    names = makers.setdefault(int(number), [])
                    if call.layer.name not in names:
                        names.append(call.layer.name)
        groups: dict[tuple[str, ...], list[int]] = {}
        for number in sorted(set(makers) - fixed):
            groups.setdefault(tuple(makers[number]), []).append(number)
        return {names: np.array(numbers, np.int64) for names, numbers in groups.items()}

    def _through(self, call: Call) -> Array:
        kind, shape = type(call.layer).__name__, self.plan.shapes[call.output]
        sources = [self._numbers[tensor] for tensor in call.inputs]
        if kind in PRODUCERS and self._last_axis(call) and getattr(call.layer, "groups", 1) == 1:
            numbers = self._new(shape)
            if _mixes(call.layer):  # what goes in may lose channels, what comes out may not
                self._fix(numbers)
            return numbers
        if kind in (*_BY_CHANNEL, *DEPTHWISE) and self._last_axis(call) and not _mixes(call.layer):
            return np.repeat(sources[0], call.layer.depth_multiplier) if kind in DEPTHWISE else sources[0]
        if kind in _ELEMENT_BY_ELEMENT:
            return self._joined(sources)
        moved = self._moved(call, sources)
        return self._kept_whole(call, sources) if moved is None else moved

    def _moved(self, call: Call, sources: Sequence[Array]) -> Array | None:
        """Where a layer that computes nothing puts its channels; None for one that is not understood."""
        kind, shape = type(call.layer).__name__, self.plan.shapes[call.output]
        if kind == "Concatenate":
            last = call.layer.axis in (-1, len(shape) - 1)
            return np.concatenate(sources) if last else self._joined(sources)
        if kind == "Reshape" and shape[-1] == len(sources[0]):
            return sources[0]
        in_a_row = kind == "Flatten" and call.layer.data_format != "channels_first"
        if (in_a_row or (kind == "Reshape" and len(shape) == 2)) and shape[-1]:
            return np.tile(sources[0], int(shape[-1]) // len(sources[0]))
        return None

    def _kept_whole(self, call: Call, sources: Sequence[Array]) -> Array:
        for numbers in sources:
            self._fix(numbers)
        result = self._new(self.plan.shapes[call.output])
        self._fix(result)
        if call.output not in self.plan.outputs:  # the model's outputs are kept anyway
            self.kept_whole[call.layer.name] = type(call.layer).__name__
        return result

    def _last_axis(self, call: Call) -> bool:
        """Whether the layer takes the last axis as the one of channels."""
        layer, rank = call.layer, len(self.plan.shapes[call.inputs[0]])
        axis = getattr(layer, "axis", -1)
        axes = list(axis) if isinstance(axis, (list, tuple)) else [axis]
        return axes in ([-1], [rank - 1]) and getattr(layer, "data_format", None) != "channels_first"

    def _joined(self, sources: Sequence[Array]) -> Array:
        """Element by element: channel i of one with channel i of the other. A single channel that is spread over all
        must stay."""
        widest = max(sources, key=len)
        for numbers in sources:
            if len(numbers) == len(widest):
                for left, right in zip(widest, numbers, strict=True):
                    self._union(int(left), int(right))
            else:
                self._fix(numbers)
        return widest

    def _new(self, shape: Sequence[int | None]) -> Array:
        count = int(shape[-1] or 1) if len(shape) > 1 else 1
        first = len(self._parents)
        self._parents += range(first, first + count)
        return np.arange(first, first + count, dtype=np.int64)

    def _fix(self, numbers: Array) -> None:
        self._fixed |= {int(number) for number in numbers}

    def _root(self, number: int) -> int:
        while self._parents[number] != number:
            self._parents[number] = self._parents[self._parents[number]]
            number = self._parents[number]
        return number

    def _union(self, left: int, right: int) -> None:
        left, right = self._root(left), self._root(right)
        self._parents[max(left, right)] = min(left, right)


def _mixes(layer: Any) -> bool:
    """Whether a value of the layer's output depends on other channels, or each channel has a constant of its own."""
    activation = getattr(getattr(layer, "activation", None), "__name__", "")
    constants = np.ndim(getattr(layer, "scale", 0)) + np.ndim(getattr(layer, "offset", 0))  # Rescaling
    return activation in _ACROSS_CHANNELS or (type(layer).__name__ == "Rescaling" and constants > 0)
