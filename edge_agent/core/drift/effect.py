"""How large a change is: what a person is told, never whether to raise an alarm."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np

from edge_agent.core.drift.counts import probabilities
from edge_agent.records import Array

Counts = Array | Sequence[int]
PSI_FLOOR: Final = 1e-4  # of a share: without it one row in a bin that the reference lacks would make it infinite


def total_variation(counts: Counts, reference: Counts) -> float | None:
    """0 (alike) to 1 (nothing in common): the share of rows that would have to move to another bin. Counts (K,) each;
    None where one of them is empty. A sample of n rows differs from its own source by about sqrt(K / (2 pi n))."""
    shares = _shares(counts, reference)
    return None if shares is None else float(np.abs(shares[0] - shares[1]).sum() / 2)


def population_stability(counts: Counts, reference: Counts) -> float | None:
    """PSI, 0 or more: the sum over bins of (p - q) ln(p / q), the symmetric Kullback-Leibler divergence (Jeffreys 1946;
    under this name Siddiqi, Credit Risk Scorecards, 2006). Its users call 0.1 small and 0.25 large, without a proof.
    Shares below PSI_FLOOR count as the floor. None where one of the two is empty."""
    shares = _shares(counts, reference)
    if shares is None:
        return None
    p, q = (np.maximum(share, PSI_FLOOR) for share in shares)
    return float(((p - q) * np.log(p / q)).sum())


def _shares(counts: Counts, reference: Counts) -> tuple[Array, Array] | None:
    if not np.any(counts) or not np.any(reference):
        return None
    return probabilities(counts), probabilities(reference)
