"""Labelled results as counts that add up, and the figures that are made of them.

The figures are those of scikit-learn: ``macro`` is over the classes that are true or predicted somewhere, and 0 stands
for a precision without predictions. AUC comes from histograms of the score, equal bins counting half: off by at most
half of the pairs that share a bin. Of many classes all but the best few have the lowest bin: it is understated then.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Final

import numpy as np
from msgspec import Struct

from edge_agent.core.feedback import NONE, Truth
from edge_agent.core.kept_results import SCORE_BINS, ClassResult, HeadResult, ValueResult
from edge_agent.monitoring import CLASS_BINS_MOST
from edge_agent.records import Array

CLASSES_MOST: Final = CLASS_BINS_MOST - 1  # counted by themselves; all others are one class, the last
ANOMALY_BINS: Final = 256  # of the score in multiples of the threshold, evenly in asinh: 6 % at the threshold
_ASINH_MOST: Final = 8.0
_ANOMALY_UNIT: Final = 8.0  # the threshold is so many units: below one unit the bins are even


class Scores(Struct, frozen=True):
    """Of labelled results. ``precision``, ``recall`` and ``f1``: of the anomalous, else macro. None: not to be said."""

    n: int
    accuracy: float
    precision: float
    recall: float
    f1: float
    auc: float | None


class ClassScores(Struct, frozen=True):
    """Of one class. ``support``: labelled results that are of it."""

    index: int
    precision: float
    recall: float
    f1: float
    support: int


class Errors(Struct, frozen=True):
    """Of a regression, in its unit; ``r2`` None where the labels do not differ."""

    n: int
    mae: float
    rmse: float
    r2: float | None


class ClassOrder:
    """Which classes are counted by themselves: the first CLASSES_MOST that were true or predicted. Shared by the counts
    of one output, so that they add up."""

    def __init__(self, classes: tuple[int, ...] = ()) -> None:
        self.classes = list(classes)
        self._places = {index: place for place, index in enumerate(classes)}

    def place(self, index: int) -> int:
        """The row or column of a class; CLASSES_MOST for all others."""
        place = self._places.get(index)
        if place is None:
            if len(self.classes) >= CLASSES_MOST:
                return CLASSES_MOST
            place = self._places[index] = len(self.classes)
            self.classes.append(index)
        return place


class ClassCounts:
    """``confusion`` (C + 1, C + 1): true by predicted, other classes last. ``histogram`` (C, 2, bins): of the score of
    each class, where it was not the truth and where it was. ``right`` counts other classes too. ``with_auc``: whether
    the score of a class is one in every result (in a detection only the best box has one)."""

    def __init__(self, order: ClassOrder, with_auc: bool) -> None:
        self.order = order
        self._with_auc = with_auc
        self.n = self.right = 0
        self.confusion: Array = np.zeros((CLASSES_MOST + 1, CLASSES_MOST + 1), np.int64)
        self.histogram: Array = np.zeros((CLASSES_MOST, 2, SCORE_BINS), np.uint32)

    def add(self, truth: Truth, result: HeadResult) -> None:
        assert isinstance(result, ClassResult) and isinstance(truth, int)  # what this output's labels are
        true, predicted = self.order.place(truth), self.order.place(result.classes[0])
        self.n += 1
        self.right += truth == result.classes[0]
        self.confusion[true, predicted] += 1
        scored = dict(zip(result.classes, result.bins, strict=True))
        for place, index in enumerate(self.order.classes):
            self.histogram[place, int(place == true), scored.get(index, 0)] += 1

    def merge(self, other: ClassCounts) -> None:
        """Of the same ``order``."""
        self.n += other.n
        self.right += other.right
        self.confusion += other.confusion
        self.histogram += other.histogram

    def scores(self) -> Scores | None:
        """None without labels. AUC: of each class against the others, macro."""
        if not self.n:
            return None
        classes = self.by_class()
        aucs = [_auc(*self.histogram[place]) for place in range(len(self.order.classes))] if self._with_auc else []
        said = [auc for auc in aucs if auc is not None]
        return Scores(
            self.n,
            self.right / self.n,
            _mean([one.precision for one in classes]),
            _mean([one.recall for one in classes]),
            _mean([one.f1 for one in classes]),
            _mean(said) if said else None,
        )

    def by_class(self) -> list[ClassScores]:
        """The classes that are true or predicted somewhere, in the counts' order; not the other classes."""
        found = []
        for place, index in enumerate(self.order.classes):
            hit, true = int(self.confusion[place, place]), int(self.confusion[place].sum())
            predicted = int(self.confusion[:, place].sum())
            if true + predicted:
                scores = (hit / predicted if predicted else 0.0, hit / true if true else 0.0)
                found.append(ClassScores(index, *scores, f1=2 * hit / (true + predicted), support=true))
        return found

    def table(self) -> list[list[int]]:
        """The confusion without unused rows: true by predicted, a line for each of ``order.classes`` and, where they
        are used, one for all others."""
        used = len(self.order.classes)
        others = self.confusion[CLASSES_MOST].any() or self.confusion[:, CLASSES_MOST].any()
        places = [*range(used), *([CLASSES_MOST] if others else [])]
        table: list[list[int]] = self.confusion[np.ix_(places, places)].tolist()
        return table

    def dump(self) -> Mapping[str, Any]:
        used = np.flatnonzero(self.histogram)
        return {
            "n": self.n,
            "right": self.right,
            "confusion": self.confusion.tobytes(),
            "at": used.astype(np.uint32).tobytes(),  # few of the bins are used
            "histogram": self.histogram.reshape(-1)[used].tobytes(),
        }

    def load(self, said: Mapping[str, Any]) -> None:
        self.n, self.right = said["n"], said["right"]
        self.confusion = np.frombuffer(said["confusion"], np.int64).reshape(self.confusion.shape).copy()
        counts = np.frombuffer(said["histogram"], np.uint32)
        self.histogram.reshape(-1)[np.frombuffer(said["at"], np.uint32)] = counts


