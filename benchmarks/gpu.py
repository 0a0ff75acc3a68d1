"""What a model in a process of its own costs, and a GPU: the time to the first result, a run, memory, threads kept.

python -m benchmarks.gpu [MODEL.tflite] [--runs 200] [--software] [--json]

``--software`` takes a Vulkan driver in software, fetched for the tests: it says nothing of a real GPU's speed.
"""

from __future__ import annotations

import os
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from benchmarks.report import arguments, show
from edge_agent import limits
from edge_agent.errors import DeviceError
from edge_agent.io.runtimes import BACKENDS, Build, create
from edge_agent.io.runtimes.in_child import ChildRuntime
from edge_agent.ports import Runtime
from tests.simulators.agent_toml import CONVEYOR

TICK_S = 0.001
ENTRY = "benchmarks.gpu:xnnpack"
COLUMNS = ("first ms", "run us", "p95 us", "gap ms", "run gap ms", "child MiB", "LSB")


def xnnpack(model: bytes, wanted: Build) -> Runtime:
    """The processor's runtime, for a child."""
    return BACKENDS["xnnpack"].build(model, wanted)


class Gaps:
    """A thread that wants Python's lock every millisecond, and the longest that it waited for it."""

    def __init__(self) -> None:
        self.longest_s = 0.0
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._tick, daemon=True)

    def _tick(self) -> None:
        before = time.perf_counter()
        while not self._over.is_set():
            time.sleep(TICK_S)
            now = time.perf_counter()
            self.longest_s, before = max(self.longest_s, now - before - TICK_S), now

    @classmethod
    @contextmanager
    def watched(cls) -> Iterator[Gaps]:
        gaps = cls()
        gaps._thread.start()
        try:
            yield gaps
        finally:
            gaps._over.set()
            gaps._thread.join()


def measure(make: Callable[[], Runtime], reference: Runtime, runs: int, repeats: int) -> list[Any]:
    """A row of the table; ``reference`` answers the same for comparison."""
    firsts, gaps = [], []
    for last in range(repeats):
        with Gaps.watched() as built:
            started = time.perf_counter()
            runtime = make()
            runtime.invoke({})
            firsts.append(1e3 * (time.perf_counter() - started))
        gaps.append(1e3 * built.longest_s)
        if last < repeats - 1:
            runtime.close()
    draw = np.random.default_rng(1)
    inputs = [{spec.name: _drawn(draw, spec.shape, spec.dtype) for spec in runtime.inputs} for _ in range(8)]
    steps = max(_steps(runtime.invoke(tensors), reference.invoke(tensors)) for tensors in inputs)
    taken = []
    with Gaps.watched() as running:
        for number in range(runs):
            started = time.perf_counter()
            runtime.invoke(inputs[number % len(inputs)])
            taken.append(1e6 * (time.perf_counter() - started))
    memory = _peak_mib(runtime.pid) if isinstance(runtime, ChildRuntime) else None
    runtime.close()
    return [
        median(firsts),
        median(taken),
        float(np.percentile(taken, 95)),
        median(gaps),
        1e3 * running.longest_s,
        memory,
        steps,
    ]


def _drawn(draw: np.random.Generator, shape: tuple[int, ...], dtype: np.dtype[Any]) -> np.ndarray:
    if dtype.kind == "f":
        return draw.random(shape, np.float32).astype(dtype)
    limits_of = np.iinfo(dtype)
    return draw.integers(limits_of.min, limits_of.max, shape, dtype, endpoint=True)


def _steps(one: dict[str, np.ndarray], other: dict[str, np.ndarray]) -> float:
    return max(float(np.abs(one[name].astype(float) - other[name].astype(float)).max()) for name in one)


def _peak_mib(pid: int) -> float:
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) / 1024


def cold(model: bytes, folder: Path) -> tuple[float, int]:
    """Seconds until shaders are compiled and have run once, and how many starts that took."""
    started, starts = time.perf_counter(), 0
    while True:
        starts += 1
        try:
            create(model, "gpu", threads=1, external={}, cache_dir=folder).close()
            return time.perf_counter() - started, starts
        except DeviceError as error:
            if "not ready" not in str(error):
                raise


def main() -> None:
    parser = arguments("A model in a process of its own, and on a GPU, against XNNPACK in this process.", repeats=3)
    parser.add_argument("model", nargs="?", type=Path, default=CONVEYOR / "model" / "conveyor.tflite")
    parser.add_argument("--runs", type=int, default=200, help="of each variant (default 200)")
    parser.add_argument("--software", action="store_true", help="a Vulkan driver in software")
    options = parser.parse_args()
    if options.software:
        from tests.system import software_gpu

        os.environ |= software_gpu.environment()
    model = options.model.read_bytes()
    reference = create(model, "xnnpack", threads=1, external={})

    def hosted() -> Runtime:
        return ChildRuntime(ENTRY, model, Build("hosted"), start_s=limits.GPU_START_S)

    def here(name: str) -> Runtime:
        return create(model, name, threads=1, external={})

    rows: dict[str, list[Any]] = {}
    result: dict[str, Any] = {"model": options.model.name, "runs": options.runs}
    for name, make in (("xnnpack", lambda: here("xnnpack")), ("cpu", lambda: here("cpu")), ("xnnpack, child", hosted)):
        rows[name] = measure(make, reference, options.runs, options.repeats)
    with tempfile.TemporaryDirectory() as folder:
        try:
            result["cold_s"], result["cold_starts"] = cold(model, Path(folder))
        except DeviceError as error:
            result["gpu"] = str(error)
        else:
            make = lambda: create(model, "gpu", threads=1, external={}, cache_dir=Path(folder))  # noqa: E731
            rows["gpu, shaders kept"] = measure(make, reference, options.runs, options.repeats)
            result["shader_bytes"] = sum(path.stat().st_size for path in Path(folder).rglob("*") if path.is_file())
    show(result, COLUMNS, rows, options.json)


if __name__ == "__main__":
    main()
