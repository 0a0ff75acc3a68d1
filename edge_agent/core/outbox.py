"""What waits for the broker: order, bounds, what goes to the disk and when, what is discarded. Policy only: no thread,
no clock, no file.

Every record that is put in leaves in exactly one way: acknowledged, replaced (retained state, where only the last value
matters), or discarded under a named reason. Until then it is in memory, on the disk, or both. Not safe for threads.
"""

from __future__ import annotations

from collections import OrderedDict, deque

from msgspec import Struct

from edge_agent.core.lanes import Entry, LaneQueue
from edge_agent.core.ledger import Ledger
from edge_agent.core.spool import Spool, WallClock
from edge_agent.limits import PAGE_BYTES, PAGE_RECORDS
from edge_agent.outgoing import Batch, Committed, Lane, Loaded, Opened, Record, Trim
from edge_agent.records import DiscardReason

PREDICTION_AFTER = 32  # so many other records in a row, and a waiting prediction has its turn: no flood starves them
BACKLOG_AFTER = 8  # so many live predictions in a row, and the backlog has its turn
DRAIN_BURST_NS = 20_000_000  # the backlog may catch up that much of its rate at once


class Bounds(Struct, frozen=True):
    """``memory`` and ``disk`` in bytes as Record.size charges them; ``drain_period_ns`` between two records of the
    backlog; ``every``: on the disk before it is published."""

    memory: int
    disk: int
    age_ns: int
    drain_period_ns: int
    every: bool = False


