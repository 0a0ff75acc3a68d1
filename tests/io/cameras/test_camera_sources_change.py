"""Devices, folders and videos that go, come back or change while they are read."""

from __future__ import annotations

import os

import cv2
import pytest

from edge_agent.errors import DeviceError, FrameError
from edge_agent.io.cameras.v4l2 import V4l2Camera
from tests.simulators.lost_camera import read_until_lost
from tests.simulators.mjpeg_server import numbered_picture
from tests.simulators.stamped_picture import number_in

# --- devices that are unplugged, files that vanish ----------------------------------------------------------------


@pytest.mark.parametrize("kind", ["a file", "a pipe", "a folder"])
def test_what_is_no_device_is_no_camera(make, tmp_path, kind):
    node = tmp_path / "video0"
    {"a file": node.touch, "a folder": node.mkdir, "a pipe": lambda: os.mkfifo(node)}[kind]()
    with pytest.raises(DeviceError, match="can't be opened; it gives no pictures"):
        make(f"v4l2:{node}").open()


def test_a_device_whose_node_goes_is_told_as_absent_and_opened_when_it_is_back(make, tmp_path, monkeypatch):
    # a video in the device's place: what OpenCV says at its end is what it says of an unplugged camera
    monkeypatch.setattr(V4l2Camera, "backend", cv2.CAP_FFMPEG)
    video = tmp_path / "device.avi"
    writer = cv2.VideoWriter(str(video), cv2.VideoWriter.fourcc(*"MJPG"), 20, (480, 320))
    for number in range(3):
        writer.write(numbered_picture(number))
    writer.release()
    node = tmp_path / "video0"  # as a link of /dev/v4l/by-id, which stays the same where the number changes
    node.symlink_to(video)
    camera = make(f"v4l2:{node}")
    camera.open()
    assert camera.grab().time_source == "arrival"
    video.rename(tmp_path / "unplugged")
    assert "it was unplugged" in read_until_lost(camera)
    with pytest.raises(DeviceError, match=r"no such device; attached are: .*; plug it in"):
        camera.open()
    (tmp_path / "unplugged").rename(video)
    camera.open()
    camera.grab()
    assert number_in(camera.retrieve()) == 0


@pytest.fixture
def pictures(tmp_path):
    folder = tmp_path / "pictures"
    folder.mkdir()
    for number in range(3):
        cv2.imwrite(str(folder / f"{number}.png"), numbered_picture(number))
    return folder


@pytest.mark.parametrize("source", ["images:pictures", "images:pictures/*.png"])
@pytest.mark.parametrize("loop", [True, False])
def test_a_folder_that_goes_is_a_lost_source_until_it_is_back(make, pictures, source, loop):
    camera = make(source, pace="max", loop=loop)
    camera.open()
    camera.grab()
    away = pictures.rename(pictures.parent / "away")
    with pytest.raises(DeviceError, match="no picture at"):
        camera.grab()
    camera.close()
    with pytest.raises(DeviceError, match="no picture at"):
        camera.open()
    away.rename(pictures)
    camera.open()
    camera.grab()
    assert number_in(camera.retrieve()) == 0


def test_one_picture_that_goes_costs_itself_and_each_lap_lists_the_folder_anew(make, pictures):
    camera = make("images:pictures", pace="max", loop=True)
    camera.open()
    (pictures / "1.png").unlink()
    seen = []
    for lap in range(2):
        for _ in range(3 - lap):
            camera.grab()
            try:
                seen.append(number_in(camera.retrieve()))
            except FrameError as error:
                assert "1.png: no such file" in str(error)
                seen.append(None)
    assert seen == [0, None, 2, 0, 2]


def test_a_video_that_changes_its_size_is_scaled_whole_to_its_first(make, tmp_path):
    sizes = [(480, 320), (960, 320), (480, 320), (160, 320)]
    parts = [cv2.imencode(".jpg", numbered_picture(10 + n, *size))[1].tobytes() for n, size in enumerate(sizes)]
    (tmp_path / "change.mjpeg").write_bytes(b"".join(parts))
    camera = make("file:change.mjpeg", pace="max")
    camera.open()
    seen = []
    while camera.grab() is not None:
        pixels = camera.retrieve()
        seen.append((pixels.shape, number_in(pixels)))
    assert seen == [((320, 480, 3), 10 + n) for n in range(len(sizes))]
