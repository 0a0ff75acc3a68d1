"""Two interpreters in one process: the cores split among them, or one run at a time with all of them.

    python -m benchmarks.several [--models A B] [--seconds 4] [--cores 2] [--json]

In alternating rounds, each variant in a process of its own, on an idle machine and beside a busy process. Each model
is first asked for all that it can, then, as a camera asks, for a frame at fixed times; what counts there is the time
from when the frame was due to its result. The rule of ``Profile.thread_count`` was chosen by this.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import threading
import time
from collections import deque
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from benchmarks.pipeline import DATA, ROOT
from benchmarks.report import arguments, show
from edge_agent.io.runtimes import create
from edge_agent.ports import Runtime

BUSY = """
import os, sys
os.sched_setaffinity(0, range(int(sys.argv[1])))
print("busy", flush=True)
while True: sum(range(10000))
"""
SWITCH_INTERVAL_S = 0.0002  # as in the daemon


class Turns:
    """A lock that is given in the order of asking: an invoke thread that goes round, without its queues."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._waiting: deque[threading.Event] = deque()
        self._taken = False

    @contextmanager
    def turn(self) -> Any:
        mine = threading.Event()
        with self._lock:
            if not self._taken:
                self._taken = True
                mine.set()
            else:
                self._waiting.append(mine)
        mine.wait()
        try:
            yield
        finally:
            with self._lock:
                if self._waiting:
                    self._waiting.popleft().set()
                else:
                    self._taken = False


def variants(cores: int) -> dict[str, tuple[int, bool]]:
    """Name -> threads of each interpreter, whether they take turns."""
    share, spare = max(1, (cores - 1) // 2), max(1, cores - 1)
    return {
        f"split: {share} thread{'s' * (share > 1)} each": (share, False),
        f"no rule: {cores} threads each": (cores, False),
        f"turns: {spare} thread{'s' * (spare > 1)}": (spare, True),
        f"turns: {cores} threads": (cores, True),
    }


def measure(models: list[str], threads: int, in_turn: bool, seconds: float, rate: float) -> list[dict[str, float]]:
    """Of each model: runs a second and p95 in ms at full load, then the p95 at ``rate`` frames a second. In here."""
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    runtimes = [create(Path(model).read_bytes(), "xnnpack", threads=threads, external={}) for model in models]
    turns = Turns()
    found: list[dict[str, float]] = [{} for _ in models]
    for paced in (0.0, rate):
        workers = [
            threading.Thread(
                target=_load, args=(runtime, turns.turn if in_turn else nullcontext, seconds, paced, number, result)
            )
            for number, (runtime, result) in enumerate(zip(runtimes, found, strict=True))
        ]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
    return found


def _load(runtime: Runtime, turn: Any, seconds: float, rate: float, number: int, result: dict[str, float]) -> None:
    tensors = {spec.name: np.zeros(spec.shape, spec.dtype) for spec in runtime.inputs}
    runtime.invoke(tensors)
    took: list[float] = []
    begin = due = time.perf_counter() + (number * 0.37 / rate if rate else 0.0)  # two cameras are not in step
    while due - begin < seconds:
        if rate:
            time.sleep(max(0.0, due - time.perf_counter()))
        else:
            due = time.perf_counter()
        guard: AbstractContextManager[None] = turn()
        with guard:
            runtime.invoke(tensors)
        took.append(time.perf_counter() - due)
        due += 1 / rate if rate else 0.0
    p95 = 1e3 * float(np.quantile(took, 0.95))
    if rate:
        result["paced_p95_ms"] = p95
    else:
        result["fps"], result["p95_ms"] = len(took) / (time.perf_counter() - begin), p95


def run(options: argparse.Namespace, threads: int, in_turn: bool, busy: bool) -> list[dict[str, float]]:
    """One variant in its own process on the first ``--cores``, beside a busy one where asked."""
    command = [sys.executable, "-m", "benchmarks.several", "--one", str(threads), str(int(in_turn))]
    command += ["--cores", str(options.cores), "--seconds", str(options.seconds), "--rate", str(options.rate)]
    command += ["--models", *map(str, options.models)]
    beside = _busy_process(options.cores) if busy else None
    try:
        out = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    finally:
        if beside is not None:
            beside.kill()
            beside.wait()
    if out.returncode != 0:
        raise RuntimeError(out.stderr.strip()[-2000:])
    found: list[dict[str, float]] = json.loads(out.stdout)
    return found


def _busy_process(cores: int) -> subprocess.Popen[bytes]:
    beside = subprocess.Popen([sys.executable, "-c", BUSY, str(cores)], stdout=subprocess.PIPE)
    if beside.stdout is None or not beside.stdout.readline():
        raise RuntimeError("the busy process did not start")
    return beside


def main() -> None:
    parser = arguments("Two interpreters: threads split, or one run at a time.", repeats=5)
    models = [DATA / "models/tf2_mobilenet_v2_1.0_224_ptq.tflite", ROOT / "examples/conveyor/model/conveyor.tflite"]
    parser.add_argument("--models", type=Path, nargs=2, default=models)
    parser.add_argument("--seconds", type=float, default=4.0, help="of each of the two loads")
    parser.add_argument("--rate", type=float, default=20.0, help="frames a second of each camera")
    parser.add_argument("--cores", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--one", type=int, nargs=2, help=argparse.SUPPRESS)  # a child: threads, in turn
    options = parser.parse_args()
    if options.one:
        os.sched_setaffinity(0, range(options.cores))
        names = [str(model) for model in options.models]
        print(json.dumps(measure(names, options.one[0], bool(options.one[1]), options.seconds, options.rate)))
        return
    rows: dict[str, tuple[float, ...]] = {}
    kinds = {(name, busy): chosen for busy in (False, True) for name, chosen in variants(options.cores).items()}
    runs: dict[tuple[str, bool], list[list[dict[str, float]]]] = {kind: [] for kind in kinds}
    for _ in range(options.repeats):
        for kind, (threads, in_turn) in kinds.items():
            runs[kind].append(run(options, threads, in_turn, kind[1]))
    for (name, busy), results in runs.items():
        values = [
            median(result[model][what] for result in results)
            for model in (0, 1)
            for what in ("fps", "p95_ms", "paced_p95_ms")
        ]
        rows[f"{'busy' if busy else 'idle'}, {name}"] = tuple(values)
    columns = [f"{which} {what}" for which in "AB" for what in ("runs/s", "p95 ms", "paced p95")]
    said = {"A": options.models[0].name, "B": options.models[1].name, "on_cores": options.cores, "rate": options.rate}
    show(said, columns, rows, options.json)


if __name__ == "__main__":
    main()
