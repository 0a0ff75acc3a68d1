"""The whole way: from a trained model to one file for the device, within a bound on what quantising costs.

The rungs are climbed on calibration rows, the test rows confirm, and nothing is written that does not hold the bound.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from converters.device_model import DeviceModel
from converters.dressing import finish
from converters.evaluation.as_trained import AsTrained, as_trained
from converters.files import check_output, write_whole
from converters.golden import check_golden
from converters.ladder import CALIBRATION_ROWS, STEPS, Judge, Ladder, Measured, climb, selection_rows
from converters.plausibility import feature_warnings, guess_warnings
from converters.progress import Progress, Silent
from converters.records import Dataset, Quantized, Written
from converters.steps import (
    Io,
    Judged,
    judged,
    kept_for,
    own_normalisation,
    ranked_layers,
    warnings_for,
    with_costs,
)
from converters.tflite.own_normalisation import OwnNormalisation
from converters.workbench import Workbench, open_workbench
from edge_agent.errors import ConfigError, ModelError
from edge_agent.io.profiles import load_profile

SCHEMA = "edge-agent/convert-convert/1"
EDGETPU = "edgetpu"
LITTLE_SAVED = 0.6  # of the float model's bytes; int8 has a quarter


class Conversion(Struct, frozen=True):
    """``written`` is None where no rung held the bound. ``reference`` is the float model, ``deployed`` what was written
    or, without that, the nearest rung; both on the test rows. ``notes`` are for a person."""

    written: Written | None
    ladder: Ladder
    reference: Judged
    deployed: Judged
    as_trained: AsTrained | None
    notes: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Plain objects: schema edge-agent/convert-convert/1."""
        file = self.written
        return {
            "schema": SCHEMA,
            "ok": self.ladder.met,
            "met": self.ladder.met,
            "path": str(file.path) if file else None,
            "sha256": file.sha256 if file else None,
            "bytes": file.bytes if file else None,
            "reference_score": self.reference.score,
            "score": self.deployed.score,
            "drop": self.reference.score - self.deployed.score,
            "rows": len(self.reference.recorded),
            "ladder": self.ladder.to_json(),
            "evaluation": self.deployed.evaluation.to_json(),
            "reference": self.reference.evaluation.to_json(),
            "as_trained": msgspec.to_builtins(self.as_trained),
            "notes": list(self.notes),
        }


class Goal(Struct, frozen=True):
    """What a conversion is to hold. ``max_drop``: of the main score, 0..1. ``target``: a device profile. ``limit``: of
    test rows. ``epochs`` of quantisation-aware training, 0 for none. ``signature``: which one of a SavedModel."""

    max_drop: float = 0.01
    target: str | None = None
    io: Io = "int8"
    name: str | None = None
    version: str | None = None
    limit: int | None = None
    epochs: int = 2
    seed: int = 0
    signature: str | None = None


def convert(
    model: str,
    *,
    card: Path | dict[str, Any] | None = None,
    data: str | Dataset,
    output: Path,
    goal: Goal | None = None,
    report: Path | None = None,
    preprocess: str | None = None,
    progress: Progress | None = None,
) -> Conversion:
    """Convert ``model`` (a path, or FILE.py:FUNCTION) and write ``output`` if the bound holds; ``report`` gets the HTML
    report either way. ``preprocess``: FILE.py:FUNCTION, what training did to its inputs.

    Raises ConfigError, ModelError, EnvironmentMissingError, WorkerFailedError.
    """
    goal = goal or Goal()
    progress = progress or Silent()
    integers_only = goal.target is not None and EDGETPU in load_profile(goal.target).delegates
    for path in (output, report):
        if path is not None:
            check_output(path)
    if report is not None and report.resolve() == output.resolve():
        raise ConfigError(f"--report {report}: the model is written there; name another file")
    with ExitStack() as stack:
        work = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="edge-convert-")))
        bench = open_workbench(
            model,
            work=work,
            card=card,
            data=data,
            preprocess=preprocess,
            signature=goal.signature,
            progress=progress,
        )
        return _converted(bench, goal, integers_only, output, report)


def _converted(bench: Workbench, goal: Goal, integers_only: bool, output: Path, report: Path | None) -> Conversion:
    rows = bench.rows("test", goal.limit)
    chains = own_normalisation(bench)
    warnings = [*warnings_for(chains), *_feature_warnings(bench, chains)]
    reference = judged(bench, bench.source.content, rows, text="float model on the test rows")
    warnings += guess_warnings(reference)
    for warning in warnings:
        bench.progress.say(warning)
    ladder = _climbed(bench, goal, integers_only, reference, rows, kept_for(chains))
    if ladder.quantized is None:
        raise ModelError(f"{bench.source.path}: no rung could be tried: {ladder.rungs[0].verdict}")
    content = finish(bench, ladder.quantized, name=goal.name, version=goal.version)
    _check_golden(content, output)
    deployed = judged(bench, content, rows, reference=reference.recorded, text="deployed model on the test rows")
    original = _as_trained(bench, rows, reference, deployed)
    reference, deployed = with_costs(bench, content, rows, reference, deployed)
    if original is not None and original.search is not None and original.search.best is not None:
        warnings.append(f"warning: the card may be wrong: {original.explanation}")
    notes = (*warnings, *_dataset_notes(bench), *bench.source.notes, *_size_notes(bench, ladder.quantized))
    conversion = Conversion(None, ladder, reference, deployed, original, notes)
    if report is not None:
        _report(bench, DeviceModel(content, path=output), conversion, rows, goal, report)
    # last, so that whatever fails before leaves no file behind
    return replace(conversion, written=write_whole(output, content)) if ladder.met else conversion


