"""What waits for the broker: order, bounds, what goes first and what is discarded. Policy only; no thread, no clock.

Every record that is put in leaves in exactly one way: taken and acknowledged, replaced (retained state, where only
the last value matters), or returned as discarded with a reason. Not safe for threads: one owner.
"""

from __future__ import annotations

from collections import OrderedDict, deque

from msgspec import Struct

from edge_agent.outgoing import Kind, Record
from edge_agent.records import DiscardReason

PREDICTION_AFTER = 32  # so many other records in a row, and a waiting prediction has its turn: no flood starves them


class Discarded(Struct, frozen=True):
    record: Record
    reason: DiscardReason


class Outbox:
    """Bounded in bytes and age. Retained state first (the last value of each topic), then events, then predictions in
    the order in which they were made."""

    def __init__(self, bytes_most: int, age_most_ns: int) -> None:
        self._bytes_most = bytes_most
        self._age_most_ns = age_most_ns
        self._retained: OrderedDict[str, Record] = OrderedDict()
        self._events: deque[Record] = deque()
        self._predictions: deque[Record] = deque()
        self._passed_over = 0  # records taken since the last prediction, while predictions waited
        self.bytes = 0

    def __len__(self) -> int:
        return len(self._retained) + len(self._events) + len(self._predictions)

    def put(self, record: Record, now_ns: int) -> list[Discarded]:
        """Keep the record; returns what had to go for it: the too old, then the oldest of the lowest kind."""
        self.bytes += record.size
        if record.retain:
            replaced = self._retained.pop(record.topic, None)
            self.bytes -= replaced.size if replaced else 0
            self._retained[record.topic] = record
        else:
            self._queue_of(record).append(record)
        return self._expire(now_ns) + self._shrink()

    def take(self, now_ns: int) -> tuple[Record | None, list[Discarded]]:
        """The next record to hand to the network, and what became too old while it waited."""
        discarded = self._expire(now_ns)
        record: Record | None = None
        if self._predictions and self._passed_over >= PREDICTION_AFTER:
            record = self._predictions.popleft()
        elif self._retained:
            record = self._retained.popitem(last=False)[1]
        elif self._events:
            record = self._events.popleft()
        elif self._predictions:
            record = self._predictions.popleft()
        is_prediction = record is not None and record.kind is Kind.PREDICTION
        self._passed_over = 0 if is_prediction or not self._predictions else self._passed_over + 1
        self.bytes -= record.size if record else 0
        return record, discarded

    def give_back(self, record: Record) -> None:
        """Return a record that the network did not take: it goes out first again."""
        self.bytes += record.size
        if record.retain:
            if record.topic in self._retained:  # a newer value came meanwhile
                self.bytes -= record.size
            else:
                self._retained[record.topic] = record
                self._retained.move_to_end(record.topic, last=False)
        else:
            self._queue_of(record).appendleft(record)

    def drain(self, reason: DiscardReason) -> list[Discarded]:
        """Everything that is left, when the process ends."""
        left = [*self._retained.values(), *self._events, *self._predictions]
        self._retained.clear()
        self._events.clear()
        self._predictions.clear()
        self.bytes = 0
        return [Discarded(record, reason) for record in left]

    def _queue_of(self, record: Record) -> deque[Record]:
        return self._predictions if record.kind is Kind.PREDICTION else self._events

    def _expire(self, now_ns: int) -> list[Discarded]:
        oldest = now_ns - self._age_most_ns
        discarded = []
        for queue in (self._predictions, self._events):
            while queue and queue[0].since_ns < oldest:
                discarded.append(self._drop(queue, DiscardReason.EXPIRED))
        return discarded

    def _shrink(self) -> list[Discarded]:
        discarded = []
        while self.bytes > self._bytes_most:
            queue = self._predictions or self._events
            if not queue:  # retained state alone: one value a topic, bounded by the configuration
                break
            discarded.append(self._drop(queue, DiscardReason.OUTBOX_FULL))
        return discarded

    def _drop(self, queue: deque[Record], reason: DiscardReason) -> Discarded:
        record = queue.popleft()
        self.bytes -= record.size
        return Discarded(record, reason)
