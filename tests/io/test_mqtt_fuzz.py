"""A broker that answers with rubbish, once; then it behaves. The client must deliver all the same, and stop in time.

Every case is made from a seed that its name tells.
"""

from __future__ import annotations

import random
import struct
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from edge_agent.config.schema import MqttConfig
from edge_agent.config.units import Duration
from edge_agent.io import mqtt_client, mqtt_link
from tests.simulators.broker_listener import Sender
from tests.simulators.stub_broker import (
    CONNACK,
    CONNECT,
    DISCONNECT,
    PINGRESP,
    PUBACK,
    PUBLISH,
    SUBACK,
    SUBSCRIBE,
    Conversation,
    Packet,
    StubBroker,
    packet,
)
from tests.simulators.waiting import wait_for

CASES = 120  # for each protocol
AT_ONCE = 12  # most cases wait for a time-out of the client
KEEPALIVE = Duration.parse("1s")


@pytest.fixture(autouse=True)
def _soon_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mqtt_client, "RECONNECT_FIRST_S", 0.02)
    monkeypatch.setattr(mqtt_client, "RECONNECT_LAST_S", 0.1)
    monkeypatch.setattr(mqtt_link, "UNANSWERED_S", 2.0)


@pytest.fixture(autouse=True)
def _no_thread_is_left(request: pytest.FixtureRequest) -> Iterator[None]:
    before = set(threading.enumerate())
    yield
    names = ("mqtt", "stub broker")
    wait_for(lambda: not [one for one in set(threading.enumerate()) - before if one.name in names], "their end")


class Attack:
    """Sends ``data`` in place of the first answer, or before it, to the first packet of kind ``moment``; then the
    conversation goes on, falls silent or is closed."""

    def __init__(self, data: bytes, moment: int, *, then: str = "go on", instead: bool = True) -> None:
        self.data, self.moment, self.then, self.instead = data, moment, then, instead
        self.fired = False

    def __call__(self, talk: Conversation, one: Packet) -> bool:
        if self.fired or one.kind != self.moment:
            return False
        self.fired = True
        talk.send(self.data)
        if self.then == "close":
            talk.close()
        talk.silent = self.then == "silence"
        return self.instead or self.then != "go on"

    def __repr__(self) -> str:
        return f"{self.data[:40].hex(' ')} ({len(self.data)} bytes) at {self.moment}, then {self.then}, {self.instead=}"


def survive(attack: Attack, protocol: str, folder: Path) -> None:
    """One client lives through the attack."""
    broker = StubBroker(attack)
    sender = Sender(MqttConfig(port=broker.port, protocol=protocol, keepalive=KEEPALIVE), folder)
    try:
        sender.send("before")
        sender.wait("before", limit_s=15)
        sender.wait_until(lambda: attack.fired, "the attack")
        sender.send("after 1", "after 2")
        sender.wait("after 1", "after 2", limit_s=15)
        assert {b"after 1", b"after 2"} <= set(broker.received)
    except AssertionError as error:
        raise AssertionError(f"{attack!r}: {error}; {sender.downs[-3:]}, {sender.faults[-3:]}") from error
    finally:
        sender.broker.stop()
        broker.close()


def two(mid: int) -> bytes:
    return struct.pack("!H", mid)


def text(value: bytes) -> bytes:
    return two(len(value)) + value


