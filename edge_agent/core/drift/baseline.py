"""From a commissioning to the baseline R1: how long the blocks of each feature must be, which features differ by day,
and what the shares of each part of the day are, with how far blocks may be from them while nothing has changed.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from msgspec import Struct

from edge_agent.core.drift.commissioning import Commissioning, Scores
from edge_agent.core.drift.counts import probabilities
from edge_agent.core.drift.parameters import (
    BLOCKS_LEAST,
    CONTEXTS,
    CORRELATION_ERRORS,
    CORRELATION_MOST,
    DAY_EFFECT_P,
    DAY_NS,
    DAYS_LEAST,
    FULL_ENOUGH,
    PRIOR_ROWS,
    ROWS_LEAST,
    SCORE_BINS,
    SCORE_REACH_LEAST,
    SCORE_SPREADS,
    SCORES,
    SHARE_LEAST,
    TOLERANCE_BASELINE,
    TOLERANCE_REFERENCE,
)
from edge_agent.core.drift.variance import days_differ, lag_one, step_up, without_means
from edge_agent.records import Array


class Baseline(Struct, frozen=True):
    """Of n features. ``lengths`` (n,): index of each feature's block. ``daily`` (n,): judged by whole days because days
    or neighbouring blocks differ. ``contexts``: parts of the day. ``shares`` (CONTEXTS, n, BINS), ``tolerance`` and
    ``referred_tolerance`` (CONTEXTS, n): total variation from these shares, and from the reference's. ``low`` and
    ``width`` (SCORES, n): bins of scores. ``usual_rows``: median of a block, by length; 0 where there was none."""

    lengths: Array
    daily: Array
    correlation: float
    contexts: int
    shares: Array
    tolerance: Array
    referred_tolerance: Array
    low: Array
    width: Array
    usual_rows: tuple[float, ...]


class _Past(Struct, frozen=True):
    """Blocks of one length that were full enough: ``values`` (m, SCORES, n), ``contexts`` 0 to 7, (m,) each else."""

    numbers: Array
    contexts: Array
    values: Array
    usual: float


def baseline_of(
    begun: Commissioning,
    lengths: tuple[int, ...],
    used: Array,
    accepted: Array | None = None,
    referred_error: Array | float = 0.0,
) -> Baseline:
    """``used`` (n, BINS): bins that the features have. ``accepted`` (n, BINS): the reference's shares, where somebody
    took the present distance from them for what it is. ``referred_error`` (n,): how far chance alone puts the
    reference's shares from the truth (``sampling_error``)."""
    contexts = begun.contexts
    pasts = [_past(scores, contexts, length) for scores, length in zip(begun.scores, lengths, strict=True)]
    chosen, daily, correlation = _choice(pasts, lengths)
    spread = begun.day_distance / np.maximum(begun.day_count - 1, 1)
    by_part, whole = _shares(begun, contexts, used)
    # Neighbouring blocks depend on each other as long as the chosen one lasts: so many fewer are behind the mean.
    error = _error(begun, contexts) * np.sqrt(np.array(lengths)[chosen] / lengths[0])
    shares = np.where(daily[:, None], whole, by_part)
    cycle = np.abs(shares - whole).sum(-1) / 2
    allowed = np.where(daily, spread, cycle)
    if accepted is not None:
        allowed = allowed + np.abs(probabilities(begun.referred + 0.5 * (accepted > 0)) - accepted).sum(-1) / 2
    low, width = _score_bins(pasts, chosen)
    return Baseline(
        lengths=chosen,
        daily=daily,
        correlation=correlation,
        contexts=contexts,
        shares=shares,
        tolerance=np.minimum(TOLERANCE_BASELINE + np.where(daily, spread, error), 1),
        referred_tolerance=np.minimum(np.maximum(TOLERANCE_REFERENCE, referred_error) + allowed, 1),
        low=low,
        width=width,
        usual_rows=tuple(past.usual for past in pasts),
    )


def history_of(begun: Commissioning, found: Baseline, lengths: tuple[int, ...]) -> Iterator[tuple[Array, Array, Array]]:
    """(values (SCORES, k), features' places (k,), contexts (k,)) of the blocks behind the baseline, to be learnt."""
    for place, scores in enumerate(begun.scores):
        columns = np.flatnonzero(found.lengths == place)
        past = _past(scores, found.contexts, lengths[place])
        for values, context in zip(past.values, past.contexts, strict=True):
            yield values[:, columns], columns, np.where(found.daily[columns], 0, context)


def sampling_error(shares: Array, rows: int) -> Array:
    """(n,) standard error of ``shares`` (n, BINS) of so many independent rows, as total variation."""
    error: Array = np.sqrt(shares * (1 - shares) / rows).sum(-1) / 2
    return error


