"""Watches whether a model is wrong more often than it should be, however often one looks: an e-detector on blocks.

Within a block the rows are alike (the same scene), from block to block they are taken to be fresh. The evidence is the
Shiryaev-Roberts form of betting e-processes (Waudby-Smith and Ramdas, arXiv 2010.09686, section 4; Shin, Ramdas and
Rinaldo, arXiv 2203.03532, section 2): as long as the mean loss of a block, given those before it, is at most ``rate``,
the mean number of blocks to a false alarm at threshold A is at least A.
"""

from __future__ import annotations

import math
from collections import deque
from typing import Any, Final

import numpy as np
from msgspec import Struct

from edge_agent.monitoring import Level
from edge_agent.records import Array

SLOT_S: Final = 900  # a block takes a quarter of an hour or longer: that of the other tiers
INFO_BLOCKS: Final = 30 * 86400 // SLOT_S  # at most one false alarm in 30 days
CRITICAL_BLOCKS: Final = 365 * 86400 // SLOT_S  # at most one in a year
RECOVERY_BLOCKS: Final = 20  # with a mean loss of at most the rate: it is over
# Bets as shares of the largest that can't lose all (1 / rate); their average is an e-process too.
FRACTIONS: Final = (0.125, 0.25, 0.5, 0.75)
RATE_MOST: Final = 0.95  # above it a bet can win nothing
_NORMAL_99: Final = 2.326  # one-sided


class WatchState(Struct):
    """All that a watch knows, as kept over a restart. ``evidence``: natural logarithms, one for each bet."""

    rate: float
    evidence: list[float]
    level: Level = Level.OK
    since_wall_ns: int | None = None
    recent: list[float] = []
    blocks: int = 0


class ErrorWatch:
    """``rate``: the mean loss of a block, in 0..1, that is put up with."""

    def __init__(self, rate: float) -> None:
        self.rate = min(max(rate, 1e-3), RATE_MOST)
        self.level = Level.OK
        self.since_wall_ns: int | None = None
        self.blocks = 0
        self.recent: deque[float] = deque(maxlen=RECOVERY_BLOCKS)
        self._evidence: Array = np.full(len(FRACTIONS), -np.inf)
        self._bets = np.array(FRACTIONS) / self.rate

    def block(self, loss: float, wall_ns: int) -> bool:
        """Take the mean loss of one block, in 0..1. Whether the level is another now."""
        before = self.level
        self.blocks += 1
        self.recent.append(loss)
        self._evidence = np.logaddexp(self._evidence, 0.0) + np.log1p(self._bets * (loss - self.rate))
        if before is not Level.OK and self._recovered():
            self.level = Level.OK
            self._evidence[:] = -np.inf
        elif self._log() >= math.log(CRITICAL_BLOCKS):
            self.level = Level.CRITICAL
        elif before is Level.OK and self._log() >= math.log(INFO_BLOCKS):
            self.level = Level.INFO
        if self.level is before:
            return False
        self.since_wall_ns = wall_ns
        if before is Level.OK:
            self.recent.clear()  # what led to it says nothing of a recovery
        return True

    @property
    def log10(self) -> float:
        """The evidence as a power of ten; thresholds are log10 of INFO_BLOCKS and CRITICAL_BLOCKS. -99: none."""
        return max(-99.0, self._log() / math.log(10))

    def recent_loss(self) -> float | None:
        """The mean of the last blocks, at most RECOVERY_BLOCKS, and of those since it rose where it has."""
        return sum(self.recent) / len(self.recent) if self.recent else None

    def dump(self) -> WatchState:
        evidence = [float(one) for one in self._evidence]
        return WatchState(self.rate, evidence, self.level, self.since_wall_ns, list(self.recent), self.blocks)

    @classmethod
    def load(cls, state: WatchState) -> ErrorWatch:
        watch = cls(state.rate)
        watch._evidence = np.array(state.evidence, np.float64)
        watch.level, watch.since_wall_ns, watch.blocks = state.level, state.since_wall_ns, state.blocks
        watch.recent.extend(state.recent)
        return watch

    def _log(self) -> float:
        most = float(self._evidence.max())
        return most + math.log(float(np.exp(self._evidence - most).mean())) if math.isfinite(most) else -math.inf

    def _recovered(self) -> bool:
        loss = self.recent_loss()
        return len(self.recent) == RECOVERY_BLOCKS and loss is not None and loss <= self.rate


class Blocks:
    """Puts losses into blocks of at least ``least`` rows that took at least SLOT_S, whenever they come: each block is
    charged to a quarter of an hour in which one of its rows was predicted, and no two to the same."""

    def __init__(self, least: int, charged: Any = (), open_: tuple[int, float] = (0, 0.0)) -> None:
        self._least = least
        self._charged = dict.fromkeys(charged)
        self._n, self._sum = open_

    def add(self, loss: float, at_s: int, oldest_s: int, count: int = 1) -> float | None:
        """``count`` rows with this mean loss, predicted at ``at_s``; ``oldest_s``: no row is older from now on. The
        mean loss of the block that is full now, else None."""
        self._n += count
        self._sum += loss * count
        slot = at_s // SLOT_S
        if self._n < self._least or slot in self._charged:
            return None
        self._charged = dict.fromkeys(kept for kept in self._charged if kept >= oldest_s // SLOT_S)
        self._charged[slot] = None
        mean, self._n, self._sum = self._sum / self._n, 0, 0.0
        return mean

    def dump(self) -> dict[str, Any]:
        return {"charged": list(self._charged), "open_": (self._n, self._sum)}


def tolerated(wrong: int, n: int, tolerance: float) -> float:
    """The rate to watch for: the upper end of what ``wrong`` of ``n`` labelled rows say of the true rate (99 %, one
    side; E. B. Wilson 1927, Probable inference), and ``tolerance``."""
    z2 = _NORMAL_99**2
    share = wrong / n
    centre, half = share + z2 / (2 * n), _NORMAL_99 * math.sqrt(share * (1 - share) / n + z2 / (4 * n * n))
    return (centre + half) / (1 + z2 / n) + tolerance