def _climbed(
    bench: Workbench,
    goal: Goal,
    integers_only: bool,
    reference: Judged,
    rows: Sequence[int],
    keep_float: tuple[str, ...],
) -> Ladder:
    chosen = selection_rows(bench.rows("calibration"), bench.rows("calibration", CALIBRATION_ROWS))
    before = judged(bench, bench.source.content, chosen, text="float model on the calibration rows")
    retrain, no_retrain = _retraining(bench, goal)
    return climb(
        bench,
        max_drop=goal.max_drop,
        selection=_judge(bench, before, chosen, "calibration"),
        final=_judge(bench, reference, rows, "test"),
        target_int8_only=integers_only,
        allow=STEPS,
        keep_float=keep_float,
        io=goal.io,
        retrain=retrain,
        no_retrain=no_retrain,
        progress=bench.progress,
    )


def _judge(bench: Workbench, reference: Judged, rows: Sequence[int], split: str) -> Judge:
    def evaluate(quantized: Quantized) -> Measured:
        found = judged(bench, quantized.content, rows, reference=reference.recorded)
        # several outputs: the one that lost most decides, so that a good one can't hide a bad one
        worst = min(found.score_of(name) - reference.score_of(name) for name in found.evaluation.outputs)
        agreements = [head.agreement.agreement for head in found.evaluation.outputs.values() if head.agreement]
        return Measured(reference.score + worst, min(agreements, default=None))

    return Judge(evaluate, reference.score, f"{len(rows)} {split} rows", len(rows))


def _retraining(bench: Workbench, goal: Goal) -> tuple[Callable[[], Quantized] | None, str]:
    if not goal.epochs:
        return None, "not asked for"
    from converters.techniques.qat import quantization_aware

    return partial(quantization_aware, bench, epochs=goal.epochs, seed=goal.seed), ""


def _as_trained(bench: Workbench, rows: Sequence[int], reference: Judged, deployed: Judged) -> AsTrained | None:
    """The original in its own framework beside the float model; a float .tflite is its own original, but for rows that
    say what training fed it."""
    if bench.source.kind == "tflite" and bench.data().example(rows[0]).trained is None:
        return None
    return as_trained(
        bench.source.path,
        bench.float_model,
        bench.data(),
        rows,
        work=bench.work / "as-trained",
        device=reference.recorded,
        quantised=deployed.recorded,
        progress=bench.progress,
    )


def _feature_warnings(bench: Workbench, chains: Sequence[OwnNormalisation]) -> tuple[str, ...]:
    """Not of inputs that the model scales itself: those are raw by intent."""
    own = {chain.input for chain in chains}
    card = bench.float_model.card
    inputs = tuple(item for item in card.feature_inputs if item.tensor not in own)
    return feature_warnings(replace(card, feature_inputs=inputs), bench.arrays("calibration", CALIBRATION_ROWS))


def _size_notes(bench: Workbench, made: Quantized) -> tuple[str, ...]:
    """What quantising says itself, and whether it was worth it."""
    share = len(made.content) / len(bench.source.content)
    if made.float_ops and share > LITTLE_SAVED:
        return (
            *made.notes,
            f"the ops in float hold most of the weights: the model has {share:.0%} of the float model's bytes",
        )
    return made.notes


def _dataset_notes(bench: Workbench) -> tuple[str, ...]:
    return tuple(getattr(bench.data(), "notes", ()))


def _check_golden(content: bytes, output: Path) -> None:
    for delegate in ("xnnpack", "cpu"):
        check = check_golden(content, output, delegate=delegate)
        if not check.ok:
            raise ModelError(
                f"{output}: its own golden samples fail on {delegate} ({check.worst_lsb} steps): not written"
            )


def _report(
    bench: Workbench, model: DeviceModel, conversion: Conversion, rows: Sequence[int], goal: Goal, path: Path
) -> None:
    from converters.inspection import inspect
    from converters.report import ReportContent, write_report
    from converters.report.content import worst_samples

    file = bench.work / "model.tflite"
    file.write_bytes(model.file.content)
    write_report(
        ReportContent(
            model=model,
            deployed=conversion.deployed,
            reference=conversion.reference,
            bound=goal.max_drop,
            as_trained=conversion.as_trained,
            samples=worst_samples(bench.data(), rows, conversion.deployed),
            data=bench.data().spec,
            float_bytes=len(bench.source.content),
            inspection=inspect(file),
            ladder=conversion.ladder,
            layers=conversion.ladder.layers or ranked_layers(bench),
        ),
        path,
    )
