"""Everything that a daemon says on any topic is what docs/asyncapi.yaml promises, in both versions of MQTT."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import paho.mqtt.client as paho
import paho.mqtt.subscribe as once
import pytest

from tests.simulators.agent_toml import DEVICE, MODEL, belt, camera, head, inspect, machine
from tests.simulators.asyncapi import AsyncApi
from tests.simulators.broker import Mosquitto
from tests.simulators.daemon import Daemon
from tests.simulators.subscriber import Subscriber
from tests.simulators.waiting import wait_for

BASE = f"edge-agent/{DEVICE}"
EXPIRY_S = 3600
Message = tuple[str, bytes, bool]


@dataclass(frozen=True)
class Heard:
    """What one daemon said until it was told to stop, and what came after that."""

    messages: list[Message]
    of_late_subscriber: list[Message]
    expiry_s: int | None
    after_kill: list[Message]  # of a second daemon, which was killed

    def payloads(self, part: str) -> list[dict[str, Any]]:
        return [json.loads(payload) for topic, payload, _ in self.messages if part in topic]


@pytest.fixture(scope="module", params=["5", "3.1.1"])
def heard(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Heard]:
    folder = tmp_path_factory.mktemp("payloads")
    broker = Mosquitto(folder / "broker")
    broker.start()
    subscriber = Subscriber(broker.port)
    configuration = folder / "agent.toml"
    configuration.write_text(
        head(broker.port, f'protocol = "{request.param}"', f'prediction_expiry = "{EXPIRY_S}s"')
        + (belt() + camera("absent", "v4l2:/dev/video99") + machine() + inspect() + inspect("gate", "absent") + MODEL)
        + '[drift]\nreport = "1s"\n'
    )
    daemon = Daemon(configuration, {})
    try:
        talk_to(daemon, subscriber)
        expiry_s = expiry_of_a_prediction(broker.port) if request.param == "5" else None
        late = Subscriber(broker.port, client_id="late")
        wait_for(lambda: len(late.raw("/prediction/")) > 2, "predictions for the late subscriber")
        late.close()
        assert daemon.stop() == 0, daemon.log
        wait_for(lambda: subscriber.raw("availability")[-1][1] == b"offline", "the daemon's farewell")
        before = [message for message in subscriber.raw() if not is_command(message[0])]
        count = len(subscriber.raw())
        daemon = Daemon(configuration, {})
        wait_for(lambda: subscriber.raw("availability")[-1][1] == b"online", "a second daemon")
        daemon.kill()
        wait_for(lambda: subscriber.raw("availability")[-1][1] == b"offline", "the last will")
        yield Heard(before, late.raw(), expiry_s, subscriber.raw()[count:])
    finally:
        daemon.kill()
        subscriber.close()
        broker.stop()


def talk_to(daemon: Daemon, subscriber: Subscriber) -> None:
    """Make the daemon say something on each of its topics."""
    daemon.wait_ready()
    subscriber.wait_predictions(10)
    subscriber.publish(f"{BASE}/set/inspect/threshold", '{"value": 0.5, "transaction": 17}')
    subscriber.publish(f"{BASE}/set/inspect/rate", "fast")
    for question in ("ping", "info", "mood"):
        subscriber.publish(f"{BASE}/request/{question}", '{"transaction": "abc"}')
    subscriber.publish(f"{BASE}/set/inspect/publish", '{"mode": "interval", "interval": "500ms"}')
    wait_for(lambda: len(aggregated(subscriber)) > 1, "predictions with an aggregate")
    subscriber.publish(f"{BASE}/set/inspect/publish", "every")
    wait_for(lambda: len(subscriber.raw("/response/")) == 6, "an answer to each command")
    wait_for(lambda: subscriber.events("camera_lost"), "the event of the camera that is not there")
    wait_for(lambda: subscriber.raw("/stats"), "the statistics")
    wait_for(lambda: any(item["rows"] for item in subscriber.payloads("/drift/inspect")), "a report with counts")


def is_command(topic: str) -> bool:
    return topic.split("/")[2] in ("set", "request")


def aggregated(subscriber: Subscriber) -> list[dict[str, Any]]:
    return [item for item in subscriber.predictions() if "aggregate" in item["outputs"]["fault"]]


def expiry_of_a_prediction(port: int) -> int:
    message = once.simple(f"{BASE}/prediction/inspect", port=port, protocol=paho.MQTTv5)
    return int(message.properties.MessageExpiryInterval)


def test_every_message_fits_the_schema_of_its_channel(heard: Heard) -> None:
    api = AsyncApi()
    for topic, payload, _ in heard.messages + heard.after_kill:
        api.check(topic, payload)


def test_every_channel_on_which_the_device_sends_was_heard(heard: Heard) -> None:
    api = AsyncApi()
    of_transfers = {"updateGet"}  # test_update_trial.py has one
    assert {api.channel_of(topic) for topic, *_ in heard.messages} == api.sent() - of_transfers


def test_online_comes_after_everything_that_is_retained_for_the_connection(heard: Heard) -> None:
    topics = [topic.removeprefix(f"{BASE}/") for topic, *_ in heard.messages]
    settings = [
        f"setting/{pipeline}/{setting}"
        for pipeline in ("inspect", "gate")
        for setting in ("rate", "publish", "threshold", "paused")
    ]
    greeting = ["info", *settings, "update/status", "availability"]
    # results that were there before the connection may go first
    assert [topic for topic in topics if topic in greeting][: len(greeting)] == greeting
    assert heard.messages[topics.index("availability")][1] == b"online"


def test_sequence_numbers_have_no_gap_and_make_the_identity(heard: Heard) -> None:
    predictions = heard.payloads("/prediction/inspect")
    boot_id = heard.payloads("/info")[0]["boot_id"]
    assert [item["seq"] for item in predictions] == list(range(len(predictions)))
    assert [item["id"] for item in predictions] == [f"{boot_id}-inspect-{item['seq']}" for item in predictions]
    events = heard.payloads(f"{BASE}/event")
    assert [event["seq"] for event in events] == list(range(len(events)))
    assert {event["boot_id"] for event in events} == {boot_id}


def test_each_start_has_a_boot_id_of_its_own(heard: Heard) -> None:
    after = [json.loads(payload)["boot_id"] for topic, payload, _ in heard.after_kill if topic.endswith("/info")]
    assert after != [heard.payloads("/info")[0]["boot_id"]]


def test_a_late_subscriber_gets_what_is_retained_and_nothing_that_is_past(heard: Heard) -> None:
    retained = {topic.removeprefix(f"{BASE}/") for topic, _, flag in heard.of_late_subscriber if flag}
    settings = itertools.product(("inspect", "gate"), ("rate", "publish", "threshold", "paused"))
    assert retained == {
        *("availability", "info", "stats", "state/inspect", "update/status", "drift/inspect", "drift/gate"),
        *(f"setting/{pipeline}/{setting}" for pipeline, setting in settings),
    }
    assert ("online", True) in [(payload.decode(), flag) for _, payload, flag in heard.of_late_subscriber[:20]]


def test_a_clean_stop_ends_with_offline(heard: Heard) -> None:
    assert heard.messages[-1][:2] == (f"{BASE}/availability", b"offline")


def test_a_killed_daemon_is_offline_by_its_last_will(heard: Heard) -> None:
    assert [payload for topic, payload, _ in heard.after_kill if topic.endswith("availability")] == [
        b"online",
        b"offline",
    ]


def test_predictions_expire_on_their_way_where_the_protocol_knows_it(heard: Heard) -> None:
    assert heard.expiry_s is None or EXPIRY_S - 60 < heard.expiry_s <= EXPIRY_S


def test_the_answers_carry_the_transaction_and_say_what_was_wrong(heard: Heard) -> None:
    answers = {
        (topic.rsplit("/", 1)[1], json.loads(payload)["status"]): json.loads(payload)
        for topic, payload, _ in heard.messages
        if "/response/" in topic
    }
    assert answers["ping", "ok"]["transaction"] == "abc"
    assert answers["info", "ok"]["data"]["pipelines"]["inspect"]["model"]["name"] == "conveyor"
    assert "ping, info" in answers["mood", "error"]["error"]
    assert "10/s" in answers["set", "error"]["error"]
