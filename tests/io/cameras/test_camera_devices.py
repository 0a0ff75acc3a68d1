"""Cameras of the kernel, of GStreamer and of the Raspberry Pi, as far as a machine without them can tell."""

from __future__ import annotations

import importlib.util

import cv2
import pytest

from edge_agent.config.schema import CameraConfig
from edge_agent.errors import ConfigError, DeviceError, FrameError
from edge_agent.io.cameras import gstreamer
from edge_agent.io.cameras._driver_time import AHEAD_NS, PLAUSIBLE_NS, grab_at
from edge_agent.io.cameras._opencv import as_bgr
from edge_agent.io.cameras.discover import find_cameras, find_v4l2
from edge_agent.io.cameras.v4l2 import unfulfilled

needs_gstreamer = pytest.mark.skipif(
    not cv2.videoio_registry.hasBackend(cv2.CAP_GSTREAMER) or gstreamer._version() < gstreamer.TIMEOUTS_SINCE,
    reason="this OpenCV has no GStreamer with time-outs",
)


def test_an_absent_device_is_said_with_those_that_are_attached(make):
    with pytest.raises(DeviceError, match=r"\(v4l2:/dev/video98\): no such device; attached are: .*; plug it in"):
        make("v4l2:/dev/video98").open()


def test_a_device_that_is_no_camera_can_not_be_opened(make):
    with pytest.raises(DeviceError, match="can't be opened; it gives no pictures"):
        make("v4l2:/dev/null").open()


def test_a_pipeline_without_gstreamer_says_which_opencv_has_it(make):
    if cv2.videoio_registry.hasBackend(cv2.CAP_GSTREAMER):
        pytest.skip("this OpenCV has GStreamer")
    with pytest.raises(ConfigError, match=r"built without GStreamer.*python3-opencv.*--system-site-packages"):
        make("gst:videotestsrc ! videoconvert ! appsink")


@pytest.mark.parametrize("version", ["4.6.0", "3.4.18-dev"])
def test_an_opencv_that_would_wait_for_ever_is_refused(make, monkeypatch, version):
    monkeypatch.setattr(cv2.videoio_registry, "hasBackend", lambda _: True)
    monkeypatch.setattr(cv2, "__version__", version)
    with pytest.raises(ConfigError, match=r"knows no time-outs for GStreamer.*use OpenCV 4\.7 or later"):
        make("gst:videotestsrc ! videoconvert ! appsink")


@needs_gstreamer
def test_a_pipeline_that_hangs_is_lost_after_its_time_out(make):
    hangs = "identity sleep-time=20000000"  # microseconds for each buffer
    with pytest.raises(DeviceError):
        make(f"gst:videotestsrc ! {hangs} ! videoconvert ! appsink", timeout_s=0.5).open()


@needs_gstreamer
def test_a_pipeline_gives_frames_until_it_ends(make):
    camera = make("gst:videotestsrc num-buffers=3 ! video/x-raw,width=64,height=48 ! videoconvert ! appsink")
    camera.open()
    for _ in range(3):
        camera.grab()
        assert camera.retrieve().shape == (48, 64, 3)
    with pytest.raises(DeviceError):
        camera.grab()


@needs_gstreamer
@pytest.mark.parametrize("form", ["video/x-raw,format=NV12", "video/x-raw,format=YUY2", "jpegenc"])
def test_planes_and_jpeg_are_not_taken_for_a_grey_picture(make, form):
    camera = make(f"gst:videotestsrc num-buffers=3 ! {form} ! appsink")
    camera.open()
    camera.grab()
    with pytest.raises(FrameError, match="videoconvert ! video/x-raw,format=BGR"):
        camera.retrieve()


@needs_gstreamer
def test_a_pipeline_that_is_none_can_not_be_opened(make):
    with pytest.raises(DeviceError, match="gst-launch"):
        make("gst:nosuchelement ! appsink").open()
    with pytest.raises(ConfigError, match="must end in"):
        make("gst:videotestsrc ! fakesink")


def test_a_raspberry_pi_camera_without_its_library_says_how_to_install_it(make):
    if importlib.util.find_spec("picamera2") is not None:
        pytest.skip("picamera2 is installed")
    camera = make("picamera2:0")
    camera.close()
    with pytest.raises(DeviceError, match=r"apt-get install python3-picamera2, .*--system-site-packages"):
        camera.open()


