"""What is collected while a baseline R1 is learnt: rows for edges first, then scores of blocks of every length, and
shares by part of the day. core/drift/baseline.py makes the baseline of it.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from msgspec import Struct

from edge_agent.core.drift.blocks import BINS
from edge_agent.core.drift.chance import Chance
from edge_agent.core.drift.parameters import (
    BLOCKS_KEPT,
    CONTEXTS,
    DAY_NS,
    EDGE_ROWS,
    FIRST_PART,
    SCORE_STEP,
    SCORES,
    UNSYNCED_MOST,
)
from edge_agent.records import Array

_UNKNOWN: Final = np.iinfo(np.uint16).max


class Reservoir(Struct):
    """At most EDGE_ROWS of the rows that came, each as likely as any other (Vitter, Algorithm R, 1985)."""

    rows: Array  # (kept, n) float64
    seen: int = 0

    def add(self, rows: Array, chance: Chance) -> None:
        room = min(EDGE_ROWS - len(self.rows), len(rows))
        if room > 0:
            self.rows = np.concatenate([self.rows, rows[:room]])
        rest = rows[max(room, 0) :]
        counted = self.seen + max(room, 0) + 1 + np.arange(len(rest))
        places = (chance.uniforms(len(rest)) * counted).astype(np.int64)
        for at in np.flatnonzero(places < EDGE_ROWS):  # in their order: the later row stays
            self.rows[places[at]] = rest[at]
        self.seen += len(rows)


class Scores(Struct):
    """Of the latest blocks of one length, at most BLOCKS_KEPT: ``numbers``, ``contexts`` (-1: no wall time), ``rows``,
    (m,) each, and ``packed`` (m, SCORES, n) uint16. The arrays are longer than the ``size`` in use."""

    numbers: Array
    contexts: Array
    rows: Array
    packed: Array
    size: int = 0

    @classmethod
    def empty(cls, features: int) -> Scores:
        return cls(
            np.zeros(8, np.int64),
            np.zeros(8, np.int8),
            np.zeros(8, np.int32),
            np.full((8, SCORES, features), _UNKNOWN, np.uint16),
        )

    def add(self, number: int, context: int, rows: int, values: Array) -> None:
        """``values`` (SCORES, n), NaN where unknown."""
        if self.size == len(self.numbers):
            self._make_room()
        self.numbers[self.size], self.contexts[self.size] = number, context
        self.rows[self.size] = min(rows, np.iinfo(np.int32).max)
        self.packed[self.size] = np.where(np.isnan(values), _UNKNOWN, np.rint(np.nan_to_num(values) / SCORE_STEP))
        self.size += 1

    def values(self) -> Array:
        """(m, SCORES, n) float64, NaN where unknown."""
        packed = self.packed[: self.size]
        return np.where(packed == _UNKNOWN, np.nan, packed * SCORE_STEP)

    def forget(self, columns: Array) -> None:
        self.packed[:, :, columns] = _UNKNOWN

    def _make_room(self) -> None:
        drop = self.size // 4 if self.size >= BLOCKS_KEPT else 0
        grow = drop or min(max(8, self.size // 8), BLOCKS_KEPT - self.size)  # there may be many pipelines on a board
        for name in ("numbers", "contexts", "rows", "packed"):
            old = getattr(self, name)
            empty = np.full((grow, *old.shape[1:]), _UNKNOWN if name == "packed" else 0, old.dtype)
            setattr(self, name, np.concatenate([old[drop:], empty]))
        self.size -= drop


class Commissioning(Struct):
    """Of the features ``columns`` (n,). ``ready`` (n,): has edges, so its blocks have scores. By context, the last for
    blocks without wall time: ``blocks`` and ``block_rows`` (CONTEXTS + 1, n), ``sums`` and ``squares`` (CONTEXTS + 1,
    n, BINS) of the shares in the least blocks. ``day_sum`` (n, BINS): shares of the ``day_count`` (n,) days, and
    ``day_distance`` (n,): total variation of each day from the days before it, added up. ``referred`` (n, BINS):
    counts in the reference's bins."""

    columns: Array
    wanted_ns: int
    ready: Array
    reservoir: Reservoir | None
    scores: list[Scores]
    blocks: Array
    block_rows: Array
    sums: Array
    squares: Array
    day_sum: Array
    day_count: Array
    day_distance: Array
    referred: Array
    days: int = 0  # with at least a row
    day: int = -1
    before_ns: int = 0  # of the first of them were over when it began
    of_day_ns: int = 0  # of the latest of them are over

    @classmethod
    def begin(cls, columns: Array, ready: Array, wanted_ns: int, lengths: int) -> Commissioning:
        n = len(columns)
        parts = CONTEXTS + 1
        return cls(
            columns=columns,
            wanted_ns=wanted_ns,
            ready=ready,
            reservoir=Reservoir(np.zeros((0, n))),
            scores=[Scores.empty(n) for _ in range(lengths)],
            blocks=np.zeros((parts, n), np.int64),
            block_rows=np.zeros((parts, n), np.int64),
            sums=np.zeros((parts, n, BINS)),
            squares=np.zeros((parts, n, BINS)),
            day_sum=np.zeros((n, BINS)),
            day_count=np.zeros(n, np.int64),
            day_distance=np.zeros(n),
            referred=np.zeros((n, BINS), np.int64),
        )

    def pass_time(self, start_ns: int, end_ns: int) -> None:
        """A least block with rows was closed. Days without a row don't count: nothing was learnt on them."""
        if self.day < 0:
            self.before_ns = start_ns % DAY_NS
        if start_ns // DAY_NS > self.day:
            self.day, self.days = start_ns // DAY_NS, self.days + 1
        self.of_day_ns = min(DAY_NS, end_ns - self.day * DAY_NS)

    @property
    def done_ns(self) -> int:
        return max(self.days - 1, 0) * DAY_NS + self.of_day_ns - self.before_ns

    @property
    def contexts(self) -> int:
        """Parts of the day: 1 where too many blocks have no wall time to be put into one of more."""
        unsynced: bool = self.blocks[CONTEXTS].sum() > UNSYNCED_MOST * self.blocks.sum()
        return 1 if unsynced else CONTEXTS

    @property
    def edges_due(self) -> bool:
        return self.reservoir is not None and self.done_ns >= FIRST_PART * self.wanted_ns

    @property
    def done(self) -> bool:
        return self.done_ns >= self.wanted_ns and self.reservoir is None

    def add_shares(self, shares: Array, known: Array, rows: int, context: int, referred: Array | None) -> None:
        """Of a least block: ``shares`` (n, BINS) in own bins where ``known`` (n,), ``referred`` (n, BINS) counts in the
        reference's."""
        self.blocks[context, known] += 1
        self.block_rows[context, known] += rows
        self.sums[context, known] += shares[known]
        self.squares[context, known] += shares[known] ** 2
        if referred is not None:
            self.referred += referred.astype(np.int64)

    def add_day(self, shares: Array, known: Array) -> None:
        """Of a block of a whole day."""
        usual = self.day_sum / np.maximum(self.day_count, 1)[:, None]
        compared = known & (self.day_count > 0)
        self.day_distance[compared] += (np.abs(shares - usual).sum(1) / 2)[compared]
        self.day_sum[known] += shares[known]
        self.day_count += known

    def take_edges(self, columns: Array) -> None:
        """All features have edges from now on; those at ``columns`` (places in ``self.columns``) have new ones, so
        what was counted of them is void."""
        self.reservoir = None
        self.ready[:] = True
        for scores in self.scores:
            scores.forget(columns)
        for by_context in (self.blocks, self.block_rows, self.sums, self.squares):
            by_context[:, columns] = 0
        for array in (self.day_sum, self.day_count, self.day_distance):
            array[columns] = 0

    def narrowed(self, places: Array, columns: Array) -> Commissioning:
        """Of the features at ``places`` alone, which are now numbered ``columns``."""
        reservoir = self.reservoir and Reservoir(self.reservoir.rows[:, places], self.reservoir.seen)
        scores = [Scores(s.numbers, s.contexts, s.rows, s.packed[:, :, places], s.size) for s in self.scores]
        begun = Commissioning.begin(columns, self.ready[places], self.wanted_ns, 0)
        begun.reservoir, begun.scores = reservoir, scores
        begun.days, begun.day = self.days, self.day
        begun.before_ns, begun.of_day_ns = self.before_ns, self.of_day_ns
        for name in ("blocks", "block_rows", "sums", "squares"):
            setattr(begun, name, getattr(self, name)[:, places])
        for name in ("day_sum", "day_count", "day_distance"):
            setattr(begun, name, getattr(self, name)[places])
        return begun  # `referred` begins again: the reference is another