class AnomalyCounts:
    """``confusion`` (2, 2): true by predicted, normal first; ``histogram`` (2, bins): of the score, by truth.
    ``threshold`` gives the bins' scale, so that of two models only those with the same add up."""

    def __init__(self, threshold: float) -> None:
        self._unit = (abs(threshold) or 1.0) / _ANOMALY_UNIT
        self.confusion: Array = np.zeros((2, 2), np.int64)
        self.histogram: Array = np.zeros((2, ANOMALY_BINS), np.int64)

    def add(self, truth: Truth, result: HeadResult) -> None:
        assert isinstance(result, ValueResult) and isinstance(truth, int)
        self.confusion[truth, int(result.anomalous)] += 1
        place = (math.asinh(result.value / self._unit) / _ASINH_MOST + 1) / 2
        self.histogram[truth, min(ANOMALY_BINS - 1, max(0, int(place * ANOMALY_BINS)))] += 1

    def merge(self, other: AnomalyCounts) -> None:
        self.confusion += other.confusion
        self.histogram += other.histogram

    def scores(self) -> Scores | None:
        n = int(self.confusion.sum())
        if not n:
            return None
        (clear, false), (missed, hit) = self.confusion.tolist()
        return Scores(
            n,
            (clear + hit) / n,
            hit / (hit + false) if hit + false else 0.0,
            hit / (hit + missed) if hit + missed else 0.0,
            2 * hit / (2 * hit + false + missed) if hit + false + missed else 0.0,
            _auc(*self.histogram),
        )

    def dump(self) -> Mapping[str, Any]:
        return {"confusion": self.confusion.tobytes(), "histogram": self.histogram.tobytes()}

    def load(self, said: Mapping[str, Any]) -> None:
        self.confusion = np.frombuffer(said["confusion"], np.int64).reshape(2, 2).copy()
        self.histogram = np.frombuffer(said["histogram"], np.int64).reshape(2, ANOMALY_BINS).copy()


class ValueCounts:
    """Of a regression: sums of the errors and, about their mean, of the labels (Chan, Golub and LeVeque 1983, Updating
    formulae and a pairwise algorithm for computing sample variances)."""

    def __init__(self) -> None:
        self.n = 0
        self._absolute = self._squares = self._mean = self._spread = 0.0

    def add(self, truth: Truth, result: HeadResult) -> None:
        assert isinstance(result, ValueResult)
        error = result.value - truth
        self._take(1, abs(error), error * error, float(truth), 0.0)

    def merge(self, other: ValueCounts) -> None:
        if other.n:
            self._take(other.n, other._absolute, other._squares, other._mean, other._spread)

    def scores(self) -> Errors | None:
        """None without labels."""
        if not self.n:
            return None
        r2 = 1 - self._squares / self._spread if self._spread > 0 else None
        return Errors(self.n, self._absolute / self.n, math.sqrt(self._squares / self.n), r2)

    def dump(self) -> Mapping[str, Any]:
        return {"sums": [self.n, self._absolute, self._squares, self._mean, self._spread]}

    def load(self, said: Mapping[str, Any]) -> None:
        self.n, self._absolute, self._squares, self._mean, self._spread = said["sums"]

    def _take(self, n: int, absolute: float, squares: float, mean: float, spread: float) -> None:
        total, apart = self.n + n, mean - self._mean
        self._spread += spread + apart * apart * self.n * n / total
        self._mean += apart * n / total
        self.n = total
        self._absolute += absolute
        self._squares += squares


def class_name(index: int, labels: tuple[str, ...]) -> str:
    """For a person: "none" where nothing was there."""
    if index == NONE:
        return "none"
    return labels[index] if index < len(labels) else str(index)


def _auc(negative: Array, positive: Array) -> float | None:
    """The chance that a positive scores above a negative (Mann and Whitney 1947), from counts by ascending score."""
    below = np.cumsum(negative, dtype=np.float64) - negative
    pairs = float(negative.sum(dtype=np.float64)) * float(positive.sum(dtype=np.float64))
    return float((positive * (below + 0.5 * negative)).sum()) / pairs if pairs else None


def _mean(values: list[float]) -> float:
    return sum(values) / len(values) if values else 0.0
