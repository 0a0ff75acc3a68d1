"""A board smaller than this machine, by control groups of the kernel: part of one core, and so much memory."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from tests.simulators.waiting import wait_for

ROOT: Final = Path("/sys/fs/cgroup")
PERIOD_US: Final = 10_000  # short: a slow core works steadily, and does not stop for most of a tenth of a second
# Joins the groups given before "--", then becomes the program after it.
JOIN: Final = """
import os, sys
at = sys.argv.index("--")
for group in sys.argv[1:at]:
    open(group, "w").write(str(os.getpid()))
os.execv(sys.argv[at + 1], sys.argv[at + 1:])
"""


def unavailable() -> str | None:
    """Why no control group can be made here."""
    if os.geteuid() != 0:
        return "a control group needs root"
    v1 = all((ROOT / name / "cgroup.procs").exists() for name in ("memory", "cpu"))
    control = ROOT / "cgroup.subtree_control"
    v2 = control.exists() and {"memory", "cpu"} <= set(control.read_text().split())
    return None if v1 or v2 else "no control groups for memory and cpu in /sys/fs/cgroup"


class SmallBoard:
    """``core``: the share of one core, 0 to 1; memory without swap. To be closed when its processes have ended."""

    def __init__(self, memory_mb: int, core: float) -> None:
        name = f"edge-agent-test-{os.getpid()}"
        self._v1 = (ROOT / "memory" / "cgroup.procs").exists()
        self._memory = ROOT / "memory" / name if self._v1 else ROOT / name
        self._cpu = ROOT / "cpu" / name if self._v1 else ROOT / name
        for folder in {self._memory, self._cpu}:
            folder.mkdir()
        limit = str(memory_mb * 2**20)
        if self._v1:
            _write(self._memory / "memory.limit_in_bytes", limit)
            if (self._memory / "memory.memsw.limit_in_bytes").exists():
                _write(self._memory / "memory.memsw.limit_in_bytes", limit)
        else:
            _write(self._memory / "memory.max", limit)
            _write(self._memory / "memory.swap.max", "0")
        self.core(core)

    def core(self, share: float) -> None:
        """From now on; also for what runs already."""
        quota_us = max(1000, round(share * PERIOD_US))  # the kernel's least
        period_us = round(quota_us / share)
        if self._v1:
            _write(self._cpu / "cpu.cfs_quota_us", "-1")  # a longer period must not meet the old quota
            _write(self._cpu / "cpu.cfs_period_us", str(period_us))
            _write(self._cpu / "cpu.cfs_quota_us", str(quota_us))
        else:
            _write(self._cpu / "cpu.max", f"{quota_us} {period_us}")

    def program(self, *arguments: str) -> tuple[str, ...]:
        """Arguments of Python that start this program in here, on the first core."""
        groups = [str(folder / "cgroup.procs") for folder in sorted({self._memory, self._cpu})]
        taskset = shutil.which("taskset") or "/usr/bin/taskset"
        core = str(min(os.sched_getaffinity(0)))
        return ("-c", JOIN, *groups, "--", taskset, "-c", core, sys.executable, *arguments)

    def pids(self) -> list[int]:
        return [int(pid) for pid in (self._memory / "cgroup.procs").read_text().split()]

    def killed(self) -> int:
        """How many processes the kernel has ended in here for want of memory."""
        file = "memory.oom_control" if self._v1 else "memory.events"
        counts = dict(line.split() for line in (self._memory / file).read_text().splitlines())
        return int(counts["oom_kill"])

    def swapped_mb(self) -> float:
        """Of the processes that are in here now."""
        return sum(_status_mb(pid, "VmSwap") for pid in self.pids())

    def close(self) -> None:
        wait_for(lambda: not self.pids(), "the board's processes have ended")
        for folder in {self._memory, self._cpu}:
            folder.rmdir()


def resident_mb(pids: list[int]) -> dict[int, float]:
    """Resident memory of each process that still lives. Pages that two of them share count twice."""
    return {pid: mb for pid in pids if (mb := _status_mb(pid, "VmRSS"))}


def peak_mb(pid: int) -> float:
    """The most resident memory that a living process ever had."""
    return _status_mb(pid, "VmHWM")


def _status_mb(pid: int, field: str) -> float:
    for line in _lines(Path(f"/proc/{pid}/status")):
        if line.startswith(f"{field}:"):
            return int(line.split()[1]) / 1024
    return 0.0


def _lines(path: Path) -> Iterator[str]:
    try:
        yield from path.read_text().splitlines()
    except OSError:
        return  # it ended meanwhile


def _write(path: Path, text: str) -> None:
    path.write_text(text)
