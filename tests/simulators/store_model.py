"""The store of the outbox as plain dictionaries: what it must do, without a disk. Tests break it as they like."""

from __future__ import annotations

import copy
from collections import Counter

from msgspec.structs import replace

from edge_agent.errors import StorageError
from edge_agent.outgoing import Batch, Committed, Count, CountKey, Kept, Lane, Loaded, Opened
from edge_agent.records import DiscardReason


class StoreModel:
    """Implements ``ports.OutboxStore``. ``broken``: every call fails; ``full``: commits do; ``damaged``: the next
    open finds a bad file."""

    def __init__(self) -> None:
        self.rows: dict[int, Kept] = {}
        self.counts: dict[CountKey, Count] = {}
        self.refused: list[str] = []
        self.clean = False
        self.broken = self.full = self.damaged = False
        self._base = 0
        self._boot_id = ""

    def open(self, boot_id: str) -> Opened:
        self._check()
        set_aside = None
        if self.damaged:
            self.rows, self.counts, self.damaged, set_aside = {}, {}, False, "damaged"
            self._base = 0
        elif boot_id != self._boot_id:
            self._base = max(self.rows, default=-1) + 1
        self._boot_id, self.clean = boot_id, False
        return Opened(len(self.rows), self._bytes(), set_aside)

    def commit(self, batch: Batch) -> Committed:
        self._check()
        if self.full:
            raise StorageError("the disk is full", readable=True)
        for kept in batch.insert:
            self.rows[self._base + kept.number] = kept
            self._count(kept).stored += 1
        for number in batch.delete:
            kept = self.rows.pop(self._base + number, None)
            if kept:
                self._count(kept).stored -= 1
        for key, count in batch.counts.items():
            mine = self.counts.setdefault(key, Count())
            mine.produced += count.produced
            mine.acknowledged += count.acknowledged
            mine.discarded = dict(Counter(mine.discarded) + Counter(count.discarded))
        self.refused += [aside.reason for aside in batch.aside]
        trimmed = self._trim(batch)
        self.clean = batch.clean
        return Committed(len(self.rows), self._bytes(), trimmed)

    def load(self, lane: Lane, after: int, count_most: int, bytes_most: int) -> Loaded:
        self._check()
        wanted = [r for r in sorted(self.rows) if r - self._base > after and self._lane(r) is lane]
        page = [self._of_this_run(rank) for rank in wanted[:count_most]]
        return Loaded(page, page[-1].number if page else after, len(wanted) <= count_most)

    def close(self) -> None:
        """Nothing to release."""

    def adds_up(self) -> bool:
        stored: Counter[CountKey] = Counter()
        for kept in self.rows.values():
            if kept.record.stream:
                stored[kept.stamp.boot_id, kept.record.stream] += 1
        return all(
            count.produced == count.acknowledged + count.stored + count.lost() and count.stored == stored[key]
            for key, count in self.counts.items()
            if key[1]
        )

    def image(self) -> StoreModel:
        return copy.deepcopy(self)

    def _trim(self, batch: Batch) -> dict[CountKey, dict[str, int]]:
        trimmed: dict[CountKey, dict[str, int]] = {}
        trim = batch.trim
        if trim is None:
            return trimmed
        for rank in sorted(self.rows):
            if self._bytes() <= trim.bytes_most:
                break
            number = rank - self._base
            if number <= trim.after or number in trim.spare or self._lane(rank) is not Lane.PREDICTIONS:
                continue
            kept = self.rows.pop(rank)
            count, reason = self._count(kept), DiscardReason.OUTBOX_FULL.value
            count.stored -= 1
            count.discarded[reason] = count.discarded.get(reason, 0) + 1
            of = trimmed.setdefault((kept.stamp.boot_id, kept.record.stream or ""), {})
            of[reason] = of.get(reason, 0) + 1
        return trimmed

    def _of_this_run(self, rank: int) -> Kept:
        kept = self.rows[rank]
        mine = kept.stamp.boot_id == self._boot_id
        return Kept(rank - self._base, replace(kept.record, earlier=None if mine else kept.stamp), kept.stamp)

    def _lane(self, rank: int) -> Lane:
        return Lane.of(self.rows[rank].record.kind)

    def _count(self, kept: Kept) -> Count:
        return self.counts.setdefault((kept.stamp.boot_id, kept.record.stream or ""), Count())

    def _bytes(self) -> int:
        return sum(kept.record.size for kept in self.rows.values())

    def _check(self) -> None:
        if self.broken:
            raise StorageError("the disk is full")
