"""RTSP cameras against a real server that is killed, frozen and brought back; old frames are the trap."""

from __future__ import annotations

import contextlib
import threading

import numpy as np
import pytest

from edge_agent.errors import DeviceError
from edge_agent.io.cameras import rtsp as rtsp_camera
from edge_agent.io.cameras.rtsp import STALE_NS, Delay
from tests.simulators.rtsp_server import HEIGHT, WIDTH, RtspServer, now_stamp
from tests.simulators.stamped_picture import number_in


def stamp_of_next(camera):
    assert camera.grab() is not None
    return number_in(camera.retrieve())


def read_until_lost(camera):
    """The stamps of what is still delivered."""
    stamps = []
    with pytest.raises(DeviceError) as lost:
        for _ in range(1000):
            stamps.append(stamp_of_next(camera))
    return stamps, str(lost.value)


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
    frozen = now_stamp()
    stamps, message = read_until_lost(camera)
    assert "no frame within 1 s" in message
    assert all(stamp <= frozen for stamp in stamps)
    rtsp.thaw()
    thawed = now_stamp()
    reopen(camera)
    assert stamp_of_next(camera) > thawed


def test_opening_a_frozen_server_ends_after_the_time_out(make, rtsp, monkeypatch):
    monkeypatch.setattr(rtsp_camera, "OPEN_LEAST_NS", 1)
    rtsp.freeze()
    with pytest.raises(DeviceError, match="can't be opened"):
        make(rtsp.url, timeout_s=0.5).open()


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


MS = 10**6


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
