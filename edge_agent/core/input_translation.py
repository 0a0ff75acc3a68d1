"""One model's ready inputs for another model: what the live model was shown, shown to a candidate.

A tensor of the same kind is handed on; from any other the picture is recovered, at the live model's size.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from msgspec import Struct
from msgspec.structs import replace

from edge_agent.core.card_schema import Feature, ImageInput
from edge_agent.core.model_card import ResolvedCard
from edge_agent.core.physical_units import conversion
from edge_agent.core.preprocess import ImagePreprocessor
from edge_agent.records import Array, Pixels, TensorSpec


class Inputs(Struct, frozen=True):
    """A model's card with the specs of its input tensors."""

    card: ResolvedCard
    specs: Sequence[TensorSpec]


class InputTranslation:
    """From the live model's image tensors and features to the candidate's. Used by one thread."""

    def __init__(self, live: Inputs, candidate: Inputs) -> None:
        """Raises ModelError where the candidate's inputs take no picture, ValueError for units that do not convert."""
        sources = {item.tensor: (item, _spec(live, item)) for item in live.card.image_inputs}
        self._images = {
            item.tensor: _Image(item, _spec(candidate, item), _source(item, sources))
            for item in candidate.card.image_inputs
            if sources
        }
        features = {feature.name: feature for item in live.card.feature_inputs for feature in item.features}
        self._features = [
            (feature, conversion(features[feature.name].unit, feature.unit) if feature.name in features else None)
            for item in candidate.card.feature_inputs
            for feature in item.features
        ]

    def images(self, tensors: Mapping[str, Array]) -> dict[str, Array]:
        """New arrays, or the live model's own."""
        return {name: image.from_live(tensors[image.source]) for name, image in self._images.items()}

    def features(self, values: Mapping[str, float]) -> dict[str, float]:
        """In the candidate's units; what the live model has not is filled as a missing reading is."""
        return {
            feature.name: _fill(feature) if scale is None else values[feature.name] * scale[0] + scale[1]
            for feature, scale in self._features
        }


class _Image:
    def __init__(self, item: ImageInput, spec: TensorSpec, live: tuple[ImageInput, TensorSpec]) -> None:
        self.source = live[0].tensor
        same = replace(live[0], tensor=item.tensor) == item and _kind(live[1]) == _kind(spec)
        self._stage = None if same else ImagePreprocessor(spec, item)
        self._live = _Levels(*live)

    def from_live(self, tensor: Array) -> Array:
        if self._stage is None:
            return tensor
        slot = self._stage.slot()
        self._stage.fill(self._live.pixels(tensor), slot)
        return slot


class _Levels:
    """What each pixel value became in a tensor, found by asking the preprocessor, and the way back."""

    def __init__(self, item: ImageInput, spec: TensorSpec) -> None:
        one = replace(spec, shape=(1, 1, 1, spec.shape[3]))
        stage, slot = ImagePreprocessor(one, replace(item, fit="stretch")), np.zeros(one.shape, one.dtype)
        table = np.empty((256, spec.shape[3]))
        for level in range(256):
            stage.fill(np.full((1, 1, 3), level, np.uint8), slot)
            table[level] = slot.reshape(-1)
        self._order = np.argsort(table, axis=0, kind="stable")
        self._values = np.take_along_axis(table, self._order, axis=0)
        self._color = item.color

    def pixels(self, tensor: Array) -> Pixels:
        """(height, width, 3) uint8 BGR: the nearest level of each value."""
        picture = tensor[0]
        found = np.empty(picture.shape, np.uint8)
        for channel in range(picture.shape[2]):
            values = self._values[:, channel]
            between = (values[1:] + values[:-1]) / 2
            found[..., channel] = self._order[:, channel][np.searchsorted(between, picture[..., channel])]
        if self._color == "gray":
            return np.ascontiguousarray(found.repeat(3, axis=2))
        return np.ascontiguousarray(found[..., ::-1] if self._color == "rgb" else found)


def _kind(spec: TensorSpec) -> tuple[object, ...]:
    return spec.shape, spec.dtype, spec.scale, spec.zero_point


def _spec(inputs: Inputs, item: ImageInput) -> TensorSpec:
    return next(spec for spec in inputs.specs if spec.name == item.tensor)


def _source(item: ImageInput, sources: Mapping[str, tuple[ImageInput, TensorSpec]]) -> tuple[ImageInput, TensorSpec]:
    """By its name; else the first picture of the live model."""
    return sources.get(item.tensor) or next(iter(sources.values()))


def _fill(feature: Feature) -> float:
    return feature.mean if feature.fill is None else feature.fill
