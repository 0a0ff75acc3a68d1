"""The range of every tensor, from samples: what int8 steps are laid over.

Names decide, never the order of inputs; the same samples give the same ranges.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Literal, NamedTuple, get_args

import numpy as np
from msgspec import Struct

from converters.progress import Progress, Silent
from converters.quantization.every_tensor import EveryTensor
from converters.quantization.flatbuffer import activations_of, ops_of, parse, signature_names
from converters.records import Tensors
from edge_agent.core.model_card import ResolvedCard
from edge_agent.errors import ConfigError, ModelError
from edge_agent.records import Array

Method = Literal["min-max", "percentile", "moving-average", "mse"]
METHODS: tuple[Method, ...] = get_args(Method)
Range = tuple[float, float]

_BINS = 2048
_PERCENTILE = 99.99  # of each end: one value in ten thousand may be cut off
_SMOOTHING = 0.95  # weight of what came before, as AI Edge Quantizer and TensorFlow's fake-quant layers take it
_LEVELS = 255  # steps of an int8 tensor
# of int8, fixed by the kernels: scale 1/256 from zero point -128, scale 1/128 from 0
_FIXED_RANGES = {"LOGISTIC": (0.0, 255 / 256), "SOFTMAX": (0.0, 255 / 256), "TANH": (-1.0, 127 / 128)}
_SHRINKS = np.linspace(1.0, 0.2, 33)  # of each end of the range, tried for the least square error


class Calibration(Struct, frozen=True):
    """``ranges``: lowest and highest real value by the float model's tensor name. ``pinned``: the input tensors (by
    signature name) whose range was given, not measured."""

    ranges: dict[str, Range]
    method: Method
    samples: int
    pinned: tuple[str, ...] = ()

    def text(self) -> str:
        return f"{self.method} of {self.samples} samples"


def calibrate(
    model: bytes,
    samples: Iterable[Tensors],
    *,
    method: Method = "min-max",
    pins: Mapping[str, Range] | None = None,
    states: Mapping[str, str] | None = None,
    progress: Progress | None = None,
) -> Calibration:
    """Run ``samples`` through the float .tflite ``model`` and note the range of each float32 tensor.

    A sample is float32 by the signature's input name, with a batch of 1. ``pins`` gives the range of input tensors by
    the same name and overrules what was measured: an input's ends are known beforehand. ``min-max``: exact ends.
    ``percentile``: 0.01 % of the values may lie outside at each end. ``mse``: the ends with the least expected square
    error, of clipping and of rounding. ``moving-average``: ends smoothed over the samples; it forgets rare extremes.
    ``states``: inputs that are fed from an output of the run before, with that output's name. They start as the first
    sample has them; both ends of such a loop get one range, since the integers go round as they are.

    Raises ConfigError where there is no sample or a name is unknown, ModelError for values that are not finite.
    """
    parsed = parse(model)
    inputs, outputs = signature_names(parsed)
    pins, states = dict(pins or {}), dict(states or {})
    unknown = sorted({*pins, *states} - set(inputs))
    if unknown:
        raise ConfigError(f"range given for {', '.join(unknown)}: the model's inputs are {', '.join(inputs)}")
    rows = samples if isinstance(samples, Sequence) else list(samples)
    if not rows:
        raise ConfigError("calibrating needs samples; none were given")
    loops = {name: outputs[source] for name, source in states.items()}
    runs = _Runs(EveryTensor(model, list(activations_of(parsed))), rows, loops)
    passes = 2 if method in _FROM_HISTOGRAMS else 1
    with (progress or Silent()).step("calibrating", len(rows) * passes) as advance:
        ends = _ends(runs, method == "moving-average", advance)
        if method in _FROM_HISTOGRAMS:
            ends = _clipped(runs, ends, _FROM_HISTOGRAMS[method], advance)
    ends.update({inputs[name]: (float(low), float(high)) for name, (low, high) in pins.items()})
    for name, source in loops.items():
        ends[inputs[name]] = ends[source] = _of_loop(parsed, source, ends[inputs[name]], ends[source])
    return Calibration(ends, method, len(rows), tuple(sorted(pins)))


def pins_of(card: ResolvedCard) -> dict[str, Range]:
    """The ranges of the float model's inputs that the card decides: what pixel 0 and 255 become, over all channels;
    plus and minus the widest clip, where every feature of a tensor has one."""
    pins: dict[str, Range] = {}
    for image in card.image_inputs:
        mean, std = np.array(image.mean or (0.0,)), np.array(image.std or (1.0,))
        if image.mean is None and image.std is None:
            std = np.array([255.0])  # what a float tensor gets where nothing is said
        ends = np.concatenate([(pixel - mean) / std for pixel in (0.0, 255.0)])
        pins[image.tensor] = (float(ends.min()), float(ends.max()))
    for item in card.feature_inputs:
        clips = [feature.clip for feature in item.features if feature.clip is not None]
        if len(clips) == len(item.features):
            pins[item.tensor] = (-max(clips), max(clips))
    return pins


def states_of(card: ResolvedCard) -> dict[str, str]:
    """The state inputs with the outputs that feed them."""
    return {item.tensor: item.source for item in card.state_inputs}


class _Runs(NamedTuple):
    """The samples, one run each; ``loops``: the tensor that feeds an input of the next run."""

    runner: EveryTensor
    rows: Sequence[Tensors]
    loops: Mapping[str, str]

    def each(self) -> Iterator[tuple[int, dict[str, Array]]]:
        """(number, values by tensor) of each run."""
        fed: Tensors = {}
        for number, row in enumerate(self.rows):
            values = dict(self.runner.run({**row, **fed}))
            fed = {name: values[source] for name, source in self.loops.items()}
            yield number, values


def _of_loop(parsed: Any, source: str, fed: Range, made: Range) -> Range:
    """One range for both ends of a loop: what both need, or what the op that ends it always gives."""
    kinds = {op.outputs[0]: op.kind for op in ops_of(parsed) if op.outputs}
    fixed = _FIXED_RANGES.get(kinds.get(source, ""))
    return fixed or (min(fed[0], made[0]), max(fed[1], made[1]))


def _ends(runs: _Runs, smooth: bool, advance: Callable[[int], None]) -> dict[str, Range]:
    ends: dict[str, Range] = {}
    for number, run in runs.each():
        for name, values in run.items():
            low, high = float(values.min()), float(values.max())
            if not (np.isfinite(low) and np.isfinite(high)):
                raise ModelError(f"sample {number}: tensor {name!r} of the float model is not finite; look at the row")
            old = ends.get(name, (low, high))
            if smooth:
                ends[name] = (_smoothed(old[0], low), _smoothed(old[1], high))
            else:
                ends[name] = (min(old[0], low), max(old[1], high))
        advance(number + 1)
    return ends


def _smoothed(old: float, new: float) -> float:
    return _SMOOTHING * old + (1 - _SMOOTHING) * new


def _clipped(
    runs: _Runs,
    ends: Mapping[str, Range],
    choose: Callable[[Array, Array], Range],
    advance: Callable[[int], None],
) -> dict[str, Range]:
    """A second run: histograms between the ends, and from each the range that ``choose`` takes."""
    counts = {name: np.zeros(_BINS, np.int64) for name in ends}
    for number, run in runs.each():
        for name, values in run.items():
            low, high = ends[name]
            if high > low:
                counts[name] += np.histogram(values, _BINS, (low, high))[0]
        advance(len(runs.rows) + number + 1)
    chosen = {}
    for name, (low, high) in ends.items():
        edges = np.linspace(low, high, _BINS + 1)
        chosen[name] = choose(counts[name], edges) if high > low else (low, high)
    return chosen


def _percentile(counts: Array, edges: Array) -> Range:
    share = np.cumsum(counts) / counts.sum() * 100
    low = edges[int(np.searchsorted(share, 100 - _PERCENTILE, side="right"))]
    high = edges[int(np.searchsorted(share, _PERCENTILE, side="left")) + 1]
    return float(low), float(high)


def _least_square_error(counts: Array, edges: Array) -> Range:
    """The pair of ends with the least sum over the values of (clipping error)^2, or step^2 / 12 where not clipped: the
    mean square of a rounding error that is uniform within a step."""
    centres = (edges[:-1] + edges[1:]) / 2
    best, least = (float(edges[0]), float(edges[-1])), np.inf
    # zero must lie inside the range, so an end beyond it can only shrink to zero
    for low in np.unique(min(edges[0], 0.0) * _SHRINKS):
        for high in np.unique(max(edges[-1], 0.0) * _SHRINKS):
            outside = centres - np.clip(centres, low, high)
            step = (high - low) / _LEVELS
            error = float(counts @ np.where(outside == 0, step**2 / 12, outside**2))
            if error < least:
                best, least = (float(low), float(high)), error
    return best


_FROM_HISTOGRAMS: dict[str, Callable[[Array, Array], Range]] = {
    "percentile": _percentile,
    "mse": _least_square_error,
}