def _past(scores: Scores, contexts: int, length: int) -> _Past:
    rows, parts = scores.rows[: scores.size], scores.contexts[: scores.size].astype(np.int64)
    usual = float(np.median(rows)) if scores.size else 0.0
    by_part = contexts > 1 and length < DAY_NS
    keep = (rows >= FULL_ENOUGH * usual) & ((parts >= 0) | (not by_part))
    parts = parts if by_part else np.zeros_like(parts)
    return _Past(scores.numbers[: scores.size][keep], parts[keep], scores.values()[keep], usual)


def _choice(pasts: list[_Past], lengths: tuple[int, ...]) -> tuple[Array, Array, float]:
    """(length (n,), daily (n,), the largest correlation) of the features: the shortest block whose scores don't depend
    on the block before; a whole day where none is such, or where days differ."""
    n = pasts[0].values.shape[-1]
    short = [place for place, length in enumerate(lengths) if length < DAY_NS or place == 0]
    chosen, open_ = np.full(n, short[-1]), np.ones(n, bool)
    correlation, p = np.zeros(n), np.ones(n)
    for place in short:
        past = pasts[place]
        if len(past.numbers) < BLOCKS_LEAST or past.usual < ROWS_LEAST:
            continue
        centered = without_means(past.values.reshape(len(past.values), -1), past.contexts)
        dependence = lag_one(centered, past.numbers)
        correlation[open_] = dependence.reshape(SCORES, n).max(0)[open_]
        good = open_ & (correlation < max(CORRELATION_MOST, CORRELATION_ERRORS / len(past.numbers) ** 0.5))
        chosen[good] = place
        by_day = days_differ(centered, past.numbers * lengths[place] // DAY_NS, dependence)
        p[good] = by_day.reshape(SCORES, n).min(0)[good]
        open_ &= ~good
    comparable = lengths[-1] == DAY_NS and len(pasts[-1].numbers) >= DAYS_LEAST
    daily = (open_ | step_up(p, DAY_EFFECT_P / SCORES)) & comparable
    return np.where(daily, len(lengths) - 1, chosen), daily, float(correlation[~daily].max(initial=0))


def _shares(begun: Commissioning, contexts: int, used: Array) -> tuple[Array, Array]:
    """((CONTEXTS, n, BINS) by part of the day, (n, BINS) of the whole)."""
    usual_rows = begun.block_rows.sum(0) / np.maximum(begun.blocks.sum(0), 1)  # (n,) of a block
    rows = begun.sums * usual_rows[:, None]
    whole = probabilities(rows.sum(0) + 0.5 * used)
    if contexts == 1:
        return np.broadcast_to(whole, (CONTEXTS, *whole.shape)), whole
    mixed = rows[:CONTEXTS] + PRIOR_ROWS * whole
    floored = np.where(whole > 0, np.maximum(mixed / mixed.sum(-1, keepdims=True), SHARE_LEAST), 0)
    return floored / floored.sum(-1, keepdims=True), whole


def _error(begun: Commissioning, contexts: int) -> Array:
    """(CONTEXTS, n) standard error of a part's shares, as total variation; 1 where nothing is known of it."""
    if contexts == 1:
        parts = [np.broadcast_to(a.sum(0), (CONTEXTS, *a.shape[1:])) for a in (begun.blocks, begun.sums, begun.squares)]
    else:
        parts = [a[:CONTEXTS] for a in (begun.blocks, begun.sums, begun.squares)]
    blocks = np.maximum(parts[0], 1)[..., None]
    variance = np.maximum(parts[2] / blocks - (parts[1] / blocks) ** 2, 0)
    return np.where(parts[0] > 1, np.sqrt(variance / blocks).sum(-1) / 2, 1)


def _score_bins(pasts: list[_Past], chosen: Array) -> tuple[Array, Array]:
    """(low, width), (SCORES, n) each: SCORE_BINS bins around what the blocks of a feature scored."""
    low, width = np.zeros((SCORES, len(chosen))), np.zeros((SCORES, len(chosen)))
    for column, place in enumerate(chosen):
        values = pasts[place].values[:, :, column]
        known = np.isfinite(values)
        count = np.maximum(known.sum(0), 1)
        mean = np.where(known, values, 0).sum(0) / count
        spread = np.sqrt((np.where(known, values - mean, 0) ** 2).sum(0) / count)
        reach = np.maximum(SCORE_SPREADS * spread, SCORE_REACH_LEAST)
        low[:, column], width[:, column] = mean - reach, 2 * reach / SCORE_BINS
    return low, width
