"""Whether a difference between two models means anything on these rows, seen that both ran on the same ones."""

from __future__ import annotations

import math
from collections.abc import Callable
from statistics import NormalDist

import numpy as np
from msgspec import Struct

from edge_agent.records import Array

CONFIDENCE = 0.95
RESAMPLES = 1000
SEED = 20261


class Drop(Struct, frozen=True):
    """``drop`` = ``reference`` - ``other``, above 0 where the other model is worse; ``low`` to ``high`` is its interval
    at ``confidence``. ``p_value`` is that of the exact McNemar test, for a share of right rows only; then
    ``only_reference`` and ``only_other`` count the rows that one model alone got right."""

    score: str
    rows: int
    reference: float
    other: float
    drop: float
    low: float
    high: float
    method: str
    confidence: float = CONFIDENCE
    p_value: float | None = None
    only_reference: int | None = None
    only_other: int | None = None

    @property
    def by_chance(self) -> bool:
        """Whether no difference at all lies within the interval."""
        return self.low <= 0 <= self.high


def accuracy_drop(reference: Array, other: Array, score: str = "accuracy") -> Drop:
    """The drop in the share of right rows. ``reference`` and ``other`` (n,) bool: right or not, row by row."""
    rows = int(reference.size)
    both = int((reference & other).sum())
    only_reference, only_other = int((reference & ~other).sum()), int((other & ~reference).sum())
    low, high = newcombe_interval(both, only_reference, only_other, rows - both - only_reference - only_other)
    return Drop(
        score=score,
        rows=rows,
        reference=(both + only_reference) / rows,
        other=(both + only_other) / rows,
        drop=(only_reference - only_other) / rows,
        low=low,
        high=high,
        method="Newcombe 1998, paired, method 10",
        p_value=mcnemar_p(only_reference, only_other),
        only_reference=only_reference,
        only_other=only_other,
    )


def newcombe_interval(
    both: int, only_first: int, only_second: int, neither: int, confidence: float = CONFIDENCE
) -> tuple[float, float]:
    """The interval of p_first - p_second from a paired table of counts.

    Newcombe 1998, "Improved confidence intervals for the difference between binomial proportions based on paired
    data", Statistics in Medicine 17, method 10: Wilson's intervals of the two shares, put together with their
    correlation.
    """
    rows = both + only_first + only_second + neither
    first, second = (both + only_first) / rows, (both + only_second) / rows
    low_1, high_1 = wilson_interval(first, rows, confidence)
    low_2, high_2 = wilson_interval(second, rows, confidence)
    phi = _correlation(both, only_first, only_second, neither)

    def together(left: float, right: float) -> float:
        return math.sqrt(max(0.0, left**2 - 2 * phi * left * right + right**2))

    difference = (only_first - only_second) / rows
    return (
        difference - together(first - low_1, high_2 - second),
        difference + together(high_1 - first, second - low_2),
    )


def wilson_interval(share: float, rows: int, confidence: float = CONFIDENCE) -> tuple[float, float]:
    """The interval of one share (Wilson 1927)."""
    z = NormalDist().inv_cdf((1 + confidence) / 2)
    middle = 2 * rows * share + z * z
    half = z * math.sqrt(z * z + 4 * rows * share * (1 - share))
    low, high = (middle - half) / (2 * (rows + z * z)), (middle + half) / (2 * (rows + z * z))
    return max(0.0, low), min(1.0, high)


def mcnemar_p(only_first: int, only_second: int) -> float:
    """Two-sided p-value of the exact McNemar test (McNemar 1947): were the rows that only one model got right split
    evenly, how likely is a split at least this uneven."""
    total, fewer = only_first + only_second, min(only_first, only_second)
    tail, term = 0, 1  # whole numbers: the powers of two do not fit a float from 1024 rows on
    for k in range(fewer + 1):
        tail += term
        term = term * (total - k) // (k + 1)
    p_value: float = 2 * tail / 2**total
    return min(1.0, p_value)


def bootstrap_drop(
    reference: Array, other: Array, truth: Array, measure: Callable[[Array, Array], float | None], score: str
) -> Drop | None:
    """The drop in ``measure(values, truth)``, which is higher for the better model; None where it is not defined.

    ``reference``, ``other`` and ``truth`` (n,), drawn together. Percentile bootstrap (Efron 1979): 1000 resamples of
    the rows with a fixed seed, so the same rows give the same interval.
    """
    before, after = measure(reference, truth), measure(other, truth)
    if before is None or after is None:
        return None
    draw = np.random.default_rng(SEED)
    drops = []
    for _ in range(RESAMPLES):
        rows = draw.integers(0, truth.size, truth.size)
        pair = measure(reference[rows], truth[rows]), measure(other[rows], truth[rows])
        if pair[0] is not None and pair[1] is not None:  # a resample may hold one kind of row alone
            drops.append(pair[0] - pair[1])
    if len(drops) < RESAMPLES // 2:
        return None
    low, high = np.quantile(drops, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return Drop(
        score=score,
        rows=int(truth.size),
        reference=before,
        other=after,
        drop=before - after,
        low=float(low),
        high=float(high),
        method=f"percentile bootstrap, {RESAMPLES} resamples of the rows",
    )


def _correlation(both: int, only_first: int, only_second: int, neither: int) -> float:
    """Phi of the table, corrected for continuity where it is positive; 0 where a margin is empty."""
    rows = both + only_first + only_second + neither
    margins = (both + only_first) * (only_second + neither) * (both + only_second) * (only_first + neither)
    if not margins:
        return 0.0
    product = both * neither - only_first * only_second
    corrected = max(product - rows / 2, 0.0) if product > 0 else product
    return corrected / math.sqrt(margins)
