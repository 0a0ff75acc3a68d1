"""Counts over time: whole numbers only, so that two devices, or two hours, add up to what one would have counted."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Final

import numpy as np

from edge_agent.core.drift.bins import QUANTA_MOST, Binner, width
from edge_agent.monitoring import Binning, Numeric, Tally
from edge_agent.records import Array

CHUNK_ROWS: Final = 4096  # times the square of QUANTA_MOST is 2**62: sums of a chunk fit in int64


class Accumulator:
    """Counts rows. ``last``: (F,) the latest value of each numeric feature, NaN before the first; it outlives
    ``clear``, and is what a saved state holds beside the tally. Used by one thread."""

    def __init__(self, binning: Binning, start: Tally | None = None, last: Array | None = None) -> None:
        """Raises ValueError where ``start`` or ``last`` is of another binning."""
        self.binner = Binner(binning)
        numeric = [feature if isinstance(feature, Numeric) else None for feature in binning]
        ranges = [feature.range if feature and feature.range else (-np.inf, np.inf) for feature in numeric]
        self._numeric: Array = np.array([feature is not None for feature in numeric], bool)
        self._quantum: Array = np.array([feature.quantum if feature else 1.0 for feature in numeric])
        self._low, self._high = np.array(ranges).reshape(-1, 2).T
        self.last: Array = np.full(len(binning), np.nan) if last is None else np.array(last, np.float64)
        start = empty_tally(binning) if start is None else start
        if self.last.shape != (len(binning),) or not fits(start, binning):
            raise ValueError("the counts belong to another binning")
        self._begin(start)

    def add(self, rows: Array) -> None:
        """(n, F) float64; what is not finite is missing."""
        for start in range(0, len(rows), CHUNK_ROWS):
            self._add(rows[start : start + CHUNK_ROWS])

    def tally(self) -> Tally:
        """All rows since the start, or since the last ``clear``."""
        return Tally(
            rows=self._rows,
            bins=tuple(tuple(part.tolist()) for part in self.binner.split(self._bins)),
            sums=tuple(self._sums.tolist()),
            squares=tuple(self._squares.tolist()),
            least=tuple(value if value <= QUANTA_MOST else None for value in self._least.tolist()),
            most=tuple(value if value >= -QUANTA_MOST else None for value in self._most.tolist()),
            outside=tuple(self._outside.tolist()),
            repeated=tuple(self._repeated.tolist()),
        )

    def clear(self) -> None:
        self._begin(empty_tally(self.binner.binning))

    def _begin(self, tally: Tally) -> None:
        self._rows = tally.rows
        self._bins: Array = np.array([count for bins in tally.bins for count in bins], np.int64)
        # Python's integers: squares of a day may pass 2**63.
        self._sums: Array = np.array(tally.sums, object)
        self._squares: Array = np.array(tally.squares, object)
        self._least: Array = np.array([QUANTA_MOST + 1 if it is None else it for it in tally.least], np.int64)
        self._most: Array = np.array([-QUANTA_MOST - 1 if it is None else it for it in tally.most], np.int64)
        self._outside: Array = np.array(tally.outside, np.int64)
        self._repeated: Array = np.array(tally.repeated, np.int64)

    def _add(self, rows: Array) -> None:
        measured = np.isfinite(rows) & self._numeric
        values = np.where(measured, rows, 0.0)
        quanta = np.clip(np.rint(values / self._quantum), -QUANTA_MOST, QUANTA_MOST).astype(np.int64)
        self._rows += len(rows)
        self._bins += self.binner.count(rows)
        self._sums += quanta.sum(axis=0)
        self._squares += (quanta * quanta).sum(axis=0)
        self._least = np.minimum(self._least, np.where(measured, quanta, QUANTA_MOST + 1).min(axis=0))
        self._most = np.maximum(self._most, np.where(measured, quanta, -QUANTA_MOST - 1).max(axis=0))
        self._outside += (measured & ((rows < self._low) | (rows > self._high))).sum(axis=0)
        self._repeated += self._repeats(rows, measured)

    def _repeats(self, rows: Array, measured: Array) -> Array:
        """(F,) how many values equal the one before them; missing ones between are passed over. Moves ``last`` on."""
        series = np.vstack([self.last, np.where(measured, rows, np.nan)])
        places = np.arange(len(series))[:, None]
        latest = np.maximum.accumulate(np.where(np.isnan(series), 0, places), axis=0)  # of a value that was there
        filled = np.take_along_axis(series, latest, axis=0)
        self.last = filled[-1]
        same: Array = (filled[:-1] == series[1:]).sum(axis=0)  # NaN equals nothing
        return same


def empty_tally(binning: Binning) -> Tally:
    zeros, none = (0,) * len(binning), (None,) * len(binning)
    bins = tuple((0,) * width(feature) for feature in binning)
    return Tally(0, bins, zeros, zeros, none, none, zeros, zeros)


def fits(tally: Tally, binning: Binning) -> bool:
    """Whether the shape is the binning's, as far as one can see."""
    return all(len(part) == len(binning) for part in _parts(tally)) and all(
        len(bins) == width(feature) for bins, feature in zip(tally.bins, binning, strict=True)
    )


def add_tallies(first: Tally, second: Tally) -> Tally:
    """Both together. Raises ValueError where the binnings can't be the same."""
    if list(map(len, first.bins)) != list(map(len, second.bins)):
        raise ValueError("counts of two binnings can't be added")
    return Tally(
        rows=first.rows + second.rows,
        bins=tuple(_sums(one, other) for one, other in zip(first.bins, second.bins, strict=True)),
        sums=_sums(first.sums, second.sums),
        squares=_sums(first.squares, second.squares),
        least=tuple(_known(min, pair) for pair in zip(first.least, second.least, strict=True)),
        most=tuple(_known(max, pair) for pair in zip(first.most, second.most, strict=True)),
        outside=_sums(first.outside, second.outside),
        repeated=_sums(first.repeated, second.repeated),
    )


def mean_and_deviation(tally: Tally, feature: Numeric, column: int) -> tuple[float, float] | None:
    """Of the values that were there, in the feature's unit; the deviation is the population's. None: none was there."""
    n = sum(tally.bins[column][:-1])
    if not n:
        return None
    total, squares = tally.sums[column], tally.squares[column]
    variance = (n * squares - total * total) / (n * n)  # whole numbers up to here: nothing cancels
    return total / n * feature.quantum, float(variance**0.5 * feature.quantum)


def probabilities(counts: Array | Sequence[int], prior: float = 0.0) -> Array:
    """(..., K) counts -> (..., K) float64 shares, each with ``prior`` added to it: 0.5 is the estimate of Krichevsky
    and Trofimov, which gives no bin the probability 0. NaN where there is neither a count nor a prior."""
    raised = np.asarray(counts, np.float64) + prior
    with np.errstate(invalid="ignore"):
        shares: Array = raised / raised.sum(axis=-1, keepdims=True)
    return shares


def _sums(first: tuple[int, ...], second: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(one + other for one, other in zip(first, second, strict=True))


def _known(choose: Callable[[Iterable[int]], int], pair: tuple[int | None, int | None]) -> int | None:
    there = [value for value in pair if value is not None]
    return choose(there) if there else None


def _parts(tally: Tally) -> tuple[Sequence[object], ...]:
    return (tally.bins, tally.sums, tally.squares, tally.least, tally.most, tally.outside, tally.repeated)
