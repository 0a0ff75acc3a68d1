"""Blocks of time that are open: their rows, counted by bin. Tumbling, every length on its own grid from time 0."""

from __future__ import annotations

from typing import Final

import numpy as np
from msgspec import Struct

from edge_agent.core.drift.bins import Binner
from edge_agent.core.drift.counts import probabilities
from edge_agent.core.drift.parameters import BLOCK_MOST_NS, BLOCKS_LEAST, DAY_NS, DOUBLINGS_MOST, HEAD_SHARE
from edge_agent.monitoring import CLASS_BINS_MOST, NUMERIC_BINS, Binning
from edge_agent.records import Array

BINS: Final = max(CLASS_BINS_MOST, NUMERIC_BINS + 1)  # columns of an array that holds any feature's bins


def lengths_of(block_ns: int, commissioning_ns: int) -> tuple[int, ...]:
    """The lengths of block that a commissioning chooses from, in nanoseconds: the least, its doublings, and a day where
    the commissioning has one. Ascending."""
    doubled = [block_ns << times for times in range(DOUBLINGS_MOST + 1)]
    kept = [n for n in doubled if n == block_ns or (n <= BLOCK_MOST_NS and n * BLOCKS_LEAST <= commissioning_ns)]
    return (*kept, DAY_NS) if block_ns < DAY_NS <= commissioning_ns else tuple(kept)


class Table:
    """A binning laid out as an array (F, BINS): bins from the left, the missing ones in the last column."""

    def __init__(self, binning: Binning) -> None:
        self.binner = Binner(binning)
        widths, offsets = self.binner.widths, self.binner.offsets[:-1]
        within = np.arange(self.binner.size) - np.repeat(offsets, widths)
        missing = within == np.repeat(widths, widths) - 1
        self._places = np.repeat(np.arange(len(widths)), widths) * BINS + np.where(missing, BINS - 1, within)
        self.used = self.laid_out(np.ones(self.binner.size)) > 0  # (F, BINS)

    def laid_out(self, flat: Array) -> Array:
        """(size,) -> (F, BINS) float64."""
        wide = np.zeros(len(self.binner.widths) * BINS)
        wide[self._places] = flat
        return wide.reshape(-1, BINS)

    def flat(self, wide: Array) -> Array:
        """(F, BINS) -> (size,) int64; what lies in no bin of this binning is left out."""
        return wide.reshape(-1)[self._places].astype(np.int64)

    def shares(self, counts: Array) -> Array:
        """(F, BINS) of counts (F, BINS), half a row added to each bin: none is impossible."""
        return probabilities(counts + 0.5 * self.used)


class Block(Struct, frozen=True):
    """A closed one. ``length``: index; ``start_ns`` and ``end_ns`` in the stream's own time; ``counts``: (F, BINS) for
    each table, of ``rows`` rows."""

    length: int
    number: int
    start_ns: int
    end_ns: int
    rows: int
    counts: tuple[Array, ...]


class OpenBlocks(Struct):
    """One for each of ``lengths``: its ``numbers``, -1 where it has no row yet, its ``rows`` and, by table, the flat
    ``counts`` (lengths, size) of those after the head. ``last_ns``: of the latest row."""

    lengths: tuple[int, ...]
    numbers: list[int]
    rows: list[int]
    counts: list[Array]
    last_ns: int = -(2**62)

    @classmethod
    def empty(cls, lengths: tuple[int, ...], tables: list[Table]) -> OpenBlocks:
        counts = [np.zeros((len(lengths), table.binner.size), np.int64) for table in tables]
        return cls(lengths, [-1] * len(lengths), [0] * len(lengths), counts)

    def cuts(self, times: Array) -> Array:
        """(n,) ascending -> where a block of any length begins: first rows of each run, and n."""
        numbers = times[:, None] // np.array(self.lengths)
        return np.concatenate([[0], np.flatnonzero((np.diff(numbers, axis=0) != 0).any(1)) + 1, [len(times)]])

    def add(self, rows: Array, times: Array, tables: list[Table]) -> None:
        """Rows (n, F) of one run between cuts; blocks that end before must be closed."""
        indices = [table.binner.index(rows) for table in tables]
        gaps = np.diff(times, prepend=self.last_ns)
        self.last_ns = int(times[-1])
        for place, length in enumerate(self.lengths):
            number = int(times[-1] // length)
            if self.numbers[place] > number:
                continue  # older than what is open: a stream that went back in time
            self.numbers[place] = number
            # Where rows are as far apart as a head is long, those in it depend on the block before no more than others.
            body = (times - number * length >= HEAD_SHARE * length) | (gaps >= HEAD_SHARE * length)
            self.rows[place] += int(body.sum())
            for index, counts in zip(indices, self.counts, strict=True):
                counts[place] += np.bincount(index[body].ravel(), minlength=counts.shape[1])

    def close(self, time_ns: int, tables: list[Table]) -> Block | None:
        """The next block that has ended by then, the earliest first; None: no more. One without a row is not told; one
        with rows in its head alone has none."""
        ended = [
            ((number + 1) * length, place)
            for place, (number, length) in enumerate(zip(self.numbers, self.lengths, strict=True))
            if number >= 0 and (number + 1) * length <= time_ns
        ]
        if not ended:
            return None
        end_ns, place = min(ended)
        laid_out = tuple(table.laid_out(part[place]) for table, part in zip(tables, self.counts, strict=True))
        start_ns = end_ns - self.lengths[place]
        block = Block(place, self.numbers[place], start_ns, end_ns, self.rows[place], laid_out)
        self.numbers[place], self.rows[place] = -1, 0
        for counts in self.counts:
            counts[place] = 0
        return block

    def lay_out_anew(self, table: int, old: Table, new: Table, kept: Array) -> None:
        """Another binning for a table: features that are ``kept`` (F,) keep their counts, the others begin again."""
        wide = [old.laid_out(flat) * kept[:, None] for flat in self.counts[table]]
        self.counts[table] = np.stack([new.flat(part) for part in wide])
