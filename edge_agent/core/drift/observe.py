"""From one observation to a row of numbers: which features a model has, and where each of them comes from.

The converter uses it on the representative set and the daemon on what it sees, so that the two compare like with like.
A threshold that is set from outside and smoothing play no part: outputs are read as the card alone says.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Final, Protocol

import msgspec
import numpy as np

from edge_agent.core import picture
from edge_agent.core.card_schema import AnomalyOutput, ClassificationOutput, DetectionOutput, OutputCard
from edge_agent.core.decode import DecodeError, Decoder
from edge_agent.core.drift.bins import FeatureSpec
from edge_agent.core.model_card import ResolvedCard
from edge_agent.errors import ModelError
from edge_agent.monitoring import Observation, Projection
from edge_agent.records import Array, Crossing, Flag, TensorSpec

EMBEDDING_PARTS: Final = 8

_NO_READING: Final = frozenset({Flag.MISSING, Flag.FILLED, Flag.INVALID})
_PICTURE_UNITS: Final = {"brightness": "level", "contrast": "level"}  # of a pixel, 0 to 255
_MANY: Final = 256  # elements from which on the levels of an 8-bit tensor are counted: there are no more of those


class Observer:
    """Of one model. Immutable: any thread may use it."""

    def __init__(self, card: ResolvedCard, outputs: Sequence[TensorSpec], projection: Projection | None = None) -> None:
        """``outputs``: every output tensor of the model. Raises ModelError where ``projection`` does not fit them."""
        # two tensors may take the same reading: it is one feature
        sensors = {feature.name: feature for item in card.feature_inputs for feature in item.features}
        self._sensors = tuple(sensors)
        self._image = picture.names_of(card.image_inputs[0]) if card.image_inputs else ()
        specs = {spec.name: spec for spec in outputs}
        self._parts: list[_Part] = [_part(head, card, specs) for head in card.outputs]
        if projection is not None:
            self._parts.append(_Embedding(projection, specs))
        self.names: tuple[FeatureSpec, ...] = (
            *(FeatureSpec(item.name, "sensor", unit=item.unit, range=item.range) for item in sensors.values()),
            *(FeatureSpec(f"image.{name}", "image", unit=_PICTURE_UNITS.get(name, "")) for name in self._image),
            *(feature for part in self._parts for feature in part.features),
        )
        """All features of the model: ``row`` is in this order."""

    def row(self, seen: Observation) -> Array:
        """(F,) float64. NaN: no reading, a value that is not finite, no box, an output that can't be read."""
        values = [_reading(name, seen) for name in self._sensors]
        values += (math.nan,) * len(self._image) if seen.image is None else seen.image
        for part in self._parts:
            values += part.values(seen.outputs)
        row = np.array(values, np.float64)
        row[~np.isfinite(row)] = np.nan
        return row


def _reading(name: str, seen: Observation) -> float:
    reading = seen.readings.get(name)  # a data set has values without readings
    if reading is not None and not _NO_READING.isdisjoint(reading.flags):
        return math.nan  # what the model got is the card's fill value
    return seen.features.get(name, math.nan)


class _Part(Protocol):
    """Features that come from output tensors: ``values`` has one for each of ``features``."""

    features: tuple[FeatureSpec, ...]

    def values(self, tensors: Mapping[str, Array]) -> Sequence[float]: ...


def _part(head: OutputCard, card: ResolvedCard, specs: Mapping[str, TensorSpec]) -> _Part:
    if isinstance(head, ClassificationOutput):
        return _Scores(head, card.labels.get(head.name, ()), specs[head.tensor])
    return _Decoded(head, card, list(specs.values()))


class _Scores:
    """The score of the best class, how evenly the scores are spread, and the number of the best class.

    Entropy in nats: of the softmax; of scores that need no activation as parts of their sum (one below 0 counts as 0);
    for sigmoids the sum over the classes, each being there or not.
    """

    def __init__(self, head: ClassificationOutput, labels: tuple[str, ...], spec: TensorSpec) -> None:
        self.features: tuple[FeatureSpec, ...] = (
            FeatureSpec(f"{head.name}.confidence", "prediction"),
            FeatureSpec(f"{head.name}.entropy", "prediction", unit="nat"),
            FeatureSpec(f"{head.name}.class", "prediction", "class", labels=labels),
        )
        self._spec = spec
        self._of_reals = _ENTROPIES[head.activation]
        count = math.prod(spec.shape)
        self._levels: Array | None = None
        if spec.dtype.itemsize == 1 and count > _MANY:
            self._levels = _reals(np.arange(256, dtype=np.uint8).view(spec.dtype), spec)

    def values(self, tensors: Mapping[str, Array]) -> Sequence[float]:
        raw = tensors[self._spec.name].reshape(-1)
        if raw.dtype.kind == "f" and not np.isfinite(raw).all():
            return (math.nan,) * 3
        best = int(raw.argmax())
        top = _reals(raw[best : best + 1], self._spec)[0]
        if self._levels is None:
            confidence, entropy = self._of_reals(_reals(raw, self._spec), top, 1.0)
        else:
            times = np.bincount(raw.view(np.uint8), minlength=256)
            present = times > 0
            confidence, entropy = self._of_reals(self._levels[present], top, times[present])
        return confidence, entropy, best


