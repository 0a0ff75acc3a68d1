"""How good a classification is. Pure functions on arrays."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
from msgspec import Struct

from converters.evaluation.paired import wilson_interval
from converters.evaluation.ranking import area_under_curve
from edge_agent.records import Array

CALIBRATION_BINS = 15  # Guo et al. 2017, section 4
CONFUSION_MOST = 200  # classes: beyond, the table would be most of the answer
CONFUSED_MOST = 12  # pairs
TOP = 5
_TOLERATED = 1e-6  # rounding of a softmax


class ClassResult(Struct, frozen=True):
    """One class. ``support`` rows have it as their truth, ``answered`` got it as their answer. ``precision`` is None
    where it was never answered, ``recall`` where it never occurs."""

    label: str
    support: int
    answered: int
    precision: float | None
    recall: float | None
    f1: float | None
    auc: float | None


class Confused(Struct, frozen=True):
    """``count`` rows of the class ``truth`` were taken for ``answer``."""

    truth: str
    answer: str
    count: int


class ClassificationResult(Struct, frozen=True, tag_field="task", tag="classification"):
    """``interval`` holds the accuracy on endless rows of this kind, with 95 % confidence (Wilson 1927).
    ``confusion[truth][answer]`` counts rows, None above 200 classes; ``confused`` are its largest errors.
    ``calibration_error`` and ``log_loss`` are None where the scores are not probabilities."""

    accuracy: float
    interval: tuple[float, float]
    top5: float | None
    macro_f1: float
    calibration_error: float | None
    log_loss: float | None
    auc: float | None
    classes: tuple[ClassResult, ...]
    confusion: tuple[tuple[int, ...], ...] | None
    confused: tuple[Confused, ...]


def classification_result(
    scores: Array,
    best: Array,
    truth: Array,
    names: Sequence[str],
    *,
    activation: Literal["none", "softmax", "sigmoid"],
    floor: float,
) -> ClassificationResult:
    """``scores`` (n, classes) float64 as published; ``best`` and ``truth`` (n,) int64; ``names`` of the classes.

    ``floor`` stands in for a probability of zero in the logarithm. Per class precision, recall, F1 and AUC are one
    class against the rest; ``auc`` and ``macro_f1`` are their plain means over the classes that have one.
    """
    count = scores.shape[1]
    confusion = confusion_matrix(truth, best, count)
    classes = tuple(
        _class_result(index, names[index], confusion, area_under_curve(scores[:, index], truth == index))
        for index in range(count)
    )
    probabilities = are_probabilities(scores, floor)
    # independent scores of several classes are no distribution: the likelihood of one says nothing of the others
    exclusive = probabilities and (activation != "sigmoid" or count == 2)
    accuracy = float(np.mean(best == truth))
    return ClassificationResult(
        accuracy=accuracy,
        interval=wilson_interval(accuracy, truth.size),
        top5=top_share(scores, truth, TOP) if count > TOP else None,
        macro_f1=_mean([item.f1 for item in classes]) or 0.0,
        calibration_error=calibration_error(scores, best, truth) if probabilities else None,
        log_loss=log_loss(scores, truth, floor) if exclusive else None,
        auc=_mean([item.auc for item in classes]),
        classes=classes,
        confusion=tuple(map(tuple, confusion.tolist())) if count <= CONFUSION_MOST else None,
        confused=_confused(confusion, names),
    )


def confusion_matrix(truth: Array, best: Array, count: int) -> Array:
    """(count, count) int64: rows are the truth, columns the answer."""
    matrix = np.zeros((count, count), np.int64)
    np.add.at(matrix, (truth, best), 1)
    return matrix


def top_share(scores: Array, truth: Array, count: int) -> float:
    """Share of rows whose truth is among the ``count`` best scores; of equal scores the lower index first."""
    best = np.argsort(-scores, axis=1, kind="stable")[:, :count]
    return float(np.mean((best == truth[:, None]).any(axis=1)))


def calibration_error(scores: Array, best: Array, truth: Array) -> float:
    """Expected calibration error: over 15 equal bins of the answer's probability, the mean distance between the share
    that is right and the mean probability, weighted by rows (Guo et al. 2017, "On Calibration of Modern Neural
    Networks", equation 3; a bin contains its upper edge)."""
    confidence = np.clip(np.take_along_axis(scores, best[:, None], axis=1)[:, 0], 0.0, 1.0)
    bins = np.clip(np.ceil(confidence * CALIBRATION_BINS).astype(np.int64) - 1, 0, CALIBRATION_BINS - 1)
    # |share right - mean probability| * rows of the bin is |rows right - sum of probabilities|
    right = np.bincount(bins, (best == truth).astype(np.float64), CALIBRATION_BINS)
    claimed = np.bincount(bins, confidence, CALIBRATION_BINS)
    return float(np.abs(right - claimed).sum() / truth.size)


def log_loss(probabilities: Array, truth: Array, floor: float) -> float:
    """Mean negative logarithm of the probability of the truth, in nats; what is below ``floor`` counts as ``floor``."""
    of_truth = np.take_along_axis(probabilities, truth[:, None], axis=1)[:, 0]
    return float(-np.log(np.clip(of_truth, floor, 1.0)).mean())


def are_probabilities(scores: Array, step: float) -> bool:
    """Whether all scores are in 0..1, but for one ``step`` of the quantisation: logits whose card forgot to say
    softmax are not."""
    slack = step + _TOLERATED
    return bool(scores.size) and bool(scores.min() >= -slack) and bool(scores.max() <= 1 + slack)


def _class_result(index: int, name: str, confusion: Array, auc: float | None) -> ClassResult:
    hits = int(confusion[index, index])
    support, answered = int(confusion[index].sum()), int(confusion[:, index].sum())
    return ClassResult(
        label=name,
        support=support,
        answered=answered,
        precision=hits / answered if answered else None,
        recall=hits / support if support else None,
        f1=2 * hits / (support + answered) if support + answered else None,
        auc=auc,
    )


def _confused(confusion: Array, names: Sequence[str]) -> tuple[Confused, ...]:
    errors = confusion - np.diag(np.diag(confusion))
    order = np.argsort(-errors, axis=None, kind="stable")[:CONFUSED_MOST]
    pairs = zip(*np.unravel_index(order, errors.shape), strict=True)
    return tuple(Confused(names[t], names[a], int(errors[t, a])) for t, a in pairs if errors[t, a])


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None
