"""The connection to a real broker that is frozen, killed and brought back."""

from __future__ import annotations

import queue
from collections.abc import Iterator
from pathlib import Path

import pytest

from edge_agent.config.schema import MqttConfig
from edge_agent.errors import TransportError
from edge_agent.io.mqtt import MqttBroker
from edge_agent.io.mqtt_reachable import reachable
from edge_agent.outgoing import Refusal
from tests.simulators.broker import Mosquitto, free_port
from tests.simulators.subscriber import Subscriber
from tests.simulators.waiting import wait_for

LIMIT_S = 30


class Connection:
    """A started MqttBroker and what it reported. ``on_up`` is published from within the news of a connection."""

    def __init__(self, port: int, folder: Path, protocol: str = "5") -> None:
        self.changes: queue.SimpleQueue[bool] = queue.SimpleQueue()
        self.answered: list[int] = []
        self.on_up: str | None = None
        config = MqttConfig(port=port, protocol=protocol)
        self.broker = MqttBroker(config, folder, "under-test", None, self)

    def connection(self, up: bool, detail: str) -> None:
        if up and self.on_up is not None:
            self.send(self.on_up)
        self.changes.put(up)

    def acknowledged(self, token: int, refusal: Refusal | None) -> None:
        assert refusal is None
        self.answered.append(token)

    def reset(self) -> None:
        raise AssertionError("nothing here makes a session begin anew")

    def fault(self, kind: str, detail: str) -> None:
        raise AssertionError(f"{kind}: {detail}")

    def send(self, payload: str) -> int:
        return self.broker.publish("out", payload.encode(), qos=1, retain=False, expiry_s=None)

    def wait(self, up: bool) -> None:
        while self.changes.get(timeout=LIMIT_S) is not up:
            pass


@pytest.fixture(params=["5", "3.1.1"])
def connection(request: pytest.FixtureRequest, broker: Mosquitto, tmp_path: Path) -> Iterator[Connection]:
    one = Connection(broker.port, tmp_path, request.param)
    one.broker.subscribe("in/#", lambda *_: None)
    one.broker.start()
    one.wait(up=True)
    yield one
    one.broker.stop()


def test_what_was_not_acknowledged_goes_out_again_before_anything_new(
    connection: Connection, broker: Mosquitto
) -> None:
    subscriber = Subscriber(broker.port, "out")
    connection.send("seen")
    wait_for(lambda: subscriber.raw("out"), "a first message")
    broker.freeze()
    for number in range(5):
        connection.send(f"frozen {number}")
    broker.kill()
    connection.wait(up=False)
    connection.on_up = "new"
    broker.start()
    wait_for(lambda: (b"new",) in [message[1:2] for message in subscriber.raw("out")], "the new message")
    subscriber.close()
    arrived = [payload.decode() for _, payload, _ in subscriber.raw("out")]
    assert arrived[-6:] == [*(f"frozen {number}" for number in range(5)), "new"]


def test_each_message_is_acknowledged_once(connection: Connection) -> None:
    tokens = [connection.send(str(number)) for number in range(250)]
    wait_for(lambda: len(connection.answered) >= len(tokens), "every acknowledgement", LIMIT_S)
    assert sorted(connection.answered) == sorted(tokens)


def test_nothing_is_taken_while_there_is_no_connection(connection: Connection, broker: Mosquitto) -> None:
    broker.stop()
    connection.wait(up=False)
    assert connection.broker.window() == 0
    with pytest.raises(TransportError, match="not connected"):
        connection.send("lost")


@pytest.mark.parametrize("moment", ["before the start", "while connecting", "once connected"])
def test_a_topic_is_heard_whenever_it_was_asked_for(broker: Mosquitto, tmp_path: Path, moment: str) -> None:
    connection = Connection(broker.port, tmp_path)
    heard: list[bytes] = []

    def subscribe() -> None:
        connection.broker.subscribe("in/news", lambda _topic, payload, _retained: heard.append(payload))

    if moment == "before the start":
        subscribe()
    connection.broker.start()
    if moment == "while connecting":
        subscribe()
    connection.wait(up=True)
    if moment == "once connected":
        subscribe()
    reader = Subscriber(broker.port, "nothing")
    wait_for(lambda: reader.publish("in/news", "now") or heard, "the message")
    reader.close()
    connection.broker.stop()


def test_a_broker_that_is_there_is_reachable_and_one_that_is_not_is_said(broker: Mosquitto, tmp_path: Path) -> None:
    assert reachable(MqttConfig(port=broker.port), tmp_path) is None
    absent = free_port()
    reason = reachable(MqttConfig(port=absent), tmp_path)
    assert reason is not None
    assert reason.startswith(f"127.0.0.1:{absent} can't be reached: Connection refused; is the broker running")
