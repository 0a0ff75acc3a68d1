"""Brokers that refuse, throw out, freeze and vanish: real ones where they can be brought to it, a stub otherwise."""

from __future__ import annotations

import contextlib
import itertools
import logging
import struct
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import paho.mqtt.client as paho
import pytest

from edge_agent import limits
from edge_agent.config.schema import MqttConfig, TlsConfig
from edge_agent.config.units import Duration
from edge_agent.errors import TransportError
from edge_agent.io import mqtt, mqtt_client, mqtt_link
from edge_agent.io.mqtt_reachable import reachable
from tests.simulators.broker import Mosquitto, free_port
from tests.simulators.broker_listener import Sender
from tests.simulators.certificates import Authority
from tests.simulators.stub_broker import CONNECT, PUBLISH, SUBSCRIBE, Conversation, Packet, StubBroker
from tests.simulators.subscriber import Subscriber
from tests.simulators.waiting import wait_for

RECEIVE_MAXIMUM, MAXIMUM_QOS, RETAIN_AVAILABLE, MAXIMUM_PACKET_SIZE = 0x21, 0x24, 0x25, 0x27

Start = Callable[..., Sender]
Stub = Callable[..., StubBroker]


@pytest.fixture(autouse=True)
def _soon_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mqtt_client, "RECONNECT_FIRST_S", 0.05)
    monkeypatch.setattr(mqtt_client, "RECONNECT_LAST_S", 0.2)


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """A factory of Senders: port, protocol and further keys of the configuration."""
    with contextlib.ExitStack() as stack:

        def make(port: int, protocol: str = "5", *, client_id: str = "under-test", **keys: object) -> Sender:
            config = msgspec.structs.replace(MqttConfig(port=port), protocol=protocol, **keys)
            sender = Sender(config, tmp_path, client_id)
            stack.callback(sender.broker.stop)
            return sender

        yield make


@pytest.fixture
def stub() -> Iterator[Stub]:
    with contextlib.ExitStack() as stack:

        def make(
            answer: Callable[[Conversation, Packet], bool] | None = None, connack_properties: bytes = b""
        ) -> StubBroker:
            one = StubBroker(answer, connack_properties)
            stack.callback(one.close)
            return one

        yield make


@pytest.fixture
def mosquitto(tmp_path: Path) -> Iterator[Callable[[str], Mosquitto]]:
    with contextlib.ExitStack() as stack:

        def make(extra: str) -> Mosquitto:
            one = Mosquitto(tmp_path / "broker", extra)
            one.start()
            stack.callback(one.stop)
            return one

        yield make


# --- messages that the broker does not take ----------------------------------------------------------------------


@pytest.mark.parametrize("expiry_s", [None, 60])
def test_a_message_over_the_brokers_maximum_packet_size_is_refused_before_it_leaves(
    mosquitto: Callable[[str], Mosquitto], start: Start, expiry_s: int | None
) -> None:
    broker = mosquitto("max_packet_size 1000\n")
    sender = start(broker.port)
    sender.wait_until(sender.broker.window, "the connection")
    subscriber = Subscriber(broker.port, "out")
    overhead = 1 + 2 + 2 + len("out") + 2 + 1 + (5 if expiry_s else 0)  # header, length, topic, packet id, properties

    def publish(size: int) -> int:
        return sender.broker.publish("out", b"x" * size, qos=1, retain=False, expiry_s=expiry_s)

    with pytest.raises(TransportError, match="out: the message has 1001 bytes with its topic, the broker takes 1000"):
        publish(1001 - overhead)
    publish(1000 - overhead)  # to the byte
    wait_for(lambda: [len(payload) for _, payload, _ in subscriber.raw()], "the largest that it takes")
    subscriber.close()
    assert sender.downs == []


def test_on_3_1_1_a_message_that_makes_the_broker_hang_up_is_found_among_others_and_refused(
    mosquitto: Callable[[str], Mosquitto], start: Start
) -> None:
    broker = mosquitto("max_packet_size 1000\n")
    subscriber = Subscriber(broker.port, "out")
    sender = start(broker.port, "3.1.1")
    good = [f"good {number}" for number in range(30)]
    bad = "bad" * 400
    sender.send(*good[:10], bad, *good[10:])
    sender.wait(*good, bad)
    assert sender.refused.keys() == {bad}
    assert sender.refused[bad].reason == "the broker closed the connection 5 times on receiving it"
    wait_for(lambda: {payload[1:].decode() for _, payload, _ in subscriber.raw()} >= {*good}, "the good ones")
    subscriber.close()
    assert sender.faults == []


