"""How a baseline comes about: begin, collect, own edges after the first part, the baseline at the end."""

from __future__ import annotations

import numpy as np

from edge_agent.core.drift.baseline import baseline_of, history_of, sampling_error
from edge_agent.core.drift.bins import Binner, binning_of
from edge_agent.core.drift.blocks import Block, Table
from edge_agent.core.drift.commissioning import Commissioning
from edge_agent.core.drift.counts import probabilities
from edge_agent.core.drift.martingale import scores, weights_of
from edge_agent.core.drift.parameters import CROWDED, DAY_NS
from edge_agent.core.drift.state import State, expected_shares
from edge_agent.monitoring import Feature, Numeric
from edge_agent.records import Array


def begin(state: State, columns: Array) -> None:
    """Features that have edges, the reference's or of a baseline before, are counted in these from the start."""
    ready = np.array([_has_bins(state.own[column]) for column in columns], bool)
    wanted_ns = state.settings.commissioning_ns
    state.learning.append(Commissioning.begin(columns, ready, wanted_ns, len(state.lengths)))


def _has_bins(feature: Feature) -> bool:
    return bool(feature.edges if isinstance(feature, Numeric) else feature.classes)


def learn(state: State, begun: Commissioning, block: Block, context: int, full: bool) -> None:
    """Of a closed block. ``full``: it has about as many rows as usual."""
    if block.length == 0:
        begun.pass_time(block.start_ns, block.end_ns)
    if not block.rows:
        return
    columns = begun.columns
    own = probabilities(block.counts[0])[columns]
    ready = begun.ready & np.isfinite(own).all(1)
    values = np.where(ready, scores(own, state.weights[:, columns]), np.nan)
    begun.scores[block.length].add(block.number, context, block.rows, values)
    if not full:
        return
    if block.length == 0:
        referred = block.counts[1][columns] if len(block.counts) > 1 else None
        begun.add_shares(own, ready, block.rows, context, referred)
    if state.lengths[block.length] == DAY_NS:
        begun.add_day(own, ready)


def edges_from_rows(state: State, begun: Commissioning) -> Array:
    """Own quantiles where there were none, or where the reference's tell too little apart here. Returns which features
    have new bins."""
    if begun.reservoir is None:
        return np.zeros(0, np.int64)
    rows, columns = begun.reservoir.rows, begun.columns
    specs = tuple(state.specs[column] for column in columns)
    own = binning_of(specs, rows)
    crowded = _fullest(tuple(state.own[column] for column in columns), rows) > _fullest(own, rows) + CROWDED
    taken = np.flatnonzero(crowded | ~begun.ready)
    counts = Table(own)
    weights = weights_of(counts.laid_out(counts.binner.count(rows)), own)
    binning = list(state.own)
    for place in taken:
        binning[columns[place]] = own[place]
    state.own = tuple(binning)
    state.weights[:, columns[taken]] = weights[:, taken]
    begun.take_edges(taken)
    return columns[taken]


def _fullest(binning: tuple[Feature, ...], rows: Array) -> Array:
    """(n,) share of the fullest bin among the values that are there."""
    binner = Binner(binning)
    counts = [part[:-1] for part in binner.split(binner.count(rows))]
    return np.array([part.max(initial=0) / max(part.sum(), 1) for part in counts])


def finish(state: State, begun: Commissioning) -> None:
    """From now on these features are judged."""
    columns = begun.columns
    referred = expected_shares(state.reference)
    accepted = referred[columns] if referred is not None and state.accepted else None
    error = sampling_error(referred[columns], state.reference.rows) if state.reference and referred is not None else 0.0
    found = baseline_of(begun, state.lengths, Table(state.own).used[columns], accepted, error)
    state.length[columns] = found.lengths
    state.contexts[columns] = np.where(found.daily, 1, found.contexts)
    state.shares[:, columns] = found.shares
    state.tolerance[:, :, columns] = np.stack([found.referred_tolerance, found.tolerance])
    state.correlation = found.correlation
    state.rows[columns] = np.array(found.usual_rows)[found.lengths]
    state.martingale.low[:, columns], state.martingale.width[:, columns] = found.low, found.width
    for values, places, contexts in history_of(begun, found, state.lengths):
        state.martingale.learn(values, columns[places], contexts)
    # Another length of block and another tolerance: bets made so far were on something else.
    state.against_reference.begin_again(columns)
    state.learning = [other for other in state.learning if other is not begun]
