"""What this machine is and how it fares: model, cores, memory, temperature, throttling. Reads only.

Whatever a machine does not tell is empty or None, never a guess; nothing here raises for a missing file.
"""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Final

from msgspec import Struct

ROOT: Final = Path("/")
_FIRMWARE_FLAGS: Final = Path("sys/devices/platform/soc/soc:firmware/get_throttled")
_FIRMWARE_TIMEOUT_S: Final = 2.0

# Bits of the Raspberry Pi firmware's answer; the same 16 bits further up say "since the start of the board".
# Source: raspberrypi.com, documentation of vcgencmd, get_throttled.
_THROTTLE_BITS: Final = ("under_voltage", "frequency_capped", "throttled", "soft_temperature_limit")

# Zones that are switched off or broken read as numbers like -256 or 2147483: no chip works there.
_PLAUSIBLE_C: Final = (-55.0, 150.0)

# Version 1 of the control groups has a number for "no limit": the largest multiple of a page in 63 bits.
_NO_LIMIT: Final = 2**60


class Board(Struct, frozen=True):
    """``model`` is the board's own name for itself, empty where it has none (a virtual machine, a container whose
    engine hides /sys/firmware); ``usb`` the "vendor:product" of what is plugged in, four hex digits each, and ``pci``
    the "vendor:device" of what is on PCIe."""

    model: str
    arch: str
    cpus: int  # that this process may use
    memory_mb: int | None
    os_name: str
    python: str
    host_name: str
    usb: frozenset[str] = frozenset()
    pci: frozenset[str] = frozenset()


class Throttling(Struct, frozen=True):
    """Why the firmware runs the board slower, as words: now, and at any time since the board started."""

    now: tuple[str, ...]
    since_start: tuple[str, ...]


class BoardState(Struct, frozen=True):
    """How the board fares now; None: it does not tell. Sizes in MiB."""

    temperature_c: float | None
    throttled: Throttling | None
    memory_mb: float | None  # of this process
    memory_limit_mb: float | None  # of its control group
    memory_available_mb: float | None
    board_memory_mb: float | None


def read_board(root: Path = ROOT) -> Board:
    """Look at the machine whose file system is at ``root``."""
    memory = _meminfo_mb(root, "MemTotal")
    return Board(
        model=_model(root),
        arch=platform.machine(),
        cpus=len(os.sched_getaffinity(0)),
        memory_mb=None if memory is None else int(memory),
        os_name=_os_name(root),
        python=platform.python_version(),
        host_name=platform.node(),
        usb=_usb(root),
        pci=_pci(root),
    )


def read_state(root: Path = ROOT) -> BoardState:
    """One look at what changes. May take as long as the firmware's tool: 2 s at most."""
    return BoardState(
        temperature_c=temperature_c(root),
        throttled=throttled(root),
        memory_mb=memory_rss_mb(root),
        memory_limit_mb=memory_limit_mb(root),
        memory_available_mb=memory_available_mb(root),
        board_memory_mb=_meminfo_mb(root, "MemTotal"),
    )


def temperature_c(root: Path = ROOT) -> float | None:
    """The hottest thermal zone in degrees Celsius; None where there is none that can be read."""
    low, high = _PLAUSIBLE_C
    zones = (_number(zone / "temp") for zone in (root / "sys/class/thermal").glob("thermal_zone*"))
    celsius = [milli / 1000 for milli in zones if milli is not None]
    return max((c for c in celsius if low <= c <= high), default=None)


def throttled(root: Path = ROOT) -> Throttling | None:
    """The Raspberry Pi firmware's flags; None on other boards, or where this user may not ask."""
    # Kernels since 2025 have no such file any more (raspberrypi/linux pull request 6697): then the tool is asked.
    text = _text(root / _FIRMWARE_FLAGS) or (_ask_firmware() if root == ROOT else "")
    try:
        bits = int(text.rpartition("=")[2], 16)
    except ValueError:
        return None
    return Throttling(now=_flags(bits), since_start=_flags(bits >> 16))


