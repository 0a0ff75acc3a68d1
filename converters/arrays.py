"""Rows of a data set as arrays, by the device's own preprocessing up to the point where it would quantise."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from converters.device_model import DeviceModel
from converters.progress import Progress, Silent
from converters.records import Arrays, Dataset, Example, Label, Tensors
from converters.standard_metadata import normalisation
from converters.workers.protocol import real_inputs, save_arrays
from edge_agent.core.card_schema import AnomalyOutput, ClassificationOutput, ImageInput, OutputCard, RegressionOutput
from edge_agent.core.preprocess import FeaturePreprocessor, ImagePreprocessor
from edge_agent.errors import ConfigError, ModelError
from edge_agent.records import Array, TensorSpec

NORMALISATION_FILE = "normalisation.json"
_Normalisation = tuple[tuple[float, ...], tuple[float, ...]]


def make_arrays(
    dataset: Dataset, rows: Sequence[int], model: DeviceModel, *, progress: Progress | None = None
) -> Arrays:
    """The rows, in that order, as the model's inputs before quantising and as its truth.

    State inputs stand among the features, as the zeros that they begin with. ``labels`` holds an output's tensor where
    every row has its truth: class indices as int64; a regression as float32 in the tensor's own scale; an anomaly as
    float32 0 or 1. Several regressions of one tensor fill (n, elements), where all elements have a truth. A detection's
    boxes are no array: they stay in the examples.

    Raises ConfigError for a row that can't be read or does not fit, ModelError for an input without a batch of 1.
    """
    inputs = {spec.name: spec for spec in model.inputs}
    for spec in inputs.values():
        if not spec.shape or spec.shape[0] != 1:
            raise ModelError(f'input "{spec.name}" has the shape {list(spec.shape)}: a batch of 1 is needed')
    stages = _Stages(model, inputs, len(rows))
    ids: list[str] = []
    truth: list[Mapping[str, Label]] = []
    with (progress or Silent()).step("preparing samples", len(rows)) as advance:
        for place, row in enumerate(rows):
            example = dataset.example(row)
            stages.fill(place, example)
            ids.append(example.id)
            truth.append(example.labels)
            advance(place + 1)
    states = {
        item.tensor: np.broadcast_to(np.zeros((), np.float32), (len(rows), *inputs[item.tensor].shape[1:]))
        for item in model.card.state_inputs
    }
    return Arrays(
        images=stages.images,
        normalisation={item.tensor: _normalisation(item, inputs[item.tensor]) for item in model.card.image_inputs},
        features={**stages.features, **states},
        labels=_labels(model, truth, ids),
        ids=tuple(ids),
    )


def real_batch(arrays: Arrays, rows: Any) -> Tensors:
    """float32 inputs of the float model by tensor, for ``rows``: a slice or an array of row numbers."""
    return real_inputs(arrays.images, arrays.normalisation, arrays.features, rows)


def calibration_samples(arrays: Arrays) -> Iterator[Tensors]:
    """Each row as the inputs of the float model by tensor, float32, with a batch of 1."""
    for row in range(len(arrays.ids)):
        yield real_batch(arrays, slice(row, row + 1))


def save(arrays: Arrays, folder: Path) -> None:
    """For a worker: the sets "images", "features" and "labels", and normalisation.json with {tensor: [mean, std]}."""
    save_arrays(folder, "images", arrays.images)
    save_arrays(folder, "features", arrays.features)
    save_arrays(folder, "labels", arrays.labels)
    (folder / NORMALISATION_FILE).write_text(json.dumps(arrays.normalisation))


class _Stages:
    """The device's preprocessors, told that the tensors take pixels as they are and features as real numbers."""

    def __init__(self, model: DeviceModel, inputs: Mapping[str, TensorSpec], count: int) -> None:
        card = model.card
        self._images = {
            item.tensor: ImagePreprocessor(
                _spec(inputs[item.tensor], np.uint8), msgspec.structs.replace(item, mean=None, std=None)
            )
            for item in card.image_inputs
        }
        self._features = {
            item.tensor: FeaturePreprocessor(_spec(inputs[item.tensor], np.float32), item)
            for item in card.feature_inputs
        }
        self.images = {name: np.empty((count, *inputs[name].shape[1:]), np.uint8) for name in self._images}
        self.features = {name: np.empty((count, *inputs[name].shape[1:]), np.float32) for name in self._features}

    def fill(self, place: int, example: Example) -> None:
        for name, image in self._images.items():
            if name not in example.images:
                known = ", ".join(example.images) or "none"
                raise ConfigError(
                    f"{example.id}: no picture for the input {name!r}; this row has pictures for: {known}"
                )
            image.fill(example.images[name], self.images[name][place : place + 1])
        for name, feature in self._features.items():
            feature.fill(example.features, self.features[name][place])


def _spec(spec: TensorSpec, dtype: Any) -> TensorSpec:
    return msgspec.structs.replace(spec, dtype=np.dtype(dtype), scale=0.0, zero_point=0)


def _normalisation(item: ImageInput, spec: TensorSpec) -> _Normalisation:
    """(mean, std) with real = (pixel - mean) / std. Where the card says none, a quantised tensor takes the pixel (int8:
    minus 128) as its integer, and real = (integer - zero point) * scale."""
    if spec.dtype.kind == "f" or item.mean is not None or item.std is not None:
        return normalisation(item)
    lowest = -int(np.iinfo(spec.dtype).min)
    return (float(lowest + spec.zero_point),), (1.0 / (spec.scale or 1.0),)


def _labels(model: DeviceModel, truth: Sequence[Mapping[str, Label]], ids: Sequence[str]) -> Tensors:
    outputs = {spec.name: spec for spec in model.outputs}
    found: Tensors = {}
    parts: dict[str, dict[int, Array]] = {}
    for head in model.card.outputs:
        if not truth or any(head.name not in row for row in truth):
            continue
        values = [row[head.name] for row in truth]
        if isinstance(head, ClassificationOutput):
            found[head.tensor] = _classes(head, values, outputs[head.tensor], ids)
        elif isinstance(head, AnomalyOutput):
            found[head.tensor] = np.array(values, np.float32)
        elif isinstance(head, RegressionOutput):
            scaled = (np.array(values, np.float64) - head.offset) / _scale(head)
            parts.setdefault(head.tensor, {})[head.element] = scaled.astype(np.float32)
    for tensor, columns in parts.items():
        elements = int(np.prod(outputs[tensor].shape))
        if len(columns) == elements:
            stacked = np.stack([columns[element] for element in range(elements)], axis=1)
            found[tensor] = stacked[:, 0] if elements == 1 else stacked
    return found


def _classes(head: OutputCard, values: Sequence[Label], spec: TensorSpec, ids: Sequence[str]) -> Array:
    classes = np.array(values, np.int64)
    elements = int(np.prod(spec.shape))
    beyond = np.flatnonzero(classes >= elements)
    if beyond.size:
        raise ConfigError(
            f"{ids[beyond[0]]}: class {classes[beyond[0]]} of the output {head.name!r} is out of range: {spec.name!r} "
            f"has {elements} elements, so 0 to {elements - 1} are allowed"
        )
    return classes


def _scale(head: RegressionOutput) -> float:
    if head.scale == 0:
        raise ConfigError(f"output {head.name!r} has scale 0: its truth can't be put into the model's own scale")
    return head.scale
