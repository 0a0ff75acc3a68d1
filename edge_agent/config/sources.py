"""What the text of a ``source`` says before anything is opened: its kind, and whether it is live.

The kinds are the ones that ``io/cameras`` and ``io/sensors`` have an adapter for.
"""

from __future__ import annotations

import re
from typing import Final

LIVE_CAMERAS: Final = ("v4l2", "rtsp", "rtsps", "http", "https", "gst", "picamera2")
FILE_CAMERAS: Final = ("file", "images")
NETWORK_CAMERAS: Final = ("rtsp", "rtsps", "http", "https")
CAMERAS: Final = LIVE_CAMERAS + FILE_CAMERAS
SENSORS: Final = ("csv", "iio", "hwmon", "serial", "mqtt", "command")


def kind(source: str) -> str:
    """The word before the first colon: "v4l2" of "v4l2:/dev/video0". Empty where there is none."""
    word, colon, _ = source.partition(":")
    return word if colon else ""


def rest(source: str) -> str:
    """What follows the first colon: "/dev/video0" of "v4l2:/dev/video0"."""
    return source.partition(":")[2]


def is_live_camera(source: str) -> bool:
    """False for files and folders: they can wait, be read at any pace and begin again."""
    return kind(source) not in FILE_CAMERAS


def has_password(source: str) -> bool:
    """Whether an address carries "user:password@"."""
    return re.search(r"://[^/\s@:]*:[^/\s]*@", source) is not None
