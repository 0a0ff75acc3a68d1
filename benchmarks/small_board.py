"""The daemon with the example on emulated small boards: 512 MB without swap and a part of one core. Needs root.

python -m benchmarks.small_board [--cores 1 0.5 0.25 0.1] [--seconds 30] [--json]

The daemon alone and all of its processes are measured apart: at its start a child tries the back-end. Pages that both
have count twice in the sum.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from statistics import median

from benchmarks.report import arguments, judge, show
from tests.simulators.control_group import unavailable
from tests.simulators.small_run import RATE, predicted, small_run

MEMORY_MOST_MB = 160
SETTLED_S = 30.0  # the start is over, and the rule has had its windows


def measure(core: float, seconds: float) -> tuple[float, ...]:
    """Seconds to the readiness, predictions a second, the rule's factor, p95 of a frame in ms, three peaks in MiB."""
    with tempfile.TemporaryDirectory() as folder:
        began = time.monotonic()
        with small_run(Path(folder), core) as run:
            ready_s = time.monotonic() - began
            run.over(SETTLED_S)
            begin, end = run.over(seconds)
            if run.board.killed() or run.board.swapped_mb():
                raise RuntimeError("the kernel swapped, or ended a process")
            total_ms = end["pipelines"]["inspect"]["latency_ms"]["total"]["p95"]
            peaks = run.daemon_peak_mb, run.memory.others_mb, run.memory.most_mb
            return ready_s, predicted(begin, end), end["overload"]["inspect"], total_ms, *peaks


def main() -> None:
    parser = arguments("The example on emulated small boards.", repeats=3)
    parser.add_argument("--cores", type=float, nargs="+", default=[1.0, 0.5, 0.25, 0.1], help="parts of one core")
    parser.add_argument(
        "--seconds", type=float, default=30.0, help="of the daemon's time that its rate is measured over"
    )
    options = parser.parse_args()
    if reason := unavailable():
        parser.error(reason)
    rows = {}
    for core in options.cores:
        runs = [measure(core, options.seconds) for _ in range(options.repeats)]
        rows[f"{core:g} of a core"] = tuple(median(values) for values in zip(*runs, strict=True))
    columns = ("ready s", "predictions/s", "rate lowered", "frame p95 ms", "daemon MB", "children MB", "all MB")
    most = max(row[-1] for row in rows.values())
    goal = judge("most memory of all processes, MB", most, f"< {MEMORY_MOST_MB}", most < MEMORY_MOST_MB)
    show({"asked": f"{RATE}/s", **({"goal": goal} if options.json else {})}, columns, rows, options.json)
    if not options.json:
        print(goal)


if __name__ == "__main__":
    main()
