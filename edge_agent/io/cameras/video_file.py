"""A video file as a camera, ``file:PATH``: every frame in order, on the file's own time."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Final

import cv2

from edge_agent.config.schema import CameraConfig
from edge_agent.errors import DeviceError
from edge_agent.io.cameras._opencv import OpenCvCamera
from edge_agent.io.cameras._playback import Playback
from edge_agent.ports import Clock
from edge_agent.records import Grab

# Where a file does not say its rate.
FPS_DEFAULT: Final = 25.0
FPS_MOST: Final = 1000.0

# Enough of a file to tell text from video; a raw video's own text header is shorter.
SNIFF_BYTES: Final = 1024


class VideoFile(OpenCvCamera):
    """Not live, so nothing is ever skipped. Opened again, or with ``loop``, it starts anew and its time goes on."""

    live = False
    backend = cv2.CAP_FFMPEG
    advice = "it is no video that FFmpeg knows, or damaged; see what ffprobe says of it"

    def __init__(self, config: CameraConfig, clock: Clock, folder: Path, stopping: threading.Event) -> None:
        super().__init__(config, clock, folder, stopping)
        self._path = folder / config.source.partition(":")[2]
        self._playback = Playback(clock, stopping, config.pace)
        self._period_ns = round(1e9 / FPS_DEFAULT)
        self._first_ns: int | None = None  # the file's own time of its first frame, often not 0
        self._lap_ns = 0

    @property
    def media_epoch_ns(self) -> int | None:
        """CLOCK_MONOTONIC at media time 0; None before the first frame."""
        return self._playback.epoch_ns

    def _target(self) -> str:
        return str(self._path.absolute())

    def open(self) -> None:
        """Raises DeviceError when the file is absent or no video."""
        if not self._path.is_file():
            raise DeviceError(f"{self._label}: no such file {self._path}; check source (relative to the configuration)")
        if _is_text(self._path):
            # FFmpeg draws text files as pictures of a terminal, and play lists would take it to other files
            raise DeviceError(f"{self._label}: {self._path} is a text file, not a video")
        super().open()

    def _parameters(self) -> list[int]:
        # one decoder thread: more of them cost a third more processor time, which the interpreter has a use for
        return [*super()._parameters(), cv2.CAP_PROP_N_THREADS, 1]

    def _prepare(self, capture: cv2.VideoCapture) -> None:
        fps = capture.get(cv2.CAP_PROP_FPS)
        self._period_ns = round(1e9 / (fps if 0 < fps <= FPS_MOST else FPS_DEFAULT))
        self._first_ns = None
        self._playback.begin_lap(self._period_ns)

    def grab(self) -> Grab | None:
        """None at the end (without ``loop``), for ever, and once told to stop."""
        grabbed = self._advance()
        if grabbed is None and self._config.loop:
            if self._first_ns is None:
                raise DeviceError(f"{self._label}: not one frame of {self._path} can be decoded")
            self.open()  # seeking back is not exact with every codec
            grabbed = self._advance()
        return self._playback.grab(self._lap_ns) if grabbed is not None else None

    def _stamp(self, capture: cv2.VideoCapture, arrival_ns: int) -> Grab:
        file_ns = round(capture.get(cv2.CAP_PROP_POS_MSEC) * 1e6)
        if self._first_ns is None:
            self._first_ns, self._lap_ns = file_ns, 0
        elif file_ns - self._first_ns > self._lap_ns:
            self._lap_ns = file_ns - self._first_ns
        else:
            self._lap_ns += self._period_ns  # streams without usable times of their own, raw H.264 for one
        return super()._stamp(capture, arrival_ns)


def _is_text(path: Path) -> bool:
    with path.open("rb") as file:
        head = file.read(SNIFF_BYTES)
    # a character of several bytes may be cut at the end
    text = head.decode(errors="ignore")
    return len(head) - len(text.encode()) < 4 and all(letter.isprintable() or letter.isspace() for letter in text)
