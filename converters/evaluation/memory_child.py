"""A process that loads one model and runs it, as little else as possible: how much memory that takes.

    python memory_child.py DELEGATE [FILE]

Prints its peak in kilobytes. Without a file it loads the interpreter's library alone: what to subtract.
"""

from __future__ import annotations

import sys
from pathlib import Path

RUNS = 3  # scratch memory is allocated by the first


def main() -> None:
    from edge_agent.io.runtimes import create
    from edge_agent.io.runtimes.litert import load_library

    delegate, *files = sys.argv[1:]
    load_library()
    for file in files:
        runtime = create(Path(file).read_bytes(), delegate, threads=1, external={})
        for _ in range(RUNS):
            runtime.invoke({})
    print(peak_kb())


def peak_kb() -> int:
    """The most memory that this program ever had resident. Not from getrusage: its maximum begins with that of the
    process that started this one."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1])
    raise OSError("this system does not say what a process had resident (no VmHWM in /proc/self/status)")


if __name__ == "__main__":
    main()
