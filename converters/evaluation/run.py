"""Rows of a data set through a model with the device's own arithmetic: one pass, in order, nothing skipped."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

from converters.device_model import DeviceModel
from converters.evaluation.recorded import Boxes, Recorded
from converters.progress import Progress, Silent
from converters.records import Box, Dataset, Example, Label, Tensors
from edge_agent.core.card_schema import ClassificationOutput, DetectionOutput, OutputCard
from edge_agent.core.decode import DecodeError
from edge_agent.errors import ConfigError, ModelError
from edge_agent.records import Array, Crossing


def record(
    model: DeviceModel, dataset: Dataset, rows: Sequence[int], *, progress: Progress | None = None, text: str = ""
) -> Recorded:
    """What ``model`` answers on those rows. A stateful model starts from its first state and runs in row order.

    Raises ConfigError for no rows at all, and with the row's id for a row that lacks an input or whose label does not
    fit the card; ModelError, with the id, for a run that fails or an output that is not finite.
    """
    if not rows:
        raise ConfigError(f"{dataset.spec}: no rows to measure on; name another --split, or add rows")
    recording = Recording(model)
    with (progress or Silent()).step(text or f"running {model.engine.identity.name}", len(rows)) as advance:
        for done, row in enumerate(rows, 1):
            recording.add(dataset.example(row))
            advance(done)
    return recording.finished()


class Recording:
    """Answers of one model, gathered row by row."""

    def __init__(self, model: DeviceModel) -> None:
        self._model = model
        self._heads = model.card.outputs
        self._tensors = [head.tensor for head in self._heads if not isinstance(head, DetectionOutput)]
        self._ids: list[str] = []
        self._reals: dict[str, list[Array]] = {tensor: [] for tensor in self._tensors}
        self._boxes: dict[str, list[Boxes]] = {
            head.name: [] for head in self._heads if isinstance(head, DetectionOutput)
        }
        self._labels: dict[str, list[Label | None]] = {head.name: [] for head in self._heads}
        self._filled: Counter[str] = Counter()
        self._filled_rows = 0
        self._elements = {spec.name: math.prod(spec.shape) for spec in model.outputs}
        model.reset()

    def add(self, example: Example) -> Crossing:
        """Run one row; returns the way back from the model's picture to the row's."""
        _, outputs, crossing = answered(self._model, example)
        self.add_outputs(example, outputs, crossing)
        return crossing

    def add_outputs(self, example: Example, outputs: Tensors, crossing: Crossing) -> None:
        """What was answered to one row elsewhere: ``outputs`` as this model's interpreter would give them."""
        try:
            # every box counts in a precision-recall curve, so no threshold; this also refuses what is not finite
            payload: dict[str, dict[str, Any]] = self._model.engine.decode(outputs, crossing, 0.0)
        except DecodeError as error:
            raise ModelError(f"{example.id}: {error}; the model can't be measured on this row") from None
        reals = self._model.real({tensor: outputs[tensor] for tensor in self._tensors})
        for head in self._heads:
            if isinstance(head, DetectionOutput):
                self._boxes[head.name].append(_boxes(payload[head.name]["boxes"]))
            self._labels[head.name].append(self._label(example, head))
        for tensor in self._reals:
            self._reals[tensor].append(reals[tensor].reshape(-1))
        self._ids.append(example.id)
        self._filled.update(example.filled)
        self._filled_rows += bool(example.filled)

    def finished(self) -> Recorded:
        """All rows so far."""
        card = self._model.card
        scales = {spec.name: float(spec.scale) for spec in self._model.outputs}
        return Recorded(
            model=self._model.engine.identity,
            heads=self._heads,
            ids=tuple(self._ids),
            outputs={tensor: np.stack(rows) for tensor, rows in self._reals.items()},
            boxes={name: tuple(rows) for name, rows in self._boxes.items()},
            labels={name: tuple(rows) for name, rows in self._labels.items()},
            classes=dict(card.labels),
            steps={tensor: scales[tensor] for tensor in self._tensors},
            filled=dict(sorted(self._filled.items())),
            filled_rows=self._filled_rows,
            notes=card.notes,
        )

    def _label(self, example: Example, head: OutputCard) -> Label | None:
        label = example.labels.get(head.name)
        if label is None:
            return None
        if isinstance(head, ClassificationOutput):
            count = max(2, self._elements[head.tensor])  # a single logit answers yes or no
            if isinstance(label, tuple) or int(label) != label or not 0 <= label < count:
                raise ConfigError(
                    f"{example.id}: label {label!r} for output {head.name!r}, which has classes 0 to {count - 1}"
                )
            return int(label)
        if isinstance(head, DetectionOutput) != isinstance(label, tuple):
            raise ConfigError(f"{example.id}: label {label!r} does not fit output {head.name!r}: boxes for a detection")
        if not isinstance(label, tuple) and not math.isfinite(label):
            raise ConfigError(f"{example.id}: label {label} for output {head.name!r} is not a finite number")
        return label


def answered(model: DeviceModel, example: Example) -> tuple[Tensors, Tensors, Crossing]:
    """The image tensors of a row, the raw outputs of a run on it, and the way back from the model's picture to the
    row's. Raises ConfigError and ModelError, with the row's id."""
    images, crossing = prepared_images(model, example)
    for name in model.engine.feature_names:
        if name not in example.features:
            raise ConfigError(f"{example.id}: no value for feature {name!r}, which the card names")
    try:
        return images, model.engine.invoke(images, example.features), crossing
    except ModelError as error:
        raise ModelError(f"{example.id}: {error}") from None


def prepared_images(model: DeviceModel, example: Example) -> tuple[Tensors, Crossing]:
    """The image tensors of a row, and the way back from the model's picture to the row's. Raises ConfigError."""
    images, crossing = model.engine.image_slot(), Crossing()
    for tensor, slot in images.items():
        crossing = model.engine.prepare(picture(example, tensor), {tensor: slot})
    return images, crossing


def picture(example: Example, tensor: str) -> Array:
    """The picture for an input tensor, (height, width, 3) uint8 BGR. Raises ConfigError where the row has none."""
    try:
        return example.images[tensor]
    except KeyError:
        known = ", ".join(map(repr, example.images)) or "none"
        raise ConfigError(
            f"{example.id}: the model takes a picture for {tensor!r}, this row has pictures for: {known}"
        ) from None


def truth_boxes(label: Label | None) -> tuple[Box, ...]:
    """The boxes of a detection's label."""
    return label if isinstance(label, tuple) else ()


def _boxes(found: Sequence[dict[str, Any]]) -> Boxes:
    return Boxes(
        np.array([box["index"] for box in found], np.int64),
        np.array([box["score"] for box in found], np.float64),
        np.array([box["box"] for box in found], np.float64).reshape(-1, 4),
    )
