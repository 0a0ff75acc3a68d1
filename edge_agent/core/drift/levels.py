"""Levels of features: what raises one, what holds it, what brings it back, and how that is said.

A level latches. It ends by a day of blocks that are as before, or by a new baseline; never by being looked at.
"""

from __future__ import annotations

import math
from typing import Final

import numpy as np
from msgspec import Struct

from edge_agent.core.drift.blocks import BINS
from edge_agent.core.drift.parameters import (
    BLOCKS_RECOVERED,
    CRITICAL_DAYS,
    DAY_NS,
    INFO_DAYS,
    P_RECOVERED,
    SCORES,
    WARNING_DAYS,
)
from edge_agent.monitoring import LEVELS, Level
from edge_agent.records import Array

SHAPE, REFERENCE, BASELINE = range(3)
TIERS: Final = ("shape", "reference", "baseline")
OK: Final = LEVELS.index(Level.OK)
_INFO, _WARNING, _CRITICAL = (LEVELS.index(level) for level in (Level.INFO, Level.WARNING, Level.CRITICAL))


class Levels(Struct):
    """Of F features, by tier: ``held`` (3, F), an index of LEVELS, OK or worse. While a feature is above OK, what its
    blocks since then look like: ``blocks`` (F,), ``p_sum`` and ``p_count`` (SCORES, F), and ``apart`` (2, F, BINS), the
    sum of differences from the reference's and from the baseline's shares."""

    held: Array
    since_wall_ns: Array
    blocks: Array
    p_sum: Array
    p_count: Array
    apart: Array

    @classmethod
    def empty(cls, features: int) -> Levels:
        return cls(
            np.full((len(TIERS), features), OK),
            np.full(features, -1),
            np.zeros(features, np.int64),
            np.zeros((SCORES, features)),
            np.zeros((SCORES, features), np.int64),
            np.zeros((2, features, BINS)),
        )

    def worst(self) -> Array:
        """(F,) index of LEVELS."""
        worst: Array = self.held.max(0)
        return worst

    def tier(self, feature: int) -> str:
        held = self.held[:, feature]
        return TIERS[int(held.argmax())] if held.max() > OK else ""

    def above(self) -> Array:
        """(F,) bool: info or worse."""
        return self.worst() > OK

    def learnable(self) -> Array:
        """(F,) bool: nothing says that what comes now differs from what was learnt."""
        learnable: Array = (self.held[[SHAPE, BASELINE]] == OK).all(0)
        return learnable

    def raise_where(self, tier: int, evidence: Array, both: bool) -> None:
        """Take features to a worse level of this tier. ``evidence`` (F,): logarithm of what a mean bet
        has made, times the days of a block. ``both``: two e-detectors share the chance of a false alarm."""
        raised = np.zeros(evidence.shape, bool)
        for level, days in _thresholds(tier, both):
            below = self.held[tier] < level
            # Those at this level already would carry every other feature with them.
            total = np.logaddexp.reduce(evidence[below], initial=-np.inf) - math.log(len(evidence))
            if total >= math.log(days):
                now = below & (evidence >= math.log(days))
                self.held[tier, now] = level
                raised |= now
        self._watch_anew(np.flatnonzero(raised))

    def watch(self, columns: Array, p: Array | None, apart: tuple[Array | None, Array | None]) -> None:
        """One more block of the features ``columns`` (n,): p-values (SCORES, n), and its shares less the reference's
        and the baseline's, (n, BINS) each; None: not judged."""
        self.blocks[columns] += 1
        if p is not None:
            known = np.isfinite(p)
            self.p_sum[:, columns] += np.where(known, p, 0)
            self.p_count[:, columns] += known
        for place, difference in enumerate(apart):
            if difference is not None:
                self.apart[place][columns] += difference

    def recover(self, columns: Array, block_ns: Array, tolerance: Array) -> Array:
        """Those of ``columns`` whose latest day was as before go back, by tier: (3, F) bool. ``block_ns`` (n,) of their
        blocks; ``tolerance`` (2, n): from the reference's and the baseline's shares."""
        whole = self.blocks[columns] >= np.maximum(BLOCKS_RECOVERED, DAY_NS // block_ns)
        due, allowed = columns[whole], tolerance[:, whole]
        back = np.zeros(self.held.shape, bool)
        count = self.p_count[:, due]
        usual = np.abs(self.p_sum[:, due] / np.maximum(count, 1) - 0.5) <= P_RECOVERED
        back[SHAPE, due] = (usual | (count == 0)).all(0) & (count > 0).any(0)
        distance = np.abs(self.apart[:, due] / self.blocks[due][:, None]).sum(-1) / 2
        back[REFERENCE:, due] = distance <= allowed
        back &= self.held > OK
        self.held[back] = OK
        self._watch_anew(due)
        return back

    def _watch_anew(self, columns: Array) -> None:
        self.blocks[columns] = 0
        for array in (self.p_sum, self.p_count, self.apart):
            array[:, columns] = 0


def _thresholds(tier: int, both: bool) -> tuple[tuple[int, float], ...]:
    if tier == SHAPE:
        return (_INFO, INFO_DAYS), (_WARNING, WARNING_DAYS)
    return ((_CRITICAL, CRITICAL_DAYS * (2 if both else 1)),)
