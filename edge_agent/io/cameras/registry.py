"""Which adapter reads which source. An adapter's module, and with it its library, is imported only when chosen.

No message that is made from a source may show a password: every one goes through ``redact``.
"""

from __future__ import annotations

import difflib
import importlib
import re
import threading
from pathlib import Path
from typing import Final, Protocol, cast

from edge_agent.config.schema import CameraConfig
from edge_agent.errors import ConfigError
from edge_agent.ports import Camera, Clock

_ADAPTERS: Final = {
    "v4l2": "v4l2:V4l2Camera",
    "rtsp": "rtsp:RtspCamera",
    "rtsps": "rtsp:RtspCamera",
    "http": "http_mjpeg:HttpMjpegCamera",
    "https": "http_mjpeg:HttpMjpegCamera",
    "gst": "gstreamer:GStreamerCamera",
    "picamera2": "picamera2:Picamera2Camera",
    "file": "video_file:VideoFile",
    "images": "image_folder:ImageFolder",
}
_NETWORK: Final = frozenset({"rtsp", "rtsps", "http", "https"})
_MEDIA: Final = frozenset({"file", "images"})

FORMS: Final = (
    '"v4l2:/dev/video0", "rtsp://HOST/PATH" (rtsps, http and https too), "gst:PIPELINE", "picamera2:0", '
    '"file:PATH", "images:GLOB"'
)

# From "://" to the last "@" of the word: also where a password has a "/" or "@" that should have been escaped.
_USERINFO = re.compile(r"://[^\s\"']*@")
# Passwords as parameters, in a query ("?user=a&pwd=b") or as properties of a GStreamer element ("user-pw=b").
_PARAMETER = re.compile(
    r"(?i)\b((?:(?:user|usr|login|pass|pw|secret|token|auth|key)[\w-]*|[up])=)(\"[^\"]*\"|'[^']*'|[^\s&\"']+)"
)


class MediaCamera(Camera, Protocol):
    """A camera that is not live. Its frames' ``mono_ns`` is ``media_epoch_ns`` plus their media time."""

    @property
    def media_epoch_ns(self) -> int | None:
        """CLOCK_MONOTONIC at media time 0; None before the first frame."""


def create_camera(config: CameraConfig, clock: Clock, folder: Path, stopping: threading.Event) -> Camera:
    """The camera that ``config.source`` names, not yet opened; a MediaCamera where the source is not live.

    Relative paths start at ``folder``, where the configuration file is. Once ``stopping`` is set, a source that
    waits for the time of its next frame gives None at once.
    Raises ConfigError when the source has no known form, or a password that it needs can't be read.
    """
    scheme, _, rest = config.source.partition(":")
    where = f'camera "{config.name}"'
    if scheme not in _ADAPTERS or not rest.strip():
        raise ConfigError(
            f'{where}: source = "{redact(config.source)}" has no known form{_nearest(config.source)}; '
            f"allowed are {FORMS}"
        )
    if (config.username or config.password_file) and scheme not in _NETWORK:
        raise ConfigError(f"{where}: username and password_file belong to rtsp and http sources, not to {scheme}:")
    if config.password_file and not config.username:
        raise ConfigError(f"{where}: password_file needs a username beside it")
    if config.timeout == 0:
        raise ConfigError(f'{where}: timeout = "0s" would lose every frame; write a time above 0, such as "5s"')
    module, _, name = _ADAPTERS[scheme].partition(":")
    adapter = getattr(importlib.import_module(f"edge_agent.io.cameras.{module}"), name)
    return cast(Camera, adapter(config, clock, folder, stopping))


def is_live(source: str) -> bool:
    """Whether frames of that source come whether or not somebody takes them. True for what is unknown."""
    return source.partition(":")[0] not in _MEDIA


def redact(source: str) -> str:
    """The source without user names and passwords."""
    if source.partition(":")[0] in _MEDIA:
        return source
    return _PARAMETER.sub(r"\1***", _USERINFO.sub("://***@", source))


def label(config: CameraConfig) -> str:
    """How messages name a camera."""
    return f'camera "{config.name}" ({redact(config.source)})'


def _nearest(source: str) -> str:
    scheme, colon, rest = source.partition(":")
    if source.isdigit():
        return f': did you mean "v4l2:/dev/video{source}"?'
    if source.startswith("/dev/video"):
        return f': did you mean "v4l2:{source}"?'
    if not colon:
        return f': did you mean "file:{source}"?'
    near = difflib.get_close_matches(scheme.lower(), _ADAPTERS, n=1)
    return f': did you mean "{redact(f"{near[0]}:{rest}")}"?' if near and rest else ""
