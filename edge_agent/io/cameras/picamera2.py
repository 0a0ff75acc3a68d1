"""The Raspberry Pi's own cameras through libcamera, ``picamera2:0``. Frames carry the sensor's capture time.

The library comes from the system's packages only, so it is imported when such a camera is opened.
"""

from __future__ import annotations

import concurrent.futures
import os
import threading
import time
from pathlib import Path
from typing import Any

from edge_agent.config.schema import CameraConfig
from edge_agent.errors import ConfigError, DeviceError, FrameError
from edge_agent.io.cameras._driver_time import grab_at
from edge_agent.io.cameras.registry import label
from edge_agent.ports import Clock
from edge_agent.records import Grab, Pixels


class Picamera2Camera:
    """One camera of libcamera, by number. A request (picamera2's buffer) is held from grab to retrieve."""

    live = True

    def __init__(self, config: CameraConfig, clock: Clock, folder: Path, stopping: threading.Event) -> None:
        self._config = config
        self._clock = clock
        self._label = label(config)
        number = config.source.partition(":")[2]
        if not number.isdecimal():
            raise ConfigError(f'{self._label}: the number of the camera is allowed here, such as "picamera2:0"')
        self._number = int(number)
        self._camera: Any = None
        self._request: Any = None
        self._boot_offset_ns = 0

    def open(self) -> None:
        """Raises DeviceError when the library or the camera is absent, or the camera in use."""
        self.close()
        library = self._library()
        try:
            if self._number >= len(library.Picamera2.global_camera_info()):
                raise DeviceError(f"{self._label}: no such camera; see what rpicam-hello --list-cameras says")
            self._camera = library.Picamera2(self._number)
            self._camera.configure(self._camera.create_video_configuration(**self._wishes()))
            self._camera.start()
        except (RuntimeError, OSError, ValueError) as error:
            self.close()
            raise DeviceError(
                f"{self._label}: can't be started ({error}); it may be in use by another program"
            ) from error
        # libcamera stamps in CLOCK_BOOTTIME, which also counts the time asleep
        self._boot_offset_ns = time.clock_gettime_ns(time.CLOCK_BOOTTIME) - self._clock.monotonic_ns()

    def grab(self) -> Grab | None:
        """Raises DeviceError when no frame came within the time-out."""
        if self._camera is None:
            raise DeviceError(f"{self._label}: is not open")
        self._release()
        job = self._camera.capture_request(wait=False)
        try:
            self._request = job.get_result(timeout=self._config.timeout.seconds)
        except concurrent.futures.TimeoutError as error:
            raise DeviceError(f"{self._label}: no frame within {self._config.timeout.seconds:g} s") from error
        arrival_ns = self._clock.monotonic_ns()
        stamp_ns = self._request.get_metadata().get("SensorTimestamp", 0)
        return grab_at(stamp_ns - self._boot_offset_ns, arrival_ns)

    def retrieve(self) -> Pixels:
        """(height, width, 3) uint8 BGR, a copy: the buffer goes back to the camera at once. Raises FrameError."""
        if self._request is None:
            raise FrameError(f"{self._label}: no frame is held; grab one first")
        pixels: Pixels = self._request.make_array("main")
        self._release()
        return pixels

    def close(self) -> None:
        """By the thread that reads."""
        self._release()
        if self._camera is not None:
            self._camera.close()
            self._camera = None

    def _library(self) -> Any:
        os.environ.setdefault("LIBCAMERA_LOG_LEVELS", "*:ERROR")
        try:
            import picamera2
        except ImportError as error:
            raise DeviceError(
                f"{self._label}: picamera2 can't be imported ({error.name or error}); apt-get install "
                "python3-picamera2, and make the virtual environment with --system-site-packages"
            ) from error
        return picamera2

    def _wishes(self) -> dict[str, Any]:
        main: dict[str, Any] = {"format": "RGB888"}  # libcamera names it from the word's high end: BGR in memory
        if self._config.width and self._config.height:
            main["size"] = (self._config.width, self._config.height)
        return {"main": main, "controls": {"FrameRate": self._config.fps} if self._config.fps else {}}

    def _release(self) -> None:
        if self._request is not None:
            self._request.release()
            self._request = None