def test_two_messages_that_make_the_broker_hang_up_are_both_found(stub: Stub, start: Start) -> None:
    broker = stub(lambda talk, one: one.kind == PUBLISH and b"bad" in one.body and (talk.close() or True))
    sender = start(broker.port, "3.1.1")
    sender.send("good 1", "bad 1", "good 2", "bad 2", "good 3")
    sender.wait("good 1", "bad 1", "good 2", "bad 2", "good 3")
    assert sorted(sender.refused) == ["bad 1", "bad 2"]


def test_the_reason_of_mqtt_5_is_kept_with_the_message_that_it_is_about(stub: Stub, start: Start) -> None:
    broker = stub(lambda talk, one: one.kind == PUBLISH and b"bad" in one.body and (talk.disconnect(0x90) or True))
    sender = start(broker.port)
    sender.send("good", "bad")
    sender.wait("good", "bad")
    assert sender.refused["bad"].reason.endswith("on receiving it (Topic name invalid)")


def test_a_broker_that_is_lost_again_and_again_blames_no_message_while_it_takes_some(stub: Stub, start: Start) -> None:
    def answer(talk: Conversation, one: Packet) -> bool:
        if one.kind == PUBLISH and len(talk.publishes) == 2:  # one is taken, then the line drops
            talk.leave()
            return True
        return False

    broker = stub(answer)
    sender = start(broker.port, "3.1.1")
    messages = [str(number) for number in range(12)]
    sender.send(*messages)
    sender.wait(*messages)
    assert len(broker.conversations) >= 10
    assert sender.refused == {}
    assert sender.resets == 0


def test_a_broker_that_restarts_many_times_blames_no_message(stub: Stub, start: Start) -> None:
    restarts = itertools.count()

    def answer(talk: Conversation, one: Packet) -> bool:
        if one.kind == PUBLISH and next(restarts) < 30:
            talk.disconnect(0x8B)  # server shutting down
            return True
        return False

    broker = stub(answer)
    sender = start(broker.port)
    sender.send("message")
    sender.wait("message")
    assert (sender.delivered, sender.resets) == (["message"], 0)


@pytest.mark.parametrize("reason", [0x87, 0x90, 0x99])
def test_a_puback_that_refuses_for_good_ends_the_matter(stub: Stub, start: Start, reason: int) -> None:
    broker = stub(lambda talk, one: one.kind == PUBLISH and (talk.puback(one.mid, reason) or True))
    sender = start(broker.port)
    sender.send("message")
    sender.wait("message")
    assert list(sender.refused) == ["message"]
    assert broker.received == [b"message"]


@pytest.mark.parametrize("reason", [0x80, 0x83, 0x91, 0x97])
def test_a_puback_that_refuses_for_now_leaves_the_message_to_the_caller(stub: Stub, start: Start, reason: int) -> None:
    broker = stub(
        lambda talk, one: one.kind == PUBLISH and len(talk.publishes) < 3 and not talk.puback(one.mid, reason)
    )
    sender = start(broker.port)
    sender.send("message")
    sender.wait("message")
    assert sender.delivered == ["message"]
    assert len(sender.put_off) == 2
    assert sender.downs == []


def test_a_message_that_nobody_has_subscribed_to_is_delivered(stub: Stub, start: Start) -> None:
    broker = stub(lambda talk, one: one.kind == PUBLISH and not talk.puback(one.mid, 0x10))
    sender = start(broker.port)
    sender.send("message")
    sender.wait("message")
    assert sender.delivered == ["message"]


