"""The fast tier: a conformal test martingale of every feature, over scores of its blocks.

A block's scores are ranked among those of the blocks before it in the same part of the day. While blocks are
exchangeable the p-values are independent and uniform, whatever the distribution is, and no bet on them gains.
"""

from __future__ import annotations

import math
from itertools import chain
from typing import Final

import numpy as np
from msgspec import Struct

from edge_agent.core.drift.parameters import CONTEXTS, P_LEAST, POWERS, SCORE_BINS, SCORE_STEP, SCORES, SLOPES
from edge_agent.monitoring import Binning, Categorical
from edge_agent.records import Array

BETS: Final = len(SLOPES) + 2 * len(POWERS)
_FULL: Final = np.iinfo(np.uint16).max


def ranks_of(counts: Array) -> Array:
    """(F, B) counts or shares, missing last -> (F, B - 1): the middle of each bin's ranks, 0 to 1, among what is not
    missing (the probability integral transform of a value in that bin); 1/2 throughout where nothing was there."""
    seen = counts[:, :-1].astype(np.float64)
    total = seen.sum(1, keepdims=True)
    shares = seen / np.where(total > 0, total, 1)
    return np.where(total > 0, np.cumsum(shares, 1) - shares / 2, 0.5)


def weights_of(counts: Array, binning: Binning) -> Array:
    """(F, B) counts, missing last -> (2, F, B - 1): what a row in each bin adds to the first two scores. A number: its
    rank, and how far that is from the middle, 0 to 1. A class: its rank by class number, and by how frequent it was,
    for classes of like frequency may change places."""
    ranks = ranks_of(counts)
    weights = np.stack([ranks, 2 * np.abs(ranks - 0.5)])
    for column, feature in enumerate(binning):
        if isinstance(feature, Categorical):
            known = len(feature.classes)
            by_number = np.r_[np.argsort(feature.classes), known : counts.shape[1] - 1].astype(np.int64)
            weights[0, column, by_number] = ranks_of(counts[[column]][:, np.r_[by_number, -1]])[0]
            weights[1, column] = ranks[column]
    return weights


def scores(shares: Array, weights: Array) -> Array:
    """``shares`` (n, B) of a block, missing last, and ``weights`` (2, n, B - 1) -> (SCORES, n) from 0 to 1: the two
    weighted means over what is not missing, and the square root of the missing share. The first two are NaN where the
    whole block is missing. Rounded to SCORE_STEP: equal blocks are equal, however they were added up and stored."""
    missing = shares[:, -1]
    there = 1 - missing
    seen = shares[:, :-1] / np.where(there > 0, there, np.nan)[:, None]
    exact = np.concatenate([(seen * weights).sum(-1), np.sqrt(missing)[None]])
    rounded: Array = np.rint(exact / SCORE_STEP) * SCORE_STEP
    return rounded


class Martingale(Struct):
    """Of F features. ``history`` (CONTEXTS, SCORES, F, SCORE_BINS) uint16: scores of past blocks, in bins of ``width``
    from ``low`` on, both (SCORES, F). ``log`` (BETS, SCORES, F): the logarithm of each bet's Shiryaev-Roberts value
    M' = (M + 1) f(p), whose mean is at most the number of blocks; so is that of the average of all of them."""

    history: Array
    low: Array
    width: Array
    log: Array

    @classmethod
    def empty(cls, features: int) -> Martingale:
        return cls(
            np.zeros((CONTEXTS, SCORES, features, SCORE_BINS), np.uint16),
            np.zeros((SCORES, features)),
            np.full((SCORES, features), 1 / SCORE_BINS),
            np.full((BETS, SCORES, features), -np.inf),
        )

    def p_values(self, values: Array, columns: Array, contexts: Array, chance: Array) -> Array:
        """(SCORES, n) of ``values`` (SCORES, n) for the features ``columns`` (n,) in ``contexts`` (n,), ties broken by
        ``chance`` (SCORES, n), uniform. NaN where the value is."""
        past = self.history[contexts, :, columns].transpose(1, 0, 2)  # (SCORES, n, SCORE_BINS)
        places = self._places(values, columns)[..., None]
        cumulated = past.cumsum(-1, dtype=np.int64)
        equal = np.take_along_axis(past, places, -1)[..., 0].astype(np.int64)
        below = np.take_along_axis(cumulated, places, -1)[..., 0] - equal
        return np.where(np.isnan(values), np.nan, (below + (equal + 1) * chance) / (cumulated[..., -1] + 1))

    def bet(self, p: Array, columns: Array) -> None:
        """``p`` (SCORES, n). What is NaN is not bet on."""
        factors = np.stack(list(chain(((1 + slope * (p - 0.5)) for slope in SLOPES), _powers(p), _powers(1 - p))))
        before = self.log[:, :, columns]
        after = np.logaddexp(before, 0) + np.log(np.where(np.isnan(factors), 1, factors))
        self.log[:, :, columns] = np.where(np.isnan(factors), before, after)

    def learn(self, values: Array, columns: Array, contexts: Array) -> None:
        """Put blocks into the history; NaN is left out."""
        places = self._places(values, columns)
        which = np.broadcast_to(np.arange(SCORES)[:, None], values.shape)
        at = (np.broadcast_to(contexts, values.shape), which, np.broadcast_to(columns, values.shape), places)
        known = np.isfinite(values) & (self.history[at] < _FULL)
        self.history[tuple(index[known] for index in at)] += 1

    def evidence(self) -> Array:
        """(F,) logarithm of the average over bets and scores."""
        total: Array = np.logaddexp.reduce(self.log, axis=(0, 1))
        return total - math.log(BETS * SCORES)

    def forget_bets(self, columns: Array) -> None:
        self.log[:, :, columns] = -np.inf

    def _places(self, values: Array, columns: Array) -> Array:
        position: Array = (np.nan_to_num(values) - self.low[:, columns]) / self.width[:, columns]
        places: Array = np.clip(position, 0, SCORE_BINS - 1).astype(np.int64)
        return places


def _powers(p: Array) -> list[Array]:
    held = np.maximum(p, P_LEAST)
    return [power * held ** (power - 1) for power in POWERS]
