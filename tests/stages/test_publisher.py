"""The publisher between a wire and a disk: order, refusals, and the way to a clean stop."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from edge_agent.core.outbox import Bounds, Outbox
from edge_agent.core.wire import Topics
from edge_agent.errors import RefusedError
from edge_agent.io.clock import SystemClock
from edge_agent.outgoing import Kind, Record, Refusal, Schema
from edge_agent.ports import MessageHandler
from edge_agent.records import Event
from edge_agent.stages.publisher import Publisher
from edge_agent.stages.storage import StorageWorker
from edge_agent.stages.worker import Services
from tests.simulators.store_model import StoreModel
from tests.simulators.waiting import wait_for

TOPICS = Topics("edge-agent", "line1")
STREAM = "prediction/inspect"
BOUNDS = Bounds(memory=2**20, disk=2**24, age_ns=2**62, drain_period_ns=0)


class Wire:
    """A broker that acknowledges at once, unless ``answer`` says otherwise: None leaves the message unanswered."""

    def __init__(self, publisher: Publisher) -> None:
        self.sent: list[tuple[str, bytes]] = []
        self.answer: Callable[[str, bytes], Refusal | bool | None] = lambda _topic, _payload: True
        self._publisher = publisher

    def publish(self, topic: str, payload: bytes, *, qos: int, retain: bool, expiry_s: int | None) -> int:
        if len(payload) > 1000:
            raise RefusedError("larger than 1000 bytes")
        self.sent.append((topic.removeprefix("edge-agent/line1/"), payload))
        answer = self.answer(*self.sent[-1])
        if answer is not None:
            self._publisher.acknowledged(len(self.sent), None if answer is True else answer or None)
        return len(self.sent)

    def subscribe(self, topic: str, handler: MessageHandler, *, retain_as_published: bool = False) -> None:
        """Nothing ever arrives."""

    def window(self) -> int:
        return 10

    @property
    def topics(self) -> list[str]:
        return [topic for topic, _ in self.sent]


class Desk:
    """A publisher at work."""

    def __init__(self, store: StoreModel | None, every: bool = False) -> None:
        self.refused: list[tuple[str, str]] = []
        self.events: list[Event] = []
        self.deaths: list[object] = []
        self.stopping = threading.Event()
        services = Services(SystemClock(), self.stopping, self.events.append, lambda *death: self.deaths.append(death))
        bounds = Bounds(BOUNDS.memory, BOUNDS.disk, BOUNDS.age_ns, 0, every)
        self.publisher = Publisher(
            Outbox(bounds, "boot", durable=store is not None),
            TOPICS,
            lambda: [retained(TOPICS.info)],
            lambda: [retained(TOPICS.stats)],
            lambda *refusal: self.refused.append(refusal),
            services,
        )
        self.wire = Wire(self.publisher)
        self.storage = store and StorageWorker(store, "boot", self.publisher.stored, "the store", services)
        self.publisher.use(self.wire, self.storage)

    def predict(self, body: str = "{}") -> None:
        topic = TOPICS.prediction("inspect")
        self.publisher.publish(Record(Kind.PREDICTION, topic, Schema.PREDICTION, body.encode(), 1, pipeline="inspect"))

    def counts(self) -> dict[str, object]:
        return self.publisher.ledger().get(STREAM, {})

    def stop(self) -> None:
        self.stopping.set()
        self.publisher.stop()
        self.publisher.join(20)
        assert not self.publisher.is_alive()
        if self.storage:
            self.storage.finish()
            self.storage.join(20)
        assert not self.deaths


@contextmanager
def desk(store: StoreModel | None = None, every: bool = False) -> Iterator[Desk]:
    made = Desk(store, every)
    if made.storage:
        made.storage.start()
    made.publisher.start()
    yield made
    if made.publisher.is_alive():
        made.stop()


def retained(topic: str) -> Record:
    return Record(Kind.STATE, topic, Schema.INFO, b"{}", 1, retain=True)


def test_what_waits_goes_after_the_greeting_although_the_broker_is_back_already_and_is_marked_as_buffered() -> None:
    with desk() as here:
        here.predict()
        wait_for(lambda: here.publisher.report()["waiting"] == 1, "the prediction waits")
        here.publisher.connection(True)
        wait_for(lambda: len(here.wire.sent) == 3, "everything is sent")
        here.stop()
        assert here.wire.topics[:3] == ["info", "availability", "prediction/inspect"]
        assert here.wire.topics[3:] == ["stats", "availability"]
        assert b'"buffered":true' in here.wire.sent[2][1]


def test_what_goes_with_what_is_live_says_so_however_long_ago_its_frame_came() -> None:
    with desk() as here:
        here.publisher.connection(True)
        wait_for(lambda: here.wire.sent, "the greeting")
        here.predict()  # its frame came before the connection, and it overtakes the backlog
        wait_for(lambda: len(here.wire.sent) == 3, "everything is sent")
        assert b'"buffered":false' in here.wire.sent[2][1]


def test_what_the_wire_can_not_carry_is_counted_and_the_next_one_goes() -> None:
    with desk() as here:
        here.publisher.connection(True)
        here.predict('{"a":"' + "x" * 2000 + '"}')
        here.predict()
        wait_for(lambda: here.counts().get("acknowledged") == 1, "the small one is delivered")
        assert here.counts()["discarded"] == {"refused": 1}
        assert here.refused == [(TOPICS.prediction("inspect"), "larger than 1000 bytes")]


def test_what_the_broker_refuses_for_good_is_not_sent_again() -> None:
    with desk() as here:
        here.wire.answer = lambda topic, _: Refusal("not authorised", True) if "prediction" in topic else True
        here.publisher.connection(True)
        here.predict()
        wait_for(lambda: here.counts().get("discarded") == {"refused": 1}, "the refusal is counted")
        here.stop()
        assert here.wire.topics.count("prediction/inspect") == 1


def test_what_the_broker_does_not_take_now_is_offered_again_later() -> None:
    with desk() as here:
        answers = iter([Refusal("quota exceeded", False), True])
        here.wire.answer = lambda topic, _: next(answers) if "prediction" in topic else True
        here.publisher.connection(True)
        here.predict()
        wait_for(lambda: here.counts().get("acknowledged") == 1, "the second attempt succeeds")
        assert here.wire.topics.count("prediction/inspect") == 2
        assert here.counts()["discarded"] == {}


def test_after_a_reset_what_was_under_way_goes_out_again() -> None:
    with desk() as here:
        here.wire.answer = lambda topic, _: None if "prediction" in topic else True
        here.publisher.connection(True)
        here.predict()
        wait_for(lambda: "prediction/inspect" in here.wire.topics, "the prediction is under way")
        here.wire.answer = lambda _topic, _payload: True
        here.publisher.reset()
        wait_for(lambda: here.counts().get("acknowledged") == 1, "it is delivered")
        assert here.wire.topics.count("prediction/inspect") == 2


def test_a_stop_without_a_broker_leaves_everything_on_the_disk_and_marks_it_clean() -> None:
    store = StoreModel()
    with desk(store) as here:
        for _ in range(3):
            here.predict()
        here.stop()
        assert len(store.rows) == 3
        assert store.clean
        assert store.adds_up()
        assert here.counts()["discarded"] == {}


def test_a_stop_with_a_broker_that_answers_nothing_stores_what_was_under_way() -> None:
    store = StoreModel()
    with desk(store) as here:
        here.wire.answer = lambda _topic, _payload: None
        here.publisher.connection(True)
        for _ in range(3):
            here.predict()
        here.stop()
        assert [kept.record.pipeline for kept in store.rows.values()] == ["inspect"] * 3
        assert store.clean
        assert store.adds_up()


def test_a_stop_whose_disk_fails_counts_what_is_lost() -> None:
    store = StoreModel()
    with desk(store) as here:
        wait_for(lambda: here.publisher.report()["disk"] == "ok", "the store is open")
        here.predict()
        store.broken = True
        here.stop()
        assert here.counts()["discarded"] == {"shutdown": 1}


def test_a_disk_that_fails_is_told_once_and_again_when_it_works() -> None:
    store = StoreModel()
    store.broken = True
    with desk(store, every=True) as here:
        wait_for(lambda: here.events, "the failure is told")
        here.publisher.connection(True)
        here.predict()
        wait_for(lambda: here.counts().get("acknowledged") == 1, "predictions go on without the disk")
        store.broken = False
        wait_for(lambda: len(here.events) > 1, "the return is told")
        assert [event.kind for event in here.events] == ["outbox_degraded", "outbox_restored"]


def test_every_a_prediction_is_on_the_disk_when_it_is_sent() -> None:
    store = StoreModel()
    with desk(store, every=True) as here:
        rows: list[int] = []

        def look(topic: str, _payload: bytes) -> bool:
            if "prediction" in topic:
                rows.append(len(store.rows))
            return True

        here.wire.answer = look
        here.publisher.connection(True)
        here.predict()
        wait_for(lambda: rows, "the prediction is sent")
        assert rows == [1]
        wait_for(lambda: not store.rows, "it leaves the disk")