def test_what_the_access_list_forbids_is_refused_and_the_rest_delivered(
    mosquitto: Callable[[str], Mosquitto], start: Start, tmp_path: Path
) -> None:
    (tmp_path / "acl").write_text("topic read #\ntopic write allowed\n")
    broker = mosquitto(f"acl_file {tmp_path}/acl\n")
    sender = start(broker.port)
    sender.send("message")
    sender.wait("message")
    assert sender.refused["message"].reason == "Not authorized"
    assert sender.refused["message"].for_good


def test_retained_messages_go_unretained_to_a_broker_that_keeps_none(stub: Stub, start: Start) -> None:
    broker = stub(connack_properties=bytes([RETAIN_AVAILABLE, 0]))
    sender = start(broker.port)
    sender.wait_until(sender.broker.window, "the connection")
    sender.broker.publish("info", b"|x", qos=1, retain=True, expiry_s=None)
    wait_for(lambda: broker.publishes, "the message")
    assert broker.publishes[0].flags & 1 == 0


@pytest.mark.parametrize("topic", ["", "a/+/b", "a/#", "nul\0", "x" * 65_536, "half \ud800"])
def test_a_topic_that_no_broker_takes_is_refused_before_it_leaves(stub: Stub, start: Start, topic: str) -> None:
    sender = start(stub().port)
    sender.wait_until(sender.broker.window, "the connection")
    with pytest.raises(TransportError, match="topic"):
        sender.broker.publish(topic, b"", qos=1, retain=False, expiry_s=None)


# --- how many at once --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("most", [1, 3])
def test_the_receive_maximum_of_the_broker_is_kept(
    mosquitto: Callable[[str], Mosquitto], start: Start, most: int
) -> None:
    broker = mosquitto(f"max_inflight_messages {most}\n")
    sender = start(broker.port)
    messages = [str(number) for number in range(60)]
    sender.send(*messages)
    sender.wait(*messages)
    assert sender.broker.window() == most
    assert sender.delivered == messages
    assert sender.downs == []


def test_a_broker_that_comes_back_with_a_smaller_receive_maximum_is_not_flooded(stub: Stub, start: Start) -> None:
    broker = stub(lambda talk, one: one.kind == PUBLISH and talk.number == 0)  # takes all, answers none
    sender = start(broker.port)
    messages = [str(number) for number in range(50)]
    sender.send(*messages)
    sender.wait_until(lambda: len(broker.publishes) == 50, "all under way")
    broker.connack_properties = struct.pack("!BH", RECEIVE_MAXIMUM, 2)
    unanswered: list[int] = []

    def answer(talk: Conversation, one: Packet) -> bool:
        if one.kind == PUBLISH:
            unanswered.append(len(talk.publishes))
        return False

    broker.answer = answer
    sender.widest = 0
    broker.conversations[0].close()
    sender.wait(*messages)
    assert sender.widest <= 2
    assert sender.resets == 1
    assert sender.delivered == messages


def test_a_broker_that_takes_only_qos_0_is_refused_with_the_reason(stub: Stub, start: Start) -> None:
    sender = start(stub(connack_properties=bytes([MAXIMUM_QOS, 0])).port)
    sender.wait_until(lambda: len(sender.downs) > 1, "another attempt")
    assert "takes QoS 0 only" in sender.downs[0]


# --- who we are --------------------------------------------------------------------------------------------------


def test_a_session_that_another_client_took_over_is_reported_once_and_not_fought_for(stub: Stub, start: Start) -> None:
    broker = stub(lambda talk, one: one.kind == PUBLISH and (talk.disconnect(0x8E) or True))
    sender = start(broker.port)
    sender.send("message")
    sender.wait_until(lambda: sender.faults, "the fault")
    own = "give each device its own [device] id or [mqtt] client_id"
    assert sender.faults == [("client_id_taken", f"another client connects as 'under-test': {own}")]
    threading.Event().wait(0.5)  # many times the delay of any other loss here; this one waits for half a minute
    assert len(broker.conversations) == 1


