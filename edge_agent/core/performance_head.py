"""What labels say of one output: its figures since the deployment and of the last days, and whether it got worse."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, Protocol

import msgspec

from edge_agent.core.card_schema import (
    AnomalyOutput,
    ClassificationOutput,
    DetectionOutput,
    OutputCard,
    RegressionOutput,
)
from edge_agent.core.feedback import NONE, Truth
from edge_agent.core.kept_results import ClassResult, HeadResult, ValueResult
from edge_agent.core.performance_counts import (
    CLASSES_MOST,
    AnomalyCounts,
    ClassCounts,
    ClassOrder,
    Errors,
    Scores,
    ValueCounts,
)
from edge_agent.core.performance_watch import RECOVERY_BLOCKS, Blocks, ErrorWatch, WatchState, tolerated
from edge_agent.monitoring import Level, LevelChange

LEARN_LABELS: Final = 200  # of the device's own, where the reference has fewer: +-0.04 at an error of 0.1
BLOCK_LABELS: Final = 10  # at least, in a block of labelled errors
BLOCK_ROWS: Final = 30  # at least, in a block of estimated errors: they vary less
LABELLED_TOLERANCE: Final = 0.02  # of error, beside what chance does to the reference: less is no change to act on
ESTIMATED_TOLERANCE: Final = 0.05  # the estimate moves with the inputs too, and is a guess where they are new
FAR_QUANTILE: Final = 0.8  # an error of a regression is far above this quantile of its first LEARN_LABELS

Hits = Sequence[tuple[int, int]]
"""For each bin of the confidence, the missing one last: labelled rows of the representative set, and right ones."""


class Counts(Protocol):
    def add(self, truth: Truth, result: HeadResult) -> None: ...
    def merge(self, other: Any) -> None: ...
    def scores(self) -> Scores | Errors | None: ...
    def dump(self) -> Any: ...
    def load(self, said: Any) -> None: ...


class Watched:
    """A watch with its blocks, and what its level changes are called."""

    def __init__(self, feature: str, what: str, least: int, rate: float | None) -> None:
        self._feature, self._what, self._least = feature, what, least
        self._blocks = Blocks(least)
        self.watch = None if rate is None else ErrorWatch(rate)
        self.changes: list[LevelChange] = []

    def add(self, loss: float, at_s: int, oldest_s: int, wall_ns: int, count: int = 1) -> None:
        """Nothing, until there is a rate to compare with."""
        if self.watch is None:
            return
        mean = self._blocks.add(loss, at_s, oldest_s, count)
        if mean is None:
            return
        lately, before = [*self.watch.recent, mean][-RECOVERY_BLOCKS:], self.watch.level
        if self.watch.block(mean, wall_ns):
            found = f"{sum(lately) / len(lately):.3f} in the last {len(lately)} blocks"
            why = f"{self._what}: {found}; {self.watch.rate:.3f} is put up with"
            self.changes.append(LevelChange(self._feature, before, self.watch.level, why))

    def reset(self, rate: float | None) -> None:
        """Begin anew with another rate; what was raised is over."""
        self._blocks = Blocks(self._least)
        self.watch = None if rate is None else ErrorWatch(rate)

    @property
    def level(self) -> Level:
        return Level.LEARNING if self.watch is None else self.watch.level

    def dump(self) -> dict[str, Any]:
        return {"blocks": self._blocks.dump(), "watch": None if self.watch is None else self.watch.dump()}

    def load(self, said: Any) -> None:
        self._blocks = Blocks(self._least, **said["blocks"])
        watch = said["watch"]
        self.watch = None if watch is None else ErrorWatch.load(msgspec.convert(watch, WatchState))


class HeadMeter:
    """``labels``: the card's of this output; ``hits``: of the reference, None where there is none."""

    def __init__(self, head: OutputCard, labels: Sequence[str], hits: Hits | None) -> None:
        self.head = head
        self.labels = tuple(labels)
        self._is_value = isinstance(head, RegressionOutput)
        self.output = f"{head.__struct_config__.tag} {head.name}, {len(labels)} labels"  # tells what was kept of it
        preset = (*((NONE,) if isinstance(head, DetectionOutput) else ()), *range(len(labels)))
        self.order = ClassOrder(preset if len(preset) <= CLASSES_MOST else ())
        self.total, self._last, self._open = (self._counts() for _ in range(3))
        self.hits = hits if hits is not None and sum(n for n, _ in hits) >= LEARN_LABELS else None
        rows, right = _sums(self.hits) if self.hits is not None else (0, 0)
        measured = rows > 0
        self.labelled = Watched(
            f"{head.name}.accuracy",
            "share of large errors" if self._is_value else "share of wrong predictions",
            BLOCK_LABELS,
            tolerated(rows - right, rows, LABELLED_TOLERANCE) if measured else None,
        )
        self.estimated = Watched(
            f"{head.name}.estimated",
            "error estimated from the confidence",
            BLOCK_ROWS,
            tolerated(rows - right, rows, ESTIMATED_TOLERANCE) if measured else None,
        )
        self._first: list[float] = []  # losses, while the rate is learnt
        self._far: float | None = None  # of a regression: an error above it counts as wrong

    @property
    def learning(self) -> int | None:
        """Labels so far, of LEARN_LABELS; None where the baseline is there."""
        return len(self._first) if self.labelled.watch is None else None

    def wrong(self, truth: Truth, result: HeadResult) -> bool | None:
        """None: of a regression whose usual error is not known yet."""
        if isinstance(result, ClassResult):
            return truth != result.classes[0]
        if isinstance(self.head, AnomalyOutput):
            return bool(truth) != result.anomalous
        return None if self._far is None else abs(result.value - truth) > self._far

    def label(self, truth: Truth, result: HeadResult, at_s: int, oldest_s: int, wall_ns: int) -> None:
        """Count a label of a prediction made at ``at_s``; see Blocks.add for ``oldest_s``."""
        self._open.add(truth, result)
        self.total.add(truth, result)
        if self.labelled.watch is None:
            self._learn(truth, result)
        else:
            self.labelled.add(float(self.wrong(truth, result) or 0), at_s, oldest_s, wall_ns)

    def estimate(self, bins: Sequence[int], at_s: int, oldest_s: int, wall_ns: int) -> None:
        """Counts of the confidence since the last call, by the reference's bins, the missing ones last."""
        accuracy = None if self.hits is None else estimated_accuracy(bins, self.hits)
        if accuracy is not None:
            self.estimated.add(1 - accuracy, at_s, oldest_s, wall_ns, sum(bins[:-1]))

    def roll(self, windows: int) -> None:
        """So many windows are over."""
        if windows:
            self._last = self._open if windows == 1 else self._counts()
            self._open = self._counts()

    def window(self) -> Counts:
        """Of the last window and of the open one."""
        both = self._counts()
        both.merge(self._last)
        both.merge(self._open)
        return both

    def rebaseline(self) -> None:
        """What the device does from now on is right: the next LEARN_LABELS give the rate to watch for."""
        self.labelled.reset(None)
        self.estimated.reset(None)
        self._first, self._far = [], None

    def dump(self) -> dict[str, Any]:
        counts = [counts.dump() for counts in (self.total, self._last, self._open)]
        watched = [self.labelled.dump(), self.estimated.dump()]
        learnt = {"classes": self.order.classes, "first": self._first, "far": self._far}
        return {"output": self.output, "counts": counts, "watched": watched, **learnt}

    def load(self, said: Any) -> None:
        """What ``dump`` of the same ``output`` gave."""
        self.order = ClassOrder(tuple(said["classes"]))
        self.total, self._last, self._open = (self._counts() for _ in range(3))
        for counts, one in zip((self.total, self._last, self._open), said["counts"], strict=True):
            counts.load(one)
        for watched, one in zip((self.labelled, self.estimated), said["watched"], strict=True):
            watched.load(one)
        self._first, self._far = list(said["first"]), said["far"]

    def _counts(self) -> Counts:
        if isinstance(self.head, ClassificationOutput | DetectionOutput):
            return ClassCounts(self.order, isinstance(self.head, ClassificationOutput))
        return AnomalyCounts(self.head.threshold) if isinstance(self.head, AnomalyOutput) else ValueCounts()

    def _learn(self, truth: Truth, result: HeadResult) -> None:
        if self._is_value and isinstance(result, ValueResult):
            self._first.append(abs(result.value - truth))
        else:
            self._first.append(float(bool(self.wrong(truth, result))))
        if len(self._first) < LEARN_LABELS:
            return
        if self._is_value:
            self._far = sorted(self._first)[int(FAR_QUANTILE * LEARN_LABELS) - 1]
        over = sum(loss > (self._far or 0) for loss in self._first)
        self.labelled.reset(tolerated(over, LEARN_LABELS, LABELLED_TOLERANCE))
        self._first = []


def estimated_accuracy(bins: Sequence[int], hits: Hits) -> float | None:
    """Of rows with these counts of the confidence, were they right as often as the representative set's labelled rows
    of the same bin (Guo et al., arXiv 1706.04599, on binned confidence). A bin that the labelled rows never reached
    counts as their mean; rows without a confidence don't count. None where there are none, or no labels."""
    rows, right = _sums(hits)
    seen = sum(bins[:-1])
    if not rows or not seen:
        return None
    rates = [bin_right / n if n else right / rows for n, bin_right in hits[:-1]]
    return sum(count * rate for count, rate in zip(bins[:-1], rates, strict=True)) / seen


def _sums(hits: Hits) -> tuple[int, int]:
    return sum(n for n, _ in hits), sum(right for _, right in hits)