def memory_rss_mb(root: Path = ROOT) -> float | None:
    """Resident memory of this process in MiB."""
    pages = _text(root / "proc/self/statm").split()
    return int(pages[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20 if len(pages) > 1 else None


def memory_limit_mb(root: Path = ROOT) -> float | None:
    """MiB beyond which the kernel ends a process of this one's control group: the least limit from the group up to the
    root. None without a limit."""
    bytes_most = min(_group_limits(root), default=_NO_LIMIT)
    return bytes_most / 2**20 if bytes_most < _NO_LIMIT else None


def memory_available_mb(root: Path = ROOT) -> float | None:
    """MiB that the kernel could still give to anybody without swapping."""
    return _meminfo_mb(root, "MemAvailable")


def uptime_s(root: Path = ROOT) -> float | None:
    """Seconds since the board started."""
    first = _text(root / "proc/uptime").split()[:1]
    return float(first[0]) if first else None


def _model(root: Path) -> str:
    for path in ("proc/device-tree/model", "sys/class/dmi/id/product_name"):
        if text := _text(root / path):
            return text
    return ""


def _meminfo_mb(root: Path, name: str) -> float | None:
    for line in _text(root / "proc/meminfo").splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1]) / 1024
    return None


def _group_limits(root: Path) -> Iterator[int]:
    """The memory limits in bytes of this process's control group and those above it, of both versions of the kernel's
    interface. A container may see its own group as the root, and its path from outside in vain: then only the root
    answers. Source: man 7 cgroups; kernel.org, Control Group v2, memory.max."""
    for line in _text(root / "proc/self/cgroup").splitlines():
        number, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if number == "0":
            mount, file = root / "sys/fs/cgroup", "memory.max"
        elif "memory" in controllers.split(","):
            mount, file = root / "sys/fs/cgroup/memory", "memory.limit_in_bytes"
        else:
            continue
        group = PurePosixPath(path.lstrip("/"))
        inside = (group, *group.parents) if ".." not in group.parts else (PurePosixPath(),)
        found = (_number(mount / folder / file) for folder in inside)  # "max" is no number: no limit
        yield from (limit for limit in found if limit is not None)


def _os_name(root: Path) -> str:
    for line in _text(root / "etc/os-release").splitlines():
        if line.startswith("PRETTY_NAME="):
            return line.partition("=")[2].strip("\"'")
    return platform.system()


def _usb(root: Path) -> frozenset[str]:
    vendors = (root / "sys/bus/usb/devices").glob("*/idVendor")
    return frozenset(f"{_text(vendor)}:{_text(vendor.with_name('idProduct'))}" for vendor in vendors)


def _pci(root: Path) -> frozenset[str]:
    vendors = (root / "sys/bus/pci/devices").glob("*/vendor")
    pairs = ((_text(vendor), _text(vendor.with_name("device"))) for vendor in vendors)
    return frozenset(f"{vendor.removeprefix('0x')}:{device.removeprefix('0x')}" for vendor, device in pairs)


def _flags(bits: int) -> tuple[str, ...]:
    return tuple(name for i, name in enumerate(_THROTTLE_BITS) if bits >> i & 1)


def _ask_firmware() -> str:
    tool = shutil.which("vcgencmd")
    if not tool:
        return ""
    try:
        answer = subprocess.run(
            [tool, "get_throttled"], capture_output=True, text=True, timeout=_FIRMWARE_TIMEOUT_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return answer.stdout.strip()


def _number(path: Path) -> int | None:
    try:
        return int(_text(path))
    except ValueError:
        return None


def _text(path: Path) -> str:
    """The text of a small file of the kernel, without the NUL that ends a device tree's; empty if unreadable."""
    try:
        return path.read_bytes().decode("utf-8", "replace").strip("\0 \n\t")
    except OSError:
        return ""