@pytest.mark.parametrize("protocol", ["5", "3.1.1"])
def test_a_real_second_client_of_the_same_id_is_suspected_and_left_in_peace(
    mosquitto: Callable[[str], Mosquitto], start: Start, protocol: str
) -> None:
    """mosquitto 2.0 closes the older connection without MQTT 5's word for it."""
    broker = mosquitto("")
    sender = start(broker.port, protocol)
    sender.wait_until(sender.broker.window, "the connection")
    other = Subscriber(broker.port, "nothing", client_id="under-test")
    sender.wait_until(lambda: sender.faults, "the fault")
    assert sender.faults[0][0] == "client_id_taken"
    assert "perhaps another client connects as 'under-test'" in sender.faults[0][1]
    wait_for(other.client.is_connected, "the other client's turn")
    other.close()
    assert len(sender.faults) == 1


def test_on_3_1_1_being_closed_right_after_each_connection_is_reported_as_a_suspicion(stub: Stub, start: Start) -> None:
    def answer(talk: Conversation, one: Packet) -> bool:
        if one.kind == SUBSCRIBE:
            talk.behave(one)
            talk.close()
        return one.kind == SUBSCRIBE

    sender = start(stub(answer).port, "3.1.1")
    sender.wait_until(lambda: sender.faults, "the fault")
    kind, detail = sender.faults[0]
    assert kind == "client_id_taken"
    assert "4 times in a row: perhaps another client connects as 'under-test'" in detail


# --- the network -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("publishing", [True, False])
def test_a_broker_that_froze_is_noticed_within_the_keepalive_while_we_publish_and_while_we_do_not(
    broker: Mosquitto, start: Start, publishing: bool
) -> None:
    sender = start(broker.port, keepalive=Duration.parse("1s"))
    sender.wait_until(sender.broker.window, "the connection")
    broker.freeze()
    numbers = itertools.count()

    def lost() -> list[str]:
        if publishing and sender.broker.window():
            with contextlib.suppress(TransportError):
                sender.broker.publish("out", str(next(numbers)).encode(), qos=1, retain=False, expiry_s=None)
        return sender.downs

    began = time.monotonic()
    wait_for(lost, "the loss")
    assert time.monotonic() - began < 20  # 2 s, on a machine that is not busy
    assert "does not answer any more" in sender.downs[0]
    broker.thaw()


@pytest.mark.parametrize("mute", [CONNECT, SUBSCRIBE])
def test_a_broker_that_leaves_a_request_unanswered_is_left(
    stub: Stub, start: Start, mute: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mqtt, "ANSWER_TIMEOUT_S", 0.5)
    broker = stub(lambda talk, one: one.kind == mute and talk.number == 0)
    sender = start(broker.port)
    sender.send("message")
    sender.wait("message")
    assert sender.downs == [f"127.0.0.1:{broker.port} accepts connections, but does not answer"]


@pytest.mark.parametrize("left_out", ["first", "all"])
def test_a_message_that_is_never_acknowledged_goes_out_again_over_another_connection(
    stub: Stub, start: Start, left_out: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mqtt_link, "UNANSWERED_S", 0.5)
    broker = stub(
        lambda talk, one: one.kind == PUBLISH and talk.number == 0 and (left_out == "all" or b"|1" in one.body)
    )
    sender = start(broker.port)
    sender.send("1", "2", "3")
    sender.wait("1", "2", "3")
    assert len(broker.conversations) == 2
    assert broker.received.count(b"1") == 2
    assert sender.resets == 0


@pytest.mark.parametrize("state", ["connected", "frozen", "connecting", "handshake", "no connack", "never started"])
def test_a_stop_is_bounded_in_every_state_and_leaves_no_thread(
    state: str, stub: Stub, start: Start, broker: Mosquitto, tmp_path: Path
) -> None:
    port, keys, hold = broker.port, {}, threading.Event()
    if state == "no connack":
        port = stub(lambda _talk, one: one.kind == CONNECT).port
    if state == "handshake":
        port, keys = stub().port, {"tls": TlsConfig()}
    host = "192.0.2.1" if state == "connecting" else "127.0.0.1"  # TEST-NET-1: nobody answers there
    config = msgspec.structs.replace(MqttConfig(port=port, host=host), **keys)
    before = set(threading.enumerate())
    if state == "never started":
        mqtt.MqttBroker(config, tmp_path, "x", None, _Deaf()).stop()
        return
    sender = Sender(config, tmp_path)
    if state in ("connected", "frozen"):
        sender.wait_until(sender.broker.window, "the connection")
    else:
        hold.wait(0.3)  # into the middle of it
    if state == "frozen":
        broker.freeze()
        while sender.broker.window() > len(sender._under_way):
            sender.broker.publish("out", b"x" * 100_000, qos=1, retain=False, expiry_s=None)
            sender._under_way[len(sender._under_way)] = "x"
    began = time.monotonic()
    sender.broker.stop()
    assert time.monotonic() - began < 5  # about 1 s, on a machine that is not busy
    if state == "frozen":
        broker.thaw()
    wait_for(lambda: not [one for one in set(threading.enumerate()) - before if one.name == "mqtt"], "its end")


