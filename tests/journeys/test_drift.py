"""The third journey: reports that add up, labels that are answered, and a state that outlives the process."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edge_agent.core.drift.monitor import Monitor
from edge_agent.core.drift.payload import read_report
from tests.simulators.agent_toml import DEVICE, MODEL, belt, camera, head, inspect, machine, pipeline
from tests.simulators.broker import Mosquitto
from tests.simulators.daemon import Daemon
from tests.simulators.mjpeg_server import MjpegServer
from tests.simulators.subscriber import Subscriber
from tests.simulators.tflite_graph import GraphBuilder
from tests.simulators.waiting import wait_for

DRIFT = '[drift]\nreport = "1s"\nblock = "1s"\ncommissioning = "1h"\n'
LINE = belt(20) + machine("media") + inspect() + MODEL + DRIFT
BASE = f"edge-agent/{DEVICE}"
StartDaemon = Callable[..., Daemon]
BOTH = """
[model.both]
path = "{folder}/both.tflite"
[model.both.card]
inputs = [{{ role = "image", tensor = "front" }}, {{ role = "image", tensor = "side" }}]
outputs = [{{ task = "regression", tensor = "light" }}]
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "state" / "edge-agent" / DEVICE / "drift"


def reports(subscriber: Subscriber) -> list[dict[str, Any]]:
    return [report for report in subscriber.payloads("/drift/inspect") if report["rows"]]


def wait_rows(subscriber: Subscriber, rows: int) -> None:
    wait_for(lambda: sum(report["rows"] for report in reports(subscriber)) >= rows, f"{rows} rows in reports")


def answer(subscriber: Subscriber, topic: str, message: object, response: str) -> dict[str, Any]:
    """The next response on that topic."""
    before = len(subscriber.payloads(f"/response/{response}"))
    subscriber.publish(f"{BASE}/{topic}", json.dumps(message))
    wait_for(lambda: len(subscriber.payloads(f"/response/{response}")) > before, f"an answer to {message}")
    last: dict[str, Any] = subscriber.payloads(f"/response/{response}")[-1]
    return last


def events(subscriber: Subscriber, kind: str) -> list[dict[str, Any]]:
    return [event for event in subscriber.payloads("/event") if event["kind"] == kind]


def test_every_report_arrives_once_and_the_last_one_is_retained(
    broker: Mosquitto, subscriber: Subscriber, daemon: StartDaemon
) -> None:
    process = daemon(head(broker.port) + LINE)
    wait_rows(subscriber, 6)
    broker.stop()  # what is made meanwhile is not replaced by what is made later
    broker.start()
    before = len(reports(subscriber))
    wait_for(lambda: len(reports(subscriber)) >= before + 3, "reports after the broker's return")
    assert process.stop() == 0, process.log
    seqs = [report["seq"] for report in subscriber.payloads("/drift/inspect")]
    assert sorted(set(seqs)) == list(range(max(seqs) + 1))
    for report in reports(subscriber):
        assert read_report(json.dumps(report).encode()).tally().rows == report["rows"]
    late = Subscriber(broker.port)
    wait_for(lambda: late.payloads("/drift/inspect"), "the retained report")
    late.close()
    ledger = subscriber.payloads("/stats")[-1]["ledger"]
    assert ledger["drift/inspect"]["discarded"] == {}
    assert (
        ledger["prediction/inspect"]["produced"]
        == subscriber.payloads("/stats")[-1]["pipelines"]["inspect"]["published"]
    )


def test_a_label_is_counted_once_and_whatever_comes_is_answered(
    broker: Mosquitto, subscriber: Subscriber, daemon: StartDaemon
) -> None:
    daemon(head(broker.port) + LINE)
    wait_rows(subscriber, 2)
    prediction = subscriber.wait_predictions(20)[10]
    best = prediction["outputs"]["fault"]["classes"][0]["label"]

    def label(message: object) -> dict[str, Any]:
        return answer(subscriber, "feedback", message, "feedback")

    counted = label({"id": prediction["id"], "label": best, "transaction": 7})
    assert (counted["status"], counted["transaction"]) == ("ok", 7)
    assert (counted["data"]["result"], counted["data"]["wrong"]) == ("counted", False)
    assert label({"id": prediction["id"], "label": best})["data"]["result"] == "doubled"
    stranger = prediction["id"].replace(prediction["boot_id"], "0" * 8 + "-0000-0000-0000-" + "0" * 12)
    assert label({"id": stranger, "label": best})["data"]["result"] == "unknown"
    refused = label({"id": "nonsense", "transaction": 8})
    assert (refused["status"], refused["transaction"]) == ("error", 8)
    wait_for(
        lambda: reports(subscriber)[-1].get("performance", {}).get("labels", {}).get("doubled"), "the count of labels"
    )
    total = reports(subscriber)[-1]["performance"]["outputs"]["fault"]["total"]
    assert total[:2] == [1, 1.0]  # labels, accuracy


def test_a_label_that_was_published_retained_is_ignored_and_counted(
    broker: Mosquitto, subscriber: Subscriber, daemon: StartDaemon
) -> None:
    daemon(head(broker.port) + LINE)
    prediction = subscriber.wait_predictions(2)[0]
    subscriber.publish(f"{BASE}/feedback", json.dumps({"id": prediction["id"], "label": "good"}), retain=True)
    wait_for(lambda: [s for s in subscriber.payloads("/stats") if s["drift"]["ignored"] == 1], "the label in the count")
    assert not subscriber.payloads("/response/feedback")


