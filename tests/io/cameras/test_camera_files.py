"""Video files and picture folders as cameras: every frame, in order, on media time."""

from __future__ import annotations

import itertools
import struct
import threading
from pathlib import Path

import cv2
import numpy as np
import pytest

from edge_agent.errors import DeviceError, FrameError
from tests.simulators.mjpeg_server import numbered_picture
from tests.simulators.stamped_picture import number_in

MS = 10**6


class LateClock:
    """A clock that jumps ahead by ``jump_ns`` each time it is asked: a reader that is always late."""

    def __init__(self, jump_ns: int) -> None:
        self.now_ns = 0
        self.jump_ns = jump_ns

    def monotonic_ns(self) -> int:
        self.now_ns += self.jump_ns
        return self.now_ns

    def wall_ns(self, mono_ns: int) -> int:
        return mono_ns

    def synced(self) -> bool:
        return True


@pytest.fixture
def short_video(tmp_path) -> Path:
    """Five numbered frames at 20 a second."""
    writer = cv2.VideoWriter(str(tmp_path / "short.avi"), cv2.VideoWriter.fourcc(*"MJPG"), 20, (480, 320))
    for number in range(5):
        writer.write(numbered_picture(number))
    writer.release()
    return tmp_path / "short.avi"


@pytest.fixture
def pictures(tmp_path) -> Path:
    """Four files in a folder of names: two good ones, a damaged one between them, one of 1 x 1."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    cv2.imwrite(str(folder / "a.png"), numbered_picture(1))
    (folder / "b.jpg").write_bytes(b"\xff\xd8 no picture")
    cv2.imwrite(str(folder / "c.JPG.bmp"), numbered_picture(3))
    cv2.imwrite(str(folder / "d.png"), np.full((1, 1, 3), 7, np.uint8))
    (folder / "labels.txt").write_text("no picture, not looked at in a folder")
    return folder


def grab_all(camera, most=10_000):
    grabs = []
    while (grabbed := camera.grab()) is not None and len(grabs) < most:
        grabs.append(grabbed)
    return grabs


def test_the_car_video_gives_377_frames_80_ms_apart_on_its_own_time(make, shared):
    camera = make(f"file:{shared}/videos/car-detection.mp4", pace="max")
    assert camera.live is False
    camera.open()
    assert camera.media_epoch_ns is None
    grabs = grab_all(camera)
    assert len(grabs) == 377
    assert grabs[0].mono_ns == camera.media_epoch_ns
    assert {later.mono_ns - grab.mono_ns for grab, later in itertools.pairwise(grabs)} == {80 * MS}
    assert {grab.time_source for grab in grabs} == {"media"}
    assert camera.grab() is None


def test_frames_of_a_video_are_all_there_and_in_order(make, short_video):
    camera = make(f"file:{short_video.name}", pace="max")
    camera.open()
    seen = []
    while camera.grab() is not None:
        pixels = camera.retrieve()
        assert (pixels.shape, pixels.dtype) == ((320, 480, 3), np.uint8)
        seen.append(number_in(pixels))
    assert seen == [0, 1, 2, 3, 4]


def test_in_media_time_no_frame_comes_before_it_is_due(make, short_video):
    camera = make(f"file:{short_video}", pace="media")
    camera.open()
    grabs = grab_all(camera)
    assert [(grab.mono_ns - camera.media_epoch_ns) // MS for grab in grabs] == [0, 50, 100, 150, 200]
    assert all(grab.arrival_ns >= grab.mono_ns for grab in grabs)


def test_a_reader_that_is_late_gets_every_frame_late(make, short_video):
    camera = make(f"file:{short_video}", pace="media", clock=LateClock(jump_ns=100 * MS))
    camera.open()
    grabs = grab_all(camera)
    assert len(grabs) == 5
    assert grabs[-1].arrival_ns - grabs[-1].mono_ns > 1000 * MS


@pytest.mark.parametrize("source", ["file:short.avi", "images:lap/*.png"])
def test_laps_follow_one_another_without_a_gap(make, short_video, tmp_path, source):
    (tmp_path / "lap").mkdir()
    for number in range(5):
        cv2.imwrite(str(tmp_path / f"lap/{number}.png"), numbered_picture(number))
    camera = make(source, pace="max", loop=True, fps=20)
    camera.open()
    seen, times = [], []
    for _ in range(13):
        times.append((camera.grab().mono_ns - camera.media_epoch_ns) // MS)
        seen.append(number_in(camera.retrieve()))
    assert seen == [0, 1, 2, 3, 4, 0, 1, 2, 3, 4, 0, 1, 2]
    assert times == list(range(0, 13 * 50, 50))


@pytest.mark.parametrize("source", ["file:short.avi", "images:pictures"])
def test_opened_again_a_source_starts_anew_and_its_time_goes_on(make, short_video, pictures, source):
    camera = make(source, pace="max", fps=20)
    camera.open()
    first, second = camera.grab(), camera.grab()
    epoch = camera.media_epoch_ns
    camera.close()
    camera.close()
    with pytest.raises(DeviceError, match="is not open"):
        camera.grab()
    camera.open()
    third = camera.grab()
    assert camera.media_epoch_ns == epoch == first.mono_ns
    assert third.mono_ns - second.mono_ns == 50 * MS


@pytest.mark.parametrize("pace", ["media", "max"])
def test_a_source_that_waits_for_its_next_frame_is_stopped_at_once(make, pictures, stopping, pace):
    camera = make("images:pictures", pace=pace, fps=0.001)
    camera.open()
    assert camera.grab() is not None
    threading.Timer(0.05 if pace == "media" else 0, stopping.set).start()
    stopping.wait() if pace == "max" else None
    assert camera.grab() is None


def test_a_damaged_picture_costs_itself_only(make, pictures):
    camera = make("images:pictures", pace="max")
    camera.open()
    camera.grab()
    assert number_in(camera.retrieve()) == 1
    camera.grab()
    with pytest.raises(FrameError, match=r"pictures/b\.jpg: not a picture"):
        camera.retrieve()
    camera.grab()
    assert number_in(camera.retrieve()) == 3
    camera.grab()
    assert camera.retrieve().tolist() == [[[7, 7, 7]]]
    assert camera.grab() is None
    assert camera.grab() is None


def test_a_picture_beyond_the_bound_is_refused_by_its_header_and_the_next_one_follows(make, tmp_path):
    header = struct.pack("<2sIHHIIiiHHIIiiII", b"BM", 54, 0, 0, 54, 40, 60_000, 2_000, 1, 24, 0, 0, 0, 0, 0, 0)
    (tmp_path / "1.bmp").write_bytes(header)
    cv2.imwrite(str(tmp_path / "2.png"), numbered_picture(2))
    camera = make("images:?.*", pace="max")
    camera.open()
    camera.grab()
    with pytest.raises(FrameError, match=r"1\.bmp: 60000 x 2000 pixels; at most 64 million"):
        camera.retrieve()
    camera.grab()
    assert number_in(camera.retrieve()) == 2


def test_pictures_come_ten_a_second_unless_the_configuration_says_otherwise(make, pictures):
    camera = make("images:pictures", pace="max")
    camera.open()
    assert [(grab.mono_ns - camera.media_epoch_ns) // MS for grab in grab_all(camera)] == [0, 100, 200, 300]


def test_a_glob_may_be_absolute_and_reach_into_folders(make, pictures):
    camera = make(f"images:{pictures.parent}/**/*.png", pace="max")
    camera.open()
    assert len(grab_all(camera)) == 2


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("file:absent.mp4", "no such file .*absent.mp4; check source"),
        ("file:.", "no such file"),
        ("images:absent/*.png", "no picture at .*absent/.*; check source"),
        ("images:empty", "no picture at .*empty"),
        ("file:notes.txt", "is a text file, not a video"),
        ("file:zeros.mp4", "can't be opened; it is no video"),
        ("file:nothing.mp4", "is a text file|can't be opened"),
    ],
)
def test_a_source_that_is_absent_or_no_video_is_said_when_it_is_opened(make, tmp_path, source, message):
    (tmp_path / "empty").mkdir()
    (tmp_path / "notes.txt").write_text("Das Prüfband läuft.\n" * 50)
    (tmp_path / "zeros.mp4").write_bytes(bytes(4096))
    (tmp_path / "nothing.mp4").write_bytes(b"")
    with pytest.raises(DeviceError, match=message):
        make(source).open()