class _Deaf:
    def connection(self, up: bool, detail: str) -> None: ...
    def acknowledged(self, token: int, refusal: object) -> None: ...
    def reset(self) -> None: ...
    def fault(self, kind: str, detail: str) -> None: ...


# --- why there is no connection ----------------------------------------------------------------------------------

PAST = ("20200101000000Z", "20200102000000Z")
LOCAL = "subjectAltName=IP:127.0.0.1"


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    authority = Authority(tmp_path_factory.mktemp("authority"))
    authority.issue("good", LOCAL)
    authority.issue("expired", LOCAL, valid=PAST)
    authority.issue("elsewhere", "subjectAltName=DNS:broker.example")
    authority.self_signed("alone", LOCAL)
    Authority(authority.folder / "stranger")
    return authority


def _listener(authority: Authority, certificate: str, *more: str) -> str:
    folder = authority.folder
    lines = [
        f"listener {free_port()} 127.0.0.1",
        f"certfile {folder}/{certificate}.pem",
        f"keyfile {folder}/{certificate}.key",
        *more,
    ]
    return "\n".join(lines) + "\n"


@pytest.mark.parametrize(
    ("certificate", "ca", "words"),
    [
        ("good", "ca.pem", None),
        ("good", "stranger/ca.pem", "the broker's certificate is not signed by"),
        ("good", None, "the broker's certificate is not signed by the system's authorities"),
        ("alone", "ca.pem", "the broker's certificate is not signed by"),
        ("expired", "ca.pem", "the broker's certificate has expired; renew it there (or this device's clock is wrong)"),
        ("elsewhere", "ca.pem", "the broker's certificate is for another name than '127.0.0.1'"),
    ],
)
def test_what_is_wrong_with_the_brokers_certificate_is_said(
    mosquitto: Callable[[str], Mosquitto], authority: Authority, certificate: str, ca: str | None, words: str | None
) -> None:
    extra = _listener(authority, certificate)
    mosquitto(extra)
    config = MqttConfig(port=int(extra.split()[1]), tls=TlsConfig(ca=ca))
    reason = reachable(config, authority.folder)
    if words is None:
        assert reason is None
    else:
        assert reason is not None
        assert words in reason
        assert "\n" not in reason


def test_a_client_certificate_that_is_asked_for_and_not_given_is_said(
    mosquitto: Callable[[str], Mosquitto], authority: Authority
) -> None:
    extra = _listener(authority, "good", f"cafile {authority.ca}", "require_certificate true")
    mosquitto(extra)
    reason = reachable(MqttConfig(port=int(extra.split()[1]), tls=TlsConfig(ca="ca.pem")), authority.folder)
    assert reason is not None
    assert "[mqtt.tls]" in reason
    assert "certificate" in reason


def test_tls_to_a_port_that_speaks_none_is_said(broker: Mosquitto, tmp_path: Path) -> None:
    reason = reachable(MqttConfig(port=broker.port, tls=TlsConfig()), tmp_path)
    assert reason is not None
    assert "TLS" in reason


def test_plain_mqtt_to_a_tls_port_is_said(mosquitto: Callable[[str], Mosquitto], authority: Authority) -> None:
    extra = _listener(authority, "good")
    mosquitto(extra)
    reason = reachable(MqttConfig(port=int(extra.split()[1])), authority.folder)
    assert reason is not None
    assert "does it want TLS ([mqtt.tls])?" in reason


