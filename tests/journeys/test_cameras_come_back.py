"""A camera that is absent, dies, hangs or sends rubbish costs its own frames only: told, counted, and it comes back."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from datetime import datetime, timezone
from itertools import pairwise
from pathlib import Path
from typing import Any

import cv2
import pytest

from tests.simulators import rtsp_server
from tests.simulators.agent_toml import CONVEYOR, MODEL, belt, camera, inspect, machine
from tests.simulators.daemon import Daemon
from tests.simulators.mjpeg_server import MjpegServer
from tests.simulators.rtsp_server import RtspServer
from tests.simulators.subscriber import Subscriber
from tests.simulators.waiting import wait_for
from tests.simulators.working import working

TIMEOUT_S = 1.0
ON_THE_WIRE_S = 0.5  # a frame that was sent before the server froze may arrive that much later


class Plant:
    """A daemon with several cameras, each with a pipeline of its own name."""

    def __init__(self, daemon: Daemon, subscriber: Subscriber) -> None:
        self.daemon = daemon
        self.subscriber = subscriber

    def predictions(self, camera: str) -> list[dict[str, Any]]:
        return self.subscriber.payloads(f"/prediction/{camera}")

    def wait_more(self, camera: str, count: int = 5) -> None:
        wanted = len(self.predictions(camera)) + count
        wait_for(lambda: len(self.predictions(camera)) >= wanted, f"{count} more predictions of {camera}")

    def events(self, kind: str, camera: str) -> list[dict[str, Any]]:
        return [event for event in self.subscriber.events(kind) if event["subject"] == camera]

    def wait_event(self, kind: str, camera: str, count: int) -> str:
        wait_for(lambda: len(self.events(kind, camera)) == count, f"{kind} of {camera}, the {count}. time")
        return str(self.events(kind, camera)[-1]["detail"])

    def wait_stats(self, camera: str, **wanted: object) -> dict[str, Any]:
        """The camera's part of the first statistics that say all of that."""

        def found() -> dict[str, Any] | None:
            said: dict[str, Any] = (self.subscriber.last("/stats") or {"cameras": {}})["cameras"].get(camera, {})
            return said if said.items() >= wanted.items() else None

        return wait_for(found, f"{camera} is {wanted}")


@pytest.fixture(scope="module")
def mjpeg() -> Iterator[MjpegServer]:
    with MjpegServer(fps=20) as server:
        yield server


@pytest.fixture(scope="module")
def rtsp() -> Iterator[RtspServer]:
    missing = rtsp_server.why_missing()
    if missing:
        pytest.skip(missing)
    with RtspServer() as server:
        yield server


def run_plant(tmp_path_factory: pytest.TempPathFactory, camera_text: str, name: str) -> Iterator[Plant]:
    """Runs that camera beside ``belt``, which is always there, and ``absent``, which never is."""
    cameras = camera_text + belt(10) + camera("absent", "v4l2:/dev/video99")
    pipelines = "".join(inspect(one, one) for one in (name, "belt", "absent"))
    with working(tmp_path_factory.mktemp(name), cameras + machine() + pipelines + MODEL) as site:
        yield Plant(*site)


@pytest.fixture(scope="module")
def plant(tmp_path_factory: pytest.TempPathFactory, mjpeg: MjpegServer) -> Iterator[Plant]:
    yield from run_plant(tmp_path_factory, camera("web", mjpeg.url, f'timeout = "{TIMEOUT_S}s"'), "web")


@pytest.fixture(scope="module")
def gate(tmp_path_factory: pytest.TempPathFactory, rtsp: RtspServer) -> Iterator[Plant]:
    yield from run_plant(tmp_path_factory, camera("gate", rtsp.url, f'timeout = "{TIMEOUT_S}s"'), "gate")


def test_a_camera_that_is_not_there_is_told_once_and_tried_again_while_the_others_work(plant: Plant) -> None:
    assert "v4l2:/dev/video99" in plant.wait_event("camera_lost", "absent", 1)
    plant.wait_more("web")
    plant.wait_more("belt")
    wait_for(lambda: plant.wait_stats("absent", state="lost", frames=0)["failures"] >= 3, "three attempts")
    assert len(plant.events("camera_lost", "absent")) == 1
    assert plant.daemon.process.poll() is None


def test_a_camera_that_dies_comes_back_and_the_other_one_never_stops(plant: Plant, mjpeg: MjpegServer) -> None:
    plant.wait_more("web")
    mjpeg.stop()
    plant.wait_event("camera_lost", "web", 1)
    plant.wait_more("belt")
    mjpeg.start()
    plant.wait_event("camera_back", "web", 1)
    plant.wait_more("web")
    assert plant.wait_stats("web", state="streaming", reopened=1)["failures"] >= 1
    frames = [item["frame_seq"] for item in plant.predictions("web")]
    assert all(earlier < later for earlier, later in pairwise(frames))
    belt = [item["frame_seq"] for item in plant.predictions("belt")]
    assert belt == list(range(len(belt)))
    assert plant.subscriber.events("camera_lost")[-1]["subject"] == "web"


