"""The one thread that finishes predictions, fills the outbox and empties it into the broker.

Everything reaches it through one queue, so the outbox, the sequence numbers and the order on the wire have one owner.
"""

from __future__ import annotations

import queue
import threading
from collections import deque
from collections.abc import Callable

from msgspec import Struct

from edge_agent import limits
from edge_agent.core.outbox import Discarded, Outbox
from edge_agent.core.wire import OFFLINE, ONLINE, Topics, seal
from edge_agent.errors import TransportError
from edge_agent.outgoing import Kind, Record
from edge_agent.ports import Broker
from edge_agent.records import DiscardReason
from edge_agent.stages.pipeline import Inference
from edge_agent.stages.results import ResultStage
from edge_agent.stages.worker import Services, Worker


class _Result(Struct, frozen=True):
    stage: ResultStage
    inference: Inference | None  # None: the source ended


class _Acknowledged(Struct, frozen=True):
    token: int
    refusal: str | None
    at_ns: int


class _Connection(Struct, frozen=True):
    up: bool


class _Closing:
    """The pipelines are ending: nobody waits for the wire any more."""


class _Stop:
    """Flush what the broker takes in time, say ``offline``, end."""


class Publisher(Worker):
    """``greet`` gives the retained records to publish after each connection, ``farewell`` those of a clean stop, made
    when all else is acknowledged; ``online`` and ``offline`` follow them."""

    def __init__(
        self,
        outbox: Outbox,
        topics: Topics,
        greet: Callable[[], list[Record]],
        farewell: Callable[[], list[Record]],
        refused: Callable[[str, str], None],
        services: Services,
    ) -> None:
        """``refused`` is told topic and reason of a message that the broker will never take."""
        super().__init__("publisher", services)
        self._outbox = outbox
        self._topics = topics
        self._greet = greet
        self._farewell = farewell
        self._refused = refused
        self._queue: queue.SimpleQueue[object] = queue.SimpleQueue()
        self._permits: dict[str, threading.BoundedSemaphore] = {}
        self._held: list[threading.BoundedSemaphore] = []
        self._stages: dict[str, ResultStage] = {}
        self._lossless: set[str] = set()
        self._in_flight: dict[int, Record] = {}
        self._acknowledgements: deque[_Acknowledged] = deque()
        self._hungry = False  # waiting for acknowledgements: for room on the wire, or for the end
        self._broker: Broker | None = None
        self._connected_ns: int | None = None
        self._stop_at_ns: int | None = None
        self._said_goodbye = False

    # --- from any thread -----------------------------------------------------------------------------------------

    def add_pipeline(self, stage: ResultStage, lossless: bool) -> Callable[[Inference | None], None]:
        """Returns the function that takes this pipeline's inferences, and None at the end of its source. It blocks
        while too many are on their way."""
        permits = self._permits[stage.name] = threading.BoundedSemaphore(limits.PUBLISH_QUEUE)
        self._stages[stage.name] = stage
        if lossless:
            self._lossless.add(stage.name)

        def deliver(inference: Inference | None) -> None:
            permits.acquire()
            self._queue.put(_Result(stage, inference))

        return deliver

    def use(self, broker: Broker) -> None:
        """Before the thread starts."""
        self._broker = broker

    def publish(self, record: Record) -> None:
        self._queue.put(record)

    def acknowledged(self, token: int, refusal: str | None) -> None:
        """From the network thread. Wakes this thread only where it waits for room: one waking less a prediction."""
        self._acknowledgements.append(_Acknowledged(token, refusal, self.clock.monotonic_ns()))
        if self._hungry:
            self._queue.put(None)

    def connection(self, up: bool) -> None:
        self._queue.put(_Connection(up))

    def closing(self) -> None:
        """Let go of every thread that waits for the wire; its results are still taken."""
        self._queue.put(_Closing())

    def stop(self) -> None:
        """After the last inference: flush what the broker takes in time, say ``offline``, end."""
        self._queue.put(_Stop())

    @property
    def connected(self) -> bool:
        return self._connected_ns is not None

    def report(self) -> dict[str, object]:
        """The outbox's part of ``stats``."""
        return {"waiting": len(self._outbox), "bytes": self._outbox.bytes, "in_flight": len(self._in_flight)}

    # --- this thread ---------------------------------------------------------------------------------------------

    def work(self) -> None:
        while not self._finished():
            self.beat()
            self._handle(self._next())
            while self._acknowledgements:
                self._acknowledge(self._acknowledgements.popleft())
            self._pump()
            if self._stop_at_ns and not self._said_goodbye and self._empty_or_late():
                self._said_goodbye = True
                self._put_all([*self._farewell(), self._availability(OFFLINE)])
                self._pump()
        self._lose(self._outbox.drain(DiscardReason.SHUTDOWN))
        self._lose([Discarded(record, DiscardReason.SHUTDOWN) for record in self._in_flight.values()])

    def _next(self) -> object:
        # first hungry, then the look: ``acknowledged`` does the two the other way round, so one of them sees the other
        self._hungry = bool(len(self._outbox) or self._held or self._stop_at_ns)
        if self._hungry and self._acknowledgements:
            return None
        try:
            return self._queue.get(timeout=0.1 if self._stop_at_ns else 1.0)
        except queue.Empty:
            return None

    def _handle(self, item: object) -> None:
        if isinstance(item, _Result):
            self._finish(item)
        elif isinstance(item, Record):
            self._put(item)
        elif isinstance(item, _Connection):
            self._connect(item.up)
        elif isinstance(item, _Closing):
            self._lossless.clear()
            self._release_held(everything=True)
        elif isinstance(item, _Stop):
            for stage in self._stages.values():
                self._put_all(stage.flush())
            self._stop_at_ns = self.clock.monotonic_ns() + round(limits.STOP_FLUSH_S * 1e9)

    def _finish(self, result: _Result) -> None:
        stage, inference = result.stage, result.inference
        self._put_all(stage.flush() if inference is None else stage.finish(inference))
        permit = self._permits[result.stage.name]
        # a file source waits for the wire instead of overflowing the outbox; without a broker it does not wait
        if result.stage.name in self._lossless and self.connected and len(self._outbox) > limits.PUBLISH_QUEUE:
            self._held.append(permit)
        else:
            permit.release()

    def _acknowledge(self, item: _Acknowledged) -> None:
        record = self._in_flight.pop(item.token, None)
        if record is None:
            return
        if item.refusal is not None:
            self._lose([Discarded(record, DiscardReason.REFUSED)])
            self._refused(record.topic, item.refusal)
        elif record.pipeline is not None and record.kind is Kind.PREDICTION:
            since_ns = None if record.arrival_ns is None else item.at_ns - record.arrival_ns
            self._stages[record.pipeline].counters.acknowledged(since_ns)

    def _connect(self, up: bool) -> None:
        self._connected_ns = self.clock.monotonic_ns() if up else None
        if up and self._stop_at_ns is None:
            self._put_all([*self._greet(), self._availability(ONLINE)])
        if not up:
            self._release_held(everything=True)

    def _put_all(self, records: list[Record]) -> None:
        for record in records:
            self._put(record)

    def _put(self, record: Record) -> None:
        self._lose(self._outbox.put(record, self.clock.monotonic_ns()))

    def _pump(self) -> None:
        broker = self._broker
        # not before the greeting: the broker may be back while its word is still behind results in the queue
        while broker is not None and self.connected and len(self._in_flight) < broker.window():
            now_ns = self.clock.monotonic_ns()
            record, discarded = self._outbox.take(now_ns)
            self._lose(discarded)
            if record is None:
                break
            try:
                token = broker.publish(
                    record.topic, self._seal(record), qos=record.qos, retain=record.retain, expiry_s=record.expiry_s
                )
            except TransportError:
                self._outbox.give_back(record)
                break
            self._in_flight[token] = record
        self._release_held(everything=False)

    def _seal(self, record: Record) -> bytes:
        if record.schema is None:
            return record.body
        buffered = record.since_ns < (self._connected_ns or 0) if record.kind is Kind.PREDICTION else None
        wall_ns = self.clock.wall_ns(record.mono_ns)
        return seal(record.schema, record.body, wall_ns, self.clock.synced(), buffered)

    def _release_held(self, everything: bool) -> None:
        while self._held and (everything or len(self._outbox) <= limits.PUBLISH_QUEUE):
            self._held.pop().release()

    def _availability(self, body: bytes) -> Record:
        now_ns = self.clock.monotonic_ns()
        return Record(Kind.EVENT, self._topics.availability, None, body, now_ns, retain=True)

    def _lose(self, discarded: list[Discarded]) -> None:
        for item in discarded:
            if item.record.kind is Kind.PREDICTION and item.record.pipeline is not None:
                self._stages[item.record.pipeline].counters.discard(item.reason)

    def _empty_or_late(self) -> bool:
        """Nothing is on its way any more, or the time left is needed for the last words."""
        late_ns = (self._stop_at_ns or 0) - round(limits.STOP_FLUSH_S * 1e9 / 3)
        return not (self._in_flight or len(self._outbox)) or self.clock.monotonic_ns() >= late_ns

    def _finished(self) -> bool:
        if self._stop_at_ns is None or not self._queue.empty():
            return False
        if not self.connected or self.clock.monotonic_ns() >= self._stop_at_ns:
            return True
        return self._said_goodbye and not (self._in_flight or len(self._outbox))
