"""Which source leads to which camera, and what a person reads when none does."""

from __future__ import annotations

import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_agent.errors import ConfigError
from edge_agent.io.cameras import is_live, redact


@pytest.mark.parametrize(
    ("source", "hint"),
    [
        ("/dev/video0", 'did you mean "v4l2:/dev/video0"?'),
        ("0", 'did you mean "v4l2:/dev/video0"?'),
        ("line.mp4", 'did you mean "file:line.mp4"?'),
        ("v4l:/dev/video0", 'did you mean "v4l2:/dev/video0"?'),
        ("RTSP://host/cam", 'did you mean "rtsp://host/cam"?'),
        ("image:*.png", 'did you mean "images:*.png"?'),
        ("ftp://host/x", "has no known form; allowed"),
        ("v4l2:", "has no known form; allowed"),
        ("", "has no known form"),
    ],
)
def test_an_unknown_source_is_refused_with_the_nearest_form_and_all_allowed_ones(make, source, hint):
    with pytest.raises(ConfigError) as refused:
        make(source)
    message = str(refused.value)
    assert 'camera "front"' in message
    assert hint in message
    assert '"picamera2:0"' in message
    assert "\n" not in message


def test_the_password_of_an_unknown_source_is_not_shown(make):
    with pytest.raises(ConfigError) as refused:
        make("rstp://user:secret@host/cam")
    assert 'did you mean "rtsp://***@host/cam"?' in str(refused.value)
    assert "secret" not in str(refused.value)


@pytest.mark.parametrize(
    ("source", "live"),
    [
        ("v4l2:/dev/video0", True),
        ("rtsp://host/cam", True),
        ("rtsps://host/cam", True),
        ("http://host/cam", True),
        ("https://host/cam", True),
        ("gst:videotestsrc ! appsink", True),
        ("picamera2:0", True),
        ("file:line.mp4", False),
        ("images:*.png", False),
    ],
)
def test_devices_and_networks_are_live_and_files_are_not(source, live):
    assert is_live(source) is live


@pytest.mark.parametrize(
    ("source", "shown"),
    [
        ("rtsp://user:pa/ss@wo@host:554/cam", "rtsp://***@host:554/cam"),
        ("http://host/video.cgi?user=me&pwd=geheim&rate=5", "http://host/video.cgi?user=***&pwd=***&rate=5"),
        ("http://host/cam?u=me&p=geheim", "http://host/cam?u=***&p=***"),
        (
            'gst:rtspsrc location=rtsp://me:geheim@host/cam user-pw="ge heim" latency=0 ! appsink',
            "gst:rtspsrc location=rtsp://***@host/cam user-pw=*** latency=0 ! appsink",
        ),
        ("file:/data/a://b@c.mp4", "file:/data/a://b@c.mp4"),
        ("v4l2:/dev/video0", "v4l2:/dev/video0"),
    ],
)
def test_users_and_passwords_are_left_out_of_messages(source, shown):
    assert redact(source) == shown


# no quotes and no white space: those end a word
SECRET = st.text("abXYZ019:/@?#[]!$&()*+,;=%-._~^|<>{}äß", min_size=8)


@given(user=SECRET, password=SECRET, scheme=st.sampled_from(["rtsp", "rtsps", "http", "https"]))
def test_no_password_in_an_address_survives_redaction_however_it_is_written(user, password, scheme):
    assert redact(f"{scheme}://{user}:{password}@camera/stream") == f"{scheme}://***@camera/stream"


@pytest.mark.parametrize("keys", [{"username": "me"}, {"password_file": "secret.txt"}])
def test_a_user_for_a_source_without_one_is_refused(make, keys):
    with pytest.raises(ConfigError, match="belong to rtsp and http sources, not to v4l2"):
        make("v4l2:/dev/video0", **keys)


def test_a_password_without_a_user_is_refused(make):
    with pytest.raises(ConfigError, match="password_file needs a username"):
        make("rtsp://host/cam", password_file="secret.txt")


def test_an_unreadable_password_file_is_named(make, tmp_path):
    with pytest.raises(ConfigError, match=f"{tmp_path}/secret.txt: this password file can't be read"):
        make("rtsp://host/cam", username="me", password_file="secret.txt")


@pytest.mark.parametrize("source", ["rtsp://", "rtsp:///cam", "http://host:port/cam", "http://me:pa/ss@host/cam"])
def test_an_address_without_a_valid_host_is_refused_without_showing_its_password(make, source):
    with pytest.raises(ConfigError, match="no valid host and port") as refused:
        make(source)
    assert "pa/ss" not in str(refused.value)


def test_a_time_out_of_nothing_is_refused(make):
    with pytest.raises(ConfigError, match='timeout = "0s"'):
        make("v4l2:/dev/video0", timeout_s=0)


def test_the_libraries_of_cameras_are_loaded_only_when_one_is_chosen():
    script = (
        "import sys, edge_agent.io.cameras; "
        "print([name for name in ('cv2', 'PIL', 'http.client', 'picamera2') if name in sys.modules])"
    )
    said = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert said.stdout.strip() == "[]"


def test_libraries_print_nothing_of_their_own_on_failure(tmp_path):
    (tmp_path / "damaged.mp4").write_bytes(b"\x00\x00\x00\x18ftypisom" + bytes(5000))
    script = """
import pathlib, sys, threading
import cv2
from edge_agent.config.schema import CameraConfig
from edge_agent.errors import DeviceError
from edge_agent.io.cameras import create_camera
from edge_agent.io.clock import SystemClock
for source in ("rtsp://127.0.0.1:1/cam", "v4l2:/dev/null", "file:damaged.mp4"):
    config = CameraConfig(name="front", source=source)
    try:
        create_camera(config, SystemClock(), pathlib.Path(sys.argv[1]), threading.Event()).open()
    except DeviceError as error:
        print(error)
"""
    said = subprocess.run([sys.executable, "-c", script, tmp_path], capture_output=True, text=True, check=True)
    assert said.stderr == ""
    assert len(said.stdout.splitlines()) == 3
