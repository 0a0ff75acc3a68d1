"""The rules that drift monitors ship, in their usual settings: what the false alarms of ours are held against.

Each compares with the same 2,000 representative rows; ADWIN and Page-Hinkley (``river``, which only this benchmark
needs) take row after row. The thresholds are their documents' and defaults, not tuned.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np

from benchmarks.drift_streams import DAY_ROWS, HOUR_ROWS, Rows

PSI_LIMIT = 0.2
PSI_FLOOR = 1e-4  # of a share, so that an empty bin does not count as infinite
ERROR_RATE = 0.05  # of one window over all features, by Bonferroni
BINS = 10


class Peer(Protocol):
    def feed(self, rows: Rows) -> list[int]:
        """A whole day of rows in; the ends of the windows, or the rows, at which the rule raised an alarm."""


class Windows:
    """A rule that judges one window by itself."""

    def __init__(self, rule: Callable[[Rows], bool], size: int) -> None:
        self._rule, self._size = rule, size

    def feed(self, rows: Rows) -> list[int]:
        ends = range(self._size, len(rows) + 1, self._size)
        return [end for end in ends if self._rule(rows[end - self._size : end])]


class Bins:
    """Counts by ten reference quantiles, by class for the last feature, and of missing values."""

    def __init__(self, reference: Rows, classes: Sequence[bool]) -> None:
        self._edges = [
            np.unique(column)[1:] - 0.5 if is_class else np.quantile(column, np.arange(1, BINS) / BINS)
            for column, is_class in zip(reference.T, classes, strict=True)
        ]
        self.reference = self.counts(reference)

    def counts(self, rows: Rows) -> list[Any]:
        """By feature: (bins,) int64, the missing ones last."""
        found = []
        for edges, column in zip(self._edges, rows.T, strict=True):
            present = np.isfinite(column)
            inside = np.bincount(np.searchsorted(edges, column[present]), minlength=len(edges) + 1)
            found.append(np.append(inside, len(column) - present.sum()))
        return found


def stability_index(bins: Bins) -> Callable[[Rows], bool]:
    """Population stability index above 0.2 in any feature."""

    def shifted(rows: Rows) -> bool:
        for now, before in zip(bins.counts(rows), bins.reference, strict=True):
            p, q = (np.maximum(counts / counts.sum(), PSI_FLOOR) for counts in (now, before))
            if ((p - q) * np.log(p / q)).sum() > PSI_LIMIT:
                return True
        return False

    return shifted


def chi_square(bins: Bins) -> Callable[[Rows], bool]:
    from scipy.stats import chi2_contingency

    limit = ERROR_RATE / len(bins.reference)

    def differs(rows: Rows) -> bool:
        for now, before in zip(bins.counts(rows), bins.reference, strict=True):
            table = np.array([now, before])
            if chi2_contingency(table[:, table.sum(0) > 0], correction=False).pvalue < limit:
                return True
        return False

    return differs


def kolmogorov_smirnov(reference: Rows, bins: Bins, classes: Sequence[bool]) -> Callable[[Rows], bool]:
    """The class feature by chi-square, as these tools do."""
    from scipy.stats import chi2_contingency, ks_2samp

    limit = ERROR_RATE / len(classes)
    ordered = np.sort(reference, 0)

    def differs(rows: Rows) -> bool:
        counts = bins.counts(rows)
        for number, is_class in enumerate(classes):
            if is_class:
                table = np.array([counts[number], bins.reference[number]])
                found = chi2_contingency(table[:, table.sum(0) > 0], correction=False).pvalue
            else:
                column = rows[:, number]
                found = ks_2samp(column[np.isfinite(column)], ordered[:, number], method="asymp").pvalue
            if found < limit:
                return True
        return False

    return differs


class Sequential:
    """One of river's detectors for each numeric feature; it starts again by itself after an alarm."""

    def __init__(self, make: Callable[[], Any], classes: Sequence[bool]) -> None:
        self._detectors = [None if is_class else make() for is_class in classes]

    def feed(self, rows: Rows) -> list[int]:
        alarms: list[int] = []
        for detector, column in zip(self._detectors, rows.T, strict=True):
            if detector is None:
                continue
            for row, value in enumerate(column.tolist(), 1):
                if math.isnan(value):
                    continue
                detector.update(value)
                if detector.drift_detected:
                    alarms.append(row)
        return sorted(alarms)


def windowed(reference: Rows, classes: Sequence[bool]) -> dict[str, Peer]:
    """Cheap enough for all device-days."""
    bins = Bins(reference, classes)
    return {
        "PSI > 0.2, hourly": Windows(stability_index(bins), HOUR_ROWS),
        "PSI > 0.2, daily": Windows(stability_index(bins), DAY_ROWS),
        "KS, Bonferroni, hourly": Windows(kolmogorov_smirnov(reference, bins, classes), HOUR_ROWS),
        "chi-square, Bonferroni, hourly": Windows(chi_square(bins), HOUR_ROWS),
    }


def sequential(classes: Sequence[bool]) -> dict[str, Peer]:
    """Empty where river is not installed."""
    try:
        from river import drift
    except ImportError:
        return {}
    return {"ADWIN": Sequential(drift.ADWIN, classes), "Page-Hinkley": Sequential(drift.PageHinkley, classes)}