def test_a_new_baseline_and_silence_want_a_reason(
    broker: Mosquitto, subscriber: Subscriber, daemon: StartDaemon
) -> None:
    daemon(head(broker.port) + LINE)
    wait_rows(subscriber, 2)

    def request(what: str, **value: object) -> dict[str, Any]:
        return answer(subscriber, f"request/{what}", {"value": value}, what)

    assert "reason" in request("drift-rebaseline")["error"]
    assert "no pipeline" in request("drift-silence", **{"for": "1h", "reason": "x", "pipeline": "nobody"})["error"]
    assert request("drift-silence", **{"for": "1h", "reason": "the belt is cleaned"})["status"] == "ok"
    wait_for(lambda: events(subscriber, "drift_silenced"), "the event of the silence")
    assert events(subscriber, "drift_silenced")[0]["detail"] == "no events of drift for 1h: the belt is cleaned"
    said = request("drift-rebaseline", reason="another lens", pipeline="inspect")
    assert said["data"] == {"pipelines": ["inspect"], "reason": "another lens"}
    wait_for(lambda: events(subscriber, "drift_rebaselined"), "the event")
    assert "another lens" in events(subscriber, "drift_rebaselined")[0]["detail"]


def test_killed_at_any_moment_it_goes_on_with_what_it_had_learnt(
    broker: Mosquitto, subscriber: Subscriber, daemon: StartDaemon, folder: Path
) -> None:
    saved = folder / "inspect.monitor"
    process = daemon(head(broker.port) + LINE)
    wait_for(lambda: saved.exists() and learnt(saved) > 3, "some blocks on the disk")
    process.kill()
    before = learnt(saved)
    again = daemon(head(broker.port) + LINE)
    wait_for(lambda: learnt(saved) > before + 2, "more blocks on the disk")
    assert again.stop() == 0, again.log
    assert not events(subscriber, "drift_state_set_aside")


def learnt(path: Path) -> float:
    """Seconds of the baseline so far."""
    return Monitor.restore(path.read_bytes()).view().learning.days * 86400


def test_a_damaged_state_is_set_aside_and_learning_starts_again(
    broker: Mosquitto, subscriber: Subscriber, daemon: StartDaemon, folder: Path
) -> None:
    folder.mkdir(parents=True)
    for name in ("inspect.monitor", "inspect.labels"):
        (folder / name).write_bytes(b"\x00" * 4096)
    process = daemon(head(broker.port) + LINE)
    wait_rows(subscriber, 2)
    wait_for(lambda: len(events(subscriber, "drift_state_set_aside")) == 2, "one event for each")
    assert (folder / "inspect.monitor.damaged").read_bytes() == b"\x00" * 4096
    assert process.stop() == 0
    assert Monitor.restore((folder / "inspect.monitor").read_bytes()).view().features


def test_a_folder_that_can_not_be_written_costs_no_prediction_and_is_told_once(
    broker: Mosquitto, subscriber: Subscriber, daemon: StartDaemon, folder: Path
) -> None:
    folder.parent.mkdir(parents=True)
    folder.write_text("a file where the folder should be")
    process = daemon(head(broker.port) + LINE)
    wait_rows(subscriber, 6)
    assert process.stop() == 0, process.log
    assert len(events(subscriber, "drift_not_saved")) == 1
    assert process.log.count("Traceback") == 0


def test_who_does_not_want_it_has_none_of_it(broker: Mosquitto, subscriber: Subscriber, daemon: StartDaemon) -> None:
    process = daemon(head(broker.port) + LINE.replace("[drift]\n", "[drift]\nenabled = false\n"))
    subscriber.wait_predictions(40)
    said = answer(subscriber, "request/drift-silence", {"value": {}}, "drift-silence")
    assert "unknown request" in said["error"]
    assert process.stop() == 0
    assert not subscriber.payloads("/drift/inspect")


def test_the_loss_of_a_further_camera_is_a_fault_of_the_pipeline_that_needs_it(
    tmp_path: Path, broker: Mosquitto, subscriber: Subscriber, daemon: StartDaemon
) -> None:
    graph = GraphBuilder()
    images = {name: graph.tensor(name, (1, 8, 8, 3)) for name in ("front", "side")}
    means = graph.concat([graph.mean(image, f"{name}/mean") for name, image in images.items()], "means")
    total = graph.dense(means, np.ones((1, 6)), np.zeros(1), "total", relu=False)
    (tmp_path / "both.tflite").write_bytes(graph.finish(images, {"light": total}))
    with MjpegServer() as front, MjpegServer() as side:
        daemon(
            head(broker.port)
            + camera("front", front.url)
            + camera("side", side.url)
            + pipeline("inspect", "front", "both", 'images = { side = "side" }')
            + BOTH.format(folder=tmp_path)
        )
        subscriber.wait_predictions(1)
        side.stop()
        event = wait_for(lambda: subscriber.events("data_quality"), "the fault")[0]
    assert (event["severity"], event["subject"]) == ("error", "inspect")
    assert "disconnected" in event["detail"]
