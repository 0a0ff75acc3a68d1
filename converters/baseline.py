"""The reference R0 of a model: what its features, its pictures and its answers look like on the representative set.

Made with the device's own arithmetic and its own reading of an observation, so that the two compare like with like.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
from msgspec import Struct

from converters.device_model import DeviceModel
from converters.evaluation.run import answered
from converters.progress import Progress, Silent
from converters.projection import ProjectionFit
from converters.records import Dataset, Example, Tensors
from edge_agent.core.card_schema import ClassificationOutput
from edge_agent.core.drift.observe import Observer
from edge_agent.core.drift.reference import make_reference
from edge_agent.core.picture import PictureStatistics
from edge_agent.errors import ConfigError
from edge_agent.monitoring import Observation, Projection, Reference
from edge_agent.records import AlignedReading, Array, Flag

ROWS_MOST = 20_000  # an error of 0.01 in total variation: more rows only take longer
ROWS_FEW = 2_000
MISSING_MUCH = 0.2
_NO_READING = (Flag.MISSING, Flag.FILLED)


class Baseline(Struct, frozen=True):
    """``warnings``: for a person."""

    reference: Reference
    warnings: tuple[str, ...]


def make_baseline(
    model: DeviceModel,
    dataset: Dataset,
    rows: Sequence[int],
    *,
    split: str = "",
    embedding: str | None = None,
    progress: Progress | None = None,
) -> Baseline:
    """Run the rows, in order, and count. ``embedding``: an output tensor to be watched too; it takes a second run.
    ``split``: which rows these are, for the reference to say.

    Raises ConfigError and ModelError, with the row's id where one row is the reason.
    """
    if not rows:
        raise ConfigError(f"{dataset.spec}: no rows to learn a reference from")
    progress = progress or Silent()
    projection = _projection(model, dataset, rows, embedding, progress) if embedding is not None else None
    observer = Observer(model.card, model.outputs, projection)
    observed, truths = _observed(model, observer, dataset, rows, progress)
    reference = make_reference(
        observer.names,
        observed,
        truth={name: truth for name, truth in truths.items() if np.isfinite(truth).any()},
        projection=projection,
        source={"data": Path(dataset.spec).name, "sha256": dataset.sha256(), "split": split},
    )
    return Baseline(reference, tuple(_warnings(reference, truths)))


def _projection(
    model: DeviceModel, dataset: Dataset, rows: Sequence[int], tensor: str, progress: Progress
) -> Projection:
    specs = {spec.name: spec for spec in model.outputs}
    if tensor not in specs:
        raise ConfigError(f"--embedding {tensor}: the model has no such output; it has {', '.join(specs)}")
    fit = ProjectionFit(tensor, math.prod(specs[tensor].shape))
    for _, _, outputs in _runs(model, dataset, rows, progress, f"learning the embedding {tensor}"):
        fit.add(model.real({tensor: outputs[tensor]})[tensor].reshape(-1))
    return fit.projection()


def _observed(
    model: DeviceModel, observer: Observer, dataset: Dataset, rows: Sequence[int], progress: Progress
) -> tuple[Array, dict[str, Array]]:
    """(n, F) float64 rows, and by classification output (n,) float64 true classes, NaN where a row has no label."""
    images = model.card.image_inputs[:1]
    specs = {spec.name: spec for spec in model.inputs}
    pictures = {item.tensor: PictureStatistics(specs[item.tensor], item) for item in images}
    observed: list[Array] = []
    truths: dict[str, list[float]] = {name: [] for name in _judged(model)}
    for example, tensors, outputs in _runs(model, dataset, rows, progress, "watching the representative set"):
        statistics = [picture.of(tensors[name]) for name, picture in pictures.items()]
        observed.append(observer.row(_observation(example, statistics[0] if statistics else None, outputs)))
        for name, classes in truths.items():
            classes.append(_class(example.labels.get(name)))
    return np.stack(observed), {name: np.array(classes) for name, classes in truths.items()}


def _judged(model: DeviceModel) -> list[str]:
    """The outputs whose answers are compared with labels. A single score is a yes or no for which the device names no
    second class, so nothing can be right by the class's number."""
    sizes = {spec.name: math.prod(spec.shape) for spec in model.outputs}
    heads = [head for head in model.card.outputs if isinstance(head, ClassificationOutput)]
    return [head.name for head in heads if sizes[head.tensor] > 1]


def _runs(
    model: DeviceModel, dataset: Dataset, rows: Sequence[int], progress: Progress, text: str
) -> Iterator[tuple[Example, Tensors, Tensors]]:
    """Each row with its image tensors and raw outputs; a stateful model starts from its first state."""
    model.reset()
    with progress.step(text, len(rows)) as advance:
        for done, row in enumerate(rows, 1):
            example = dataset.example(row)
            images, outputs, _ = answered(model, example)
            yield example, images, outputs
            advance(done)


def _observation(example: Example, image: tuple[float, ...] | None, outputs: Tensors) -> Observation:
    return Observation(
        mono_ns=0,
        features=example.features,
        readings={name: AlignedReading(None, "", None, _NO_READING) for name in example.filled},
        image=image,
        outputs=outputs,
        decoded={},
    )


def _class(label: object) -> float:
    return float(label) if isinstance(label, int | float) else math.nan


def _warnings(reference: Reference, truths: Mapping[str, Array]) -> Iterator[str]:
    rows = reference.rows
    if rows < ROWS_FEW:
        yield (
            f"warning: {rows:,} {'row' if rows == 1 else 'rows'}: their shares are off by about "
            f"{_sampling_error(rows):.2f} in total variation by "
            f"chance alone; {ROWS_FEW} rows or more are needed before a tolerance of 0.05 means anything"
        )
    for feature, counts in zip(reference.binning, reference.counts, strict=True):
        missing = counts[-1] / rows
        given = feature.group in ("sensor", "image")  # an answer may be none: a picture without an object
        if missing == 1:
            yield f"warning: {feature.name} is missing in every row: nothing can be compared with it"
        elif given and missing > MISSING_MUCH:
            yield f"warning: {feature.name} is missing in {missing:.0%} of the rows"
        elif given and max(counts[:-1]) == sum(counts[:-1]):
            yield f"warning: {feature.name} is the same in every row: any other value will count as drift"
    for name, truth in truths.items():
        if not np.isfinite(truth).any():
            yield (
                f"warning: {name}: no row has a label: the device can't estimate the accuracy from the confidence, and "
                "has nothing to compare its labelled accuracy with"
            )


def _sampling_error(rows: int) -> float:
    """The expected total variation between ten equal bins and a sample of them: half the sum of the mean absolute
    deviations of ten binomial shares, each sqrt(2 p (1 - p) / (pi n)) with p = 0.1 (the normal approximation). One row
    alone is 0.9 away, and no number of rows is further."""
    return min(0.9, 5 * math.sqrt(2 * 0.1 * 0.9 / (math.pi * rows)))