class Outbox:
    """Retained state first (the last value of each topic), then events, live predictions, and the backlog at its rate.

    With ``durable`` it relies on a store: its owner carries batches and pages there and the answers back here, in
    order. Without one, or while the disk fails, all waits in memory.
    """

    def __init__(self, bounds: Bounds, boot_id: str, *, durable: bool) -> None:
        self.ledger = Ledger(boot_id)
        self.bytes = 0  # in memory, on its way to the broker included
        self._bounds = bounds
        self._disk_most = bounds.disk
        self._spool = Spool(self.ledger, boot_id, expected=durable)
        self._connected = False
        self._predictions, self._events = LaneQueue(), LaneQueue()
        self._lanes = {Lane.PREDICTIONS: self._predictions, Lane.EVENTS: self._events}
        self._retained: OrderedDict[str, Entry] = OrderedDict()
        self._said: set[str] = set()  # retained topics of this run: what an earlier one said there is out of date
        self._held: deque[Entry] = deque()  # durability "every": not on the disk yet, not to be sent yet
        self._flying: dict[int, Entry] = {}  # by the token of the broker
        self._came_back: set[int] = set()  # numbers handed over before, and on the disk alone since
        self._numbers = 0
        self._passed_over = 0  # records taken since the last prediction, while predictions waited
        self._live_in_a_row = 0
        self._drain_ns = 0  # the next record of the backlog not before

    # --- in ------------------------------------------------------------------------------------------------------

    def put(self, record: Record, now_ns: int) -> None:
        entry = Entry(self._numbers, record, now_ns)
        self._numbers += 1
        self.bytes += record.size
        self.ledger.produced(record)
        if record.kind.durable:
            self._spool.put(entry)
        if record.replaceable:
            self._said.add(record.topic)
            self._retain(entry, now_ns)
        elif record.kind.durable and self._bounds.every and self._spool.hoped_for:
            self._held.append(entry)
        else:
            self._queue(entry)
        self._shrink(now_ns)

    def connected(self, up: bool) -> None:
        self._connected = up
        if not up:
            for lane in self._lanes.values():
                lane.disconnected()

    # --- out -----------------------------------------------------------------------------------------------------

    def take(self, now_ns: int) -> Entry | None:
        """The next record to hand to the network; say with ``sent``, ``give_back`` or ``refuse`` what became of it."""
        while (entry := self._next(now_ns)) is not None:
            record = entry.record
            if record.replaceable or record.earlier or record.since_ns >= now_ns - self._bounds.age_ns:
                return entry
            self.discard(entry, DiscardReason.EXPIRED, now_ns)
        return None

    def sent(self, token: int, entry: Entry) -> None:
        self._flying[token] = entry
        if not entry.sent:
            entry.sent = True
            self.ledger.published(entry.record)

    def acknowledged(self, token: int, now_ns: int) -> Record | None:
        """The broker has it. None for what was given up meanwhile."""
        entry = self._flying.pop(token, None)
        if entry is None or entry.gone:
            return None
        self.ledger.acknowledged(entry.record)
        self._forget(entry, now_ns)
        return entry.record

    def returned(self, token: int) -> Entry | None:
        """The broker did not take it: off the wire, to be given back or refused. None for what was given up."""
        entry = self._flying.pop(token, None)
        return None if entry is None or entry.gone else entry

    def give_back(self, entry: Entry, now_ns: int) -> None:
        """The network did not take it: it goes out again before what waits with it."""
        if not entry.record.replaceable:
            self._lanes[Lane.of(entry.record.kind)].given_back(entry, live=self._connected)
        elif entry.record.topic in self._retained:  # a newer value came meanwhile
            self._forget(entry, now_ns)
        else:
            self._retained[entry.record.topic] = entry
            self._retained.move_to_end(entry.record.topic, last=False)

    def reset(self, now_ns: int) -> None:
        """Nothing is on its way any more: all of it is to go out again, in order."""
        flying, self._flying = self._flying, {}
        for entry in sorted(flying.values(), key=lambda entry: entry.number, reverse=True):
            if not entry.gone:
                self.give_back(entry, now_ns)
        for lane in self._lanes.values():
            lane.put_in_order()

    def refuse(self, entry: Entry, reason: str, wall: WallClock, now_ns: int) -> None:
        """The broker will never take it: counted, and set aside for a person to look at."""
        if entry.record.kind.durable:
            self._spool.set_aside(entry.record, reason, wall)
        self.discard(entry, DiscardReason.REFUSED, now_ns)

    def discard(self, entry: Entry, reason: DiscardReason, now_ns: int) -> None:
        self.ledger.discarded(entry.record, reason)
        self._forget(entry, now_ns)

    def drain(self, reason: DiscardReason, now_ns: int) -> None:
        """At the end of the process: discard what the disk does not have."""
        waiting = [entry for lane in self._lanes.values() for entry in lane]
        for entry in [*self._held, *waiting, *self._flying.values()]:
            if not entry.stored and not entry.gone:
                self.discard(entry, reason, now_ns)

    # --- how it fares --------------------------------------------------------------------------------------------

    def __len__(self) -> int:
        """Records that wait in memory, without those on their way."""
        return len(self._retained) + len(self._held) + len(self._predictions) + len(self._events)

    @property
    def in_flight(self) -> int:
        return len(self._flying)

    @property
    def live(self) -> int:
        """Predictions of this connection that wait for the wire or the disk."""
        return len(self._predictions.live) + len(self._held)

    def next_due_ns(self) -> int | None:
        """When the backlog may go on, where nothing but its rate holds it back."""
        return self._drain_ns if self._predictions.backlog() else None

    def report(self) -> dict[str, object]:
        """The outbox's part of ``stats``. ``waiting``: in memory or on the disk; ``stored``: on the disk."""
        spool = self._spool
        return {
            "waiting": len(self) + spool.on_disk_only,
            "bytes": self.bytes,
            "in_flight": len(self._flying),
            "stored": spool.on_disk_only + len(spool.stored),
            "stored_bytes": spool.rows_bytes,
            "disk": "opening" if spool.opening else "ok" if spool.hoped_for else "failed",
        }

    # --- the disk ------------------------------------------------------------------------------------------------

    def batch(self, wall: WallClock, now_ns: int, *, hurry: bool = False, clean: bool = False) -> Batch | None:
        """The next commit, where one is due and none is under way. ``hurry``: all that is not stored is due;
        ``clean``: the last one of a clean stop, due even when it is empty."""
        pressed = hurry or bool(self._held) or self.bytes > self._bounds.memory // 4  # a commit ends before it is full
        if not clean and not self._spool.due(now_ns, pressed=pressed):
            return None
        return self._spool.batch(self._trim(wall, now_ns), wall, now_ns, clean=clean)

    def committed(self, result: Committed, now_ns: int) -> None:
        """The batch is on the disk."""
        self._spool.committed(result, now_ns)
        self._release_held()
        for lane in self._lanes.values():
            if not self._connected:
                lane.recent = self._spill(lane, lane.recent)
        for lane in self._lanes.values():
            if self.bytes > self._bounds.memory // 2:
                lane.recent, lane.live = self._spill(lane, lane.recent), self._spill(lane, lane.live)
        self._shrink(now_ns)

    def disk_failed(self) -> None:
        """A batch or a page did not come through, or the store can't be opened: all waits in memory alone."""
        self._spool.failed()
        for lane in self._lanes.values():
            lane.unreadable()
        self._release_held()

    def disk_full(self) -> None:
        """A batch did not come through; what is on the disk can be read."""
        self._spool.not_written()
        self._release_held()

    def disk_may_have_room(self) -> None:
        self._spool.try_again()

    def opened(self, store: Opened) -> None:
        """The store can be used, for the first time or again."""
        self._spool.opened(store)
        if store.bytes_most is not None:
            self._disk_most = min(self._bounds.disk, store.bytes_most)
        for lane in self._lanes.values():
            lane.start_over()

    def wanted_page(self) -> tuple[Lane, int, int] | None:
        """The lane to read on, the number behind which and the bytes at most; one page of each lane at a time."""
        if not (self._connected and self._spool.usable):
            return None
        for lane, queue in reversed(self._lanes.items()):  # events first
            room = self.bytes < self._bounds.memory // 2 and len(queue.loaded) < PAGE_RECORDS
            if not queue.end and not queue.loading and (room or not queue.loaded):
                queue.loading = True
                return lane, queue.cursor, min(PAGE_BYTES, self._bounds.memory // 4)
        return None

    def page(self, lane: Lane, page: Loaded, now_ns: int) -> None:
        """The answer to ``wanted_page``."""
        queue = self._lanes[lane]
        queue.arrived(page)
        for kept in page.records:
            if self._spool.knows(kept.number):
                continue
            entry = Entry(kept.number, kept.record, now_ns, stored=True, buffered=True)
            entry.sent = kept.number in self._came_back
            self._came_back.discard(kept.number)
            self._spool.loaded(entry)
            self.bytes += kept.record.size
            if not kept.record.replaceable:
                queue.loaded.append(entry)
            elif kept.record.topic in self._said:
                self._forget(entry, now_ns)
            else:
                self._retain(entry, now_ns)
        for number, key in page.damaged.items():
            if not self._spool.knows(number):
                self.ledger.damaged(key)
                self._spool.delete(number, now_ns)

    # --- inside --------------------------------------------------------------------------------------------------

    def _retain(self, entry: Entry, now_ns: int) -> None:
        replaced = self._retained.pop(entry.record.topic, None)
        self._retained[entry.record.topic] = entry
        if replaced:
            self._forget(replaced, now_ns)

    def _queue(self, entry: Entry) -> None:
        self._lanes[Lane.of(entry.record.kind)].put(entry, live=self._connected)

    def _next(self, now_ns: int) -> Entry | None:
        backlog = self._predictions.backlog() if now_ns >= self._drain_ns else None
        waiting = bool(self._predictions.live or backlog)
        if not (waiting and self._passed_over >= PREDICTION_AFTER):
            entry = self._next_other()
            if entry is not None:
                self._passed_over += waiting
                return entry
        self._passed_over = 0
        if self._predictions.live and not (backlog and self._live_in_a_row >= BACKLOG_AFTER):
            self._live_in_a_row += 1
            return self._predictions.live.popleft()
        self._live_in_a_row = 0
        if not backlog:
            return None
        self._drain_ns = max(self._drain_ns, now_ns - DRAIN_BURST_NS) + self._bounds.drain_period_ns
        return backlog.popleft()

    def _next_other(self) -> Entry | None:
        if self._retained:
            return self._retained.popitem(last=False)[1]
        waiting = self._events.live or self._events.backlog()
        return waiting.popleft() if waiting else None

    def _trim(self, wall: WallClock, now_ns: int) -> Trim | None:
        """None while a page is on its way here: its records are as good as in memory."""
        lane = self._predictions
        if lane.loading:
            return None
        oldest_wall_ns = now_ns + wall.offset_ns - self._bounds.age_ns if wall.synced else None
        spare = self._spool.in_memory_above(lane.cursor)
        return Trim(lane.cursor, self._disk_most, oldest_wall_ns, spare, now_ns - self._bounds.age_ns)

    def _release_held(self) -> None:
        """Durability "every": what the disk has may go, and all of it where there is no disk to wait for."""
        while self._held and (self._held[0].stored or not self._spool.hoped_for):
            self._queue(self._held.popleft())

    def _spill(self, lane: LaneQueue, waiting: deque[Entry]) -> deque[Entry]:
        """Out of the memory with what the disk has; returns what stays."""
        for entry in waiting:
            if entry.stored:
                self._spilled(lane, entry)
        return deque(entry for entry in waiting if not entry.stored)

    def _spilled(self, lane: LaneQueue, entry: Entry) -> None:
        lane.spilled(entry)
        self._spool.spilled(entry)
        if entry.sent:
            self._came_back.add(entry.number)
        self.bytes -= entry.record.size

    def _shrink(self, now_ns: int) -> None:
        """Where more waits than may: drop the oldest predictions, then events; what the disk has is only spilled."""
        while self.bytes > self._bounds.memory:
            places = [(lane, place) for lane in self._lanes.values() for place in (lane.loaded, lane.recent, lane.live)]
            lane, waiting = next(((lane, place) for lane, place in places if place), (None, None))
            if lane and waiting is lane.loaded and waiting[-1].stored:
                self._spilled(lane, waiting.pop())  # its end: the disk is read on from there, in order
            elif lane and waiting and waiting[0].stored:
                self._spilled(lane, waiting.popleft())
            elif waiting or self._held:
                # also what is on its way to the disk: one that stalls may do so for ever
                self.discard((waiting or self._held).popleft(), DiscardReason.OUTBOX_FULL, now_ns)
            else:
                return  # nothing but retained state and what is on its way to the broker

    def _forget(self, entry: Entry, now_ns: int) -> None:
        """It left for good: out of the memory, and out of the disk where it is there."""
        entry.gone = True
        self.bytes -= entry.record.size
        self._spool.forget(entry, now_ns)
