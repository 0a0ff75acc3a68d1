"""Which cameras this machine has, for ``doctor`` and for messages. Nothing is opened for longer than one question."""

from __future__ import annotations

import errno
import fcntl
import importlib.util
import os
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from edge_agent.io.lasting_names import lasting_names

# linux/videodev2.h. VIDIOC_QUERYCAP: fills 104 bytes; the device's own capabilities are the word at byte 88.
_QUERYCAP: Final = 0x80685600
_QUERYCAP_BYTES: Final = 104
_DEVICE_CAPS_AT: Final = 88
# VIDIOC_REQBUFS: 20 bytes that begin with count, type (1: capture) and memory (1: mapped).
_REQBUFS: Final = 0xC0145608
_VIDEO_CAPTURE: Final = 0x00000001
_VIDEO_CAPTURE_MPLANE: Final = 0x00001000


@dataclass(frozen=True, slots=True)
class V4l2Node:
    """One capture device of the kernel. ``path``: how to name it, by a link that lasts where there is one.
    ``problem`` is empty when it could be asked."""

    node: str
    name: str
    path: str
    problem: str = ""


@dataclass(frozen=True, slots=True)
class FoundCamera:
    """``source`` is ready for the configuration. ``problem`` says why it can't be used, empty when it can."""

    source: str
    name: str
    problem: str = ""


def find_cameras() -> list[FoundCamera]:
    """The kernel's cameras and, where picamera2 is installed, that it is."""
    found = [FoundCamera(f"v4l2:{node.path}", node.name, node.problem) for node in find_v4l2()]
    if importlib.util.find_spec("picamera2") is not None:
        found.append(FoundCamera("picamera2:0", "the first camera of libcamera (picamera2 is installed)"))
    return found


def find_v4l2(classes: Path = Path("/sys/class/video4linux"), devices: Path = Path("/dev")) -> list[V4l2Node]:
    """Capture nodes in the order of their numbers; codecs, metadata and output nodes are left out."""
    folders = [folder for folder in classes.glob("video*") if folder.name[len("video") :].isdigit()]
    lasting = lasting_names(devices / "v4l")
    found = []
    for folder in sorted(folders, key=lambda folder: int(folder.name[len("video") :])):
        if _text(folder / "index") != "0":
            continue  # a camera's further nodes carry metadata
        node = devices / folder.name
        captures, problem = _captures(node)
        if captures:
            name = _text(folder / "name") or "unnamed"
            found.append(V4l2Node(str(node), name, lasting.get(str(node), str(node)), problem))
    return found


def in_use(node: str) -> bool:
    """Whether another program holds the device's buffers. To be asked when it can't be opened: where nobody does,
    this takes a buffer and gives it back."""
    try:
        descriptor = os.open(node, os.O_RDWR | os.O_NONBLOCK)
        try:
            fcntl.ioctl(descriptor, _REQBUFS, struct.pack("=III8x", 1, 1, 1))
        finally:
            os.close(descriptor)
    except OSError as error:
        return error.errno == errno.EBUSY
    return False


def _captures(node: Path) -> tuple[bool, str]:
    """Whether the device delivers pictures (assumed where it can't be asked), and why it could not be asked."""
    answer = bytearray(_QUERYCAP_BYTES)
    try:
        descriptor = os.open(node, os.O_RDWR | os.O_NONBLOCK)
    except OSError as error:
        return True, f"can't be opened: {error.strerror}"
    try:
        fcntl.ioctl(descriptor, _QUERYCAP, answer)
    except OSError as error:
        return True, f"does not answer: {error.strerror}"
    finally:
        os.close(descriptor)
    (capabilities,) = struct.unpack_from("=I", answer, _DEVICE_CAPS_AT)
    return bool(capabilities & (_VIDEO_CAPTURE | _VIDEO_CAPTURE_MPLANE)), ""


def _text(path: Path) -> str:
    try:
        return path.read_text(errors="replace").strip()
    except OSError:
        return ""  # the device went meanwhile
