"""What cameras and networks do wrong in answer to a reader: never without an end, never without a bound on memory."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tracemalloc
from pathlib import Path

import cv2
import pytest

from edge_agent.errors import DeviceError, FrameError
from edge_agent.io.cameras import _resolve, http_mjpeg
from edge_agent.io.cameras._bounded_http import ANSWER_BYTES_MOST
from tests.simulators.faulty_link import FaultyLink
from tests.simulators.lost_camera import read_until_lost
from tests.simulators.mjpeg_server import numbered_picture
from tests.simulators.raw_server import Caller, RawServer
from tests.simulators.stamped_picture import number_in

ROOT = Path(__file__).resolve().parents[3]
JPEG = cv2.imencode(".jpg", numbered_picture(7))[1].tobytes()
GOOD = b"HTTP/1.1 200 OK\r\nContent-Type: multipart/x-mixed-replace; boundary=frame\r\n"
PART = b"--frame\r\nContent-Length: %d\r\n\r\n%b\r\n" % (len(JPEG), JPEG)


@pytest.fixture
def link(mjpeg):
    with FaultyLink(mjpeg.url) as between:
        yield between


# --- HTTP: opening ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("begin", [b"", b"HTTP/1.1 200 OK\r\nServer: ", b"HTTP/1.1 302 Found\r\nLocation: "])
def test_an_answer_that_comes_byte_by_byte_is_given_up_after_the_time_out(make, begin):
    def answer(caller: Caller) -> None:
        caller.send(begin)
        caller.for_ever(b"x", every_s=0.05)

    with RawServer(answer) as server:
        camera = make(f"http://{server.address}/", timeout_s=0.4)
        with pytest.raises(DeviceError, match="did not answer within the time-out"):
            camera.open()


def test_a_redirection_to_a_server_that_is_silent_begins_no_time_out_anew(make):
    with RawServer(Caller.nothing) as silent:

        def answer(caller: Caller) -> None:
            caller.send(f"HTTP/1.1 302 Found\r\nLocation: http://{silent.address}/\r\n\r\n".encode())

        with RawServer(answer) as server:
            camera = make(f"http://{server.address}/", timeout_s=0.4)
            with pytest.raises(DeviceError, match="did not answer within the time-out"):
                camera.open()


@pytest.mark.parametrize(
    "begin",
    [
        b"HTTP/1.1 200 OK\r\n",  # header after header
        b"HTTP/1.1 200 OK\r\nServer: no-end-of-line",
        b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\n\r\n",
        b'HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: Basic realm="x"\r\n\r\n',
    ],
)
def test_an_answer_without_an_end_is_refused_before_it_fills_the_memory(make, begin):
    def answer(caller: Caller) -> None:
        caller.send(begin)
        caller.for_ever(b"X: y\r\n" * 1000 if begin.endswith(b"OK\r\n") else b"x" * 6000)

    with RawServer(answer) as server:
        camera = make(f"http://{server.address}/", timeout_s=20.0)
        tracemalloc.start()
        with pytest.raises(DeviceError, match=r"does not answer as an HTTP camera|answers 401 Unauthorized"):
            camera.open()
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert peak < 4 * ANSWER_BYTES_MOST


@pytest.mark.parametrize(
    ("status", "message"),
    [
        ("403 Forbidden", "answers 403 Forbidden; it asks for a user: write username and password_file"),
        ("404 Nichts\r\nX: y", "answers 404 Not Found; check the path of the address"),
        ("500 Oops", "answers 500 Internal Server Error; the camera itself failed: start it anew if that lasts"),
        ("503 Busy", "answers 503 Service Unavailable; the camera itself failed"),
        ("799 Odd", "answers 799 an unknown status"),
        ("302 Found\r\nLocation: /", "answers 302 Found; check the path"),  # to itself, for ever
        ("302 Found\r\nLocation: ftp://127.0.0.1/", "can't be reached"),
        ("302 Found\r\nLocation: file:///etc/passwd", "answers 302 Found"),
    ],
)
def test_a_refusal_is_told_in_one_line(make, status, message):
    answer = f"HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n".encode()
    with RawServer(lambda caller: caller.send(answer)) as server, pytest.raises(DeviceError) as refused:
        make(f"http://{server.address}/").open()
    assert message in str(refused.value)
    assert "\n" not in str(refused.value)


# --- HTTP: streaming ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "stream",
    [
        pytest.param(b"", id="a part, byte by byte"),
        pytest.param(b"Transfer-Encoding: chunked\r\n", id="the length of a chunk, byte by byte"),
    ],
)
def test_a_whole_frame_comes_within_the_time_out_or_the_camera_is_lost(make, stream):
    def answer(caller: Caller) -> None:
        part = b"%x\r\n%b\r\n" % (len(PART), PART) if stream else PART
        caller.send(GOOD + stream + b"\r\n" + part + part)
        caller.for_ever(b"0", every_s=0.05)

    with RawServer(answer) as server:
        camera = make(f"http://{server.address}/", timeout_s=0.4, drop="none")
        camera.open()
        for _ in range(2):
            camera.grab()
            assert number_in(camera.retrieve()) == 7
        assert "no frame within 0.4 s" in read_until_lost(camera)


@pytest.mark.parametrize(
    ("endless", "message"),
    [
        (b"\x00" * 6000, "no frame within 0.5 s"),  # never a delimiter: kept are the last few bytes
        (b"--frame\r\n" + b"X-No-End: y" * 600, "header of more than 16 KiB"),
        (b"--frame\r\n\r\n" + b"\xff\xd8" * 3000, None),  # parts without an end that are no pictures: unreadable
        (b"--frame\r\nContent-Length: 999999999999\r\n\r\n", "announces 999999999999 bytes"),
    ],
)
def test_a_stream_of_rubbish_does_not_fill_the_memory(make, endless, message):
    def answer(caller: Caller) -> None:
        caller.send(GOOD + b"\r\n")
        caller.for_ever(endless)

    with RawServer(answer) as server:
        camera = make(f"http://{server.address}/", timeout_s=30.0 if message is None else 0.5)
        camera.open()
        tracemalloc.start()
        if message is None:
            for _ in range(20):
                camera.grab()
                with pytest.raises(FrameError, match="no whole JPEG"):
                    camera.retrieve()
        else:
            assert message in read_until_lost(camera)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert peak < 64 * http_mjpeg.READ_BYTES  # some copies of what one read brings; the stream brings 100 MB a second


@pytest.mark.parametrize("mode", ["hold", "dribble"])
def test_a_link_that_brings_no_whole_frame_is_a_lost_camera_until_it_does(make, mjpeg, link, mode):
    camera = make(link.url, timeout_s=0.5)
    camera.open()
    camera.grab()
    link.mode = mode
    assert "no frame within 0.5 s" in read_until_lost(camera)
    with pytest.raises(DeviceError, match="did not answer within the time-out"):
        camera.open()
    link.mode = "pass"
    sent = mjpeg.sent
    camera.open()
    camera.grab()
    assert number_in(camera.retrieve()) > sent


def test_a_garbled_link_gives_no_picture(make, link):
    camera = make(link.url, timeout_s=0.5)
    camera.open()
    camera.grab()
    link.mode = "garble"
    assert "no frame within 0.5 s" in read_until_lost(camera)


@pytest.mark.parametrize(
    ("fault", "message"), [(FaultyLink.cut, "ended the connection"), (FaultyLink.reset, "the connection broke: ")]
)
def test_a_connection_that_ends_is_a_lost_camera_at_once(make, link, fault, message):
    camera = make(link.url, timeout_s=60.0)
    camera.open()
    camera.grab()
    fault(link)
    assert message in read_until_lost(camera)
    camera.open()
    camera.grab()
    assert number_in(camera.retrieve()) > 0


def test_a_camera_that_ends_each_connection_after_one_frame_still_gives_its_frames(make):
    with RawServer(lambda caller: caller.send(GOOD + b"\r\n" + PART)) as server:
        camera = make(f"http://{server.address}/")
        for _ in range(3):
            camera.open()
            camera.grab()
            assert number_in(camera.retrieve()) == 7
            with pytest.raises(DeviceError, match="ended the connection"):
                camera.grab()


def test_a_frame_has_the_time_at_which_it_came_and_not_that_at_which_it_was_asked_for(make):
    small = b"--frame\r\nContent-Length: 1\r\n\r\nx\r\n"  # three of them in one packet, with the header
    with RawServer(lambda caller: (caller.send(GOOD + b"\r\n" + small * 3), caller.nothing())) as server:
        camera = make(f"http://{server.address}/", drop="none")
        camera.open()
        grabs = [camera.grab() for _ in range(3)]
    assert len({grab.arrival_ns for grab in grabs}) == 1


# --- names --------------------------------------------------------------------------------------------------------

SILENT_NAME_SERVER = """
import socket, sys, threading
from pathlib import Path
from edge_agent.config.schema import CameraConfig
from edge_agent.config.units import Duration
from edge_agent.errors import DeviceError
from edge_agent.io.cameras import create_camera
from edge_agent.io.clock import SystemClock

