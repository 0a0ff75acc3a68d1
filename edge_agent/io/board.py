"""What this machine is and how it fares: model, cores, memory, temperature, throttling. Reads only.

Whatever a machine does not tell is empty or None, never a guess; nothing here raises for a missing file.
"""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
from pathlib import Path
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


class Board(Struct, frozen=True):
    """``model`` is the board's own name for itself, empty where it has none (a virtual machine, a container whose
    engine hides /sys/firmware); ``usb`` the "vendor:product" of what is plugged in, four hex digits each."""

    model: str
    arch: str
    cpus: int  # that this process may use
    memory_mb: int | None
    os_name: str
    python: str
    host_name: str
    usb: frozenset[str] = frozenset()


class Throttling(Struct, frozen=True):
    """Why the firmware runs the board slower, as words: now, and at any time since the board started."""

    now: tuple[str, ...]
    since_start: tuple[str, ...]


def read_board(root: Path = ROOT) -> Board:
    """Look at the machine whose file system is at ``root``."""
    return Board(
        model=_model(root),
        arch=platform.machine(),
        cpus=len(os.sched_getaffinity(0)),
        memory_mb=_memory_mb(root),
        os_name=_os_name(root),
        python=platform.python_version(),
        host_name=platform.node(),
        usb=_usb(root),
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


def uptime_s(root: Path = ROOT) -> float | None:
    """Seconds since the board started."""
    first = _text(root / "proc/uptime").split()[:1]
    return float(first[0]) if first else None


def _model(root: Path) -> str:
    for path in ("proc/device-tree/model", "sys/class/dmi/id/product_name"):
        if text := _text(root / path):
            return text
    return ""


def _memory_mb(root: Path) -> int | None:
    for line in _text(root / "proc/meminfo").splitlines():
        if line.startswith("MemTotal:"):
            return int(line.split()[1]) // 1024
    return None


def _os_name(root: Path) -> str:
    for line in _text(root / "etc/os-release").splitlines():
        if line.startswith("PRETTY_NAME="):
            return line.partition("=")[2].strip("\"'")
    return platform.system()


def _usb(root: Path) -> frozenset[str]:
    vendors = (root / "sys/bus/usb/devices").glob("*/idVendor")
    return frozenset(f"{_text(vendor)}:{_text(vendor.with_name('idProduct'))}" for vendor in vendors)


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