# name: data, moment
NAMED: dict[str, tuple[bytes, int]] = {
    "nothing at all": (b"", PUBLISH),
    "an acknowledgement of a packet id that was never used": (packet(PUBACK, two(4711)), PUBLISH),
    "an acknowledgement of packet id 0": (packet(PUBACK, two(0)), PUBLISH),
    "the same acknowledgement three times": (3 * packet(PUBACK, two(2)), PUBLISH),
    "acknowledgements of the future": (b"".join(packet(PUBACK, two(mid)) for mid in range(1, 40)), SUBSCRIBE),
    "an acknowledgement before the connection": (packet(PUBACK, two(1)), CONNECT),
    "an empty acknowledgement": (packet(PUBACK), PUBLISH),
    "half an acknowledgement": (packet(PUBACK, b"\0"), PUBLISH),
    "an acknowledgement with an unknown reason": (packet(PUBACK, two(2) + b"\x7b\0"), PUBLISH),
    "an acknowledgement with rubbish for properties": (packet(PUBACK, two(2) + b"\0\x05\xff\xff"), PUBLISH),
    "a QoS 2 answer to QoS 1": (packet(5, two(2)) + packet(7, two(2)), PUBLISH),
    "a release of what never came": (packet(6, two(9), 2), PUBLISH),
    "a second welcome": (packet(CONNACK, b"\0\0\0"), PUBLISH),
    "a late refusal": (packet(CONNACK, b"\0\x87\0"), PUBLISH),
    "an empty welcome": (packet(CONNACK), CONNECT),
    "a welcome with half a property": (packet(CONNACK, b"\0\0\x03\x21\x00"), CONNECT),
    "a welcome with a property twice": (packet(CONNACK, b"\0\0\x06\x21\0\x05\x21\0\x05"), CONNECT),
    "a welcome with an unknown reason": (packet(CONNACK, b"\0\x7b\0"), CONNECT),
    "a welcome with a receive maximum of 0": (packet(CONNACK, b"\0\0\x03\x21\0\0"), CONNECT),
    "a subscription's answer out of the blue": (packet(SUBACK, two(77) + b"\0\1"), CONNECT),
    "an empty answer to the subscription": (packet(SUBACK), SUBSCRIBE),
    "a message with a topic that is no text": (packet(PUBLISH, text(b"\xff\xfe\xc0") + b"\0x"), PUBLISH),
    "a message with an empty topic": (packet(PUBLISH, text(b"") + b"\0x"), PUBLISH),
    "a message to nowhere": (packet(PUBLISH, text(b"not/asked/for") + b"\0x"), PUBLISH),
    "a message to a wildcard": (packet(PUBLISH, text(b"in/+/#") + b"\0x"), PUBLISH),
    "a message whose topic is longer than itself": (packet(PUBLISH, two(60_000) + b"in/a"), PUBLISH),
    "a message of QoS 3": (packet(PUBLISH, text(b"in/a") + two(1) + b"\0x", 6), PUBLISH),
    "a message without its packet id": (packet(PUBLISH, text(b"in/a"), 2), PUBLISH),
    "a message with bad properties": (packet(PUBLISH, text(b"in/a") + two(1) + b"\x09\x26\xff", 2), PUBLISH),
    "a ping of the broker's": (bytes([0xC0, 0]), PUBLISH),
    "an answer to no ping": (packet(PINGRESP), PUBLISH),
    "an answer to a ping with a body": (packet(PINGRESP, b"body"), PUBLISH),
    "a connection request": (packet(CONNECT, text(b"MQTT") + b"\5\2\0\x3c\0" + text(b"x")), PUBLISH),
    "packet type 0": (b"\0\0", PUBLISH),
    "packet type 15": (packet(15, b"\x18\0"), PUBLISH),
    "a farewell with an unknown reason": (packet(DISCONNECT, b"\x7b\0"), PUBLISH),
    "a farewell": (packet(DISCONNECT, b"\0\0"), PUBLISH),
    "a length of five bytes": (b"\x30\xff\xff\xff\xff\x7f", PUBLISH),
    "a length of 256 MB and a little of it": (b"\x30\xff\xff\xff\x7f" + b"x" * 1000, PUBLISH),
    "half a length": (b"\x30\xff", PUBLISH),
    "HTTP": (b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n", CONNECT),
    "a TLS alert": (b"\x15\x03\x01\x00\x02\x02\x0a", CONNECT),
}


@pytest.mark.parametrize("protocol", ["5", "3.1.1"])
def test_a_client_lives_through_every_named_attack(protocol: str, tmp_path: Path) -> None:
    attacks = [
        Attack(data, moment, then=then)
        for data, moment in NAMED.values()
        for then in (("go on", "silence", "close") if data[:1] == b"\x30" else ("go on", "close"))
    ]
    survive_all(attacks, protocol, tmp_path)


@pytest.mark.parametrize("seed", [f"{protocol} {seed}" for protocol in ("5", "3.1.1") for seed in ("a", "b")])
def test_a_client_lives_through_random_attacks(seed: str, tmp_path: Path) -> None:
    chance = random.Random(seed)
    attacks = [random_attack(chance) for _ in range(CASES // 2)]
    survive_all(attacks, seed.partition(" ")[0], tmp_path)


def survive_all(attacks: list[Attack], protocol: str, folder: Path) -> None:
    with ThreadPoolExecutor(AT_ONCE) as pool:
        for _ in pool.map(lambda attack: survive(attack, protocol, folder), attacks):
            """The first failure is raised here."""


def random_attack(chance: random.Random) -> Attack:
    moment = chance.choice([CONNECT, SUBSCRIBE, PUBLISH, PUBLISH])
    data = b"".join(random_packet(chance) for _ in range(chance.choice([1, 1, 1, 2, 5])))
    if chance.random() < 0.5:
        data = mutated(data, chance)
    then = chance.choice(["go on", "go on", "close", "close", "silence"])
    return Attack(data, moment, then=then, instead=chance.random() < 0.5)


def random_packet(chance: random.Random) -> bytes:
    """Rubbish, or something that a broker could have said."""
    if chance.random() < 0.2:
        return chance.randbytes(chance.randrange(1, 200))
    mid = two(chance.choice([0, 1, 2, 3, 4, 5, 65_535]))
    tail = chance.choice([b"", b"\0", bytes([chance.randrange(256)]), bytes([chance.randrange(256), 0])])
    body = {
        PUBLISH: text(chance.choice([b"in/a", b"in/", b"out", b"\xc3\x28", b"in/\0"])) + mid + b"\0" + b"payload",
        CONNACK: bytes([chance.randrange(3)]) + (tail or b"\0") + b"\0",
    }.get(kind := chance.choice([PUBACK, PUBACK, SUBACK, CONNACK, PUBLISH, PINGRESP, DISCONNECT, 5, 6, 7, 11]))
    return packet(kind, mid + tail if body is None else body, chance.choice([0, 0, 2, 4, 6, 8, 15]))


def mutated(data: bytes, chance: random.Random) -> bytes:
    """A byte or two changed, cut off, doubled or put in."""
    changed = bytearray(data)
    for _ in range(chance.choice([1, 1, 2, 4])):
        at = chance.randrange(len(changed) + 1)
        how = chance.randrange(4)
        if how == 0 and at < len(changed):
            changed[at] ^= 1 << chance.randrange(8)
        elif how == 1:
            del changed[at:]
        elif how == 2:
            changed[at:at] = changed[max(0, at - 8) : at]
        else:
            changed[at:at] = chance.randbytes(chance.randrange(1, 5))
    return bytes(changed)
