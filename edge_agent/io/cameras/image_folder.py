"""Picture files as a camera, ``images:GLOB`` or ``images:FOLDER``: in the order of their names, at a set rate."""

from __future__ import annotations

import glob
import threading
from pathlib import Path
from typing import Final

from edge_agent.config.schema import CameraConfig
from edge_agent.errors import ConfigError, DeviceError, FrameError
from edge_agent.io.cameras._playback import Playback
from edge_agent.io.cameras.registry import label
from edge_agent.io.image_file import read_image
from edge_agent.ports import Clock
from edge_agent.records import Grab, Pixels

FPS_DEFAULT: Final = 10.0

# Of a folder only these are taken; a glob takes what it names.
SUFFIXES: Final = frozenset({".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".pnm", ".ppm", ".tif", ".tiff", ".webp"})


class ImageFolder:
    """Not live, so nothing is ever skipped; a picture that can't be read costs one FrameError, the next one follows.

    ``fps`` of the configuration is the rate (default 10 a second).
    """

    live = False

    def __init__(self, config: CameraConfig, clock: Clock, folder: Path, stopping: threading.Event) -> None:
        self._config = config
        self._label = label(config)
        self._folder = folder
        self._pattern = config.source.partition(":")[2]
        self._playback = Playback(clock, stopping, config.pace)
        self._period_ns = round(1e9 / (config.fps or FPS_DEFAULT))
        self._paths: list[Path] = []
        self._next = 0
        self._current = Path()

    @property
    def media_epoch_ns(self) -> int | None:
        """CLOCK_MONOTONIC at media time 0; None before the first frame."""
        return self._playback.epoch_ns

    def open(self) -> None:
        """Raises DeviceError when there is no picture."""
        self._paths = self._listed()
        self._next = 0
        self._playback.begin_lap(self._period_ns)

    def _listed(self) -> list[Path]:
        chosen = self._folder / self._pattern
        try:
            if chosen.is_dir():
                paths = [path for path in chosen.iterdir() if path.suffix.lower() in SUFFIXES and path.is_file()]
            else:
                # Path.glob takes no absolute pattern
                names = glob.glob(self._pattern, root_dir=self._folder, recursive=True)  # noqa: PTH207
                paths = [self._folder / name for name in names if (self._folder / name).is_file()]
        except OSError as error:  # the folder went meanwhile, or its disk
            raise DeviceError(f"{self._label}: {chosen} can't be read: {error.strerror}") from error
        if not paths:
            raise DeviceError(f"{self._label}: no picture at {chosen}; check source (relative to the configuration)")
        return sorted(paths)

    def grab(self) -> Grab | None:
        """None at the end (without ``loop``), for ever, and once told to stop. Raises DeviceError when all pictures
        have gone; ``loop`` lists them anew for each lap."""
        if not self._paths:
            raise DeviceError(f"{self._label}: is not open")
        if self._next == len(self._paths):
            if not self._config.loop:
                return None
            self.open()
        self._current = self._paths[self._next]
        if not self._current.exists():
            self._listed()  # one missing picture costs itself, all of them are a lost source
        lap_ns = self._next * self._period_ns
        self._next += 1
        return self._playback.grab(lap_ns)

    def retrieve(self) -> Pixels:
        """(height, width, 3) uint8 BGR. Raises FrameError that names the file."""
        try:
            return read_image(self._current)
        except ConfigError as error:
            raise FrameError(f"{self._label}: {error}") from error

    def close(self) -> None:
        """The list of pictures is made anew at the next open."""
        self._paths = []
