"""The daemon learns what a road video looks like, then the video changes: each change is named for what it is."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from edge_agent.records import Pixels
from tests.simulators import agent_toml
from tests.simulators.broker import Mosquitto
from tests.simulators.daemon import Daemon
from tests.simulators.subscriber import Subscriber
from tests.simulators.waiting import wait_for

FPS = 2.0  # as many as are watched of a faster one
EVERY = 6  # of the video's 12.5 frames a second
SIZE = (256, 144)

DRIFT = """
[drift]
report = "2m"
block = "30s"
commissioning = "20m"
"""

CHANGES: dict[str, Callable[[Pixels], Pixels]] = {
    "as it was": lambda frame: frame,
    "darkened": lambda frame: cv2.convertScaleAbs(frame, alpha=0.7),
    "blurred": lambda frame: cv2.GaussianBlur(frame, (0, 0), 1.5),
    "tinted": lambda frame: cv2.convertScaleAbs(frame * np.array([0.8, 1.0, 1.1])),  # less blue, more red
}


def frames(shared: Path) -> list[Pixels]:
    video = cv2.VideoCapture(str(shared / "videos/car-detection.mp4"))
    found = []
    while (frame := video.read())[0]:
        found.append(frame[1])
    return [cv2.resize(frame, SIZE, interpolation=cv2.INTER_AREA) for frame in found[::EVERY]]


def write(path: Path, pictures: list[Pixels]) -> Path:
    """All through the same encoder, so that it makes no difference between them."""
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"MJPG"), FPS, SIZE)
    for picture in pictures:
        writer.write(picture)
    writer.release()
    return path


def configuration(port: int, video: Path, shared: Path) -> str:
    model = shared / "models/mobilenet_v1_0.25_128_quant.tflite"
    return (
        agent_toml.head(port)
        + agent_toml.camera("road", f"file:{video}", 'pace = "max"', "loop = true")
        + agent_toml.pipeline("cars", "road", "m", 'publish = { mode = "interval", interval = "1m" }')
        + agent_toml.classifier("m", model)
        + DRIFT
    )


def latest(subscriber: Subscriber) -> dict[str, Any]:
    return subscriber.last("/drift/cars") or {}


@pytest.fixture(scope="module")
def learnt(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The state of a daemon that knows the video as it was."""
    folder = tmp_path_factory.mktemp("learnt")
    video = write(folder / "video.avi", frames(shared))
    broker = Mosquitto(folder / "broker")
    broker.start()
    subscriber = Subscriber(broker.port, "edge-agent/+/drift/#")
    path = folder / "agent.toml"
    path.write_text(configuration(broker.port, video, shared))
    process = Daemon(path, {})
    try:
        wait_for(
            lambda: (latest(subscriber).get("learning") or {}).get("done") or process.process.poll() is not None,
            "the baseline",
            120,
        )
        assert process.stop() == 0, process.log
    finally:
        process.kill()
        subscriber.close()
        broker.stop()
    return folder / "state"


@pytest.fixture
def changed(
    learnt: Path, shared: Path, tmp_path: Path, broker: Mosquitto, daemon: Callable[..., Daemon]
) -> Callable[[list[Pixels]], Daemon]:
    """Starts the daemon anew, with all that it knows, in front of other pictures."""

    def start(pictures: list[Pixels]) -> Daemon:
        shutil.copytree(learnt, tmp_path / "state")
        return daemon(configuration(broker.port, write(tmp_path / "video.avi", pictures), shared))

    return start


def effects(report: dict[str, Any]) -> dict[str, float]:
    """What is said of the picture, by feature: total variation from what was learnt, in percent."""
    found = zip(report["features"], report["tv_baseline"], strict=True)
    return {name: size for name, size in found if name.startswith("image.")}


@pytest.mark.parametrize(
    ("change", "names"),
    [
        ("darkened", {"image.brightness", "image.contrast"}),
        ("blurred", {"image.sharpness"}),
        ("tinted", {"image.red", "image.green", "image.blue"}),
    ],
)
def test_a_change_of_the_picture_is_found_and_named(
    change: str, names: set[str], changed: Callable[..., Daemon], shared: Path, subscriber: Subscriber
) -> None:
    changed([CHANGES[change](frame) for frame in frames(shared)])

    def named() -> dict[str, Any] | None:
        report = latest(subscriber)
        raised = {report["features"][place] for place, *_ in report.get("raised", ())}
        return report if report.get("level") == "critical" and names & raised else None

    report = wait_for(named, f"an alarm that the video is {change}", 120)
    sizes = effects(report)
    assert max(sizes, key=sizes.__getitem__) in names, sizes
    assert "faults" not in report.get("quality", {})

    def told() -> list[str]:
        details = [event["detail"] for event in subscriber.events("drift")]
        return [detail for detail in details if any(name in detail for name in names)]

    assert "look at light, lens" in wait_for(told, "the event of it")[0]


def test_a_frozen_picture_is_named_at_once_and_over_when_it_moves_again(
    changed: Callable[..., Daemon], shared: Path, subscriber: Subscriber
) -> None:
    pictures = frames(shared)
    changed(pictures[:30] + pictures[30:31] * 60)
    found = wait_for(lambda: subscriber.events("data_quality"), "an event that the camera is frozen")[0]
    assert found["severity"] == "error"
    assert "pictures are frozen" in found["detail"]
    over = wait_for(lambda: subscriber.events("data_quality")[1:], "an event that it is over")[0]
    assert "the camera: no longer frozen" in over["detail"]

    def reported() -> list[Any]:
        reports = subscriber.payloads("/drift/cars")
        return [fault for report in reports for fault in report.get("quality", {}).get("faults", [])]

    assert wait_for(reported, "a report with the fault")[0][:3] == ["camera", "frozen", "critical"]
