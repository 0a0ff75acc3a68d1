"""What all cameras behind OpenCV share: opening, bounded reads, the rule for stale frames, BGR pixels.

One thread opens, reads and closes: releasing a capture during another thread's read is a segmentation fault in
OpenCV. So every block is bounded here by the library's own time-outs, never by a second thread.
"""

from __future__ import annotations

import abc
import os
import threading
from pathlib import Path
from typing import Any, ClassVar, Final

# Only this program's lines belong on its terminal. FFmpeg's level is read when it is first used; -8 is AV_LOG_QUIET.
os.environ.setdefault("OPENCV_LOG_LEVEL", "SILENT")
os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")

import cv2
import numpy as np

from edge_agent.config.schema import CameraConfig
from edge_agent.errors import DeviceError, FrameError
from edge_agent.io.cameras.registry import label
from edge_agent.ports import Clock
from edge_agent.records import Grab, Pixels

# OpenCV's own pool busy-waits between frames and takes the cores that the interpreter needs.
cv2.setNumThreads(1)
# The variable above comes too late where somebody imported cv2 before; OpenCV 5 moved the function.
_logging: Any = getattr(cv2.utils, "logging", cv2)
_logging.setLogLevel(0)

# After a hang OpenCV gives frames from before it as good ones: a read that took that share of its time-out is lost.
BLOCKED_SHARE: Final = 0.9


class OpenCvCamera(abc.ABC):
    """A ``cv2.VideoCapture`` as a Camera. A subclass says what to open and how its frames are stamped."""

    live = True
    note = ""  # what the source gives instead of what was wished
    backend: ClassVar[int]
    advice: ClassVar[str]  # ends the message of a source that can't be opened: what to do next

    def __init__(self, config: CameraConfig, clock: Clock, folder: Path, stopping: threading.Event) -> None:
        self._config = config
        self._clock = clock
        self._folder = folder
        self._stopping = stopping
        self._label = label(config)
        self._capture: cv2.VideoCapture | None = None
        self._pixels: np.ndarray[Any, Any] | None = None

    @abc.abstractmethod
    def _target(self) -> str:
        """What OpenCV opens; may hold a password."""

    def _parameters(self) -> list[int]:
        """Time-outs, for the back-ends that know them (FFmpeg, GStreamer)."""
        timeout_ms = max(1, self._config.timeout // 10**6)
        return [cv2.CAP_PROP_OPEN_TIMEOUT_MSEC, timeout_ms, cv2.CAP_PROP_READ_TIMEOUT_MSEC, timeout_ms]

    def _prepare(self, capture: cv2.VideoCapture) -> None:  # noqa: B027 (most have nothing to do here)
        """Called once on each capture that was just opened."""

    def _stamp(self, capture: cv2.VideoCapture, arrival_ns: int) -> Grab:
        return Grab(arrival_ns, arrival_ns, "arrival")

    def open(self) -> None:
        """Raises DeviceError, within about the camera's time-out."""
        self.close()
        capture = cv2.VideoCapture()
        try:
            opened = capture.open(self._target(), self.backend, self._parameters())
        except cv2.error:  # its text may hold the address with its password
            opened = False
        if not opened:
            capture.release()
            raise DeviceError(f"{self._label}: can't be opened; {self.advice}")
        self._capture = capture
        self._prepare(capture)

    def grab(self) -> Grab | None:
        """Raises DeviceError when the source ended, or was silent for the camera's time-out."""
        grabbed = self._advance()
        if grabbed is None:
            raise DeviceError(f"{self._label}: the source gives no more frames")
        return grabbed

    def retrieve(self) -> Pixels:
        """(height, width, 3) uint8 BGR, in the size that this frame has. Raises FrameError."""
        # into the memory of the frame before: a new megabyte for each frame costs its page faults
        try:
            good, pixels = self._opened().retrieve(self._pixels)
        except cv2.error as error:  # for one, no memory for so large a picture
            raise FrameError(f"{self._label}: a frame can't be decoded") from error
        self._pixels = pixels
        if not good or pixels is None or pixels.size == 0:
            raise FrameError(f"{self._label}: a frame can't be decoded")
        return self._convert(pixels)

    def _convert(self, pixels: np.ndarray[Any, Any]) -> Pixels:
        return as_bgr(pixels)

    def close(self) -> None:
        """By the thread that reads."""
        if self._capture is not None:
            self._capture.release()
            self._capture = None

    def _advance(self) -> Grab | None:
        """The next frame, None where the library has no more. Raises DeviceError after a block."""
        capture = self._opened()
        started_ns = self._clock.monotonic_ns()
        good = capture.grab()
        arrival_ns = self._clock.monotonic_ns()
        if arrival_ns - started_ns >= BLOCKED_SHARE * self._config.timeout:
            raise DeviceError(f"{self._label}: no frame within {self._config.timeout.seconds:g} s")
        return self._stamp(capture, arrival_ns) if good else None

    def _opened(self) -> cv2.VideoCapture:
        if self._capture is None:
            raise DeviceError(f"{self._label}: is not open")
        return self._capture


def as_bgr(pixels: np.ndarray[Any, Any]) -> Pixels:
    """(height, width), (height, width, 1 or 3 or 4), 8 or 16 bits, as (height, width, 3) uint8 BGR; not copied where
    it is that already."""
    if pixels.dtype == np.uint16:
        pixels = (pixels >> 8).astype(np.uint8)
    channels = 1 if pixels.ndim == 2 else pixels.shape[2]
    if channels == 1:
        pixels = cv2.cvtColor(pixels, cv2.COLOR_GRAY2BGR)
    elif channels == 4:
        pixels = cv2.cvtColor(pixels, cv2.COLOR_BGRA2BGR)
    return np.asarray(pixels, np.uint8)
