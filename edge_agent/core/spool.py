"""What the disk has and what it still has to be told: the outbox's bookkeeping of its store. Policy only.

Batches and their answers go one at a time and in order. Each batch holds all that is unacknowledged and not on the disk
yet, so that the ledger's copy there adds up whenever the power is cut.
"""

from __future__ import annotations

from collections.abc import Iterable

from msgspec import Struct

from edge_agent import limits
from edge_agent.core.lanes import Entry
from edge_agent.core.ledger import Ledger
from edge_agent.outgoing import Batch, Committed, Kept, Opened, Record, SetAside, Stamp, Trim

STORE_AFTER_NS = round(limits.STORE_AFTER_S * 1e9)
DELETE_AFTER_NS = round(limits.DELETE_AFTER_S * 1e9)
CHECKPOINT_NS = round(limits.CHECKPOINT_S * 1e9)


class WallClock(Struct, frozen=True):
    """wall = monotonic + offset, as known now."""

    offset_ns: int
    synced: bool


class Spool:
    """``expected``: a store will be opened; until it was, or failed, it is neither usable nor failed."""

    def __init__(self, ledger: Ledger, boot_id: str, *, expected: bool) -> None:
        self.opening = expected
        self.usable = False  # it can be read, and written unless it is full
        self.full = False
        self.stored: dict[int, Entry] = {}  # on the disk and in memory
        self.rows = self.rows_bytes = 0
        self._ledger = ledger
        self._boot_id = boot_id
        self._was_open = False
        self._unstored: dict[int, Entry] = {}
        self._deletes: dict[int, None] = {}
        self._deletes_since_ns = 0
        self._deletes_writing: frozenset[int] = frozenset()
        self._aside: list[SetAside] = []
        self._urgent = False
        self._batch: Batch | None = None  # on its way to the disk
        self._writing: list[Entry] = []  # of that batch
        self._checkpoint_ns: int | None = None

    @property
    def hoped_for(self) -> bool:
        """Whether it makes sense to wait for the disk."""
        return (self.usable and not self.full) or self.opening

    @property
    def on_disk_only(self) -> int:
        return max(0, self.rows - len(self.stored) - len(self._deletes) - len(self._deletes_writing))

    def knows(self, number: int) -> bool:
        """Whether a row of the disk is in memory, or is already on its way out of the disk."""
        return number in self.stored or number in self._deletes or number in self._deletes_writing

    def in_memory_above(self, number: int) -> frozenset[int]:
        """Of what the disk has, or has with the next batch, the numbers above ``number`` that are in memory too."""
        return frozenset(each for numbers in (self.stored, self._unstored) for each in numbers if each > number)

    # --- from the outbox -----------------------------------------------------------------------------------------

    def put(self, entry: Entry) -> None:
        """Something that the disk should have, soon or at once."""
        self._unstored[entry.number] = entry
        self._urgent = self._urgent or entry.record.kind.urgent

    def loaded(self, entry: Entry) -> None:
        """A row of the disk is in memory now."""
        self.stored[entry.number] = entry

    def spilled(self, entry: Entry) -> None:
        """The memory gave it up; the disk has it."""
        del self.stored[entry.number]

    def forget(self, entry: Entry, now_ns: int) -> None:
        """It left for good."""
        if not entry.writing:
            self._unstored.pop(entry.number, None)
        if self.stored.pop(entry.number, None):
            self._ledger.stored(entry.record, -1)
            self.delete(entry.number, now_ns)

    def delete(self, number: int, now_ns: int) -> None:
        if not self._deletes:
            self._deletes_since_ns = now_ns
        self._deletes[number] = None

    def set_aside(self, record: Record, reason: str, wall: WallClock) -> None:
        self._aside.append(SetAside(record, self._stamp(record, wall), reason))
        del self._aside[: -limits.SET_ASIDE_MOST]

    # --- to the disk and back ------------------------------------------------------------------------------------

    def due(self, now_ns: int, *, pressed: bool) -> bool:
        """Whether a commit should begin. ``pressed``: much waits in memory, or something waits for the disk alone."""
        if not self.usable or self.full or self._batch is not None:
            return False
        if self._checkpoint_ns is None or now_ns - self._checkpoint_ns >= CHECKPOINT_NS or self._urgent:
            return True
        if len(self._deletes) >= limits.DELETES_MOST:
            return True
        if self._deletes and now_ns - self._deletes_since_ns >= DELETE_AFTER_NS:
            return True
        if not self._unstored:
            return False
        return pressed or now_ns - next(iter(self._unstored.values())).put_ns >= STORE_AFTER_NS

    def batch(self, trim: Trim | None, wall: WallClock, now_ns: int, *, clean: bool) -> Batch | None:
        """All that the disk has to be told. None while it can't be told, or is being told something."""
        if not self.usable or self._batch is not None:
            return None
        self._writing = list(self._unstored.values())
        for entry in self._writing:
            entry.writing = True
        deletes, self._deletes = self._deletes, {}
        aside, self._aside = self._aside, []
        self._deletes_writing = frozenset(deletes)
        self._urgent, self._checkpoint_ns = False, now_ns
        self._batch = Batch(
            insert=[Kept(entry.number, entry.record, self._stamp(entry.record, wall)) for entry in self._writing],
            delete=sorted(deletes),
            counts=self._ledger.take(),
            aside=aside,
            trim=trim,
            clean=clean,
        )
        return self._batch

    def committed(self, result: Committed, now_ns: int) -> None:
        """The batch is on the disk now."""
        self._batch = None
        writing, self._writing = self._writing, []
        self._deletes_writing = frozenset()
        self.rows, self.rows_bytes = result.records, result.bytes
        for entry in writing:
            entry.writing, entry.stored = False, True
            self._unstored.pop(entry.number, None)
            if entry.gone:
                self.delete(entry.number, now_ns)
            else:
                self.stored[entry.number] = entry
                self._ledger.stored(entry.record, 1)
        self._ledger.trimmed(result.trimmed)

    def failed(self) -> None:
        """The disk can't be used, and the batch under way did not come through."""
        self.opening = self.usable = False
        self.not_written()

    def not_written(self) -> None:
        """The batch did not come through: all is as it was before."""
        self.full = True
        batch, self._batch = self._batch, None
        writing, self._writing = self._writing, []
        self._deletes_writing = frozenset()
        for entry in writing:
            entry.writing = False
            if entry.gone:
                self._unstored.pop(entry.number, None)
        if batch is not None:
            self._deletes = dict.fromkeys(batch.delete) | self._deletes
            self._aside = [*batch.aside, *self._aside]
            self._ledger.put_back(batch.counts)

    def opened(self, store: Opened) -> None:
        """It can be used, for the first time or again."""
        if store.set_aside and self._was_open:
            self._begin_anew()
        self.opening, self.usable, self._was_open = False, True, True
        self.try_again()
        self.rows, self.rows_bytes = store.records, store.bytes

    def try_again(self) -> None:
        """There may be room again; what was counted meanwhile goes in soon."""
        self.full = False
        self._checkpoint_ns = None

    # --- inside --------------------------------------------------------------------------------------------------

    def _stamp(self, record: Record, wall: WallClock) -> Stamp:
        return record.earlier or Stamp(self._boot_id, record.mono_ns + wall.offset_ns, wall.synced)

    def _begin_anew(self) -> None:
        """The file was set aside, with what only it had; what is in memory as well goes into the new one."""
        in_memory = list(self.stored.values())
        for entry in in_memory:
            entry.stored = False
            self._ledger.stored(entry.record, -1)
        self._ledger.begin_anew()
        self._unstored = _in_order([*in_memory, *self._unstored.values()])
        for entry in self._unstored.values():  # not only those from memory: the file before may have gone as well
            self._ledger.known_of(entry.record)
        self.stored, self._deletes = {}, {}


def _in_order(entries: Iterable[Entry]) -> dict[int, Entry]:
    return {entry.number: entry for entry in sorted(entries, key=lambda entry: entry.number)}
