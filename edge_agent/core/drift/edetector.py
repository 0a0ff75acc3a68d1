"""The material tier: an e-detector of every feature, against a distribution and a tolerance in total variation.

Each block's shares are bet on in the direction in which the blocks before deviated. While the expected shares of a
block, given the past, are within the tolerance of the distribution, no bet gains on average: this needs no
exchangeability, and holds for all features together.
"""

from __future__ import annotations

import math
from typing import Final

import numpy as np
from msgspec import Struct

from edge_agent.core.drift.parameters import HALF_LIVES, SHOWN_HALF_LIFE, SIGN_STAKE, STAKES
from edge_agent.records import Array

_RATES: Final = 1 - 2.0 ** (-1 / np.array(HALF_LIVES))[:, None]  # (H, 1)
_STAKES: Final = np.array(STAKES)[:, None]  # (S, 1)


class EDetector(Struct):
    """Of F features with B bins. ``log`` (2, H, S, F): logarithm of each bet's M' = (M + 1) f; ``deviation`` (H, F, B):
    mean of (shares - distribution), discounted; ``weight`` (H, F): what that mean lacks to be unbiased, 0 to 1."""

    log: Array
    deviation: Array
    weight: Array

    @classmethod
    def empty(cls, features: int, bins: int) -> EDetector:
        lives = len(HALF_LIVES)
        return cls(
            np.full((2, lives, len(STAKES), features), -np.inf),
            np.zeros((lives, features, bins)),
            np.zeros((lives, features)),
        )

    def step(self, shares: Array, expected: Array, tolerance: Array, columns: Array) -> None:
        """Bet on one block: ``shares`` and ``expected`` (n, B), each row adding up to 1, ``tolerance`` (n,), for the
        features ``columns`` (n,). A bin with nothing expected is no bin of that feature."""
        deviation = self.deviation[:, columns]
        for kind, odds in enumerate((_portfolio(deviation, expected), _signs(deviation, expected))):
            gain = (odds * shares).sum(-1) - 1  # (H, n)
            # The most that the expected gain can be: sum of odds * (shares - expected) <= tolerance * range of odds.
            allowed = tolerance * (odds.max(-1) - odds.min(-1))
            factor = (1 + _STAKES * gain[:, None]) / (1 + _STAKES * allowed[:, None])
            before = self.log[kind][:, :, columns]
            self.log[kind][:, :, columns] = np.logaddexp(before, 0) + np.log(factor)
        self.deviation[:, columns] += _RATES[..., None] * (shares - expected - deviation)
        self.weight[:, columns] += _RATES * (1 - self.weight[:, columns])

    def evidence(self) -> Array:
        """(F,) logarithm of the average over bets; its mean is at most the number of blocks while nothing changed."""
        total: Array = np.logaddexp.reduce(self.log, axis=(0, 1, 2))
        return total - math.log(self.log[..., 0].size)

    def shown(self) -> Array:
        """(F, B) how far the latest blocks deviate, NaN where there was none yet."""
        weight = self.weight[SHOWN_HALF_LIFE][:, None]
        shown: Array = self.deviation[SHOWN_HALF_LIFE] / np.where(weight > 0, weight, np.nan)
        return shown

    def forget_bets(self, columns: Array) -> None:
        self.log[..., columns] = -np.inf

    def begin_again(self, columns: Array) -> None:
        """With another distribution or another length of block."""
        self.forget_bets(columns)
        self.deviation[:, columns] = 0
        self.weight[:, columns] = 0


def _portfolio(deviation: Array, expected: Array) -> Array:
    """Odds (H, n, B) of a bet that the shares go on to deviate as they did."""
    believed = np.maximum(expected + deviation, 0)
    believed = believed / believed.sum(-1, keepdims=True)
    return np.where(expected > 0, believed / np.where(expected > 0, expected, 1), 1)


def _signs(deviation: Array, expected: Array) -> Array:
    """Odds (H, n, B) of a bet that bins which were too full stay so, however little."""
    odds = 1 + SIGN_STAKE * np.sign(deviation)
    return np.where(expected > 0, odds / (odds * expected).sum(-1, keepdims=True), 1)
