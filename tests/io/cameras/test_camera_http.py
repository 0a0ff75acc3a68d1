"""MJPEG cameras against a real server with the faults of real cameras."""

from __future__ import annotations

import contextlib
import http.server
import socket
import threading

import numpy as np
import pytest

from edge_agent.errors import DeviceError, FrameError
from edge_agent.io.cameras import http_mjpeg
from tests.simulators.mjpeg_server import MjpegServer
from tests.simulators.stamped_picture import number_in


def numbers(camera, count):
    found = []
    for _ in range(count):
        assert camera.grab() is not None
        found.append(number_in(camera.retrieve()))
    return found


def test_frames_come_in_order_as_bgr_with_the_time_of_their_arrival(make, mjpeg):
    camera = make(mjpeg.url)
    camera.open()
    before = camera.grab()
    grabbed = camera.grab()
    pixels = camera.retrieve()
    assert camera.live
    assert before.arrival_ns <= grabbed.mono_ns == grabbed.arrival_ns
    assert grabbed.time_source == "arrival"
    assert (pixels.shape, pixels.dtype) == ((320, 480, 3), np.uint8)
    seen = numbers(camera, 10)
    assert seen == sorted(set(seen))


@pytest.mark.parametrize(
    ("settings", "drop"),
    [
        ({"content_length": False}, "none"),
        ({"boundary": "--frame"}, "none"),
        ({"boundary": '"frame"'}, "none"),
        ({"delimiter": "\r\n--frame"}, "none"),
    ],
)
def test_cameras_that_bend_the_format_are_read_whole(make, mjpeg, settings, drop):
    for name, value in settings.items():
        setattr(mjpeg, name, value)
    camera = make(mjpeg.url, drop=drop)
    camera.open()
    assert numbers(camera, 5) == [1, 2, 3, 4, 5]


@pytest.mark.parametrize("mode", ["stall", "stall_in_frame", "trickle"])
def test_a_camera_that_falls_silent_is_lost_after_its_time_out(make, mjpeg, mode):
    camera = make(mjpeg.url, timeout_s=0.4)
    camera.open()
    camera.grab()
    mjpeg.mode = mode
    with pytest.raises(DeviceError, match=r"no frame within 0\.4 s"):
        for _ in range(1000):
            camera.grab()


@pytest.mark.parametrize("mode", ["close", "cut"])
def test_a_camera_that_ends_the_connection_is_lost_and_no_half_frame_is_given_out(make, mjpeg, mode):
    camera = make(mjpeg.url)
    camera.open()
    camera.grab()
    mjpeg.mode = mode
    with pytest.raises(DeviceError, match="connection"):
        for _ in range(1000):
            camera.grab()
            camera.retrieve()


def test_a_camera_that_loses_its_power_is_lost_and_read_again_when_it_is_back(make, mjpeg):
    camera = make(mjpeg.url)
    camera.open()
    camera.grab()
    mjpeg.stop()
    with pytest.raises(DeviceError):
        for _ in range(1000):
            camera.grab()
    with pytest.raises(DeviceError, match="can't be reached"):
        camera.open()
    mjpeg.start()
    camera.open()
    assert numbers(camera, 1)[0] > 1


@pytest.mark.parametrize(("mode", "reason"), [("corrupt", "no whole JPEG"), ("half", "no whole JPEG")])
def test_a_damaged_frame_costs_itself_only(make, mjpeg, mode, reason):
    mjpeg.mode = mode
    camera = make(mjpeg.url, drop="none")
    camera.open()
    good, bad = [], []
    for _ in range(6):
        camera.grab()
        try:
            good.append(number_in(camera.retrieve()))
        except FrameError as error:
            bad.append(str(error))
    assert good == [2, 4, 6]
    assert len(bad) == 3
    assert all(reason in message for message in bad)


def test_a_frame_that_announces_a_huge_picture_is_refused_before_decoding(make, mjpeg):
    mjpeg.mode = "huge"
    camera = make(mjpeg.url)
    camera.open()
    camera.grab()
    with pytest.raises(FrameError, match=r"60000 x 60000 pixels; at most 64 million"):
        camera.retrieve()


@pytest.mark.parametrize(("mode", "shape"), [("resize", (160, 240, 3)), ("grey", (320, 480, 3))])
def test_another_size_or_grey_in_the_middle_of_the_stream_is_delivered_as_it_is(make, mjpeg, mode, shape):
    camera = make(mjpeg.url, drop="none")
    camera.open()
    assert numbers(camera, 2) == [1, 2]
    mjpeg.mode = mode
    for _ in range(100):
        camera.grab()
        pixels = camera.retrieve()
        if pixels.shape == shape:
            break
    assert pixels.shape == shape
    assert number_in(pixels) >= 3


def wait_until_sent(server: MjpegServer, number: int) -> None:
    ticker = threading.Event()
    for _ in range(1000):
        if server.sent > number:
            return
        ticker.wait(0.01)
    raise AssertionError(f"the server did not get to frame {number}")


