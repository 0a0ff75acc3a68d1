"""Whether blocks of a stream depend on the one before, and on the day: what decides how long a block must be."""

from __future__ import annotations

import math
from typing import Final

import numpy as np

from edge_agent.records import Array

_TERMS: Final = 300  # of the continued fraction; it converges within some sqrt(max(a, b)), far fewer here
_TINY: Final = 1e-300
_NOTHING: Final = 1e-9  # sum of squares that rounding can leave of scores between 0 and 1


def without_means(values: Array, groups: Array) -> Array:
    """(n, K) float64, NaN where unknown, less the mean of each group (n,) int; groups of one keep nothing."""
    left: Array = values.copy()
    for group in np.unique(groups):
        rows = groups == group
        known = np.isfinite(values[rows])
        left[rows] -= np.where(known, values[rows], 0.0).sum(0) / np.maximum(known.sum(0), 1)
    return left


def lag_one(values: Array, numbers: Array) -> Array:
    """(K,) autocorrelation between blocks next to each other: ``values`` (n, K) of mean 0, NaN where unknown,
    ``numbers`` (n,) ascending. 0 where nothing varies."""
    next_to = np.diff(numbers) == 1
    pairs = np.nan_to_num(values[1:] * values[:-1])[next_to].sum(0)
    squares = np.nansum(values**2, 0)
    correlation: Array = np.where(squares > _NOTHING, pairs / np.maximum(squares, _NOTHING), 0.0)
    return correlation


def days_differ(values: Array, days: Array, correlation: Array) -> Array:
    """(K,) the least p-value of: days differ; two neighbouring days of the week, whichever, differ from the other five,
    where a week was seen. ``values`` (n, K) of mean 0 in each context, NaN where unknown, ``days`` (n,) numbers,
    ``correlation`` (K,) of neighbouring values."""
    p = group_effect(values, days, correlation)
    if np.ptp(days) >= 6:
        for first in range(7):
            p = np.minimum(p, group_effect(values, np.isin(days % 7, (first, (first + 1) % 7)), correlation))
    return p


def group_effect(values: Array, groups: Array, correlation: Array) -> Array:
    """(K,) p-value of a one-way analysis of variance of ``values`` (n, K) by ``groups`` (n,); 1 where there is nothing
    to compare. A ``correlation`` r of neighbours lets means vary (1 + r) / (1 - r) times as much (Bartlett 1946)."""
    known = np.isfinite(values)
    filled = np.where(known, values, 0.0)
    total = known.sum(0)
    mean = filled.sum(0) / np.maximum(total, 1)
    between, within, count = (np.zeros(values.shape[1]) for _ in range(3))
    for group in np.unique(groups):
        rows = groups == group
        size = known[rows].sum(0)
        center = filled[rows].sum(0) / np.maximum(size, 1)
        between += size * (center - mean) ** 2
        within += (np.where(known[rows], values[rows] - center, 0.0) ** 2).sum(0)
        count += size > 0
    p = np.ones(values.shape[1])
    held = np.clip(correlation, 0, 0.9)
    for column in np.flatnonzero((count > 1) & (total > count) & (between + within > _NOTHING)):
        first, second = count[column] - 1, total[column] - count[column]
        ratio = between[column] / first / max(within[column] / second, _TINY)
        p[column] = f_survival(ratio * (1 - held[column]) / (1 + held[column]), first, second)
    return p


def step_up(p: Array, level: float) -> Array:
    """(K,) bool: the k least p-values, for the largest k whose k-th is at most k * ``level`` (Benjamini and Hochberg
    1995). As strict as ``level`` alone where nothing has an effect, less so the more have one."""
    order = np.argsort(p, kind="stable")
    passed = np.flatnonzero(p[order] <= level * np.arange(1, len(p) + 1))
    found = np.zeros(len(p), bool)
    found[order[: passed[-1] + 1 if len(passed) else 0]] = True
    return found


def f_survival(ratio: float, first: float, second: float) -> float:
    """P(F > ratio) for Fisher's F with ``first`` and ``second`` degrees of freedom (Abramowitz, Stegun 26.6.2)."""
    if ratio <= 0:
        return 1.0
    return beta_share(second / 2, first / 2, second / (second + first * ratio))


def beta_share(a: float, b: float, x: float) -> float:
    """The regularised incomplete beta function I_x(a, b) by its continued fraction (Abramowitz, Stegun 26.5.8),
    evaluated from the top as Lentz does (Applied Optics 15, 1976)."""
    if x <= 0 or x >= 1:
        return float(x >= 1)
    if x > (a + 1) / (a + b + 2):  # converges quickly only on the other side of the mode
        return 1 - beta_share(b, a, 1 - x)
    front = math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b) + a * math.log(x) + b * math.log1p(-x) - math.log(a)
    upper, lower, value = 1.0, 0.0, 1.0
    for term in range(1, _TERMS):
        half = term // 2
        if term % 2:
            part = -(a + half) * (a + b + half) * x / ((a + 2 * half) * (a + 2 * half + 1))
        else:
            part = half * (b - half) * x / ((a + 2 * half - 1) * (a + 2 * half))
        lower = 1 / _off_zero(1 + part * lower)
        upper = _off_zero(1 + part / upper)
        value *= upper * lower
        if abs(upper * lower - 1) < 1e-14:
            break
    return math.exp(front) / value


def _off_zero(value: float) -> float:
    return value if abs(value) > _TINY else _TINY
