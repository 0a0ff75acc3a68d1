"""What a benchmark costs its process: memory, and bytes written."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

MB: Final = 1e6
_SECTOR: Final = 512  # bytes, whatever the device's own sectors are (Documentation/block/stat.rst of Linux)


class Memory:
    """Resident memory over what the process had when this was made."""

    def __init__(self) -> None:
        Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
        self._idle = self._read("VmRSS")

    def peak_over_idle_mb(self) -> float:
        return (self._read("VmHWM") - self._idle) / MB

    @staticmethod
    def _read(name: str) -> int:
        status = Path("/proc/self/status").read_text()
        return int(status.split(f"{name}:")[1].split()[0]) * 1024


def written_bytes() -> int:
    """What this process has handed to the block layer so far: whole pages, each once between two writings-back. What
    the file system adds (its journal, the inode) is not in it. Always 0 on a file system in memory."""
    return int(Path("/proc/self/io").read_text().split("\nwrite_bytes: ")[1].split()[0])


def device_written_bytes(folder: Path) -> int:
    """What the block device under ``folder`` has written so far, by whomever, the file system's journal included."""
    os.sync()
    number = folder.stat().st_dev
    stat = Path(f"/sys/dev/block/{os.major(number)}:{os.minor(number)}/stat").read_text().split()
    return int(stat[6]) * _SECTOR