def test_a_reader_that_was_away_gets_the_newest_frame(make, mjpeg):
    camera = make(mjpeg.url)
    camera.open()
    camera.grab()
    wait_until_sent(mjpeg, 12)
    assert numbers(camera, 1)[0] >= 12


def test_a_reader_that_was_away_gets_every_frame_where_none_may_be_dropped(make, mjpeg):
    camera = make(mjpeg.url, drop="none")
    camera.open()
    camera.grab()
    wait_until_sent(mjpeg, 12)
    assert numbers(camera, 10) == list(range(2, 12))


@pytest.mark.parametrize("digest", [None, "MD5", "SHA-256"])
def test_user_and_password_open_the_stream(make, mjpeg, tmp_path, digest):
    mjpeg.credentials, mjpeg.digest = ("operator", "pa:ss wörd"), digest
    (tmp_path / "secret").write_text("pa:ss wörd\n")
    camera = make(mjpeg.url, username="operator", password_file="secret")
    camera.open()
    assert numbers(camera, 1)


def test_the_password_of_a_camera_may_be_a_credential_of_systemd(make, mjpeg, tmp_path, monkeypatch):
    mjpeg.credentials = ("operator", "geheim")
    (tmp_path / "camera-front").write_text("geheim")
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    camera = make(mjpeg.url, username="operator")
    camera.open()
    assert numbers(camera, 1)


def test_user_and_password_in_the_address_work_and_are_shown_nowhere(make, mjpeg):
    mjpeg.credentials = ("operator", "ge@heim")
    address = mjpeg.url.replace("//", "//operator:ge%40heim@")
    camera = make(address)
    camera.open()
    assert numbers(camera, 1)
    mjpeg.stop()
    with pytest.raises(DeviceError) as lost:
        for _ in range(1000):
            camera.grab()
    assert "heim" not in str(lost.value)
    assert "operator" not in str(lost.value)


@pytest.mark.parametrize("digest", [None, "MD5"])
def test_a_wrong_password_is_said_without_showing_it(make, mjpeg, tmp_path, digest):
    mjpeg.credentials, mjpeg.digest = ("operator", "right"), digest
    (tmp_path / "secret").write_text("a-wrong-one")
    with pytest.raises(DeviceError, match=r"answers 401 .*check username and the content") as refused:
        make(mjpeg.url, username="operator", password_file="secret").open()
    assert "a-wrong-one" not in str(refused.value)


def test_a_missing_password_is_asked_for(make, mjpeg):
    mjpeg.credentials = ("operator", "right")
    with pytest.raises(DeviceError, match="write username and password_file"):
        make(mjpeg.url).open()


def test_a_port_that_nobody_listens_to_is_said(make, mjpeg):
    mjpeg.stop()
    with pytest.raises(DeviceError, match=r"can't be reached \(Connection refused\)"):
        make(mjpeg.url).open()


def test_a_host_that_takes_the_connection_and_says_nothing_is_lost_after_the_time_out(make):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        camera = make(f"http://127.0.0.1:{silent.getsockname()[1]}/", timeout_s=0.3)
        with pytest.raises(DeviceError, match="did not answer within the time-out"):
            camera.open()


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (b"HTTP/1.0 200 OK\r\nContent-Type: text/html\r\n\r\n<html>", "sends 'text/html', not MJPEG"),
        (b"HTTP/1.0 404 Not Found\r\n\r\n", "answers 404 Not Found; check the path"),
        (b"RTSP/1.0 400 Bad Request\r\n\r\n", "does not answer as an HTTP camera"),
        (b"", "check the address"),
    ],
)
def test_what_is_no_mjpeg_camera_is_refused_with_what_it_said(make, answer, message):
    with socket.create_server(("127.0.0.1", 0)) as other:

        def answer_once() -> None:
            connection, _ = other.accept()
            with connection, contextlib.suppress(OSError):
                connection.recv(4096)
                connection.sendall(answer)

        thread = threading.Thread(target=answer_once)
        thread.start()
        with pytest.raises(DeviceError, match=message):
            make(f"http://127.0.0.1:{other.getsockname()[1]}/").open()
        thread.join()


def test_a_redirection_is_followed(make, mjpeg):
    class Redirect(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(302)
            self.send_header("Location", mjpeg.url)
            self.end_headers()

        def log_message(self, format, *args):
            pass

    with http.server.HTTPServer(("127.0.0.1", 0), Redirect) as server:
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        camera = make(f"http://127.0.0.1:{server.server_address[1]}/")
        camera.open()
        server.shutdown()
    assert numbers(camera, 1)


def test_a_camera_that_is_not_open_says_so_and_closes_twice(make, mjpeg):
    camera = make(mjpeg.url)
    camera.close()
    camera.close()
    with pytest.raises(DeviceError, match="is not open"):
        camera.grab()


def test_a_jpeg_with_a_thumbnail_but_without_its_own_end_is_refused():
    thumbnail = b"\xff\xd8\xff\xe1..\xff\xd8\xff\xda..\xff\xd9"
    with pytest.raises(FrameError, match="no whole JPEG"):
        http_mjpeg.decode_jpeg(thumbnail + b"\xff\xc0..\xff\xda.......", "front")
