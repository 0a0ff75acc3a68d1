"""A device is pulled out of a running daemon and plugged in again: not one frame is lost, and everybody is told."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import groupby
from pathlib import Path
from typing import Any

import pytest

from tests.simulators.agent_toml import DEVICE, belt, classifier, head, pipeline
from tests.simulators.asyncapi import AsyncApi
from tests.simulators.broker import Mosquitto
from tests.simulators.daemon import Daemon
from tests.simulators.delegate import Bus, compiled
from tests.simulators.subscriber import Subscriber
from tests.simulators.waiting import wait_for


@pytest.fixture
def start(tmp_path: Path, shared: Path, broker: Mosquitto, bus: Bus) -> Iterator[Callable[..., Daemon]]:
    """A daemon that runs a real classifier on the test delegate, frame by frame without a loss."""
    library = compiled(tmp_path / "libtestdelegate.so")
    model = shared / "models" / "mobilenet_v1_0.25_128_quant.tflite"
    configuration = tmp_path / "agent.toml"
    configuration.write_text(
        head(broker.port)
        + belt(20)
        + pipeline("parts", "belt", "m")
        + classifier("m", model, 'delegates = ["npu", "xnnpack"]', "threads = 1")
        + f'[delegate.npu]\nlibrary = "{library}"\noptions = {{ bus = "{bus.folder}" }}\n'
    )
    daemons: list[Daemon] = []

    def run() -> Daemon:
        program = ("-m", "tests.simulators.impatient_daemon", str(configuration))
        daemons.append(Daemon(configuration, {}, program))
        daemons[-1].wait_ready()
        return daemons[-1]

    yield run
    for daemon in daemons:
        daemon.kill()


def runs_on(subscriber: Subscriber, delegate: str) -> Callable[[], bool]:
    """Whether the newest prediction and the newest ``info`` name that back-end."""

    def named() -> bool:
        predictions, info = subscriber.predictions(), subscriber.last("/info")
        return bool(predictions and info) and predictions[-1]["delegate"] == pipeline_of(info)["delegate"] == delegate

    return named


def pipeline_of(message: dict[str, Any] | None) -> dict[str, Any]:
    assert message is not None
    found: dict[str, Any] = message["pipelines"]["parts"]
    return found


def test_a_device_is_lost_and_comes_back_and_no_frame_goes_with_it(
    start: Callable[..., Daemon], bus: Bus, subscriber: Subscriber
) -> None:
    daemon = start()
    wait_for(runs_on(subscriber, "npu"), "it runs on the device")
    bus.unplug()
    wait_for(runs_on(subscriber, "xnnpack"), "the next back-end runs it")
    reason = pipeline_of(subscriber.last("/info"))["reason"]
    assert "USB transfer error" in reason
    assert reason.endswith("; using xnnpack")
    bus.plug()
    wait_for(runs_on(subscriber, "npu"), "it runs on the device again")
    assert pipeline_of(subscriber.last("/info"))["reason"] == ""
    assert daemon.stop() == 0
    wait_for(lambda: subscriber.raw("/availability")[-1][1] == b"offline", "the last words")

    (lost,), (restored,) = subscriber.events("delegate_lost"), subscriber.events("delegate_restored")
    assert (lost["severity"], lost["subject"]) == ("warning", "parts")
    assert lost["detail"].startswith(reason)
    assert (restored["severity"], restored["subject"]) == ("info", "parts")
    assert restored["detail"].startswith("npu runs the model again; xnnpack stood in for it for ")
    predictions = subscriber.predictions()
    assert [item["frame_seq"] for item in predictions] == list(range(len(predictions)))
    assert [name for name, _ in groupby(item["delegate"] for item in predictions)] == ["npu", "xnnpack", "npu"]
    counts = pipeline_of(subscriber.last("/stats"))
    assert set(counts["discards"]) <= {"shutdown"}
    assert (counts["delegate_losses"], subscriber.events("invoke_failed")) == (1, [])
    judge = AsyncApi()
    for topic, payload, _ in subscriber.raw():
        judge.check(topic, payload)


def test_a_run_that_never_ends_stops_no_other_thread_and_after_two_such_deaths_the_device_has_a_rest(
    start: Callable[..., Daemon], bus: Bus, subscriber: Subscriber
) -> None:
    for _ in range(2):
        bus.plug()
        daemon, before = start(), len(subscriber.predictions())
        wait_for(lambda before=before: len(subscriber.predictions()) > before, "it predicts")
        bus.behave("hang-in-run")
        answers = len(subscriber.payloads("/response/ping"))
        for number in range(3):
            subscriber.publish(f"edge-agent/{DEVICE}/request/ping", "{}")
            wait_for(
                lambda most=answers + number: len(subscriber.payloads("/response/ping")) > most,
                "it answers all the same",
            )
        daemon.kill()  # as the watchdog does
    bus.plug()
    start()
    wait_for(runs_on(subscriber, "xnnpack"), "it runs without the device")
    reason = "npu: the process died or hung twice while this library ran; using xnnpack"
    assert pipeline_of(subscriber.last("/info"))["reason"] == reason
    assert [event["detail"] for event in subscriber.events("delegate_fallback")] == [reason]
