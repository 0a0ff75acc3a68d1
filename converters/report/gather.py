"""A report for a model that is there already: inspected, measured, and compared with what it was made from."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from converters.arrays import calibration_samples
from converters.card_file import read_card
from converters.device_model import DeviceModel
from converters.evaluation.as_trained import AsTrained, as_trained
from converters.evaluation.cost import measure_cost
from converters.evaluation.opened import open_model, plain_card, require_same_rows
from converters.evaluation.recorded import Recorded
from converters.evaluation.results import judge
from converters.evaluation.run import record
from converters.inspection import Inspection, inspect
from converters.progress import Progress, Silent
from converters.quantization.sensitivity import LayerError, rank_layers
from converters.records import Dataset
from converters.report.content import ReportContent, worst_samples
from converters.steps import Judged, calibrated
from converters.workbench import Workbench, open_workbench
from edge_agent.errors import ConfigError
from edge_agent.io.model_file import read_model

LAYER_SAMPLES = 96  # as many as rank_layers looks at
_INTEGER_SCHEMES = ("int8", "mixed")


def report_content(
    model: Path,
    *,
    work: Path,
    data: str | None = None,
    source: str | None = None,
    card: Path | None = None,
    limit: int | None = None,
    bound: float | None = None,
    progress: Progress | None = None,
) -> ReportContent:
    """What can be said of the .tflite ``model``: with ``data`` how good it is, with ``source`` (what it was made from,
    of any kind) also what was lost, where and on which rows. ``work``: a folder for files on the way.

    Raises ConfigError, ModelError, EnvironmentMissingError, WorkerFailedError.
    """
    progress = progress or Silent()
    inspection = inspect(model)
    if data is None:
        if source is not None:
            raise ConfigError("--source is compared on rows of a data set: add --data DATASET")
        return ReportContent(_alone(model, card), inspection=inspection)
    opened = open_model(str(model), data=data, card=card, delegate="xnnpack", work=work / "model", progress=progress)
    rows = opened.rows("test", limit)
    recorded = record(opened.model, opened.dataset, rows, progress=progress)
    if source is None:
        cost = measure_cost({"model": opened.model}, opened.dataset.example(rows[0]), progress=progress)["model"]
        deployed = Judged(recorded, judge(recorded, cost=cost))
        return ReportContent(opened.model, deployed, bound=bound, data=data, inspection=inspection)
    bench = open_workbench(
        source, work=work / "source", card=card or plain_card(opened.model), data=data, progress=progress
    )
    reference, deployed = _both(bench, opened.model, recorded, rows, data, progress)
    return ReportContent(
        opened.model,
        deployed,
        reference,
        bound,
        _steps(bench, rows, work / "as-trained", reference.recorded, recorded),
        worst_samples(opened.dataset, rows, deployed),
        data,
        len(bench.source.content),
        inspection,
        layers=_layers(bench, inspection),
    )


def _both(
    bench: Workbench, model: DeviceModel, recorded: Recorded, rows: Sequence[int], data: str, progress: Progress
) -> tuple[Judged, Judged]:
    """The float model and the file, judged on the same rows, timed in turns."""
    dataset: Dataset = bench.data()
    float_answers = record(bench.float_model, dataset, rows, progress=progress)
    require_same_rows(float_answers, recorded, data)
    models = {"float": bench.float_model, "deployed": model}
    costs = measure_cost(models, dataset.example(rows[0]), progress=progress)
    return (
        Judged(float_answers, judge(float_answers, cost=costs["float"])),
        Judged(recorded, judge(recorded, reference=float_answers, cost=costs["deployed"])),
    )


def _steps(bench: Workbench, rows: Sequence[int], work: Path, before: Recorded, after: Recorded) -> AsTrained | None:
    """A float .tflite is its own original, but for rows that say what training fed it."""
    if bench.source.kind == "tflite" and bench.data().example(rows[0]).trained is None:
        return None
    return as_trained(
        bench.source.path,
        bench.float_model,
        bench.data(),
        rows,
        work=work,
        device=before,
        quantised=after,
        progress=bench.progress,
    )


def _layers(bench: Workbench, inspection: Inspection) -> tuple[LayerError, ...]:
    """What int8 costs by layer, measured anew from the float model; of other schemes this would say nothing."""
    if inspection.scheme not in _INTEGER_SCHEMES:
        return ()
    samples = calibration_samples(bench.arrays("calibration", LAYER_SAMPLES))
    return rank_layers(bench.source, calibrated(bench), samples, progress=bench.progress)


def _alone(path: Path, card: Path | None) -> DeviceModel:
    """The model with that card, or its own; no rows are needed."""
    raw, where, folder = read_card(card)
    return DeviceModel(read_model(path).content, card=raw, path=path, where=where, folder=folder if card else None)
