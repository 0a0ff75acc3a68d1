"""Whether what a pipeline sees, and says, is still what it was: the drift of one pipeline, from rows to levels.

Rows are counted into blocks of time; what a block says is judging.py's, what is learnt first learning.py's. The state
is one value (state.py): saved and restored bit by bit, it goes on as if nothing had happened.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from edge_agent.core.drift import reasons
from edge_agent.core.drift.bins import FeatureSpec
from edge_agent.core.drift.blocks import Block, Table
from edge_agent.core.drift.commissioning import Commissioning
from edge_agent.core.drift.counts import Accumulator
from edge_agent.core.drift.judging import judge
from edge_agent.core.drift.learning import begin, edges_from_rows, finish, learn
from edge_agent.core.drift.parameters import CONTEXTS, DAY_NS, FULL_ENOUGH, PENDING_ROWS, USUAL_RATE
from edge_agent.core.drift.renewal import begun_again, renewed
from edge_agent.core.drift.state import (
    LEARNING,
    Settings,
    State,
    expected_shares,
    fresh,
    pack,
    unpack,
    without_projection,
)
from edge_agent.core.drift.view import feature_states, learning_of, levels_of, overall_level, view
from edge_agent.monitoring import Binning, DriftView, Level, LevelChange, Moment, Reference, Tally
from edge_agent.records import Array


class Monitor:
    """Of one pipeline. ``close_block`` is called every second or so, and once before the first row. For one thread."""

    def __init__(
        self, names: Sequence[FeatureSpec], settings: Settings, reference: Reference | None = None, seed: int = 0
    ) -> None:
        """``reference``: R0 of just these features in their order (reference.in_order), else ValueError; None: only
        the baseline that is learnt here is compared with. The same ``seed`` gives the same levels."""
        state = fresh(names, settings, reference, seed)
        begin(state, np.arange(len(state.specs)))
        self._open(state)

    @classmethod
    def restore(cls, content: bytes) -> Monitor:
        """As it was saved. Raises ValueError for damage and for another version of the format; whether it is of the
        same features and the same reference is for ``fits``."""
        monitor = cls.__new__(cls)
        monitor._open(unpack(content))
        return monitor

    def _open(self, state: State) -> None:
        self._moment: Moment | None = None
        self._shift: int | None = None  # from CLOCK_MONOTONIC to the stream's own time
        self._pending: list[tuple[Array, Array]] = []
        self._changes: list[LevelChange] = []
        self._go_on_with(state)

    def _go_on_with(self, state: State) -> None:
        self._state = state
        self._tables: list[Table] = state.tables()
        self._referred = expected_shares(state.reference)
        self._accumulator = state.accumulator()
        self._levels = levels_of(state)

    @property
    def binning(self) -> Binning:
        """Of the tallies: the reference's, or what was learnt here."""
        return self._state.tally_binning

    @property
    def reason(self) -> str:
        """Why the baseline is learnt anew, as the operator said it; "" for the first one."""
        return self._state.reason

    def baseline(self) -> tuple[tuple[float, ...] | None, ...]:
        """Shares of R1 over all parts of the day, by feature, in the bins of ``binning``, missing last. None while it
        is learnt, and where it has bins of its own beside those of a reference."""
        state, used = self._state, self._tables[0].used
        shares, binning = state.shares.mean(0), zip(state.own, state.tally_binning, strict=True)
        known = [
            own == counted and length != LEARNING for (own, counted), length in zip(binning, state.length, strict=True)
        ]
        return tuple(
            tuple(shares[column, used[column]].tolist()) if there else None for column, there in enumerate(known)
        )

    def fits(self, names: Sequence[FeatureSpec], settings: Settings, reference: Reference | None) -> bool:
        """Whether a restored monitor is of these; if not, ``renew`` it."""
        state = self._state
        same = state.specs == tuple(names) and state.settings == settings
        return same and state.reference == without_projection(reference)

    def update(self, rows: Array, mono_ns: Array) -> None:
        """``rows`` (n, F) float64, what is not finite is missing; ``mono_ns`` (n,) int64, ascending. Raises ValueError
        for other shapes."""
        if rows.ndim != 2 or rows.shape[1] != len(self._state.specs) or mono_ns.shape != rows.shape[:1]:
            raise ValueError(f"rows {rows.shape}, times {mono_ns.shape} for {len(self._state.specs)} features")
        self._pending.append((np.array(rows, np.float64), np.array(mono_ns, np.int64)))
        if self._moment is not None and sum(len(times) for _, times in self._pending) >= PENDING_ROWS:
            self._take_pending()

    def close_block(self, now: Moment) -> list[LevelChange]:
        """Close what has ended by now; returns what changed since the last call."""
        self._moment = now
        if self._shift is None:
            self._shift = self._shift_from(now)
        time_ns = now.mono_ns + self._shift
        if time_ns // self._state.lengths[0] != self._state.reached_ns // self._state.lengths[0]:
            self._take_pending()
            self._advance(time_ns)
        changes, self._changes = self._changes, []
        return changes

    def view(self) -> DriftView:
        return view(self._state, self._referred)

    def take_tally(self) -> Tally:
        """Counts of the rows since the last call, by ``binning``."""
        self._take_pending()
        tally = self._accumulator.tally()
        self._accumulator.clear()
        return tally

    def rebaseline(self, reason: str, now: Moment) -> list[LevelChange]:
        """Forget what was learnt here and learn it anew from now on, because somebody said so: all levels end. The
        present distance from the reference is taken for what it is. Returns what changed."""
        changes = self.close_block(now)
        before = overall_level(self._levels)
        self._keep()
        self._go_on_with(begun_again(self._state, reason))
        return changes if before is Level.LEARNING else [*changes, reasons.begun_again(before, reason)]

    def renew(self, names: Sequence[FeatureSpec], settings: Settings, reference: Reference | None) -> None:
        """A new version of the model, or another configuration. What was learnt of sensors and of the picture goes on
        where name, unit and kind are the same; of predictions and embeddings it is learnt anew. Counts that were not
        taken are gone: they may be of another binning. Raises ValueError as the constructor does."""
        self._keep()
        self._go_on_with(renewed(self._state, names, settings, reference))

    def save(self) -> bytes:
        """For ``restore``. What comes after it is lost with the process: call it after each ``close_block`` that closed
        one, as ``blocks_closed`` tells."""
        self._keep()
        return pack(self._state)

    @property
    def blocks_closed(self) -> int:
        """Since the very first; grows when there is something new to save."""
        return self._state.closed

    def _keep(self) -> None:
        """Have the state hold all that there is."""
        self._take_pending()
        state, now = self._state, self._moment
        state.keep_tally(self._accumulator)
        if now is not None and self._shift is not None:
            state.reached_ns = max(state.reached_ns, now.mono_ns + self._shift)
            state.wall_ns = now.wall_ns if now.synced else None

    def _shift_from(self, now: Moment) -> int:
        """At the first call. What went by since the state was saved counts where both times are known."""
        first = min([int(times[0]) for _, times in self._pending if len(times)] + [now.mono_ns])
        if self._state.wall_ns is None or not now.synced:
            return self._state.reached_ns - first
        return self._state.reached_ns + max(0, now.wall_ns - self._state.wall_ns) - now.mono_ns

    def _take_pending(self) -> None:
        if not self._pending or self._shift is None:
            return
        rows = np.concatenate([rows for rows, _ in self._pending])
        times = np.concatenate([times for _, times in self._pending]) + self._shift
        self._pending.clear()
        self._accumulator.add(rows)
        cuts = self._state.open.cuts(times)
        for first, end in pairwise(cuts.tolist()):
            self._advance(int(times[first]))
            self._state.open.add(rows[first:end], times[first:end], self._tables)
            for begun in self._state.learning:
                if begun.reservoir is not None:
                    begun.reservoir.add(rows[first:end, begun.columns], self._state.chance)

    def _advance(self, time_ns: int) -> None:
        """Close the blocks that have ended, the earliest first."""
        self._state.reached_ns = max(self._state.reached_ns, time_ns)
        while (block := self._state.open.close(time_ns, self._tables)) is not None:
            self._closed(block)
        for begun in list(self._state.learning):
            if begun.edges_due:
                self._take_edges(begun)
            if begun.done:
                finish(self._state, begun)
                self._tell()

    def _take_edges(self, begun: Commissioning) -> None:
        changed = edges_from_rows(self._state, begun)
        tables = self._state.tables()
        kept = ~np.isin(np.arange(len(self._state.specs)), changed)
        self._state.open.lay_out_anew(0, self._tables[0], tables[0], kept)
        self._tables = tables
        if self._state.reference is None and len(changed):  # counts in bins that are no more
            self._accumulator = Accumulator(self._state.own)

    def _closed(self, block: Block) -> None:
        state = self._state
        usual = state.usual_rows[block.length]
        if block.rows:
            state.usual_rows[block.length] += (block.rows - usual) * (USUAL_RATE if usual else 1)
        state.closed += 1
        full = block.rows >= max(1, FULL_ENOUGH * usual)
        context = self._context(block)
        for begun in state.learning:
            learn(state, begun, block, context, full)
        if full or (block.rows and state.lengths[block.length] < DAY_NS):  # a part of a day is not like a day
            judge(state, block, context, self._referred)
        state.blocks += block.length == 0 and bool((state.length != LEARNING).any())
        self._tell()

    def _tell(self) -> None:
        """Note what has changed since the last time."""
        state, moment = self._state, self._moment
        before, after = self._levels, levels_of(state)
        if before == after:
            return
        self._levels = after
        wall_ns = moment.wall_ns if moment is not None and moment.synced else None
        changed = [column for column, level in enumerate(after) if level is not before[column]]
        state.levels.since_wall_ns[changed] = -1 if wall_ns is None else wall_ns
        states = feature_states(state, self._referred)
        shown = {"reference": state.against_reference.shown(), "baseline": state.against_baseline.shown()}
        for column in changed:
            apart = shown.get(states[column].tier, shown["baseline"])[column]
            self._changes += reasons.of_feature(state.specs[column], before[column], states[column], apart)
        if (whole := overall_level(after)) is not overall_level(before):
            state.since_wall_ns = wall_ns
            self._changes.append(reasons.overall(overall_level(before), whole, states, learning_of(state)))

    def _context(self, block: Block) -> int:
        """Part of the day (UTC) of the middle of a block; -1 while the time is not known."""
        if self._moment is None or self._shift is None or not self._moment.synced:
            return -1
        middle_ns = (block.start_ns + block.end_ns) // 2 - self._shift
        return (middle_ns - self._moment.mono_ns + self._moment.wall_ns) % DAY_NS * CONTEXTS // DAY_NS
