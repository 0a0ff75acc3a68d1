"""The one thread that finishes predictions, fills the outbox and empties it into the broker and the store.

Everything reaches it through one queue, so the outbox, the sequence numbers and the order on the wire have one owner.
"""

from __future__ import annotations

import queue
import threading
from collections import deque
from collections.abc import Callable

from msgspec import Struct

from edge_agent import limits
from edge_agent.core.outbox import Outbox
from edge_agent.core.wire import OFFLINE, ONLINE, Topics
from edge_agent.outgoing import Kind, Record, Refusal
from edge_agent.ports import Broker
from edge_agent.records import DiscardReason
from edge_agent.stages.delivery import Delivery
from edge_agent.stages.inference import Inference
from edge_agent.stages.results import ResultStage
from edge_agent.stages.stop import StopPlan
from edge_agent.stages.storage import Failed, Full, Page, Room, StorageWorker, Usable, Written
from edge_agent.stages.worker import Services, Worker

TICK_S = 0.25  # how late a commit may begin
STOPPING_TICK_S = 0.05


class _Result(Struct, frozen=True):
    stage: ResultStage
    inference: Inference | None  # None: the source ended


class _Acknowledged(Struct, frozen=True):
    token: int
    refusal: Refusal | None
    at_ns: int


class _Connection(Struct, frozen=True):
    up: bool


class _Reset:
    """Nothing is under way any more."""


class _Closing:
    """The pipelines are ending: nobody waits for the wire any more."""


class _Stop:
    """Flush what the broker takes in time, say ``offline``, store the rest, end."""