def test_a_stalled_camera_is_lost_after_its_time_out_and_comes_back(plant: Plant, mjpeg: MjpegServer) -> None:
    lost, back = len(plant.events("camera_lost", "web")), len(plant.events("camera_back", "web"))
    plant.wait_more("web")
    mjpeg.mode = "stall"
    assert "no frame within 1 s" in plant.wait_event("camera_lost", "web", lost + 1)
    stalled = len(plant.predictions("web"))
    plant.wait_more("belt")
    assert len(plant.predictions("web")) == stalled
    mjpeg.mode = "ok"
    plant.wait_event("camera_back", "web", back + 1)
    plant.wait_more("web")
    plant.wait_stats("web", state="streaming", reopened=back + 1)


def test_frames_that_are_no_pictures_are_counted_and_the_camera_is_not_lost(plant: Plant, mjpeg: MjpegServer) -> None:
    plant.wait_more("web")
    lost = len(plant.events("camera_lost", "web"))
    mjpeg.mode = "corrupt"

    def unreadable() -> dict[str, Any] | None:
        stats = plant.subscriber.last("/stats")
        counts: dict[str, Any] = stats["pipelines"]["web"] if stats else {"discards": {}}
        return counts if counts["discards"].get("unreadable", 0) >= 4 else None

    counts = wait_for(unreadable, "unreadable frames in the statistics")
    mjpeg.mode = "ok"
    plant.wait_more("web", 5)
    under_way = counts["frames"] - counts["predictions"] - sum(counts["discards"].values())
    assert 0 <= under_way <= 3
    assert len(plant.events("camera_lost", "web")) == lost


def test_an_rtsp_server_that_dies_comes_back(gate: Plant, rtsp: RtspServer) -> None:
    gate.wait_more("gate")
    rtsp.kill()
    gate.wait_event("camera_lost", "gate", 1)
    gate.wait_more("belt")
    rtsp.start()
    gate.wait_event("camera_back", "gate", 1)
    gate.wait_more("gate")
    gate.wait_stats("gate", state="streaming", reopened=1)


def test_no_old_frame_of_a_frozen_rtsp_server_is_published_as_a_new_one(gate: Plant, rtsp: RtspServer) -> None:
    lost, back = len(gate.events("camera_lost", "gate")), len(gate.events("camera_back", "gate"))
    gate.wait_more("gate")
    rtsp.freeze()
    frozen = datetime.now(timezone.utc).timestamp()
    gate.wait_event("camera_lost", "gate", lost + 1)
    gate.wait_more("belt")
    thawed = datetime.now(timezone.utc).timestamp()
    rtsp.thaw()
    gate.wait_event("camera_back", "gate", back + 1)
    gate.wait_more("gate")
    times = [datetime.fromisoformat(item["time"].replace("Z", "+00:00")) for item in gate.predictions("gate")]
    assert [time for time in times if frozen + ON_THE_WIRE_S < time.timestamp() < thawed] == []


def test_a_video_that_vanishes_for_a_while_keeps_to_the_readings_of_its_own_time(tmp_path: Path) -> None:
    fps, row_s = 20, 0.1
    video = tmp_path / "belt.avi"
    writer = cv2.VideoWriter(str(video), cv2.VideoWriter.fourcc(*"MJPG"), fps, (320, 240))
    for number in range(10):
        writer.write(cv2.imread(str(CONVEYOR / f"media/frames/{number:04d}.jpg")))
    writer.release()
    with (CONVEYOR / "media/sensors.csv").open() as file:
        weights = [row["weight"] for row in csv.DictReader(file)]
    configuration = camera("belt", f"file:{video}", "loop = true") + machine("media") + inspect() + MODEL
    with working(tmp_path, configuration) as (_, subscriber):
        subscriber.wait_predictions(fps)
        video.rename(tmp_path / "away.avi")
        wait_for(lambda: subscriber.events("camera_lost"), "the loss of the file")
        (tmp_path / "away.avi").rename(video)
        wait_for(lambda: subscriber.events("camera_back"), "the file again")
        predictions = subscriber.wait_predictions(len(subscriber.predictions()) + fps)
    for item in predictions[::2]:  # every second frame has the time of a row
        row = round(item["frame_seq"] / fps / row_s)
        if weights[row]:
            reading = item["readings"]["weight"]
            assert (reading["value"], reading["age_ms"]) == (float(weights[row]), pytest.approx(0, abs=0.01))
