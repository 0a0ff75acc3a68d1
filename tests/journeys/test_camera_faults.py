"""One camera suffers every fault in turn while another one's predictions go on without a gap: each loss is told once,
with its reason, every return too, and every frame is a prediction or a counted discard."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from msgspec import Struct

from tests.simulators.agent_toml import CONVEYOR, MODEL, belt, camera, inspect, machine
from tests.simulators.daemon import Daemon
from tests.simulators.faulty_link import FaultyLink
from tests.simulators.mjpeg_server import MjpegServer, Mode
from tests.simulators.raw_server import Caller, RawServer
from tests.simulators.subscriber import Subscriber
from tests.simulators.waiting import wait_for
from tests.simulators.working import working


class Site(Struct):
    daemon: Daemon
    subscriber: Subscriber
    server: MjpegServer
    link: FaultyLink
    pictures: Path  # the folder that is the camera "shelf"

    def predictions(self, camera: str) -> list[dict[str, Any]]:
        return self.subscriber.payloads(f"/prediction/{camera}")

    def wait_more(self, camera: str, count: int = 3) -> None:
        wanted = len(self.predictions(camera)) + count
        wait_for(lambda: len(self.predictions(camera)) >= wanted, f"{count} more predictions of {camera}")

    def told(self, kind: str, camera: str) -> list[str]:
        return [event["detail"] for event in self.subscriber.events(kind) if event["subject"] == camera]

    def suffers(self, camera: str, fault: Callable[[], None], repair: Callable[[], None]) -> str:
        """The reason that was given for the loss. The camera works before and after."""
        self.wait_more(camera)
        lost, back = self.told("camera_lost", camera), self.told("camera_back", camera)
        fault()
        wait_for(lambda: len(self.told("camera_lost", camera)) > len(lost), f"the loss of {camera}")
        self.wait_more("belt")
        repair()
        wait_for(lambda: len(self.told("camera_back", camera)) > len(back), f"{camera} again")
        self.wait_more(camera)
        assert len(self.told("camera_back", camera)) == len(back) + 1
        new = self.told("camera_lost", camera)[len(lost) :]
        assert len(new) == 1
        return new[0]

    def pipeline(self, name: str) -> dict[str, Any]:
        stats: dict[str, Any] = self.subscriber.last("/stats") or {"pipelines": {}}
        found: dict[str, Any] = stats["pipelines"].get(name, {"frames": 0, "predictions": 0, "discards": {}})
        return found


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("faults")
    pictures = folder / "pictures"
    pictures.mkdir()
    for number in range(3):
        (pictures / f"{number}.jpg").write_bytes((CONVEYOR / f"media/frames/{number:04d}.jpg").read_bytes())
    with MjpegServer(fps=20) as server, FaultyLink(server.url) as link:
        cameras = (
            camera("web", link.url, 'timeout = "600ms"')
            + camera("shelf", f"images:{pictures}", "loop = true", "fps = 10")
            + belt(10)
        )
        pipelines = "".join(inspect(name, name) for name in ("web", "shelf", "belt"))
        with working(folder, cameras + machine() + pipelines + MODEL) as (daemon, subscriber):
            yield Site(daemon, subscriber, server, link, pictures)


@pytest.fixture(autouse=True)
def the_other_one_never_stops(site: Site) -> Iterator[None]:
    yield
    site.wait_more("belt")
    seen = site.predictions("belt")
    assert [item["seq"] for item in seen] == list(range(seen[0]["seq"], seen[0]["seq"] + len(seen)))
    assert [item["frame_seq"] for item in seen] == list(range(len(seen)))
    assert not site.told("camera_lost", "belt")


def set_mode(site: Site, mode: Mode) -> Callable[[], None]:
    return lambda: setattr(site.server, "mode", mode)


@pytest.mark.parametrize(
    ("mode", "reason"),
    [
        ("stall", "no frame within 0.6 s"),
        ("stall_in_frame", "no frame within 0.6 s"),
        ("trickle", "no frame within 0.6 s"),
        ("cut", "the camera ended the connection"),
    ],
)
def test_a_camera_that_sends_no_whole_frame_is_lost_within_its_time_out_and_comes_back(
    site: Site, mode: Mode, reason: str
) -> None:
    assert reason in site.suffers("web", set_mode(site, mode), set_mode(site, "ok"))


SLOW = pytest.mark.soak  # the camera is tried less and less often


@pytest.mark.parametrize("mode", ["hold", pytest.param("dribble", marks=SLOW), pytest.param("garble", marks=SLOW)])
def test_a_network_that_brings_no_whole_frame_is_a_loss_and_a_return(site: Site, mode: str) -> None:
    reason = site.suffers("web", lambda: setattr(site.link, "mode", mode), lambda: setattr(site.link, "mode", "pass"))
    assert "no frame within 0.6 s" in reason


def test_a_broken_connection_is_a_loss_and_a_return(site: Site) -> None:
    assert "the connection broke" in site.suffers("web", site.link.reset, lambda: None)


@SLOW
def test_a_camera_without_power_is_a_loss_and_a_return(site: Site) -> None:
    assert "ended the connection" in site.suffers("web", site.server.stop, site.server.start)


@pytest.mark.parametrize("mode", ["resize", "grey", "ok"])
def test_pictures_of_another_size_are_predicted_like_the_others(site: Site, mode: Mode) -> None:
    lost = site.told("camera_lost", "web")
    site.server.mode = mode
    site.wait_more("web", 10)
    assert site.told("camera_lost", "web") == lost


@pytest.mark.parametrize("mode", ["corrupt", "half", "huge"])
def test_frames_that_are_no_pictures_are_counted_and_lose_no_camera(site: Site, mode: Mode) -> None:
    lost = site.told("camera_lost", "web")
    site.wait_more("web")
    before = site.pipeline("web")["discards"].get("unreadable", 0)
    site.server.mode = mode
    wait_for(lambda: site.pipeline("web")["discards"].get("unreadable", 0) > before, "unreadable frames are counted")
    site.server.mode = "ok"
    site.wait_more("web")
    assert site.told("camera_lost", "web") == lost


def test_a_folder_that_is_unplugged_is_a_loss_and_a_return(site: Site) -> None:
    away = site.pictures.with_name("away")
    reason = site.suffers(
        "shelf", lambda: site.pictures.rename(away) and None, lambda: away.rename(site.pictures) and None
    )
    assert "no picture at" in reason


def test_after_all_of_that_every_frame_is_accounted_for(site: Site) -> None:
    for name in ("web", "shelf", "belt"):
        counts = site.pipeline(name)
        assert counts["predictions"] > 0
        under_way = counts["frames"] - counts["predictions"] - sum(counts["discards"].values())
        assert 0 <= under_way <= 3
        seen = [item["frame_seq"] for item in site.predictions(name)]
        assert all(earlier < later for earlier, later in pairwise(seen))
        wait_for(
            lambda camera=name: len(site.told("camera_lost", camera)) == len(site.told("camera_back", camera)),
            "as many returns as losses",
        )


def test_cameras_that_hang_for_longer_than_anybody_waits_do_not_hold_up_the_end(tmp_path: Path) -> None:
    timeout = 'timeout = "120s"'  # far beyond the time that ``working`` gives the daemon to end, with exit code 0
    with MjpegServer(fps=20) as server, FaultyLink(server.url) as link, RawServer(Caller.nothing) as silent:
        cameras = (
            camera("web", link.url, timeout)
            + camera("gate", f"rtsp://{silent.address}/", timeout)
            + camera("yard", f"http://{silent.address}/", timeout)
        )
        pipelines = "".join(inspect(name, name) for name in ("web", "gate", "yard"))
        with working(tmp_path, cameras + machine() + pipelines + MODEL) as (_, subscriber):
            subscriber.wait_predictions(3)
            wait_for(lambda: len(silent.callers) == 2, "both others ask their silent servers")
            link.mode = "hold"
