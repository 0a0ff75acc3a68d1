"""Several pipelines on one camera, and live cameras that are faster than their model or wait for their readings."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from tests.simulators.agent_toml import (
    CONVEYOR,
    FIELDS,
    MODEL,
    camera,
    head,
    inspect,
    machine,
    pipeline,
    sensor,
)
from tests.simulators.broker import Mosquitto
from tests.simulators.daemon import Daemon
from tests.simulators.mjpeg_server import MjpegServer
from tests.simulators.serial_device import SerialDevice
from tests.simulators.subscriber import Subscriber
from tests.simulators.waiting import wait_for

FRAMES = 240
FPS = 10  # of the example's scene

SLOW_DETECTOR = """
[model.slow]
path = "{model}"
delegates = ["cpu"]
threads = 1
[model.slow.card]
inputs = [
  {{ role = "image", tensor = "normalized_input_image_tensor" }},
  {{ role = "state", tensor = "raw_inputs/init_lstm_c", source = "raw_outputs/lstm_c" }},
  {{ role = "state", tensor = "raw_inputs/init_lstm_h", source = "raw_outputs/lstm_h" }},
]
[[model.slow.card.outputs]]
task = "detection"
boxes = "TFLite_Detection_PostProcess"
classes = "TFLite_Detection_PostProcess:1"
scores = "TFLite_Detection_PostProcess:2"
count = "TFLite_Detection_PostProcess:3"
"""


@pytest.fixture
def mjpeg() -> Iterator[MjpegServer]:
    with MjpegServer(fps=30) as server:
        yield server


def final_counts(subscriber: Subscriber, process: Daemon) -> dict[str, dict[str, Any]]:
    """Stop the daemon; the last statistics by pipeline."""
    assert process.stop() == 0, process.log
    wait_for(lambda: subscriber.raw("/availability")[-1][1] == b"offline", "the farewell")
    stats = subscriber.last("/stats")
    assert stats is not None
    pipelines: dict[str, dict[str, Any]] = stats["pipelines"]
    return pipelines


def test_two_pipelines_share_the_frames_of_one_camera_each_at_its_own_rate(
    broker: Mosquitto, subscriber: Subscriber, daemon: Callable[..., Daemon]
) -> None:
    source = camera("belt", f"images:{CONVEYOR}/media/frames/*.jpg", f"fps = {FPS}", 'pace = "max"')
    pipelines = inspect("every") + inspect("second", "belt", f'rate = "{FPS // 2}/s"')
    process = daemon(head(broker.port) + source + machine("media") + pipelines + MODEL)
    wait_for(lambda: subscriber.events("camera_ended"), "the end of the scene")
    counts = final_counts(subscriber, process)
    every, second = (subscriber.payloads(f"/prediction/{name}") for name in ("every", "second"))
    assert [item["frame_seq"] for item in every] == list(range(FRAMES))
    assert [item["frame_seq"] for item in second] == list(range(0, FRAMES, 2))
    assert [item["seq"] for item in second] == list(range(FRAMES // 2))
    for item in second:
        same = every[item["frame_seq"]]
        assert (item["outputs"], item["readings"], item["time"]) == (same["outputs"], same["readings"], same["time"])
    assert counts["every"]["discards"] == {}
    assert counts["second"]["discards"] == {"rate": FRAMES // 2}
    assert counts["second"]["frames"] == FRAMES


def test_a_model_slower_than_its_live_camera_gets_the_newest_frames_and_the_others_are_counted(
    shared: Path, broker: Mosquitto, subscriber: Subscriber, daemon: Callable[..., Daemon], mjpeg: MjpegServer
) -> None:
    mjpeg.fps = 150  # the model takes more than 20 ms
    model = SLOW_DETECTOR.format(model=shared / "models" / "traffic_model.tflite")
    process = daemon(head(broker.port) + camera("web", mjpeg.url) + pipeline("cars", "web", "slow") + model)
    predictions = subscriber.wait_predictions(20)
    counts = final_counts(subscriber, process)["cars"]
    frames = [item["frame_seq"] for item in predictions]
    assert all(earlier < later for earlier, later in pairwise(frames))
    assert counts["discards"]["superseded"] > 0
    assert counts["frames"] == counts["predictions"] + sum(counts["discards"].values())
    assert counts["predictions"] == counts["published"]


def test_frames_of_a_live_camera_wait_for_the_reading_that_comes_after_them(
    tmp_path: Path, broker: Mosquitto, subscriber: Subscriber, daemon: Callable[..., Daemon], mjpeg: MjpegServer
) -> None:
    features = ", ".join(f'{field} = "line.{field}"' for field in FIELDS)
    align = 'align = { method = "interpolate", max_skew = "100ms", max_age = "2s", wait = "600ms" }'
    with SerialDevice(tmp_path / "line", '{"weight": 120, "temperature": 50, "vibration": 2}', period_s=0.2):
        process = daemon(
            head(broker.port)
            + camera("web", mjpeg.url)
            + sensor("line", f"serial:{tmp_path}/line", fields=FIELDS)
            + pipeline("inspect", "web", "conveyor", f"features = {{ {features} }}", align)
            + MODEL
        )
        # the first frames may be older than the first reading
        settled = wait_for(lambda: [item for item in subscriber.predictions() if not item["quality"]], "a good sample")
        start = subscriber.predictions().index(settled[0])
        predictions = subscriber.wait_predictions(start + 60)[start:]
        counts = final_counts(subscriber, process)["inspect"]
    assert [item["quality"] for item in predictions if item["quality"]] == []
    frames = [item["frame_seq"] for item in predictions]
    assert all(earlier < later for earlier, later in pairwise(frames))
    assert set(counts["discards"]) <= {"shutdown", "superseded"}
    assert counts["frames"] == counts["predictions"] + sum(counts["discards"].values())
