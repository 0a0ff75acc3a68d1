"""What a closed block says: bets of all tiers, levels, and what is learnt of it."""

from __future__ import annotations

import numpy as np

from edge_agent.core.drift.blocks import Block
from edge_agent.core.drift.counts import probabilities
from edge_agent.core.drift.edetector import EDetector
from edge_agent.core.drift.levels import BASELINE, REFERENCE, SHAPE
from edge_agent.core.drift.martingale import Martingale, scores
from edge_agent.core.drift.parameters import DAY_NS, FULL_ENOUGH, SCORES, TOLERANCE_UNLEARNT
from edge_agent.core.drift.state import LEARNING, State
from edge_agent.records import Array


def judge(state: State, block: Block, context: int, referred: Array | None) -> None:
    """``context`` -1: no wall time, so features whose hours differ are passed over. ``referred`` (F, BINS): the
    reference's shares."""
    columns = np.flatnonzero(state.length == block.length)
    contexts = np.where(state.contexts[columns] > 1, context, 0)
    columns, contexts = columns[contexts >= 0], contexts[contexts >= 0]
    begun = np.flatnonzero(state.length == LEARNING) if block.length == 0 else columns[:0]
    if not len(columns) and not len(begun):
        return
    own = probabilities(block.counts[0])
    values = scores(own[columns], state.weights[:, columns])
    # A mean of far fewer rows varies more than those it is ranked among: the fast tier has nothing to say of it.
    values[:, block.rows < FULL_ENOUGH * state.rows[columns]] = np.nan
    p = state.martingale.p_values(values, columns, contexts, state.chance.uniforms(SCORES, len(columns)))
    state.martingale.bet(p, columns)
    expected = state.shares[contexts, columns]
    state.against_baseline.step(own[columns], expected, state.tolerance[1, contexts, columns], columns)
    watched = np.concatenate([columns, begun])
    if referred is not None:
        tolerance = np.full(len(watched), _unlearnt(state))
        tolerance[: len(columns)] = state.tolerance[0, contexts, columns]
        seen = probabilities(block.counts[1])[watched]
        state.against_reference.step(seen, referred[watched], tolerance, watched)
    _raise(state)
    learnable = state.levels.learnable()[columns]
    state.martingale.learn(values[:, learnable], columns[learnable], contexts[learnable])
    _watch(state, block, columns, p, own[columns] - expected, referred)
    _recover(state, watched)


def evidence(state: State, tier: int) -> Array:
    """(F,) logarithm of what a feature's mean bet has made, in days: at most their number on average."""
    made: Array = detectors(state)[tier].evidence() + np.log(block_ns(state) / DAY_NS)
    return made


def detectors(state: State) -> tuple[Martingale, EDetector, EDetector]:
    """By tier."""
    return state.martingale, state.against_reference, state.against_baseline


def block_ns(state: State) -> Array:
    """(F,) the length of each feature's blocks; the least while it is learnt."""
    lengths: Array = np.array(state.lengths)[np.where(state.length == LEARNING, 0, state.length)]
    return lengths


def _unlearnt(state: State) -> float:
    """Tolerance from the reference while the hours are not known; all of it where a new baseline was asked for."""
    return 1.0 if state.accepted else TOLERANCE_UNLEARNT


def _raise(state: State) -> None:
    for tier in (SHAPE, REFERENCE, BASELINE):
        state.levels.raise_where(tier, evidence(state, tier), state.reference is not None)


def _watch(state: State, block: Block, columns: Array, p: Array, apart: Array, referred: Array | None) -> None:
    """``columns`` were judged in all tiers; what is still learnt only against the reference."""
    above = state.levels.above()
    judged = above[columns]
    seen = probabilities(block.counts[1]) - referred if referred is not None else None
    both = (seen[columns[judged]] if seen is not None else None, apart[judged])
    state.levels.watch(columns[judged], p[:, judged], both)
    if seen is not None and block.length == 0:
        begun = np.flatnonzero(above & (state.length == LEARNING))
        state.levels.watch(begun, None, (seen[begun], None))


def _recover(state: State, columns: Array) -> None:
    """The bets of a tier begin again where it is back to ok."""
    tolerance = state.tolerance.mean(1)
    tolerance[0] = np.where(state.length == LEARNING, _unlearnt(state), tolerance[0])
    due = columns[state.levels.above()[columns]]
    back = state.levels.recover(due, block_ns(state)[due], tolerance[:, due])
    martingale, *material = detectors(state)
    martingale.forget_bets(np.flatnonzero(back[SHAPE]))
    for detector, which in zip(material, back[REFERENCE:], strict=True):
        detector.forget_bets(np.flatnonzero(which))
