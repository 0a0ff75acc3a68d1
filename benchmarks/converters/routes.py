"""Every kind of source through the same conversion: what the float model loses on its way, and what int8 costs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from benchmarks.converters import world
from benchmarks.converters.measuring import against_float
from benchmarks.converters.table import kilobytes, milliseconds, share, signed, small
from benchmarks.converters.trained import KERAS2, KERAS3, TORCH, Script, trained
from converters.errors import EnvironmentMissingError
from converters.progress import Progress
from converters.sources import load_source
from converters.steps import quantized
from converters.workbench import Workbench, open_workbench

ROWS = f"{Path(world.__file__)}:rows"
COLUMNS = (
    *("route", "trained", "float", "int8", "lost", "agreement", "probability error"),
    *("float kB", "int8 kB", "float ms", "int8 ms"),
)
ROUTES: dict[str, tuple[Script, str]] = {  # what is trained, and which of its files is converted
    "keras2": (KERAS2, "model.h5"),
    "keras3": (KERAS3, "model.keras"),
    "saved_model": (KERAS3, "saved_model"),
    "torch": (TORCH, "model.pt2"),
    "onnx": (TORCH, "model.onnx"),
    "tflite": (KERAS3, "model.tflite"),
}


def route(name: str, folder: Path, work: Path, *, quick: bool, limit: int | None, progress: Progress) -> list[str]:
    """One row of the table; a route whose environment is missing says so. ``trained`` is the accuracy in the
    framework itself."""
    script, file = ROUTES[name]
    try:
        out, facts = trained(script, folder, quick=quick)
        bench = open_bench(_source(out, file, work, progress), work / name, progress)
    except EnvironmentMissingError as error:
        return [name, str(error).split(":")[0], *[""] * (len(COLUMNS) - 2)]
    reference = against_float(bench, limit)
    line, float_ms = reference.measure(quantized(bench, "int8").content)
    return [
        name,
        share(facts["accuracy"]),
        share(reference.accuracy),
        share(line.accuracy),
        signed(line.lost),
        share(line.agreement),
        small(line.probability_error),
        kilobytes(len(bench.source.content)),
        kilobytes(line.bytes),
        milliseconds(float_ms),
        milliseconds(line.p50_ms),
    ]


def open_bench(model: Path, work: Path, progress: Progress, *, card: dict[str, Any] | None = None) -> Workbench:
    """A workbench on the benchmark's rows."""
    return open_workbench(str(model), work=work, card=card or world.card(), data=ROWS, progress=progress)


def _source(out: Path, file: str, work: Path, progress: Progress) -> Path:
    """The float .tflite is what the Keras 3 route itself makes on its way."""
    path = out / file
    if file == "model.tflite" and not path.exists():
        path.write_bytes(load_source(str(out / "model.keras"), work=work / "export", progress=progress).content)
    return path
