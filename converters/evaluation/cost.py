"""What a model costs on this machine: time for a run, memory, bytes. A device must be measured on the device."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
import tempfile
import time
import zlib
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from msgspec import Struct

from converters.device_model import DeviceModel
from converters.evaluation.run import Recording
from converters.progress import Progress, Silent
from converters.records import Example
from converters.tflite.archive import bare_model

WARM_UP_RUNS = 5
ROUND_RUNS = 10
ROUNDS = 20
LATENCY_BUDGET_S = 6.0  # for each model: a slow one is timed on fewer runs
LEAST_ROUNDS = 2
MEMORY_TIMEOUT_S = 120.0
DEFLATE_LEVEL = 9
CAVEAT = (
    "measured on this machine, not on the device: int8 may be slower than float32 on x86 and faster on ARM; measure "
    "there with `edge-agent bench`"
)


class Machine(Struct, frozen=True):
    """Where it was measured. ``threads`` of the interpreter."""

    cpu: str
    cores: int
    architecture: str
    runtime: str
    threads: int = 1


class Cost(Struct, frozen=True):
    """``p50_ms`` and ``p95_ms`` of the bare interpreter's run, warm, over ``runs`` runs. ``memory_mb`` (10^6 bytes) is
    what the peak of a process grows by loading and running the model, None where the system does not tell.

    ``file_bytes`` of the whole file, ``model_bytes`` of the flatbuffer in it, ``deflated_bytes`` of the whole file
    after zlib level 9: about what a compressed download takes.
    """

    machine: Machine
    delegate: str
    p50_ms: float
    p95_ms: float
    runs: int
    memory_mb: float | None
    file_bytes: int
    model_bytes: int
    deflated_bytes: int
    caveat: str = CAVEAT


def measure_cost(
    models: Mapping[str, DeviceModel], example: Example, *, progress: Progress | None = None
) -> dict[str, Cost]:
    """The cost of each model by its name, on the inputs of one row. Rounds alternate between the models, so that what
    else the machine does hits all alike. Raises ModelError, ConfigError where a model can't run the row."""
    progress = progress or Silent()
    latencies = _latencies(models, example, progress)
    with progress.step("measuring memory", len(models)) as advance:
        memory = {}
        for done, (name, model) in enumerate(models.items(), 1):
            memory[name] = memory_mb(model.file.content, model.engine.runtime.info.delegate)
            advance(done)
    return {name: _cost(model, latencies[name], memory[name]) for name, model in models.items()}


def memory_mb(content: bytes, delegate: str = "xnnpack") -> float | None:
    """What loading and running the model adds to the peak memory of a process, in MB; None where it can't be told."""
    with tempfile.NamedTemporaryFile(suffix=".tflite") as file:
        file.write(content)
        file.flush()
        peaks = [_peak_kb([delegate]), _peak_kb([delegate, file.name])]
    empty, loaded = peaks
    return None if empty is None or loaded is None else round(max(0, loaded - empty) * 1024 / 1e6, 2)


def this_machine(runtime: str, threads: int = 1) -> Machine:
    """The processor's own name where the system tells it."""
    return Machine(_cpu(), os.cpu_count() or 1, platform.machine(), runtime, threads)


def _latencies(models: Mapping[str, DeviceModel], example: Example, progress: Progress) -> dict[str, list[int]]:
    """Nanoseconds of each run by model."""
    for model in models.values():
        Recording(model).add(example)  # leaves the row's tensors in the interpreter
        for _ in range(WARM_UP_RUNS):
            model.invoke({})
        model.reset()
    taken: dict[str, list[int]] = {name: [] for name in models}
    with progress.step("measuring latency", ROUNDS) as advance:
        for done in range(1, ROUNDS + 1):
            for name, model in models.items():
                if done <= LEAST_ROUNDS or sum(taken[name]) < LATENCY_BUDGET_S * 1e9:
                    taken[name] += _round(model)
            advance(done)
    return taken


def _round(model: DeviceModel) -> list[int]:
    taken = []
    for _ in range(ROUND_RUNS):
        before = time.perf_counter_ns()
        model.invoke({})
        taken.append(time.perf_counter_ns() - before)
    return taken


def _cost(model: DeviceModel, taken: list[int], memory: float | None) -> Cost:
    info, content = model.engine.runtime.info, model.file.content
    p50, p95 = np.percentile(taken, [50, 95]) / 1e6
    return Cost(
        machine=this_machine(info.runtime, info.threads),
        delegate=info.delegate,
        p50_ms=round(float(p50), 4),
        p95_ms=round(float(p95), 4),
        runs=len(taken),
        memory_mb=memory,
        file_bytes=len(content),
        model_bytes=len(bare_model(content)),
        deflated_bytes=len(zlib.compress(content, DEFLATE_LEVEL)),
    )


def _peak_kb(arguments: list[str]) -> int | None:
    root = Path(__file__).resolve().parents[2]
    path = os.pathsep.join(filter(None, [str(root), os.environ.get("PYTHONPATH", "")]))
    try:
        done = subprocess.run(
            # by its path: as a module it would bring all of this package along
            [sys.executable, str(Path(__file__).with_name("memory_child.py")), *arguments],
            capture_output=True,
            check=True,
            text=True,
            timeout=MEMORY_TIMEOUT_S,
            env={**os.environ, "PYTHONPATH": path},
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return int(done.stdout)


def _cpu() -> str:
    """x86 kernels say "model name", ARM kernels often nothing but the board's "Model" or "Hardware"."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    said = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in lines) if value.strip()}
    names = (said.get(key) for key in ("model name", "Model", "Hardware"))
    return next((name for name in names if name), platform.processor() or platform.machine())
