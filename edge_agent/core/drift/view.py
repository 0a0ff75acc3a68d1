"""What a monitor says when it is asked."""

from __future__ import annotations

import math
from typing import Final

import numpy as np

from edge_agent.core.drift.effect import population_stability, total_variation
from edge_agent.core.drift.judging import block_ns, evidence
from edge_agent.core.drift.levels import SHAPE
from edge_agent.core.drift.parameters import DAY_NS, INFO_DAYS, SECOND_NS, WARNING_DAYS
from edge_agent.core.drift.state import LEARNING, State
from edge_agent.monitoring import LEVELS, DriftView, FeatureState, Learning, Level
from edge_agent.records import Array

NO_EVIDENCE: Final = -3.0  # before the first block; after it, bets are worth some 1/96 day, 10 to the -2


def levels_of(state: State) -> list[Level]:
    """Of each feature."""
    worst = state.levels.worst()
    return [
        Level.LEARNING if length == LEARNING and LEVELS[level] is Level.OK else LEVELS[level]
        for level, length in zip(worst.tolist(), state.length.tolist(), strict=True)
    ]


def overall_level(levels: list[Level]) -> Level:
    return max(levels, key=LEVELS.index, default=Level.LEARNING)


def view(state: State, referred: Array | None) -> DriftView:
    """``referred`` (F, BINS): shares of the reference."""
    features = feature_states(state, referred)
    worst = evidence(state, SHAPE)
    total = float(np.logaddexp.reduce(worst)) - math.log(max(len(worst), 1))
    return DriftView(
        level=overall_level([feature.level for feature in features]),
        since_wall_ns=state.since_wall_ns,
        learning=learning_of(state),
        features=tuple(features),
        evidence=_log10(total),
        threshold=(math.log10(INFO_DAYS), math.log10(WARNING_DAYS)),
        blocks=state.blocks,
    )


def feature_states(state: State, referred: Array | None) -> list[FeatureState]:
    sizes = _sizes(state, referred)
    own = evidence(state, SHAPE)
    return [
        FeatureState(
            name=spec.name,
            level=level,
            tier=state.levels.tier(column),
            since_wall_ns=_known(int(state.levels.since_wall_ns[column])),
            tv_reference=sizes[column][0],
            psi_reference=sizes[column][1],
            tv_baseline=sizes[column][2],
            psi_baseline=sizes[column][3],
            evidence=_log10(float(own[column])),
        )
        for column, (spec, level) in enumerate(zip(state.specs, levels_of(state), strict=True))
    ]


def learning_of(state: State) -> Learning:
    """Of the part that has the longest way to go."""
    of_days = state.settings.commissioning_ns / DAY_NS
    daily = tuple(spec.name for spec, whole in zip(state.specs, _daily(state), strict=True) if whole)
    used = np.sort(block_ns(state))
    block_s = float(used[len(used) // 2]) / SECOND_NS if len(used) else 0.0
    if not state.learning:
        return Learning(True, of_days, of_days, block_s, state.correlation, int(state.contexts.max(initial=1)), daily)
    begun = min(state.learning, key=lambda part: part.done_ns)
    return Learning(False, begun.done_ns / DAY_NS, of_days, block_s, None, begun.contexts, daily)


def _daily(state: State) -> Array:
    """(F,) whether days or neighbouring blocks differ, so that only whole days are compared."""
    whole: Array = (state.length == len(state.lengths) - 1) & (state.lengths[-1] == DAY_NS) & (len(state.lengths) > 1)
    return whole


def _sizes(state: State, referred: Array | None) -> list[tuple[float | None, ...]]:
    """(TV, PSI from the reference, TV, PSI from the baseline) of the latest blocks, by feature."""
    whole = state.shares.mean(0)
    by_reference, by_baseline = state.against_reference.shown(), state.against_baseline.shown()
    learnt = state.length != LEARNING
    found: list[tuple[float | None, ...]] = []
    for column in range(len(state.specs)):
        pair = _size(by_reference[column], referred[column] if referred is not None else None)
        own = _size(by_baseline[column], whole[column] if learnt[column] else None)
        found.append((*pair, *own))
    return found


def _size(apart: Array, expected: Array | None) -> tuple[float | None, float | None]:
    if expected is None or not np.isfinite(apart).all():
        return None, None
    now = np.maximum(expected + apart, 0)
    return total_variation(now, expected), population_stability(now, expected)


def _known(wall_ns: int) -> int | None:
    return wall_ns if wall_ns >= 0 else None


def _log10(natural: float) -> float:
    """Before the first block nothing was bet."""
    return natural / math.log(10) if math.isfinite(natural) else NO_EVIDENCE
