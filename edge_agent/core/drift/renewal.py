"""What becomes of a state when the baseline is learnt anew, or when the model is another."""

from __future__ import annotations

from collections.abc import Sequence
from operator import attrgetter
from typing import Final

import numpy as np

from edge_agent.core.drift.bins import FeatureSpec
from edge_agent.core.drift.blocks import OpenBlocks
from edge_agent.core.drift.learning import begin
from edge_agent.core.drift.levels import OK, REFERENCE
from edge_agent.core.drift.state import Settings, State, fresh
from edge_agent.monitoring import Reference
from edge_agent.records import Array

_INPUTS: Final = frozenset({"sensor", "image"})
# Where the features are in what is carried over: arrays of the state, and the axis.
_AXES: Final = (
    ("weights", 1),
    ("length", 0),
    ("contexts", 0),
    ("rows", 0),
    ("shares", 1),
    ("tolerance", 2),
    ("martingale.history", 2),
    ("martingale.low", 1),
    ("martingale.width", 1),
    ("martingale.log", 2),
    ("against_baseline.log", 3),
    ("against_baseline.deviation", 1),
    ("against_baseline.weight", 1),
    ("levels.held", 1),
    ("levels.since_wall_ns", 0),
    ("levels.blocks", 0),
    ("levels.p_sum", 1),
    ("levels.p_count", 1),
    ("levels.apart", 1),
)
_REFERRED: Final = (("against_reference.log", 3), ("against_reference.deviation", 1), ("against_reference.weight", 1))


def begun_again(old: State, reason: str) -> State:
    """Everything learnt here is forgotten but the bins, which the rows of the new commissioning may change."""
    state = fresh(old.specs, old.settings, old.reference, old.chance.seed)
    _keep_stream(old, state)
    state.own, state.weights = old.own, old.weights
    state.tally, state.last = old.tally, old.last
    state.open = OpenBlocks.empty(state.lengths, state.tables())
    state.accepted, state.reason = True, reason
    begin(state, np.arange(len(state.specs)))
    return state


def renewed(old: State, specs: Sequence[FeatureSpec], settings: Settings, reference: Reference | None) -> State:
    """Inputs that are what they were keep their bins, their history and their bets; where the lengths of blocks are
    others, nothing can."""
    state = fresh(specs, settings, reference, old.chance.seed)
    _keep_stream(old, state)
    state.reason = old.reason
    places = {_identity(spec): column for column, spec in enumerate(old.specs) if spec.group in _INPUTS}
    if state.lengths != old.lengths:
        places = {}
    pairs = [(places[_identity(spec)], new) for new, spec in enumerate(state.specs) if _identity(spec) in places]
    before, after = np.array(pairs, np.int64).reshape(-1, 2).T
    _carry(old, state, before, after)
    rest = np.setdiff1d(np.arange(len(state.specs)), after)
    if len(rest):
        begin(state, rest)
    return state


def _identity(spec: FeatureSpec) -> tuple[str, str, str, str]:
    return spec.name, spec.group, spec.kind, spec.unit


def _keep_stream(old: State, new: State) -> None:
    """Time and chance go on."""
    new.chance, new.reached_ns, new.wall_ns = old.chance, old.reached_ns, old.wall_ns
    new.blocks, new.closed = old.blocks, old.closed
    if new.lengths == old.lengths:
        new.usual_rows = list(old.usual_rows)


def _of_reference(state: State, column: int) -> object:
    """What it says of a feature; None where there is none."""
    return None if state.reference is None else (state.reference.binning[column], state.reference.counts[column])


def _copy(old: State, new: State, what: Sequence[tuple[str, int]], before: Array, after: Array) -> None:
    for path, axis in what:
        source, target = attrgetter(path)(old), attrgetter(path)(new)
        np.moveaxis(target, axis, 0)[after] = np.moveaxis(source, axis, 0)[before]


def _carry(old: State, new: State, before: Array, after: Array) -> None:
    """Features at ``before`` (m,) are at ``after`` (m,) now. The tier of the reference begins again where it is another
    one. So do open blocks, for their rows are not counted in its bins."""
    own = list(new.own)
    for source, target in zip(before.tolist(), after.tolist(), strict=True):
        own[target] = old.own[source]
    new.own = tuple(own)
    _copy(old, new, _AXES, before, after)
    new.levels.held[REFERENCE] = OK
    same = np.array(
        [_of_reference(old, one) == _of_reference(new, other) for one, other in zip(before, after, strict=True)], bool
    )
    _copy(old, new, _REFERRED, before[same], after[same])
    new.levels.held[REFERENCE, after[same]] = old.levels.held[REFERENCE, before[same]]
    new.correlation = old.correlation
    for begun in old.learning:
        kept = np.isin(before, begun.columns)
        if kept.any():
            part = begun.narrowed(np.searchsorted(begun.columns, before[kept]), after[kept])
            part.wanted_ns = new.settings.commissioning_ns
            new.learning.append(part)
    new.open = OpenBlocks.empty(new.lengths, new.tables())
