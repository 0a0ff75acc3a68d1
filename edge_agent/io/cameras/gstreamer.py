"""Any GStreamer pipeline as a camera, ``gst:PIPELINE``: the way to hardware decoders and the cameras of a Jetson."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any, Final

import cv2
import numpy as np

from edge_agent.config.schema import CameraConfig
from edge_agent.errors import ConfigError, FrameError
from edge_agent.io.cameras._opencv import OpenCvCamera
from edge_agent.io.cameras.registry import label
from edge_agent.ports import Clock
from edge_agent.records import Pixels

# OpenCV pull request 22919; those before refuse to open with a time-out, and without one they wait for ever.
TIMEOUTS_SINCE: Final = (4, 7)


class GStreamerCamera(OpenCvCamera):
    """The pipeline ends in ``appsink``, best with ``drop=true max-buffers=1``; it delivers BGR or grey."""

    backend = cv2.CAP_GSTREAMER
    advice = "try the pipeline with gst-launch-1.0 (fakesink in place of appsink), which says what is wrong"

    def __init__(self, config: CameraConfig, clock: Clock, folder: Path, stopping: threading.Event) -> None:
        super().__init__(config, clock, folder, stopping)
        if not cv2.videoio_registry.hasBackend(cv2.CAP_GSTREAMER):
            raise ConfigError(
                f"{label(config)}: this OpenCV ({cv2.__version__}) is built without GStreamer, as those from PyPI are; "
                "use the system's (apt-get install python3-opencv, and a virtual environment made with "
                "--system-site-packages without opencv-python-headless in it), or another source"
            )
        if _version() < TIMEOUTS_SINCE:
            raise ConfigError(
                f"{label(config)}: this OpenCV ({cv2.__version__}) knows no time-outs for GStreamer, so a pipeline "
                f"that hangs would never be given up; use OpenCV {'.'.join(map(str, TIMEOUTS_SINCE))} or later "
                "(Debian 13 has it), or another source"
            )
        if "appsink" not in self._target():
            raise ConfigError(f'{label(config)}: the pipeline must end in "! appsink drop=true max-buffers=1"')

    def _target(self) -> str:
        return self._config.source.partition(":")[2]

    def _convert(self, pixels: np.ndarray[Any, Any]) -> Pixels:
        # OpenCV hands out packed and planar YUV and JPEG as if they were pictures of two channels, or grey ones of
        # one and a half times the height, or of one row
        channels = 1 if pixels.ndim == 2 else pixels.shape[2]
        height = int(self._opened().get(cv2.CAP_PROP_FRAME_HEIGHT))
        if channels == 2 or (channels == 1 and pixels.shape[0] != height and pixels.shape[0] in (1, height * 3 // 2)):
            raise FrameError(
                f"{self._label}: the pipeline delivers neither BGR nor grey; put "
                '"videoconvert ! video/x-raw,format=BGR" before appsink'
            )
        return super()._convert(pixels)


def _version() -> tuple[int, ...]:
    return tuple(int(part) for part in cv2.__version__.split(".")[:2])