class Publisher(Worker):
    """``greet`` gives the retained records to publish after each connection, ``farewell`` those of a clean stop, made
    when all else is acknowledged; ``online`` and ``offline`` follow them."""

    outlives_stopping = True

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
        self._delivery = Delivery(outbox, refused, services.clock)
        self._queue: queue.SimpleQueue[object] = queue.SimpleQueue()
        self._lock = threading.RLock()  # over the outbox: ``report`` sees it between two items, never within one
        self._permits: dict[str, threading.BoundedSemaphore] = {}
        self._held: list[threading.BoundedSemaphore] = []
        self._stages: dict[str, ResultStage] = {}
        self._lossless: set[str] = set()
        self._acknowledgements: deque[_Acknowledged] = deque()
        self._hungry = False  # waiting for acknowledgements: for room on the wire, or for the end
        self._storage: StorageWorker | None = None
        self._generation: int | None = None  # of the store; None: it can't be used
        self._plan: StopPlan | None = None

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

    def use(self, broker: Broker, storage: StorageWorker | None) -> None:
        """Before the thread starts. Without a storage all waits in memory."""
        self._delivery.use(broker)
        self._storage = storage

    def publish(self, record: Record) -> None:
        self._queue.put(record)

    def acknowledged(self, token: int, refusal: Refusal | None) -> None:
        """From the network thread. Wakes this thread only where it waits for room: one waking less a prediction."""
        self._acknowledgements.append(_Acknowledged(token, refusal, self.clock.monotonic_ns()))
        if self._hungry:
            self._queue.put(None)

    def connection(self, up: bool) -> None:
        self._queue.put(_Connection(up))

    def reset(self) -> None:
        """The broker forgot what was under way: it goes out again."""
        self._queue.put(_Reset())

    def stored(self, answer: object) -> None:
        """From the storage's thread: Usable, Written, Page, Failed, Full or Room."""
        self._queue.put(answer)

    def closing(self) -> None:
        """Let go of every thread that waits for the wire; its results are still taken."""
        self._queue.put(_Closing())

    def stop(self) -> None:
        """After the last inference: flush what the broker takes in time, say ``offline``, store the rest, end."""
        self._queue.put(_Stop())

    @property
    def connected(self) -> bool:
        return self._delivery.connected

    def report(self) -> dict[str, object]:
        """The outbox's part of ``stats``."""
        with self._lock:
            return self._outbox.report()

    def ledger(self) -> dict[str, dict[str, object]]:
        """What became of this run's records, by stream."""
        with self._lock:
            return self._outbox.ledger.report()

    # --- this thread ---------------------------------------------------------------------------------------------

    def work(self) -> None:
        while not (self._plan and self._queue.empty() and self._plan.ended(self.clock.monotonic_ns())):
            self.beat()
            item = self._next()
            with self._lock:
                self._settle(item)
                while self._acknowledgements:
                    self._acknowledge(self._acknowledgements.popleft())
                self._pump()
                self._store()
                if self._plan:
                    self._say_goodbye(self._plan)

    def leave(self) -> None:
        with self._lock:
            self._outbox.drain(DiscardReason.SHUTDOWN, self.clock.monotonic_ns())
            self._count_losses()

    def _next(self) -> object:
        # first hungry, then the look: ``acknowledged`` does the two the other way round, so one of them sees the other
        self._hungry = bool(self._plan or self._held or (self._delivery.full and len(self._outbox)))
        if self._hungry and self._acknowledgements:
            return None
        try:
            return self._queue.get(timeout=self._delivery.wait_s(STOPPING_TICK_S if self._plan else TICK_S))
        except queue.Empty:
            return None

    def _settle(self, item: object) -> None:
        now_ns = self.clock.monotonic_ns()
        if isinstance(item, _Result):
            self._finish(item)
        elif isinstance(item, Record):
            self._outbox.put(item, now_ns)
        elif isinstance(item, _Connection):
            self._connect(item.up)
        elif isinstance(item, (Usable, Written, Page, Failed, Full, Room)):
            self._stored(item, now_ns)
        elif isinstance(item, _Reset):
            self._outbox.reset(now_ns)
        elif isinstance(item, _Closing):
            self._lossless.clear()
            self._release_held(everything=True)
        elif isinstance(item, _Stop):
            for stage in self._stages.values():
                self._put_all(stage.flush())
            self._plan = StopPlan(now_ns)
        self._count_losses()

    def _finish(self, result: _Result) -> None:
        stage, inference = result.stage, result.inference
        permit = self._permits[stage.name]
        try:
            self._put_all(stage.flush() if inference is None else stage.finish(inference))
        except Exception:
            stage.counters.discard(DiscardReason.INTERNAL_ERROR)
            raise
        finally:
            # a file source waits for the wire instead of overflowing the outbox; without a broker it does not wait
            if stage.name in self._lossless and self._delivery.connected and self._outbox.live > limits.PUBLISH_QUEUE:
                self._held.append(permit)
            else:
                permit.release()

    def _acknowledge(self, item: _Acknowledged) -> None:
        if item.refusal is not None:
            self._delivery.not_taken(item.token, item.refusal)
            return
        record = self._delivery.acknowledged(item.token)
        if record is None or record.earlier or record.kind is not Kind.PREDICTION:
            return
        since_ns = None if record.arrival_ns is None else item.at_ns - record.arrival_ns
        if record.pipeline in self._stages:
            self._stages[record.pipeline].counters.acknowledged(since_ns)

    def _connect(self, up: bool) -> None:
        self._delivery.connect(up)
        if up and self._plan is None:
            # what the broker refused is not said again at each connection: some brokers close it for that
            greeting = [record for record in self._greet() if record.topic not in self._delivery.refused_topics]
            self._put_all([*greeting, self._availability(ONLINE)])
        if not up:
            self._release_held(everything=True)

    def _put_all(self, records: list[Record]) -> None:
        for record in records:
            self._outbox.put(record, self.clock.monotonic_ns())

    def _pump(self) -> None:
        self._delivery.pump()
        self._count_losses()
        self._release_held(everything=False)

    def _release_held(self, everything: bool) -> None:
        while self._held and (everything or self._outbox.live <= limits.PUBLISH_QUEUE):
            self._held.pop().release()

    def _availability(self, body: bytes) -> Record:
        now_ns = self.clock.monotonic_ns()
        return Record(Kind.STATE, self._topics.availability, None, body, now_ns, retain=True)

    def _count_losses(self) -> None:
        for stream, reason, count in self._outbox.ledger.take_losses():
            kind, _, pipeline = stream.partition("/")
            if kind == "prediction" and pipeline in self._stages:
                self._stages[pipeline].counters.discard(DiscardReason(reason), count)

    # --- the store -----------------------------------------------------------------------------------------------

    def _store(self) -> None:
        """Tell the store what it should know, and ask it for what goes out next."""
        if self._storage is None or self._generation is None:
            return
        clean = self._plan is not None and self._plan.storing
        batch = self._outbox.batch(
            self._delivery.wall(), self.clock.monotonic_ns(), hurry=self._plan is not None, clean=clean
        )
        if batch is not None:
            self._storage.commit(batch, self._generation)
            if self._plan and clean:
                self._plan.last_batch()
        while not self._plan and (page := self._outbox.wanted_page()) is not None:
            self._storage.load(*page, self._generation)

    def _stored(self, answer: Usable | Written | Page | Failed | Full | Room, now_ns: int) -> None:
        if isinstance(answer, Usable):
            self._generation = answer.generation
            self._outbox.opened(answer.store)
        elif isinstance(answer, Written):
            self._outbox.committed(answer.result, now_ns)
        elif isinstance(answer, Page):
            self._outbox.page(answer.lane, answer.loaded, now_ns)
        elif isinstance(answer, Full):
            self._outbox.disk_full()
        elif isinstance(answer, Room):
            self._outbox.disk_may_have_room()
        else:
            self._generation = None
            self._outbox.disk_failed()
        if self._plan and isinstance(answer, (Written, Failed)):
            self._plan.answered(isinstance(answer, Written))

    # --- the end -------------------------------------------------------------------------------------------------

    def _say_goodbye(self, stop: StopPlan) -> None:
        """The last words once nothing is on its way any more, or the time left is needed for them."""
        now_ns = self.clock.monotonic_ns()
        idle = not (self._outbox.in_flight or len(self._outbox))
        if stop.should_say_goodbye(now_ns, self._delivery.connected, idle):
            self._put_all([*self._farewell(), self._availability(OFFLINE)])
            self._pump()
        elif stop.should_store(now_ns, self._delivery.connected, idle):
            stop.begin_storing(usable=self._storage is not None and self._generation is not None)
            self._store()
