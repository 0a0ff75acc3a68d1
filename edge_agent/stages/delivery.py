"""From the outbox to the broker: what goes when, and what its answers mean. Runs on the publisher's thread."""

from __future__ import annotations

import random
from collections.abc import Callable

from edge_agent import limits
from edge_agent.core.backoff import Backoff
from edge_agent.core.lanes import Entry
from edge_agent.core.outbox import Outbox
from edge_agent.core.spool import WallClock
from edge_agent.core.wire import seal
from edge_agent.errors import RefusedError, TransportError
from edge_agent.outgoing import Kind, Record, Refusal
from edge_agent.ports import Broker, Clock

TICK_LEAST_S = 0.002  # the backlog goes out in small bursts rather than one record for each waking
PATIENCE_TICK_S = 0.05


class Delivery:
    """``refused`` is told topic and reason of a message that the broker will never take."""

    def __init__(self, outbox: Outbox, refused: Callable[[str, str], None], clock: Clock) -> None:
        self._outbox = outbox
        self._refused = refused
        self._clock = clock
        self.refused_topics: set[str] = set()  # of retained state
        self._broker: Broker | None = None
        self.connected = False
        self._paused_until_ns = 0  # the broker asked for patience
        self._patience = Backoff(limits.REFUSED_FIRST_S, limits.REFUSED_LAST_S)

    def use(self, broker: Broker) -> None:
        self._broker = broker

    @property
    def full(self) -> bool:
        """No further message may be under way."""
        return self._outbox.in_flight >= (self._broker.window() if self._broker else 0)

    def connect(self, up: bool) -> None:
        self.connected = up
        self._paused_until_ns = 0
        self._outbox.connected(up)

    def wait_s(self, longest_s: float) -> float:
        """How long nothing will be due, at most ``longest_s``."""
        if self._paused_until_ns:
            return PATIENCE_TICK_S
        if not self.connected or self.full or (due_ns := self._outbox.next_due_ns()) is None:
            return longest_s
        return min(longest_s, max(TICK_LEAST_S, (due_ns - self._clock.monotonic_ns()) / 1e9))

    def pump(self) -> None:
        """Hand over what may go now."""
        broker = self._broker
        now_ns = self._clock.monotonic_ns()
        if broker is None or now_ns < self._paused_until_ns:
            return
        self._paused_until_ns = 0
        # not before the greeting: the broker may be back while its word is still behind results in the queue
        while self.connected and not self.full:
            now_ns = self._clock.monotonic_ns()
            entry = self._outbox.take(now_ns)
            if entry is None:
                break
            record = entry.record
            try:
                token = broker.publish(
                    record.topic, self._seal(entry), qos=record.qos, retain=record.retain, expiry_s=record.expiry_s
                )
            except RefusedError as error:
                self._refuse(entry, str(error), now_ns)
            except TransportError:
                self._outbox.give_back(entry, now_ns)
                break
            else:
                self._outbox.sent(token, entry)

    def acknowledged(self, token: int) -> Record | None:
        """Returns what the broker has now; None for what means nothing any more."""
        self._patience.reset()
        return self._outbox.acknowledged(token, self._clock.monotonic_ns())

    def not_taken(self, token: int, refusal: Refusal) -> None:
        entry = self._outbox.returned(token)
        if entry is None:
            return
        now_ns = self._clock.monotonic_ns()
        if refusal.for_good:
            self._refuse(entry, refusal.reason, now_ns)
        else:
            self._outbox.give_back(entry, now_ns)
            self._paused_until_ns = now_ns + round(self._patience.next(random.random()) * 1e9)

    def _refuse(self, entry: Entry, reason: str, now_ns: int) -> None:
        self._outbox.refuse(entry, reason, self.wall(), now_ns)
        if entry.record.retain:
            self.refused_topics.add(entry.record.topic)
        self._refused(entry.record.topic, reason)

    def wall(self) -> WallClock:
        return WallClock(self._clock.wall_ns(0), self._clock.synced())

    def _seal(self, entry: Entry) -> bytes:
        record = entry.record
        if record.schema is None:
            return record.body
        earlier = record.earlier
        buffered = entry.buffered if record.kind is Kind.PREDICTION else None
        if earlier is not None:
            return seal(record.schema, record.body, earlier.wall_ns, earlier.clock_synced, buffered)
        wall_ns, synced = self._clock.wall_ns(record.mono_ns), self._clock.synced()
        return seal(record.schema, record.body, wall_ns, synced, buffered)
