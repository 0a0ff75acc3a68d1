"""How well scores put one kind of row above another."""

from __future__ import annotations

import numpy as np

from edge_agent.records import Array


def area_under_curve(scores: Array, positive: Array) -> float | None:
    """Area under the ROC curve: the share of (positive, negative) pairs in which the positive row scores higher, equal
    scores counting half; None without a row of each kind.

    ``scores`` (n,), ``positive`` (n,) bool. Hanley and McNeil 1982, through the ranks of Mann and Whitney 1947.
    """
    above = int(positive.sum())
    below = positive.size - above
    if not above or not below:
        return None
    _, places, counts = np.unique(scores, return_inverse=True, return_counts=True)
    ranks = np.cumsum(counts) - (counts - 1) / 2  # equal scores share the middle of their ranks
    return float((ranks[places][positive].sum() - above * (above + 1) / 2) / (above * below))
