"""The publisher's order on the wire around a connection."""

from __future__ import annotations

import threading

from edge_agent.core.outbox import Outbox
from edge_agent.core.wire import Topics
from edge_agent.io.clock import SystemClock
from edge_agent.outgoing import Kind, Record, Schema
from edge_agent.ports import MessageHandler
from edge_agent.records import Event
from edge_agent.stages.publisher import Publisher
from edge_agent.stages.worker import Services
from tests.simulators.waiting import wait_for

TOPICS = Topics("edge-agent", "line1")


class Wire:
    """A broker that takes everything and acknowledges it at once."""

    def __init__(self, publisher: Publisher) -> None:
        self.sent: list[tuple[str, bytes]] = []
        self._publisher = publisher

    def publish(self, topic: str, payload: bytes, *, qos: int, retain: bool, expiry_s: int | None) -> int:
        self.sent.append((topic.removeprefix("edge-agent/line1/"), payload))
        self._publisher.acknowledged(len(self.sent), None)
        return len(self.sent)

    def subscribe(self, topic: str, handler: MessageHandler, *, retain_as_published: bool = False) -> None:
        """Nothing ever arrives."""

    def window(self) -> int:
        return 10


def record(kind: Kind, topic: str, retain: bool = False) -> Record:
    return Record(kind, topic, Schema.INFO if retain else Schema.PREDICTION, b"{}", 1, retain=retain)


def test_what_waits_goes_after_the_greeting_although_the_broker_is_back_already_and_is_marked_as_buffered() -> None:
    deaths: list[object] = []

    def unexpected(event: Event) -> None:
        raise AssertionError(event)

    services = Services(SystemClock(), threading.Event(), unexpected, lambda *death: deaths.append(death))
    greeting = [record(Kind.STATE, TOPICS.info, retain=True)]
    farewell = [record(Kind.STATS, TOPICS.stats, retain=True)]
    publisher = Publisher(Outbox(2**20, 2**62), TOPICS, lambda: greeting, lambda: farewell, lambda *_: None, services)
    wire = Wire(publisher)
    publisher.use(wire)
    publisher.publish(record(Kind.PREDICTION, TOPICS.prediction("inspect")))
    publisher.start()
    wait_for(lambda: publisher.report()["waiting"] == 1, "the prediction waits")
    publisher.connection(True)
    wait_for(lambda: len(wire.sent) == 3, "everything is sent")
    publisher.stop()
    publisher.join(20)
    assert [topic for topic, _ in wire.sent[:3]] == ["info", "availability", "prediction/inspect"]
    assert [topic for topic, _ in wire.sent[3:]] == ["stats", "availability"]
    assert b'"buffered":true' in wire.sent[2][1]
    assert not deaths