def test_a_raspberry_pi_camera_is_named_by_its_number(make):
    with pytest.raises(ConfigError, match='such as "picamera2:0"'):
        make("picamera2:left")


@pytest.mark.parametrize(
    ("stamp_ns", "time_source"),
    [
        (0, "driver"),
        (-PLAUSIBLE_NS, "driver"),
        (-PLAUSIBLE_NS - 1, "arrival"),  # wall time of 1970, or time since the start of the stream
        (AHEAD_NS + 1, "arrival"),  # in the future: wall time
    ],
)
def test_a_driver_is_believed_only_where_its_stamp_can_be_our_clock(stamp_ns, time_source):
    now_ns = 10**12
    grabbed = grab_at(now_ns + stamp_ns, now_ns)
    assert grabbed.time_source == time_source
    assert grabbed.mono_ns == (now_ns + stamp_ns if time_source == "driver" else now_ns)


def test_a_stamp_a_little_ahead_of_the_arrival_is_cut_to_it():
    grabbed = grab_at(10**12 + AHEAD_NS, 10**12)
    assert (grabbed.mono_ns, grabbed.time_source) == (10**12, "driver")


@pytest.mark.parametrize("shape", [(2, 3), (2, 3, 1), (2, 3, 3), (2, 3, 4)])
@pytest.mark.parametrize(("kind", "value"), [("uint8", 200), ("uint16", 200 << 8 | 99)])
def test_every_layout_of_pixels_becomes_bgr_of_eight_bits(shape, kind, value):
    import numpy as np

    pixels = as_bgr(np.full(shape, value, kind))
    assert (pixels.shape, pixels.dtype) == ((2, 3, 3), np.uint8)
    assert (pixels == 200).all()


def test_only_the_first_node_of_each_device_is_found_in_the_order_of_their_numbers(tmp_path):
    for node, index, name in (("video10", "0", "Second"), ("video2", "0", "First"), ("video3", "1", "First")):
        (tmp_path / "class" / node).mkdir(parents=True)
        (tmp_path / "class" / node / "index").write_text(index + "\n")
        (tmp_path / "class" / node / "name").write_text(name + "\n")
    found = find_v4l2(tmp_path / "class", tmp_path / "dev")
    assert [(node.node, node.name) for node in found] == [
        (f"{tmp_path}/dev/video2", "First"),
        (f"{tmp_path}/dev/video10", "Second"),
    ]
    assert all("No such file" in node.problem for node in found)


def test_a_camera_is_listed_by_the_name_that_lasts(tmp_path):
    (tmp_path / "class/video0").mkdir(parents=True)
    (tmp_path / "class/video0/index").write_text("0\n")
    (tmp_path / "dev/v4l/by-id").mkdir(parents=True)
    (tmp_path / "dev/v4l/by-id/usb-Cam_1-video-index0").symlink_to("../../video0")
    (camera,) = find_v4l2(tmp_path / "class", tmp_path / "dev")
    assert camera.path == f"{tmp_path}/dev/v4l/by-id/usb-Cam_1-video-index0"


@pytest.mark.parametrize(
    ("wished", "given", "said"),
    [
        ({}, (640, 480, 30.0), ""),
        ({"width": 640, "height": 480, "fps": 30}, (640, 480, 29.97), ""),
        ({"width": 640}, (640, 480, 30.0), ""),
        ({"width": 1920, "height": 1080}, (1280, 720, 0.0), "the driver gives 1280x720 instead of 1920x1080"),
        ({"height": 500}, (640, 480, 30.0), "the driver gives 640x480 instead of 640x500"),
        ({"fps": 7}, (640, 480, 10.0), "the driver gives 10 frames a second instead of 7"),
        ({"fps": 7}, (640, 480, 0.0), ""),  # it does not say
        (
            {"width": 1920, "height": 1080, "fps": 60},
            (1280, 720, 30.0),
            "the driver gives 1280x720 instead of 1920x1080 and 30 frames a second instead of 60",
        ),
    ],
)
def test_a_wish_that_the_driver_does_not_fulfil_is_put_into_words(wished, given, said):
    config = CameraConfig(name="front", source="v4l2:/dev/video0", **wished)
    assert unfulfilled(config, *given) == said


def test_a_machine_without_cameras_is_no_error(tmp_path):
    assert find_v4l2(tmp_path / "absent", tmp_path) == []
    assert all(camera.source.startswith(("v4l2:/dev/", "picamera2:")) for camera in find_cameras())
