"""How far two models answer alike on the same rows, and on which rows they differ most."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from msgspec import Struct

from converters.evaluation.classification import are_probabilities
from converters.evaluation.detection import WORKING_OVERLAP, from_threshold, overlaps
from converters.evaluation.paired import Drop, accuracy_drop, bootstrap_drop
from converters.evaluation.ranking import area_under_curve
from converters.evaluation.recorded import Boxes, Recorded, head_named
from converters.evaluation.regression import determination
from edge_agent.core.card_roles import task_of
from edge_agent.core.card_schema import (
    AnomalyOutput,
    ClassificationOutput,
    DetectionOutput,
    OutputCard,
    RegressionOutput,
)
from edge_agent.core.rounding import shortest
from edge_agent.errors import ConfigError
from edge_agent.records import Array

WORST_MOST = 12


class Disagreement(Struct, frozen=True):
    """One row: its name and its place among the rows, both answers in words, the truth where it has one, and how far
    apart they are (by the task: largest absolute probability error, absolute difference, 1 - F1 of the boxes)."""

    id: str
    place: int
    reference: str
    other: str
    truth: str | None
    distance: float


class HeadAgreement(Struct, frozen=True):
    """One output of two models. ``agreement`` is the one number, at most 1 and the same in both directions:

    classification: share of rows with the same best class; detection: F1 of one model's published boxes against the
    other's; regression: Lin's concordance correlation coefficient (Lin 1989); anomaly: share with the same verdict.

    ``same``: share of rows with the same answer. ``mean_error``, ``max_error`` and ``rmse``: absolute difference of
    class probabilities, of values in the card's unit, or of anomaly scores. ``divergence``: mean Kullback-Leibler
    divergence of the other from the reference in nats, for class probabilities. ``mean_overlap``: intersection over
    union of boxes found by both. ``drop``: the loss of the main score with its interval, where rows have labels.
    """

    task: str
    rows: int
    agreement: float
    same: float
    mean_error: float | None = None
    max_error: float | None = None
    rmse: float | None = None
    divergence: float | None = None
    mean_overlap: float | None = None
    drop: Drop | None = None
    worst: tuple[Disagreement, ...] = ()


class Agreement(Struct, frozen=True):
    """By output name; ``agreement`` is the least over the outputs."""

    outputs: dict[str, HeadAgreement]

    @property
    def agreement(self) -> float:
        return min(head.agreement for head in self.outputs.values())


class _Rows(NamedTuple):
    """By row: whether the answers are the same, how far apart they are, and both in words."""

    same: Array
    distance: Array
    reference: Sequence[str]
    other: Sequence[str]


def compare_recorded(reference: Recorded, other: Recorded) -> Agreement:
    """Both ran on the same rows in the same order. Outputs are matched by name.

    Raises ConfigError where the models have no output in common, or one with another task or number of classes;
    ValueError for different rows.
    """
    if reference.ids != other.ids:
        raise ValueError("two recordings of different rows can't be compared")
    names = {head.name for head in other.heads}
    heads = [head for head in reference.heads if head.name in names]
    if not heads:
        mine, theirs = (", ".join(head.name for head in side.heads) for side in (reference, other))
        raise ConfigError(
            f"{reference.model.name} has the outputs {mine}, {other.model.name} has {theirs}: none has the same name; "
            "give both the same card"
        )
    return Agreement({head.name: _compared(reference, other, head, head_named(other, head.name)) for head in heads})


def _compared(reference: Recorded, other: Recorded, mine: OutputCard, theirs: OutputCard) -> HeadAgreement:
    if isinstance(mine, ClassificationOutput) and isinstance(theirs, ClassificationOutput):
        return _classification(reference, other, mine, theirs)
    if isinstance(mine, RegressionOutput) and isinstance(theirs, RegressionOutput):
        return _regression(reference, other, mine, theirs)
    if isinstance(mine, AnomalyOutput) and isinstance(theirs, AnomalyOutput):
        return _anomaly(reference, other, mine, theirs)
    if isinstance(mine, DetectionOutput) and isinstance(theirs, DetectionOutput):
        return _detection(reference, other, mine, theirs)
    raise ConfigError(
        f"output {mine.name!r} is a {task_of(mine)} in {reference.model.name} and a {task_of(theirs)} in "
        f"{other.model.name}: give both the same card"
    )


def _classification(
    reference: Recorded, other: Recorded, mine: ClassificationOutput, theirs: ClassificationOutput
) -> HeadAgreement:
    before, after = reference.scores(mine), other.scores(theirs)
    if before.shape != after.shape:
        raise ConfigError(
            f"output {mine.name!r} has {before.shape[1]} classes in {reference.model.name} and {after.shape[1]} in "
            f"{other.model.name}: they can't be compared"
        )
    best = reference.best(mine), other.best(theirs)
    same = best[0] == best[1]
    errors = np.abs(before - after)
    names = reference.class_names(mine, before.shape[1])
    said = [_class_words(names, chosen, scores) for chosen, scores in zip(best, (before, after), strict=True)]
    floor = max(reference.floor(mine), other.floor(theirs))
    rows = _Rows(same, errors.max(axis=1), said[0], said[1])
    labelled, truth = reference.truth(mine)
    right = [chosen[labelled] == truth for chosen in best]
    return HeadAgreement(
        task=task_of(mine),
        rows=len(reference),
        agreement=float(same.mean()),
        same=float(same.mean()),
        mean_error=float(errors.mean()),
        max_error=float(errors.max()),
        rmse=float(np.sqrt((errors**2).mean())),
        divergence=divergence(before, after, floor) if _are_distributions(before, after, mine, floor) else None,
        drop=accuracy_drop(right[0], right[1]) if labelled.size else None,
        worst=_worst(reference, rows, dict(zip(labelled.tolist(), (names[int(t)] for t in truth), strict=True))),
    )


def _regression(
    reference: Recorded, other: Recorded, mine: RegressionOutput, theirs: RegressionOutput
) -> HeadAgreement:
    before, after = reference.values(mine), other.values(theirs)
    said = [[f"{shortest(float(value)):g} {mine.unit}".strip() for value in side] for side in (before, after)]
    rows = _Rows(before == after, np.abs(before - after), said[0], said[1])
    labelled, truth = reference.truth(mine)
    drop = bootstrap_drop(before[labelled], after[labelled], truth, determination, "R2") if labelled.size else None
    words = {row: f"{value:g} {mine.unit}".strip() for row, value in zip(labelled.tolist(), truth, strict=True)}
    return _of_values(reference, mine, rows, concordance(before, after), drop, words)


def _anomaly(reference: Recorded, other: Recorded, mine: AnomalyOutput, theirs: AnomalyOutput) -> HeadAgreement:
    before, after = reference.reals(mine)[:, 0], other.reals(theirs)[:, 0]
    flagged = before >= mine.threshold, after >= theirs.threshold
    said = [
        [f"{'anomalous' if flag else 'normal'} ({score:.4g})" for flag, score in zip(flags, scores, strict=True)]
        for flags, scores in zip(flagged, (before, after), strict=True)
    ]
    rows = _Rows(flagged[0] == flagged[1], np.abs(before - after), said[0], said[1])
    labelled, truth = reference.truth(mine)
    drop = None
    if labelled.size:
        drop = bootstrap_drop(before[labelled], after[labelled], truth.astype(bool), area_under_curve, "AUC")
    words = {row: "anomalous" if value else "normal" for row, value in zip(labelled.tolist(), truth, strict=True)}
    return _of_values(reference, mine, rows, float(rows.same.mean()), drop, words)


def _detection(reference: Recorded, other: Recorded, mine: DetectionOutput, theirs: DetectionOutput) -> HeadAgreement:
    pairs = [
        (from_threshold(before, mine.threshold), from_threshold(after, theirs.threshold))
        for before, after in zip(reference.boxes[mine.name], other.boxes[theirs.name], strict=True)
    ]
    shared = [shared_overlaps(before, after) for before, after in pairs]
    sizes = np.array([before.scores.size + after.scores.size for before, after in pairs])
    found = np.array([2 * len(overlap) for overlap in shared])
    f1 = np.where(sizes > 0, found / np.maximum(sizes, 1), 1.0)  # nothing in both is the same answer
    found_classes = [int(boxes.indices.max()) for pair in pairs for boxes in pair if boxes.indices.size]
    names = reference.class_names(mine, 1 + max(found_classes, default=0))
    said = [[_box_words(names, pair[side]) for pair in pairs] for side in (0, 1)]
    rows = _Rows(f1 == 1.0, 1.0 - f1, said[0], said[1])
    every = [value for overlap in shared for value in overlap]
    return HeadAgreement(
        task=task_of(mine),
        rows=len(reference),
        agreement=float(found.sum() / sizes.sum()) if sizes.sum() else 1.0,
        same=float(rows.same.mean()),
        mean_overlap=float(np.mean(every)) if every else None,
        worst=_worst(reference, rows, {}),
    )


def shared_overlaps(left: Boxes, right: Boxes) -> list[float]:
    """Intersection over union of each pair of boxes that both models found: the same class, an overlap from 0.5 on,
    each box in one pair at most, larger overlaps first. The same in both directions."""
    overlap = overlaps(left.corners, right.corners)
    overlap = np.where(left.indices[:, None] == right.indices[None, :], overlap, 0.0)
    pairs = []
    while overlap.size and overlap.max() >= WORKING_OVERLAP:
        row, column = np.unravel_index(int(overlap.argmax()), overlap.shape)
        pairs.append(float(overlap[row, column]))
        overlap[row, :], overlap[:, column] = 0.0, 0.0
    return pairs


def divergence(reference: Array, other: Array, floor: float) -> float:
    """Mean Kullback-Leibler divergence sum p log (p / q) over (n, classes) probabilities, in nats (Kullback and
    Leibler 1951). Both are floored and made to add up to one: quantised probabilities do not."""
    p, q = (np.maximum(side, floor) for side in (reference, other))
    p, q = p / p.sum(axis=1, keepdims=True), q / q.sum(axis=1, keepdims=True)
    return float((p * np.log(p / q)).sum(axis=1).mean())


def concordance(left: Array, right: Array) -> float:
    """Lin's concordance correlation coefficient (Lin 1989, Biometrics 45): 1 for equal values, in both directions the
    same. 1 also where all values of both are one and the same."""
    away = float(((left - right) ** 2).mean())
    if not away:
        return 1.0
    return 1.0 - away / float(left.var() + right.var() + (left.mean() - right.mean()) ** 2)


def _of_values(
    reference: Recorded,
    head: OutputCard,
    rows: _Rows,
    agreement: float,
    drop: Drop | None,
    truth: dict[int, str],
) -> HeadAgreement:
    return HeadAgreement(
        task=task_of(head),
        rows=len(reference),
        agreement=agreement,
        same=float(rows.same.mean()),
        mean_error=float(rows.distance.mean()),
        max_error=float(rows.distance.max()),
        rmse=float(np.sqrt((rows.distance**2).mean())),
        drop=drop,
        worst=_worst(reference, rows, truth),
    )


def _worst(reference: Recorded, rows: _Rows, truth: dict[int, str]) -> tuple[Disagreement, ...]:
    """Rows with another answer first, then by distance; rows without any distance are left out."""
    order = np.lexsort((-rows.distance, rows.same))[:WORST_MOST].tolist()
    return tuple(
        Disagreement(
            reference.ids[row], row, rows.reference[row], rows.other[row], truth.get(row), float(rows.distance[row])
        )
        for row in order
        if rows.distance[row] > 0
    )


def _are_distributions(before: Array, after: Array, head: ClassificationOutput, floor: float) -> bool:
    exclusive = head.activation != "sigmoid" or before.shape[1] == 2
    return exclusive and are_probabilities(before, floor) and are_probabilities(after, floor)


def _class_words(names: Sequence[str], best: Array, scores: Array) -> list[str]:
    return [f"{names[index]} ({scores[row, index]:.3f})" for row, index in enumerate(best.tolist())]


def _box_words(names: Sequence[str], boxes: Boxes) -> str:
    words = [f"{names[index]} ({score:.2f})" for index, score in zip(boxes.indices.tolist(), boxes.scores, strict=True)]
    return ", ".join(words[:4]) + (f" and {len(words) - 4} more" if len(words) > 4 else "") or "nothing"