silent = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
silent.bind(("127.0.0.1", 53))
for scheme in ("http", "rtsp"):
    config = CameraConfig(name="front", source=scheme + "://camera.plant/stream", timeout=Duration(3 * 10**8))
    camera = create_camera(config, SystemClock(), Path(), threading.Event())
    for _ in range(2):
        try:
            camera.open()
        except DeviceError as error:
            print(error)
print(sum(thread.name.startswith("lookup") for thread in threading.enumerate()))
"""


def test_name_servers_that_do_not_answer_cost_the_time_out_only_and_one_thread_for_each_name(tmp_path):
    namespace = [shutil.which("unshare") or "unshare", "--map-root-user", "--net", "--mount"]
    try:
        subprocess.run([*namespace, "true"], check=True, capture_output=True, timeout=20)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("no network namespaces here")
    (tmp_path / "resolv.conf").write_text("nameserver 127.0.0.1\noptions timeout:30 attempts:5\n")
    (tmp_path / "ask.py").write_text(SILENT_NAME_SERVER)
    script = f"ip link set lo up && mount --bind {tmp_path}/resolv.conf /etc/resolv.conf && exec {sys.executable} "
    done = subprocess.run(
        [*namespace, "sh", "-c", f"{script} {tmp_path}/ask.py"],
        capture_output=True,
        text=True,
        timeout=25,
        cwd=ROOT,
        check=True,
    )  # the limit is far below the 150 s that the system's resolver takes
    http, again, rtsp, once_more, lookups = done.stdout.splitlines()
    assert "did not answer within the time-out" in http == again
    assert "the name servers do not answer" in rtsp == once_more
    assert lookups == "2"  # one host, two ports


def test_a_lookup_that_ended_is_asked_anew(monkeypatch):
    with pytest.raises(OSError, match=r".+"):
        _resolve.addresses_of("camera.invalid", 80, 20.0)
    assert _resolve.addresses_of("localhost", 80, 20.0)
    assert not _resolve._under_way
    with pytest.raises(OSError, match="is none"):
        _resolve.addresses_of("a" * 70 + ".invalid", 80, 20.0)