@pytest.mark.parametrize(
    ("protocol", "code", "words"),
    [
        ("5", 0x86, "Bad user name or password; check [mqtt] username and password_file"),
        ("5", 0x87, "Not authorized; check [mqtt] username and password_file"),
        ("5", 0x85, "Client identifier not valid; check [mqtt] client_id"),
        ("5", 0x88, "Server unavailable; it is tried again"),
        ("3.1.1", 4, "Bad user name or password; check [mqtt] username and password_file"),
        ("3.1.1", 5, "Not authorized; check [mqtt] username and password_file"),
    ],
)
def test_a_broker_that_does_not_let_us_in_is_asked_again_and_its_word_passed_on(
    stub: Stub, start: Start, protocol: str, code: int, words: str
) -> None:
    def answer(talk: Conversation, one: Packet) -> bool:
        refuse = one.kind == CONNECT and talk.number < 3
        if refuse:
            talk.connack(code)
        return refuse

    sender = start(stub(answer).port, protocol)
    sender.send("message")
    sender.wait("message")
    assert len(sender.downs) == 3
    assert all(down.startswith(f"the broker refused the connection: {words}") for down in sender.downs)


def test_a_host_that_has_no_address_is_said(tmp_path: Path) -> None:
    for host in ("no-such-host.invalid", "x" * 70 + ".invalid"):
        reason = reachable(MqttConfig(host=host), tmp_path, timeout_s=30)
        assert reason is not None
        assert reason.startswith(f"{host}:1883 can't be reached: ")


# --- what must not end the connection ----------------------------------------------------------------------------


def test_a_handler_that_raises_is_logged_and_the_connection_stays(
    broker: Mosquitto, start: Start, caplog: pytest.LogCaptureFixture
) -> None:
    sender = start(broker.port)

    def fail(_topic: str, _payload: bytes, _retained: bool) -> None:
        raise ValueError("a bug")

    sender.broker.subscribe("in/bad", fail)
    sender.wait_until(sender.broker.window, "the connection")
    reader = Subscriber(broker.port, "nothing")
    with caplog.at_level(logging.ERROR, "edge_agent"):
        reader.publish("in/bad", "x")
        wait_for(lambda: "could not be handled" in caplog.text, "the log")
    reader.publish("in/good", "y")
    wait_for(lambda: ("in/good", b"y") in sender.heard, "the next message")
    reader.close()
    assert sender.downs == []


def test_what_paho_raises_is_told_and_the_session_begins_anew_under_other_tokens(
    stub: Stub, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As paho before 2.2 does on a truncated packet."""
    broker = stub(lambda talk, one: one.kind == PUBLISH and talk.number == 0)
    sender = start(broker.port)
    sender.send("1", "2")
    sender.wait_until(lambda: len(broker.publishes) == 2, "both under way")
    loop, left = paho.Client.loop, [struct.error("unpack requires a buffer of 2 bytes")]

    def fail_once(client: paho.Client, timeout: float = 1.0) -> paho.MQTTErrorCode:
        code = loop(client, timeout)
        if left:
            raise left.pop()
        return code

    monkeypatch.setattr(paho.Client, "loop", fail_once)
    broker.conversations[0].send(bytes([0xD0, 0]))  # wakes the loop
    sender.wait("1", "2")
    assert sender.resets == 1
    assert sender.delivered == ["1", "2"]
    assert [kind for kind, _ in sender.faults] == ["broker_misbehaves"]
    assert "sent what can't be understood: error: unpack requires" in sender.faults[0][1]


def test_a_subscription_that_the_broker_refuses_is_reported_and_messages_still_go(stub: Stub, start: Start) -> None:
    def answer(talk: Conversation, one: Packet) -> bool:
        if one.kind == SUBSCRIBE:
            talk.send(bytes([0x90, 4, *struct.pack("!H", one.mid), 0, 0x87]))
        return one.kind == SUBSCRIBE

    sender = start(stub(answer).port)
    sender.send("message")
    sender.wait("message")
    assert sender.delivered == ["message"]
    assert sender.faults[0][0] == "subscription_refused"


def test_the_window_is_wide_where_the_broker_says_nothing(stub: Stub, start: Start) -> None:
    sender = start(stub().port)
    sender.wait_until(lambda: sender.broker.window() == limits.INFLIGHT_MOST, "the window")
