"""Cameras of the kernel: USB and virtual ones, ``v4l2:/dev/video0``. Frames carry the driver's capture time."""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import Final

import cv2

from edge_agent.config.schema import CameraConfig
from edge_agent.errors import DeviceError
from edge_agent.io.cameras._driver_time import grab_at
from edge_agent.io.cameras._opencv import OpenCvCamera
from edge_agent.io.cameras.discover import find_v4l2, in_use
from edge_agent.records import Grab

# Raw pictures larger than that do not fit through USB 2 at a useful rate; such cameras compress them.
RAW_PIXELS_MOST: Final = 640 * 480

# Drivers count a frame's time in whole fractions of a second, OpenCV in floats.
SAME_FPS: Final = 0.02


class V4l2Camera(OpenCvCamera):
    """``width``, ``height`` and ``fps`` are wishes: the driver takes what is nearest, ``note`` says what it took."""

    backend = cv2.CAP_V4L2
    advice = "it gives no pictures in a form that OpenCV reads (see what v4l2-ctl --list-formats says)"

    _node: Path | None = None  # of the kernel, whatever link leads there

    def _target(self) -> str:
        return self._config.source.partition(":")[2]

    def _parameters(self) -> list[int]:
        return []  # this back-end refuses to open with time-outs; see open()

    def open(self) -> None:
        """Raises DeviceError that says whether the device is absent, forbidden or in use."""
        path = Path(self._target())
        if not path.exists():
            attached = ", ".join(f"v4l2:{camera.path} ({camera.name})" for camera in find_v4l2()) or "none"
            raise DeviceError(f"{self._label}: no such device; attached are: {attached}; plug it in or change source")
        if not os.access(path, os.R_OK | os.W_OK):
            raise DeviceError(f"{self._label}: no permission; add this user to the group of {path} (usually video)")
        # In whole seconds, and OpenCV keeps the first that it sees: one number for all cameras of the process.
        os.environ.setdefault("OPENCV_VIDEOIO_V4L_SELECT_TIMEOUT", str(math.ceil(self._config.timeout.seconds)))
        self._node = path.resolve()
        try:
            super().open()
        except DeviceError:
            if in_use(str(path)):
                raise DeviceError(
                    f"{self._label}: in use by another program; fuser -v {path} names it, to be stopped"
                ) from None
            raise

    def grab(self) -> Grab | None:
        """Raises DeviceError that says so where the device is gone."""
        try:
            return super().grab()
        except DeviceError:
            if self._node is not None and not self._node.exists():
                raise DeviceError(f"{self._label}: it was unplugged; plug it in again") from None
            raise

    def _prepare(self, capture: cv2.VideoCapture) -> None:
        config = self._config
        if (config.width or 0) * (config.height or 0) > RAW_PIXELS_MOST:
            capture.set(cv2.CAP_PROP_FOURCC, cv2.VideoWriter.fourcc(*"MJPG"))
        if config.width:
            capture.set(cv2.CAP_PROP_FRAME_WIDTH, config.width)
        if config.height:
            capture.set(cv2.CAP_PROP_FRAME_HEIGHT, config.height)
        if config.fps:
            capture.set(cv2.CAP_PROP_FPS, config.fps)
        capture.set(cv2.CAP_PROP_BUFFERSIZE, 1)  # frames that wait in the driver are old when their turn comes
        self.note = unfulfilled(
            config,
            round(capture.get(cv2.CAP_PROP_FRAME_WIDTH)),
            round(capture.get(cv2.CAP_PROP_FRAME_HEIGHT)),
            capture.get(cv2.CAP_PROP_FPS),
        )

    def _stamp(self, capture: cv2.VideoCapture, arrival_ns: int) -> Grab:
        # the stamp of the driver's buffer, CLOCK_MONOTONIC with nearly all drivers
        return grab_at(round(capture.get(cv2.CAP_PROP_POS_MSEC) * 1e6), arrival_ns)


def unfulfilled(config: CameraConfig, width: int, height: int, fps: float) -> str:
    """In words what the driver took instead of a wish; empty where it took all of them.

    ``width`` and ``height`` in pixels, ``fps`` in frames a second; 0 or less where the driver does not say.
    """
    words = []
    if (config.width or width, config.height or height) != (width, height):
        words.append(f"{width}x{height} instead of {config.width or width}x{config.height or height}")
    if config.fps and fps > 0 and abs(fps / config.fps - 1) > SAME_FPS:
        words.append(f"{fps:g} frames a second instead of {config.fps:g}")
    return f"the driver gives {' and '.join(words)}" if words else ""
