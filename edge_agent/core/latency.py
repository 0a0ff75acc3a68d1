"""Latency quantiles in constant memory: counts in buckets that grow by a fixed ratio.

A quantile is within 5 % of the exact one for latencies from 1 us to 1000 s; beyond, it is held at that bound.
"""

from __future__ import annotations

from bisect import bisect_left
from itertools import accumulate
from math import ceil, log
from typing import Final

_LEAST_NS: Final = 1_000
_MOST_NS: Final = 1_000_000_000_000
# Buckets with this ratio between their edges, each answered by its harmonic middle, err by at most 4 % (DDSketch,
# Masson et al. 2019, alpha = 0.04); the rest of the 5 % is for whole nanoseconds.
_ERROR: Final = 0.04
_RATIO: Final = (1 + _ERROR) / (1 - _ERROR)
_PER_LOG: Final = 1 / log(_RATIO)
_OFFSET: Final = log(_LEAST_NS) * _PER_LOG
_BUCKETS: Final = int(log(_MOST_NS) * _PER_LOG - _OFFSET) + 1


class Quantiles:
    """Latencies of one stage. Not thread-safe: the caller holds a lock, or one thread alone adds and takes."""

    __slots__ = ("_counts", "count")

    def __init__(self) -> None:
        self._counts = [0] * _BUCKETS
        self.count = 0

    def add(self, latency_ns: int) -> None:
        """Count one latency in nanoseconds."""
        held = _LEAST_NS if latency_ns < _LEAST_NS else _MOST_NS if latency_ns > _MOST_NS else latency_ns
        self._counts[int(log(held) * _PER_LOG - _OFFSET)] += 1
        self.count += 1

    def quantile(self, q: float) -> int:
        """The latency in nanoseconds that a share ``q`` (0..1) of those counted do not exceed; 0 when none was."""
        if not self.count:
            return 0
        rank = max(1, ceil(q * self.count))
        bucket = bisect_left(list(accumulate(self._counts)), rank)
        low: float = _RATIO ** (bucket + _OFFSET)
        return round(min(max(2 * low * _RATIO / (1 + _RATIO), _LEAST_NS), _MOST_NS))

    def merge(self, other: Quantiles) -> None:
        """Add what another has counted; the result is as if all had been added here."""
        self._counts = [mine + theirs for mine, theirs in zip(self._counts, other._counts, strict=True)]
        self.count += other.count

    def take(self) -> Quantiles:
        """What was counted since the last call, and begin again at nothing."""
        taken = Quantiles()
        taken._counts, self._counts = self._counts, taken._counts
        taken.count, self.count = self.count, 0
        return taken
