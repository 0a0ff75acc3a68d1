"""The system around the daemon: its Python, packages, user, drop-ins, accelerators and disk. Reads only.

Whatever is not there is empty or None, never a guess; nothing here raises for a missing file.
"""

from __future__ import annotations

import os
import platform
import shutil
import struct
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Final

from msgspec import Struct

from edge_agent.io.board import ROOT

USER: Final = "edge-agent"
DROP_INS: Final = Path("usr/share/edge-agent/drop-ins")  # what the package brings along
DROP_INS_ON: Final = Path("etc/systemd/system/edge-agent.service.d")  # what this system uses of it
_PACKAGES: Final = (
    "edge-agent",
    "libedgetpu1-std",
    "libedgetpu1-max",
    "libedgetpu1-legacy-std",
    "libedgetpu1-legacy-max",
    "gasket-dkms",
    "mosquitto",
    "nvidia-l4t-core",
    "python3-picamera2",
)


class Disk(Struct, frozen=True):
    """The file system under the state directory. ``device`` as the kernel mounts it, empty where it is not known."""

    device: str
    free_mb: float
    total_mb: float


class Host(Struct, frozen=True):
    """``bits`` and ``python`` are this program's, ``page_bytes`` the kernel's."""

    python: tuple[int, int]
    bits: int
    page_bytes: int
    swap_mb: float | None
    governors: frozenset[str]
    governor_driver: str
    groups: frozenset[str]  # that exist here
    user_groups: frozenset[str] | None  # of the service's user; None: there is no such user
    packages: dict[str, str]  # of Debian, name -> version; only those that somebody asks for
    drop_ins: frozenset[str]
    drop_ins_on: frozenset[str]
    apex: tuple[str, ...]  # nodes of Edge TPUs on PCIe
    disk: Disk | None


def read_host(root: Path = ROOT) -> Host:
    """Look at the system whose file system is at ``root``."""
    return Host(
        python=(int(platform.python_version_tuple()[0]), int(platform.python_version_tuple()[1])),
        bits=8 * struct.calcsize("P"),
        page_bytes=os.sysconf("SC_PAGE_SIZE"),
        swap_mb=_swap_mb(root),
        governors=_texts(root, "sys/devices/system/cpu/cpufreq/policy*/scaling_governor"),
        governor_driver=next(iter(_texts(root, "sys/devices/system/cpu/cpufreq/policy*/scaling_driver")), ""),
        groups=frozenset(name for name, _, _ in _groups(root)),
        user_groups=_groups_of(root, USER),
        packages=_packages(root, _PACKAGES),
        drop_ins=frozenset(path.name for path in (root / DROP_INS).glob("*.conf")),
        drop_ins_on=frozenset(path.name for path in (root / DROP_INS_ON).glob("*.conf")),
        apex=tuple(sorted(f"/dev/{path.name}" for path in (root / "dev").glob("apex_*"))),
        disk=_disk(root),
    )


def holders(node: str, root: Path = ROOT) -> tuple[str, ...]:
    """Names of the programs that have this device open, as far as this user may see."""
    found = set()
    for descriptor in (root / "proc").glob("[0-9]*/fd/*"):
        try:
            target = descriptor.readlink()
        except OSError:
            continue  # it ended meanwhile, or is somebody else's
        if str(target) == node:
            found.add(_text(descriptor.parents[1] / "comm") or "a program")
    return tuple(sorted(found))


def _swap_mb(root: Path) -> float | None:
    for line in _text(root / "proc/meminfo").splitlines():
        if line.startswith("SwapTotal:"):
            return int(line.split()[1]) / 1024
    return None


def _groups(root: Path) -> Iterator[tuple[str, str, frozenset[str]]]:
    """Name, number and members of each group. Source: man 5 group."""
    for line in _text(root / "etc/group").splitlines():
        parts = line.split(":")
        if len(parts) == 4:
            yield parts[0], parts[2], frozenset(filter(None, parts[3].split(",")))


def _groups_of(root: Path, user: str) -> frozenset[str] | None:
    entries = (line.split(":") for line in _text(root / "etc/passwd").splitlines())
    primary = next((entry[3] for entry in entries if entry[0] == user and len(entry) == 7), None)
    if primary is None:
        return None
    return frozenset(name for name, number, members in _groups(root) if number == primary or user in members)


def _packages(root: Path, names: Collection[str]) -> dict[str, str]:
    """Versions of those that are installed. Source: man 1 dpkg, the status file's paragraphs."""
    found = {}
    for paragraph in _text(root / "var/lib/dpkg/status").split("\n\n"):
        fields = dict(line.split(": ", 1) for line in paragraph.splitlines() if ": " in line and line[0] != " ")
        name = fields.get("Package", "")
        if name in names and fields.get("Status", "").endswith(" installed"):
            found[name] = fields.get("Version", "")
    return found


def _disk(root: Path) -> Disk | None:
    folder = next(path for path in (root / "var/lib/edge-agent", root / "var/lib", root) if path.exists())
    try:
        usage = shutil.disk_usage(folder)
    except OSError:
        return None
    below = ("/" + str(folder.relative_to(root))).replace("/.", "/")
    return Disk(_mounted(root, below), usage.free / 2**20, usage.total / 2**20)


def _mounted(root: Path, folder: str) -> str:
    """The device of the file system that holds this folder. Source: man 5 fstab, for the form of the lines."""
    best, device = -1, ""
    for line in _text(root / "proc/self/mounts").splitlines():
        source, point = line.split()[:2]
        inside = folder == point or folder.startswith(point.rstrip("/") + "/")
        if inside and len(point) >= best:
            best, device = len(point), source
    return device


def _texts(root: Path, glob: str) -> frozenset[str]:
    return frozenset(filter(None, map(_text, root.glob(glob))))


def _text(path: Path) -> str:
    try:
        return path.read_text(errors="replace").strip()
    except OSError:
        return ""
