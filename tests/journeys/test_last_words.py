"""What is said at the end of a source and of the process: the open interval, and statistics that add up."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.simulators.broker import Mosquitto
from tests.simulators.daemon import Daemon
from tests.simulators.subscriber import Subscriber
from tests.simulators.waiting import wait_for

FRAMES = 240

DAEMON = """
[device]
id = "end"
[mqtt]
port = {port}
[[camera]]
name = "belt"
source = "images:{example}/media/frames/*.jpg"
pace = "max"
loop = {loop}
[[sensor]]
name = "machine"
source = "csv:{example}/media/sensors.csv"
timeline = "media"
loop = true
fields = {{ weight = {{ unit = "g" }}, temperature = {{ unit = "degC" }}, vibration = {{ unit = "mm/s" }} }}
[[pipeline]]
name = "p"
camera = "belt"
model = "m"
features = {{ weight = "machine.weight", temperature = "machine.temperature", vibration = "machine.vibration" }}
align = {{ max_skew = "150ms" }}
publish = {{ mode = "{mode}", interval = "1h" }}
[model.m]
path = "{example}/model/conveyor.tflite"
"""


def counts_of(stats: dict[str, Any]) -> dict[str, Any]:
    counts: dict[str, Any] = stats["pipelines"]["p"]
    return counts


def test_the_interval_that_is_open_when_the_source_ends_is_published_with_its_aggregate(
    broker: Mosquitto, subscriber: Subscriber, daemon: Callable[..., Daemon], example: Path
) -> None:
    process = daemon(DAEMON.format(port=broker.port, example=example, loop="false", mode="interval"))
    predictions = subscriber.wait_predictions(1)
    assert process.stop() == 0, process.log
    assert len(subscriber.predictions()) == 1
    (output,) = predictions[0]["outputs"].values()
    assert output["aggregate"]["count"] == FRAMES
    assert sum(output["aggregate"]["labels"].values()) == FRAMES
    counts = counts_of(subscriber.payloads("/stats")[-1])
    assert (counts["predictions"], counts["published"]) == (FRAMES, 1)
    assert counts["discards"] == {"aggregated": FRAMES - 1}


def test_the_last_statistics_of_a_clean_stop_add_up_and_leave_nothing_under_way(
    broker: Mosquitto, subscriber: Subscriber, daemon: Callable[..., Daemon], example: Path
) -> None:
    process = daemon(DAEMON.format(port=broker.port, example=example, loop="true", mode="every"))
    subscriber.wait_predictions(300)
    assert process.stop() == 0, process.log
    wait_for(lambda: subscriber.raw("availability")[-1][1] == b"offline", "offline")
    stats = subscriber.payloads("/stats")[-1]
    counts = counts_of(stats)
    left = {name: stats["outbox"][name] for name in ("waiting", "bytes", "in_flight", "stored")}
    assert left == {"waiting": 0, "bytes": 0, "in_flight": 0, "stored": 0}
    assert counts["frames"] == counts["predictions"] + sum(counts["discards"].values())
    assert counts["predictions"] == counts["published"] == counts["acknowledged"] == len(subscriber.predictions())
    assert stats["sensors"]["machine"]["state"] == "media"
    assert stats["sensors"]["machine"]["readings"] > 300


def test_a_command_published_retained_to_a_running_daemon_is_ignored_and_counted(
    broker: Mosquitto, subscriber: Subscriber, daemon: Callable[..., Daemon], example: Path
) -> None:
    process = daemon(DAEMON.format(port=broker.port, example=example, loop="true", mode="change"))
    subscriber.wait_predictions(1)
    subscriber.publish("edge-agent/end/set/p/paused", "true", retain=True)
    subscriber.publish("edge-agent/end/set/p/paused", "", retain=True)  # as one clears it again
    subscriber.publish("edge-agent/end/request/ping", '{"transaction": 1}')
    wait_for(lambda: subscriber.payloads("response/ping"), "the answer to what came after")
    assert process.stop() == 0, process.log
    assert subscriber.payloads("/stats")[-1]["commands_ignored"]["retained"] == 2
    assert subscriber.payloads("setting/p/paused")[-1]["value"] is False
    assert subscriber.events("command_refused") == []