def _softmax(reals: Array, top: float, times: Array | float) -> tuple[float, float]:
    """``reals``: scores, of which ``top`` is the largest, each there ``times`` times. Confidence and entropy."""
    below = np.maximum(reals - top, -700.0)  # exp() of less is 0, and 0 times infinity is not
    parts = times * np.exp(below)
    total = float(parts.sum())
    return 1 / total, math.log(total) - float((parts * below).sum()) / total


def _sigmoid(reals: Array, top: float, times: Array | float) -> tuple[float, float]:
    # p, and the entropy of p, from the distance to 0 alone: nothing overflows and nothing is 0 times infinity
    away = np.abs(reals)
    rare = np.exp(-away)
    entropies = np.log1p(rare) + away * rare / (1 + rare)
    return float(np.exp(-np.logaddexp(0, -top))), float((times * entropies).sum())


def _as_they_are(reals: Array, top: float, times: Array | float) -> tuple[float, float]:
    present = reals > 0
    if not present.any():
        return float(top), math.nan  # nothing to divide: there is no distribution
    positive = reals[present]
    parts = positive * (times[present] if isinstance(times, np.ndarray) else times)
    total = float(parts.sum())
    return float(top), math.log(total) - float((parts * np.log(positive)).sum()) / total


_ENTROPIES: Final = {"softmax": _softmax, "sigmoid": _sigmoid, "none": _as_they_are}


class _Decoded:
    """What the decoder makes of any other output, with the card's own threshold and boxes of the model's picture."""

    def __init__(self, head: OutputCard, card: ResolvedCard, specs: Sequence[TensorSpec]) -> None:
        self._name = head.name
        self._decoder = Decoder(msgspec.structs.replace(card, outputs=(head,)), specs)
        if isinstance(head, DetectionOutput):
            labels = card.labels.get(head.name, ())
            self.features: tuple[FeatureSpec, ...] = (
                FeatureSpec(f"{head.name}.count", "prediction"),
                FeatureSpec(f"{head.name}.confidence", "prediction"),
                FeatureSpec(f"{head.name}.class", "prediction", "class", labels=labels),
            )
        elif isinstance(head, AnomalyOutput):
            self.features = (FeatureSpec(f"{head.name}.score", "prediction"),)
        else:
            self.features = (FeatureSpec(f"{head.name}.value", "prediction", unit=getattr(head, "unit", "")),)

    def values(self, tensors: Mapping[str, Array]) -> Sequence[float]:
        try:
            payload: dict[str, Any] = self._decoder.decode(tensors, Crossing())[self._name]
        except DecodeError:
            return (math.nan,) * len(self.features)
        if payload["task"] != "detection":
            return (payload["score" if payload["task"] == "anomaly" else "value"],)
        boxes = payload["boxes"]
        if not boxes:
            return 0, math.nan, math.nan
        return len(boxes), boxes[0]["score"], boxes[0]["index"]


class _Embedding:
    """The eight principal parts of an embedding, and its distance from the mean of the representative set: the root of
    the sum of squares, each in the variance of its own element."""

    def __init__(self, projection: Projection, specs: Mapping[str, TensorSpec]) -> None:
        spec = specs.get(projection.tensor)
        if spec is None:
            raise ModelError(
                f'the drift reference projects "{projection.tensor}", but the outputs are {", ".join(specs)}: '
                "make the reference again with edge-convert baseline"
            )
        size = math.prod(spec.shape)
        shapes = projection.mean.shape, projection.inverse_variance.shape, projection.components.shape
        if shapes != ((size,), (size,), (size, EMBEDDING_PARTS)):
            raise ModelError(
                f'the drift reference projects {len(projection.mean)} elements, "{spec.name}" has {size}: '
                "make the reference again with edge-convert baseline"
            )
        self._projection, self._spec = projection, spec
        self.features: tuple[FeatureSpec, ...] = (
            *(FeatureSpec(f"embedding.{part}", "embedding") for part in range(EMBEDDING_PARTS)),
            FeatureSpec("embedding.distance", "embedding"),
        )

    def values(self, tensors: Mapping[str, Array]) -> Sequence[float]:
        away = _reals(tensors[self._spec.name].reshape(-1), self._spec) - self._projection.mean
        distance = math.sqrt(float(self._projection.inverse_variance @ (away * away)))
        parts: list[float] = (away @ self._projection.components).tolist()
        return [*parts, distance]


def _reals(raw: Array, spec: TensorSpec) -> Array:
    """float64; a tensor without a scale holds the real value itself."""
    if spec.scale == 0:
        return raw.astype(np.float64)
    return (raw.astype(np.float64) - spec.zero_point) * spec.scale
