"""What a child does for itself: makes itself small before the daemon, measures its own memory and time.

Errors of these offices are left aside: a kernel without one of them still runs the child.
"""

from __future__ import annotations

import os
import pickle
import resource
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from edge_agent.io.parent import end_with
from edge_agent.records import RuntimeInfo

_STATUS = Path("/proc/self/status")
_PLAIN = ("xnnpack", "cpu", "onnx-cpu")  # run on the processor alone


def request() -> Any:
    """What ``process.spawn`` was given. From now on this process ends with the one that started it."""
    parent, content = pickle.load(sys.stdin.buffer)
    end_with(parent)
    return content


def answer_channel() -> int:
    """The standard output that this process was given; what a library prints there goes to standard error."""
    channel = os.dup(1)
    os.dup2(2, 1)
    return channel


def go_first() -> None:
    """If memory runs out, be the one that the kernel ends."""
    with suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000")


def yield_to_others() -> None:
    """Run only when nothing else wants the processor, from now on: all threads there are, a library's pool too."""
    for thread in [int(entry.name) for entry in Path("/proc/self/task").iterdir()]:
        with suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, thread, 19)
        with suppress(OSError):
            os.sched_setscheduler(thread, os.SCHED_IDLE, os.sched_param(0))
    with suppress(OSError):  # the kernel shares out between sessions first, and this is one of its own (sched(7))
        Path("/proc/self/autogroup").write_text("19")


def limit_memory(growth_mb: float) -> None:
    """Let this process, and each child of it, take at most so much more than now (10^6 bytes, private and writable)."""
    with suppress(OSError, ValueError):
        most = _status_kb("VmData") * 1024 + int(growth_mb * 1e6)
        resource.setrlimit(resource.RLIMIT_DATA, (most, most))


class MemoryGauge:
    """What the peak of this process grew by since the gauge was made. Not from getrusage: its maximum begins with that
    of the process that started this one."""

    def __init__(self) -> None:
        with suppress(OSError):
            Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew at what is resident now
        self._before_kb = _status_kb("VmHWM")

    def grown_mb(self) -> float:
        """10^6 bytes."""
        return round(max(0, _status_kb("VmHWM") - self._before_kb) * 1024 / 1e6, 2)


def timed(info: RuntimeInfo, run: Callable[[], object]) -> int:
    """Nanoseconds that the run takes. On the processor alone: without the time in which others had it, where that can
    be told; the live model has it before this process."""
    wall_ns, cpu_ns = time.perf_counter_ns(), time.process_time_ns()
    run()
    wall_ns, cpu_ns = time.perf_counter_ns() - wall_ns, time.process_time_ns() - cpu_ns
    return min(wall_ns, cpu_ns) if info.delegate in _PLAIN else wall_ns


def _status_kb(name: str) -> int:
    for line in _STATUS.read_text().splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1])
    return 0
