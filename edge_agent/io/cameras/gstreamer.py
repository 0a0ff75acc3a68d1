"""Any GStreamer pipeline as a camera, ``gst:PIPELINE``: the way to hardware decoders and the cameras of a Jetson."""

from __future__ import annotations

import threading
from pathlib import Path

import cv2

from edge_agent.config.schema import CameraConfig
from edge_agent.errors import ConfigError
from edge_agent.io.cameras._opencv import OpenCvCamera
from edge_agent.io.cameras.registry import label
from edge_agent.ports import Clock


class GStreamerCamera(OpenCvCamera):
    """The pipeline ends in ``appsink``, best with ``drop=true max-buffers=1``; it delivers BGR or grey."""

    backend = cv2.CAP_GSTREAMER
    advice = "try the pipeline with gst-launch-1.0 (fakesink in place of appsink), which says what is wrong"

    def __init__(self, config: CameraConfig, clock: Clock, folder: Path, stopping: threading.Event) -> None:
        super().__init__(config, clock, folder, stopping)
        if not cv2.videoio_registry.hasBackend(cv2.CAP_GSTREAMER):
            raise ConfigError(
                f"{label(config)}: this OpenCV ({cv2.__version__} from PyPI?) is built without GStreamer; use the "
                "system's (apt-get install python3-opencv, and a virtual environment made with --system-site-packages "
                "without opencv-python-headless in it), or another source"
            )
        if "appsink" not in self._target():
            raise ConfigError(f'{label(config)}: the pipeline must end in "! appsink drop=true max-buffers=1"')

    def _target(self) -> str:
        return self._config.source.partition(":")[2]
