"""Every technique on one Keras model: what it costs and what it buys, beside the float model it started from."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from benchmarks.converters import networks_keras, world
from benchmarks.converters.measuring import Against, against_float
from benchmarks.converters.routes import open_bench
from benchmarks.converters.table import kilobytes, milliseconds, share, signed, small
from benchmarks.converters.trained import KERAS3, trained
from converters.arrays import calibration_samples
from converters.progress import Progress
from converters.quantization.quantize import quantize
from converters.quantization.sensitivity import rank_layers
from converters.steps import calibrated, quantized
from converters.techniques import distillation, pruning, qat
from converters.workbench import Workbench

COLUMNS = ("technique", "accuracy", "lost", "agreement", "probability error", "kB", "compressed kB", "ms")
LAYER_SAMPLES = 96
COMPARED = 50  # rows that the technique itself measures on: what it makes is measured here on all
TRAINED_EPOCHS = 10  # of the network that everything starts from: train_keras.py


class Made(NamedTuple):
    """One row: ``content`` is judged through the card of ``bench``."""

    name: str
    content: bytes
    bench: Workbench


class Start(NamedTuple):
    """What each technique begins with. ``trained``: the folder of the trained files."""

    bench: Workbench
    trained: Path
    work: Path
    quick: bool
    progress: Progress


def technique_rows(
    names: list[str], folder: Path, work: Path, *, quick: bool, limit: int | None, progress: Progress
) -> list[list[str]]:
    """The float model first, then each technique of ``names``, of which some make several rows."""
    out, _ = trained(KERAS3, folder, quick=quick)
    bench = open_bench(out / "model.keras", work / "techniques", progress)
    start = Start(bench, out, work, quick, progress)
    reference = against_float(bench, limit)
    rows = [_row(reference, Made("float32", bench.source.content, bench))]
    for name in names:
        progress.say(f"technique: {name}")
        rows += [_row(reference, made) for made in TECHNIQUES[name](start)]
    return rows


def _row(reference: Against, made: Made) -> list[str]:
    line, _ = reference.measure_in(made.bench, made.content)
    return [
        made.name,
        share(line.accuracy),
        signed(line.lost),
        share(line.agreement),
        small(line.probability_error),
        kilobytes(line.bytes),
        kilobytes(line.compressed),
        milliseconds(line.p50_ms),
    ]


def _dynamic(start: Start) -> list[Made]:
    return [Made("dynamic range", quantized(start.bench, "dynamic").content, start.bench)]


def _float16(start: Start) -> list[Made]:
    return [Made("float16", quantized(start.bench, "float16").content, start.bench)]


def _int8(start: Start) -> list[Made]:
    return [Made("int8", quantized(start.bench, "int8").content, start.bench)]


def _mixed(start: Start) -> list[Made]:
    """The layer that costs most in float, the others in int8."""
    samples = calibration_samples(start.bench.arrays("calibration", LAYER_SAMPLES))
    worst = rank_layers(start.bench.source, calibrated(start.bench), samples, progress=start.progress)[0]
    content = quantized(start.bench, "mixed", keep_float=[worst.name]).content
    return [Made(f"mixed, {worst.kind} in float", content, start.bench)]


def _int16(start: Start) -> list[Made]:
    return [Made("16x8", quantized(start.bench, "16x8").content, start.bench)]


def _qat(start: Start) -> list[Made]:
    epochs = 1 if start.quick else qat.EPOCHS
    content = qat.quantization_aware(start.bench, epochs=epochs).content
    return [Made(f"int8, quantisation-aware, {epochs} epochs", content, start.bench)]


def _magnitude(start: Start) -> list[Made]:
    epochs = 1 if start.quick else pruning.EPOCHS
    found = pruning.prune_magnitude(start.bench, epochs=epochs, limit=COMPARED).comparison
    names = {
        "pruned": f"int8, {pruning.SPARSITY:.0%} of weights zero, {epochs} epochs",
        "tuned": f"int8, trained on without zeros, {epochs} epochs",
    }
    return [Made(text, found.variant(kind).quantized.content, start.bench) for kind, text in names.items()]


def _channels(start: Start) -> list[Made]:
    """The network of the same size is trained anew for as long as the original and the fine-tuning together."""
    epochs = 1 if start.quick else pruning.EPOCHS
    anew = epochs if start.quick else epochs + TRAINED_EPOCHS
    found = pruning.prune_channels(start.bench, epochs=epochs, scratch_epochs=anew, limit=COMPARED).comparison
    names = {
        "pruned": f"int8, {1 - pruning.KEEP:.0%} of channels removed, {epochs} epochs",
        "scratch": f"int8, that size trained anew, {anew} epochs",
    }
    return [Made(text, found.variant(kind).quantized.content, start.bench) for kind, text in names.items()]


def _distilled(start: Start) -> list[Made]:
    epochs = 1 if start.quick else distillation.EPOCHS
    student = f"{Path(networks_keras.__file__)}:untrained_student"
    found = distillation.distill(start.bench, student, epochs=epochs, limit=COMPARED).comparison
    names = {
        "taught": f"int8, student with its teacher, {epochs} epochs",
        "alone": f"int8, the same student alone, {epochs} epochs",
    }
    return [Made(text, found.variant(kind).quantized.content, start.bench) for kind, text in names.items()]


def _raw_sensors(start: Start) -> list[Made]:
    """The same function on readings in their own units: all of it in int8, and with its own scaling kept in float."""
    card = world.card()
    for feature in card["inputs"][1]["features"]:
        feature.update(mean=0.0, std=1.0)
        del feature["clip"]
    work = start.work / "raw"
    bench = open_bench(start.trained / "raw_sensors.keras", work, start.progress, card=card)
    all_of_it = quantize(bench.source, "int8", calibration=calibrated(bench))
    kept = quantized(bench, "int8")
    return [
        Made("int8, **raw sensors in** (never do this)", all_of_it.content, bench),
        Made("int8, raw sensors, their scaling kept in float", kept.content, bench),
    ]


TECHNIQUES: dict[str, Callable[[Start], list[Made]]] = {
    "dynamic": _dynamic,
    "float16": _float16,
    "int8": _int8,
    "mixed": _mixed,
    "16x8": _int16,
    "qat": _qat,
    "magnitude": _magnitude,
    "channels": _channels,
    "distillation": _distilled,
    "raw_sensors": _raw_sensors,
}
