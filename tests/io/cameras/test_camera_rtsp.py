"""RTSP cameras against a real server that is killed, frozen and brought back; old frames are the trap."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator

import numpy as np
import pytest

from edge_agent.errors import DeviceError
from edge_agent.io.cameras import rtsp as rtsp_camera
from edge_agent.io.cameras.rtsp import STALE_NS, Delay
from tests.simulators.faulty_link import FaultyLink
from tests.simulators.rtsp_server import HEIGHT, NARROWER, WIDER, WIDTH, RtspServer, now_stamp
from tests.simulators.stamped_picture import BITS, number_in

MS = 10**6


# How much newer than its picture a frame may claim to be: encoding and decoding, on a busy machine.
HONEST_MS = 500


def stamp_of_next(camera):
    return next_frame(camera)[0]


def next_frame(camera):
    """When its picture was made, in milliseconds, and how many were given up for it. Its claimed time must fit."""
    grabbed = camera.grab()
    stamp = number_in(camera.retrieve())
    assert grabbed.mono_ns // MS % (1 << BITS) - stamp < HONEST_MS, "an old picture is given out as a new one"
    return stamp, grabbed.skipped


def read_until_lost(camera):
    """How many frames are still delivered, and why no more."""
    count = 0
    with pytest.raises(DeviceError) as lost:
        for _ in range(1000):
            stamp_of_next(camera)
            count += 1
    return count, str(lost.value)


def reopen(camera):
    pause = threading.Event()
    for _ in range(100):
        with contextlib.suppress(DeviceError):
            camera.open()
            return
        pause.wait(0.1)
    raise AssertionError("the camera did not come back")


def test_the_first_frame_is_a_live_one_and_not_what_was_left_of_the_probing(make, rtsp):
    camera = make(rtsp.url)
    before = now_stamp()
    camera.open()
    opened = now_stamp()
    first = stamp_of_next(camera)
    assert first - before > (opened - before) / 2
    grabbed = camera.grab()
    pixels = camera.retrieve()
    assert (pixels.shape, pixels.dtype) == ((HEIGHT, WIDTH, 3), np.uint8)
    assert grabbed.time_source == "arrival"
    assert grabbed.mono_ns <= grabbed.arrival_ns
    assert number_in(pixels) > first


def test_a_killed_server_is_a_lost_camera_that_comes_back(make, rtsp):
    camera = make(rtsp.url)
    camera.open()
    stamp_of_next(camera)
    rtsp.kill()
    read_until_lost(camera)
    with pytest.raises(DeviceError, match="can't be opened; it did not answer as an RTSP camera"):
        camera.open()
    rtsp.start()
    back = now_stamp()
    reopen(camera)
    assert stamp_of_next(camera) > back


def test_a_frozen_server_is_a_lost_camera_and_no_old_frame_is_taken_for_a_new_one(make, rtsp):
    camera = make(rtsp.url)
    camera.open()
    stamp_of_next(camera)
    rtsp.freeze()
    _, message = read_until_lost(camera)
    assert "no frame within 1 s" in message
    rtsp.thaw()
    thawed = now_stamp()
    reopen(camera)
    assert stamp_of_next(camera) > thawed


def test_opening_a_frozen_server_ends_after_the_time_out(make, rtsp, monkeypatch):
    monkeypatch.setattr(rtsp_camera, "OPEN_LEAST_NS", 1)
    rtsp.freeze()
    with pytest.raises(DeviceError, match="can't be opened"):
        make(rtsp.url, timeout_s=0.5).open()


def test_every_frame_is_another_picture(make, rtsp):
    camera = make(rtsp.url, drop="none")
    camera.open()
    stamps = [stamp_of_next(camera) for _ in range(70)]  # two key frames are among them
    assert stamps == sorted(set(stamps))


class StillClock:
    """A capture whose frames all have one time stamp."""

    def __init__(self):
        self.grabs = 0

    def grab(self):
        self.grabs += 1
        return True

    def release(self):
        pass

    def get(self, _property):
        return 7.0


def test_a_camera_whose_clock_stands_still_loses_one_frame_only(make, monkeypatch):
    camera = make("rtsp://camera.invalid/stream", drop="none")
    capture = StillClock()
    monkeypatch.setattr(camera, "_capture", capture)
    for _ in range(5):
        assert camera.grab() is not None
    assert capture.grabs == 6


@pytest.fixture
def link(rtsp: RtspServer) -> Iterator[FaultyLink]:
    with FaultyLink(rtsp.url) as between:
        yield between


def test_frames_that_a_link_held_up_are_given_up_for_newer_ones_and_none_is_taken_for_new(make, link):
    camera = make(link.url, timeout_s=3.0)
    camera.open()
    before = stamp_of_next(camera)
    link.mode = "hold"
    released = threading.Timer(1.0, setattr, (link, "mode", "pass"))
    released.start()
    stamp, given_up = before, 0
    while stamp < before + 1500:
        stamp, skipped = next_frame(camera)
        given_up += skipped
    released.join()
    assert given_up >= 10  # of 1000 ms at 30 a second, those that were older than 300 ms


@pytest.mark.parametrize(
    "mode", ["dribble", *(pytest.param(mode, marks=pytest.mark.soak) for mode in ("hold", "garble"))]
)
def test_a_link_that_brings_no_whole_frame_is_a_lost_camera_until_it_does(make, link, monkeypatch, mode):
    monkeypatch.setattr(rtsp_camera, "OPEN_LEAST_NS", 1)
    camera = make(link.url)
    camera.open()
    stamp_of_next(camera)
    link.mode = mode
    read_until_lost(camera)
    with pytest.raises(DeviceError, match="can't be opened"):
        camera.open()
    link.mode = "pass"
    passed = now_stamp()
    reopen(camera)
    assert stamp_of_next(camera) > passed


@pytest.mark.parametrize("fault", [FaultyLink.reset, pytest.param(FaultyLink.cut, marks=pytest.mark.soak)])
def test_a_connection_that_ends_is_a_lost_camera(make, link, fault):
    camera = make(link.url, timeout_s=5.0)
    camera.open()
    stamp_of_next(camera)
    fault(link)
    _, message = read_until_lost(camera)
    assert "gives no more frames" in message
    reopen(camera)
    stamp_of_next(camera)


@pytest.mark.parametrize("width", [WIDER, pytest.param(NARROWER, marks=pytest.mark.soak)])
def test_a_stream_that_changes_its_size_is_scaled_whole_until_it_is_opened_again(make, rtsp, width):
    camera = make(rtsp.url)
    camera.open()
    stamp_of_next(camera)
    rtsp.resize(width)
    resized = now_stamp()
    while stamp_of_next(camera) < resized + 1000:
        assert camera.retrieve().shape == (HEIGHT, WIDTH, 3)
    camera.open()
    stamp_of_next(camera)
    assert camera.retrieve().shape == (HEIGHT, width, 3)


def test_a_host_that_nobody_knows_is_said(make):
    with pytest.raises(DeviceError, match="its host name is not known"):
        make("rtsp://camera.invalid/stream").open()


def test_user_and_password_reach_the_server_however_they_are_written(make, rtsp_installed, tmp_path):
    user, password = "the operator", "p@ss:w/rd?#%é"
    (tmp_path / "secret").write_text(password + "\n")
    (tmp_path / "wrong").write_text("not-it")
    with RtspServer(credentials=(user, password)) as server:
        camera = make(server.url, username=user, password_file="secret")
        camera.open()
        assert camera.grab() is not None
        camera.close()
        with pytest.raises(DeviceError) as refused:
            make(server.url, username=user, password_file="wrong").open()
        assert "not-it" not in str(refused.value)


def test_a_steady_stream_has_no_delay_whatever_the_zero_of_its_clock():
    delay = Delay()
    assert [delay.of(7_000 * MS + i * 40 * MS, i * 40 * MS) for i in range(5)] == [0, 0, 0, 0, 0]


def test_frames_that_waited_for_the_reader_are_as_late_as_they_waited():
    delay = Delay()
    for i in range(10):
        delay.of(i * 40 * MS, i * 40 * MS)
    late = [delay.of(i * 40 * MS, 2_000 * MS) for i in range(10, 50)]
    assert late[0] > STALE_NS > late[-1]
    assert all(late[i] - late[i + 1] == 40 * MS for i in range(39))


def test_a_clock_that_drifts_from_ours_makes_no_frame_late():
    delay = Delay()
    slow = [delay.of(round(i * 40 * MS * (1 - 1e-4)), i * 40 * MS) for i in range(100_000)]
    assert max(slow) < MS


@pytest.mark.parametrize("restart_ns", [0, -5_000 * MS, 39 * 40 * MS])
def test_a_stream_whose_clock_goes_back_or_stands_still_makes_no_frame_late_for_ever(restart_ns):
    delay = Delay()
    for i in range(40):
        delay.of(i * 40 * MS, i * 40 * MS)
    assert [delay.of(restart_ns + i * 40 * MS, (40 + i) * 40 * MS) for i in range(3)] == [0, 0, 0]
    assert [delay.of(restart_ns, (43 + i) * 40 * MS) for i in range(3)] == [0, 0, 0]
