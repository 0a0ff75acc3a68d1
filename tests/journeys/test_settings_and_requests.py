"""What a stranger may say to a running daemon: settings that work at once, answers, and nothing that can end it."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import Any

import pytest

from edge_agent import limits
from tests.simulators.agent_toml import DEVICE, MODEL, belt, inspect, machine
from tests.simulators.daemon import Daemon
from tests.simulators.subscriber import Subscriber
from tests.simulators.waiting import wait_for
from tests.simulators.working import working

BASE = f"edge-agent/{DEVICE}"
FPS = 20
LONGEST_TOPIC = 65_535  # bytes, by the two of its length in MQTT


class Line:
    """A daemon at work, and somebody who talks to it."""

    def __init__(self, daemon: Daemon, subscriber: Subscriber) -> None:
        self.daemon = daemon
        self.subscriber = subscriber

    def command(self, setting: str, value: object, pipeline: str = "inspect") -> dict[str, Any]:
        """Send ``set/…`` as JSON and return its answer."""
        transaction = random.getrandbits(48)
        payload = json.dumps({"value": value, "transaction": transaction})
        self.subscriber.publish(f"{BASE}/set/{pipeline}/{setting}", payload)
        return wait_for(lambda: self._answer("set", transaction), f"the answer to {setting} = {value}")

    def request(self, name: str) -> dict[str, Any]:
        transaction = random.getrandbits(48)
        self.subscriber.publish(f"{BASE}/request/{name}", json.dumps({"transaction": transaction}))
        return wait_for(lambda: self._answer(name, transaction), f"the answer to {name}")

    def _answer(self, name: str, transaction: int) -> dict[str, Any] | None:
        answers = self.subscriber.payloads(f"/response/{name}")
        return next((answer for answer in answers if answer["transaction"] == transaction), None)

    def setting(self, name: str) -> Any:
        """The retained value in force."""
        last = self.subscriber.last(f"/setting/inspect/{name}")
        return last and last["value"]

    def stats(self, fits: Callable[[dict[str, Any]], bool] = lambda _: True) -> dict[str, Any]:
        """The first statistics from now on that fit."""
        seen = len(self.subscriber.raw("/stats"))

        def newest() -> dict[str, Any] | None:
            return next((item for item in self.subscriber.payloads("/stats")[seen:] if fits(item)), None)

        return wait_for(newest, "statistics that fit")

    def next_predictions(self, count: int) -> list[dict[str, Any]]:
        before = len(self.subscriber.predictions())
        return self.subscriber.wait_predictions(before + count)[before : before + count]


@pytest.fixture(scope="module")
def line(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Line]:
    def leave_a_retained_command(stranger: Subscriber) -> None:
        stranger.publish(f"{BASE}/set/inspect/paused", "true", retain=True)

    configuration = belt(FPS) + machine("media") + inspect() + MODEL
    with working(tmp_path_factory.mktemp("settings"), configuration, leave_a_retained_command) as site:
        yield Line(*site)


def test_a_retained_command_is_ignored_and_counted(line: Line) -> None:
    line.next_predictions(2)
    assert line.setting("paused") is False
    assert line.stats()["commands_ignored"]["retained"] == 1


def test_a_command_that_is_to_be_retained_is_ignored_although_it_is_new(line: Line) -> None:
    line.subscriber.publish(f"{BASE}/set/inspect/rate", "1/h", retain=True)
    line.stats(lambda stats: stats["commands_ignored"]["retained"] == 2)
    assert line.setting("rate") == "max"


def test_rate_thins_the_frames_evenly_and_counts_the_others(line: Line) -> None:
    assert line.command("rate", "2/s")["status"] == "ok"
    assert line.setting("rate") == "2/s"
    line.next_predictions(1)
    frames = [item["frame_seq"] for item in line.next_predictions(4)]
    assert [later - earlier for earlier, later in pairwise(frames)] == [FPS // 2] * 3
    assert line.stats()["pipelines"]["inspect"]["discards"]["rate"] >= 3 * (FPS // 2 - 1)
    assert line.command("rate", "max")["status"] == "ok"
    frames = [item["frame_seq"] for item in line.next_predictions(6)][2:]
    assert frames == list(range(frames[0], frames[0] + 4))


def test_publish_on_change_leaves_out_what_says_the_same(line: Line) -> None:
    before = line.stats()["pipelines"]["inspect"]
    line.command("publish", "change")
    line.next_predictions(1)
    labels = [item["outputs"]["fault"]["classes"][0]["label"] for item in line.next_predictions(5)]
    assert all(later != earlier for earlier, later in pairwise(labels))
    after = line.stats()["pipelines"]["inspect"]
    assert after["discards"]["unchanged"] > before["discards"].get("unchanged", 0)
    line.command("publish", "every")


def test_publish_by_interval_sums_up_what_was_left_out(line: Line) -> None:
    line.command("publish", {"mode": "interval", "interval": "500ms"})
    assert line.setting("publish") == {"mode": "interval", "interval": "0.5s", "deadband": 0.0}
    first, second = [item for item in line.next_predictions(4) if "aggregate" in item["outputs"]["fault"]][-2:]
    aggregate = second["outputs"]["fault"]["aggregate"]
    assert aggregate["count"] == second["frame_seq"] - first["frame_seq"] == FPS // 2
    assert sum(aggregate["labels"].values()) == aggregate["count"]
    line.command("publish", "every")


def test_threshold_leaves_out_weaker_classes(line: Line) -> None:
    assert line.command("threshold", 0.9)["status"] == "ok"
    line.next_predictions(2)
    for item in line.next_predictions(10):
        assert all(found["score"] >= 0.9 for found in item["outputs"]["fault"]["classes"])
    line.command("threshold", 0.0)


def test_a_paused_pipeline_counts_its_frames_and_goes_on_when_it_may(line: Line) -> None:
    line.command("paused", True)
    paused = line.stats(lambda stats: stats["pipelines"]["inspect"]["discards"].get("paused", 0) > 0)
    later = line.stats()
    counts, after = paused["pipelines"]["inspect"], later["pipelines"]["inspect"]
    assert after["predictions"] == counts["predictions"]
    assert after["frames"] > counts["frames"]
    line.command("paused", "off")
    line.next_predictions(1)


@pytest.mark.parametrize(
    ("setting", "value", "words"),
    [
        ("rate", "fast", '"10/s"'),
        ("rate", 5, '"10/s"'),
        ("rate", "0." + "0" * 310 + "1/s", "one frame a day"),
        ("publish", "sometimes", '"change"'),
        ("publish", {"mode": "interval", "interval": "0s"}, "1 ms"),
        ("threshold", 1.5, "0 to 1"),
        ("paused", "perhaps", "true or false"),
        ("colour", "red", "known: rate, publish, threshold, paused"),
    ],
)
def test_a_value_that_is_not_allowed_changes_nothing_and_is_answered_and_told(
    line: Line, setting: str, value: object, words: str
) -> None:
    before = line.setting(setting)
    answer = line.command(setting, value)
    assert answer["status"] == "error"
    assert words in answer["error"]
    wait_for(
        lambda: answer["error"] in [event["detail"] for event in line.subscriber.events("command_refused")],
        "the event of the refusal",
    )
    assert line.setting(setting) == before


def test_a_command_to_an_unknown_pipeline_names_those_that_exist(line: Line) -> None:
    assert "known: inspect" in line.command("rate", "1/s", pipeline="inspects")["error"]


def test_an_expired_command_is_ignored_and_counted(line: Line) -> None:
    before = line.stats()["commands_ignored"]["expired"]
    line.subscriber.publish(f"{BASE}/set/inspect/rate", '{"value": "1/h", "expires": "2000-01-01T00:00:00Z"}')
    line.stats(lambda stats: stats["commands_ignored"]["expired"] == before + 1)
    assert line.setting("rate") == "max"


@pytest.mark.parametrize(
    ("topic", "payload"),
    [
        ("set/inspect/rate", b'"1/h"' + b" " * limits.COMMAND_BYTES_MOST),
        ("request/" + "x" * (LONGEST_TOPIC - len(f"{BASE}/request/")), b""),
    ],
    ids=["payload", "topic"],
)
def test_a_command_that_is_too_long_is_ignored_and_counted(line: Line, topic: str, payload: bytes) -> None:
    before = line.stats()["commands_ignored"]["too_large"]
    line.subscriber.publish(f"{BASE}/{topic}", payload)
    line.stats(lambda stats: stats["commands_ignored"]["too_large"] == before + 1)
    assert line.setting("rate") == "max"


def test_ping_says_who_answers(line: Line) -> None:
    info = line.subscriber.last("/info")
    assert info is not None
    data = line.request("ping")["data"]
    assert (data["device"], data["boot_id"]) == (DEVICE, info["boot_id"])


def test_info_on_request_is_the_retained_one(line: Line) -> None:
    retained = line.subscriber.last("/info")
    assert retained is not None
    asked = line.request("info")["data"]
    assert asked == {key: value for key, value in retained.items() if key in asked}
    assert asked["pipelines"]["inspect"]["camera"] == "belt"


def test_an_unknown_request_names_those_that_exist(line: Line) -> None:
    assert (
        line.request("reboot")["error"]
        == "unknown request 'reboot'; known: ping, info, drift-rebaseline, drift-silence"
    )


def garbage(count: int) -> Iterator[bytes]:
    """Random bytes, and JSON as deep as it can be read or a little deeper."""
    source = random.Random(1)
    for _ in range(count):
        yield source.randbytes(source.randrange(60))
    for depth in (10, 100, *range(900, 1010, 5), 2000):
        nested = b"[" * depth + b"]" * depth
        yield nested
        yield b'{"value": true, "transaction": ' + nested + b"}"
    yield b'{"value": 1e999, "expires": 12}'
    yield b'{"transaction": "\\ud800", "value": {"mode": 1}}'
    yield b"9" * 4000


def test_no_payload_on_any_command_topic_ends_the_daemon(line: Line) -> None:
    settings = ("rate", "publish", "threshold", "paused", "colour")
    topics = [*(f"set/inspect/{setting}" for setting in settings), "set/x/y", "request/ping", "request/ %s \u20ac"]
    for number, payload in enumerate(garbage(40)):
        for topic in topics:
            line.subscriber.client.publish(f"{BASE}/{topic}", payload, qos=1)
        if number % 8 == 7:  # not so many at once that some are ignored
            assert line.request("ping")["status"] == "ok"
    for setting, value in (("rate", "max"), ("publish", "every"), ("threshold", 0), ("paused", False)):
        assert line.command(setting, value)["status"] == "ok"
    line.next_predictions(2)
    assert line.daemon.process.poll() is None
