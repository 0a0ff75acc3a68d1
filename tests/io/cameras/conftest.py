"""What the camera tests share: a way to make a camera, and the servers that they read from."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from edge_agent.config.schema import CameraConfig
from edge_agent.config.units import Duration
from edge_agent.io.cameras import create_camera
from edge_agent.io.clock import SystemClock
from edge_agent.ports import Camera, Clock
from tests.simulators import rtsp_server
from tests.simulators.mjpeg_server import MjpegServer

MakeCamera = Callable[..., Camera]


@pytest.fixture
def stopping() -> threading.Event:
    return threading.Event()


@pytest.fixture
def make(tmp_path: Path, stopping: threading.Event) -> Iterator[MakeCamera]:
    """``make(source, timeout_s=1.0, clock=…, **keys of the configuration)``; closed at the end of the test."""
    made = []

    def make_camera(source: str, timeout_s: float = 1.0, clock: Clock | None = None, **keys: object) -> Camera:
        config = CameraConfig(name="front", source=source, timeout=Duration(timeout_s * 1e9), **keys)
        camera = create_camera(config, clock or SystemClock(), tmp_path, stopping)
        made.append(camera)
        return camera

    yield make_camera
    for camera in made:
        camera.close()


@pytest.fixture
def mjpeg() -> Iterator[MjpegServer]:
    with MjpegServer() as server:
        yield server


@pytest.fixture(scope="session")
def rtsp_installed() -> None:
    missing = rtsp_server.why_missing()
    if missing:
        pytest.skip(missing)


@pytest.fixture
def rtsp(rtsp_installed: None) -> Iterator[rtsp_server.RtspServer]:
    with rtsp_server.RtspServer() as server:
        yield server
