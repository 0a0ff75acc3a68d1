"""Whatever is sent to the command topics of a running daemon, it answers or counts it, and goes on as before."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from pathlib import Path

import paho.mqtt.client as paho
import pytest
from paho.mqtt.enums import CallbackAPIVersion

from edge_agent import limits
from tests.simulators.agent_toml import DEVICE, MODEL, belt, inspect, machine
from tests.simulators.daemon import Daemon
from tests.simulators.subscriber import Subscriber
from tests.simulators.waiting import wait_for
from tests.simulators.working import working

BASE = f"edge-agent/{DEVICE}"
KEPT_MB = 8.0  # for allocators and caches; keeping the megabytes of the rounds below would be over 20
ANSWER_BYTES_MOST = 4 * limits.COMMAND_BYTES_MOST  # topic and transaction come back, the name escaped in a sentence
FLOOD = 2000


class Line:
    """A daemon at work, and somebody who sends it what it does not expect."""

    def __init__(self, daemon: Daemon, subscriber: Subscriber) -> None:
        self.daemon = daemon
        self.subscriber = subscriber
        self._asked = 0

    def publish(self, topic: str, payload: bytes, qos: int = 1) -> None:
        self.subscriber.client.publish(f"{BASE}/{topic}", payload, qos=qos)

    def settle(self) -> None:
        """Until everything that was sent before has been handled: commands are handled in their order."""
        self._asked += 1
        mark = f"mark {self._asked}"

        def answered() -> bool:
            return any(item["transaction"] == mark for item in self.subscriber.payloads("/response/ping"))

        self.publish("request/ping", json.dumps({"transaction": mark}).encode())
        wait_for(answered, "the answer to a ping")

    def accounted(self) -> int:
        """Answers and ignored commands, by the statistics that follow."""
        seen = len(self.subscriber.raw("/stats"))
        stats = wait_for(lambda: self.subscriber.payloads("/stats")[seen:], "statistics")[0]
        return len(self.subscriber.raw("/response/")) + sum(stats["commands_ignored"].values())

    def memory_mb(self) -> float:
        status = Path(f"/proc/{self.daemon.process.pid}/status").read_text()
        return int(status.partition("VmRSS:")[2].split()[0]) / 1024

    def assert_works(self) -> None:
        """With its settings as they were."""
        for setting, value in (("publish", b"every"), ("threshold", b"null"), ("rate", b"max"), ("paused", b"off")):
            self.publish(f"set/inspect/{setting}", value)
        self.settle()
        before = len(self.subscriber.predictions())
        self.subscriber.wait_predictions(before + 3)
        assert self.daemon.process.poll() is None, self.daemon.log


@pytest.fixture(scope="module")
def line(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Line]:
    configuration = belt(10) + machine("media") + inspect() + MODEL
    with working(tmp_path_factory.mktemp("fuzz"), configuration) as site:
        yield Line(*site)


MEGABYTE = 2**20
PAYLOADS: dict[str, bytes] = {
    "a megabyte of JSON": b'{"value": "' + b"x" * MEGABYTE + b'"}',
    "a hundred thousand brackets": b"[" * 100_000,
    "a hundred thousand objects": b'{"value":' * 100_000 + b"1" + b"}" * 100_000,
    "brackets that just fit": b"[" * limits.COMMAND_BYTES_MOST,
    "not a number": b'{"value": NaN, "transaction": Infinity}',
    "a duplicate key": b'{"value": "1/h", "value": 1, "transaction": 1, "transaction": []}',
    "invalid UTF-8": b'{"value": "\xc3\x28\xff\xfe", "transaction": "\xed\xa0\x80"}',
    "UTF-16": '{"value": true}'.encode("utf-16"),
    "a null byte": b'{"value": "\\u0000", "transaction": "\x00"}',
    "an escape for terminals": b'"\\u001b]0;title\\u0007\\u001b[2J"',
    "a number without end": b'{"value": ' + b"9" * 3000 + b', "transaction": 1e-999999}',
    "a time without end": b'{"value": 1, "expires": "' + b"9" * 3000 + b'"}',
    "a time before all times": b'{"value": 1, "expires": "0001-01-01T00:00:00+23:59"}',
    "expires as an object": b'{"value": {}, "expires": {"a": {"b": 0}}, "transaction": {"c": [[]]}}',
    "a frame of a picture": b"\xff\xd8\xff\xe0" + bytes(range(256)) * 12,
    "nothing": b"",
    "spaces": b" \t\r\n" * 900,
}
TOPICS = (
    *("set/inspect/rate", "set/inspect/publish", "set/inspect/threshold", "set/inspect/colour", "set/nobody/rate"),
    *("request/info", "request/nothing"),
)


def test_every_payload_on_every_command_topic_is_answered_or_counted(line: Line) -> None:
    before = line.accounted()
    for payload in PAYLOADS.values():
        for topic in TOPICS:
            line.publish(topic, payload)
        line.settle()
    assert line.accounted() == before + len(PAYLOADS) * (len(TOPICS) + 1)
    line.assert_works()


ODD_NAMES = ("%s%n%x", "'; --", '"}{"', "$(id)", "..", "\u202e\u0645\U0001f4f7", " ", "\ufffd", "nan", "x" * 1500)


def test_names_with_odd_characters_are_answered_by_name(line: Line) -> None:
    for name in ODD_NAMES:
        line.publish(f"request/{name}", b"")
        line.publish(f"set/{name}/rate", b"1/h")
        line.publish(f"set/inspect/{name}", b"1/h")
    for empty in ("request/", "set//", "set/inspect/", "set//rate"):
        line.publish(empty, b"1/h")
    before = len(line.subscriber.raw("/response/set"))
    line.settle()
    assert len(line.subscriber.raw("/response/set")) - before <= 2 * len(ODD_NAMES) + 3
    for name in ODD_NAMES:
        (answer,) = line.subscriber.raw(f"/response/{name}")
        assert "unknown request" in json.loads(answer[1])["error"]


def test_what_is_no_command_topic_is_not_even_heard(line: Line) -> None:
    before = line.accounted()
    topics = ("set", "set/inspect", "set/inspect/rate/now", "request", "request/ping/now", "SET/inspect/rate", "set ")
    for topic in topics:
        line.publish(topic, b"1/h")
    line.settle()
    assert line.accounted() == before + 1


def test_random_bytes_on_feedback_and_updates_do_no_harm(line: Line) -> None:
    source = random.Random(4)
    for topic in ("feedback", "update/bell", "update/hold", "update/status", "update/chunk/1"):
        for size in (0, 1, 40, 5000, MEGABYTE):
            line.publish(topic, source.randbytes(size))
        line.publish(topic, b"[" * 100_000)
    line.settle()
    line.assert_works()


def shuffled(count: int) -> Iterator[tuple[str, bytes]]:
    """Commands that were right before somebody cut, doubled and flipped parts of them."""
    source = random.Random(5)
    right = (b'{"value": "5/s", "transaction": 1}', b'{"mode": "interval", "interval": "2s"}', b'"0.5"', b"off")
    for _ in range(count):
        payload = bytearray(source.choice(right))
        for _ in range(source.randrange(1, 5)):
            at = source.randrange(len(payload))
            payload[at : at + source.randrange(3)] = source.choice((b"", payload[:at], source.randbytes(2)))
            payload = payload or bytearray(b"{")
        yield source.choice(TOPICS[1:]), bytes(payload)


def test_a_flood_is_answered_as_far_as_it_goes_and_the_rest_is_counted(line: Line) -> None:
    before = line.accounted()
    flood = paho.Client(CallbackAPIVersion.VERSION2)
    flood.max_inflight_messages_set(0)
    flood.connect("127.0.0.1", line.subscriber.client.port)
    flood.loop_start()
    sent = [flood.publish(f"{BASE}/{topic}", payload, qos=1) for topic, payload in shuffled(FLOOD)]
    for message in sent:
        message.wait_for_publish(60)
    flood.disconnect()
    flood.loop_stop()
    wait_for(lambda: line.accounted() >= before + FLOOD, "every one is answered or counted")
    line.assert_works()


def test_memory_is_as_before_after_megabytes_of_refused_commands(line: Line) -> None:
    def one_round() -> None:
        for payload in PAYLOADS.values():
            for topic in TOPICS:
                line.publish(topic, payload)
        line.publish("set/inspect/rate", b"max")
        line.settle()

    one_round()
    before = line.memory_mb()
    for _ in range(3):
        one_round()
    assert line.memory_mb() - before < KEPT_MB
    line.assert_works()


def test_no_answer_or_event_is_larger_than_its_bound_and_none_begins_a_line_of_the_log(line: Line) -> None:
    line.publish("set/inspect/publish", b'{"mode": "every", "\\n00:00:00 ERROR   forged: by a stranger\\u001b[2J": 1}')
    line.publish("request/" + "\u00ad" * 1500, b'{"transaction": "' + b"y" * 900 + b'"}')  # escaped as \\xad
    line.settle()
    said = [message for part in ("/response/", "/event") for message in line.subscriber.raw(part)]
    assert max(len(topic) + len(payload) for topic, payload, _ in said) < ANSWER_BYTES_MOST
    assert "forged" in line.daemon.log
    assert not any(text.startswith("00:00:00 ERROR") for text in line.daemon.log.splitlines())
    assert "\x1b" not in line.daemon.log
