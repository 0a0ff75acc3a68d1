"""The judgement of one model on rows of a data set: by output, with one main score each, and what it cost."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np
from msgspec import Struct

from converters.device_model import DeviceModel
from converters.evaluation.agreement import HeadAgreement, compare_recorded
from converters.evaluation.classification import ClassificationResult, classification_result
from converters.evaluation.cost import Cost, measure_cost
from converters.evaluation.detection import DetectionResult, detection_result
from converters.evaluation.recorded import Recorded
from converters.evaluation.regression import AnomalyResult, RegressionResult, anomaly_result, regression_result
from converters.evaluation.run import record, truth_boxes
from converters.progress import Progress
from converters.records import Dataset
from edge_agent.core.card_roles import task_of
from edge_agent.core.card_schema import AnomalyOutput, ClassificationOutput, DetectionOutput, OutputCard

Result = ClassificationResult | DetectionResult | RegressionResult | AnomalyResult
MAIN_SCORES = {"classification": "accuracy", "detection": "mAP@[.5:.95]", "regression": "R2", "anomaly": "AUC"}
AGREEMENT = "agreement with the reference"


class HeadEvaluation(Struct, frozen=True):
    """One output. ``score`` is the main number, higher is better, at most 1: ``score_name`` says which; None where
    there are neither labels nor a reference, or where it is not defined on these rows. ``labelled`` rows have a truth.
    ``result`` has the task's own numbers, None without labels."""

    task: str
    score: float | None
    score_name: str
    labelled: int
    result: Result | None = None
    agreement: HeadAgreement | None = None


class Evaluation(Struct, frozen=True):
    """``outputs`` by output name. ``filled``: in how many rows each feature was missing, so that the card's fill value
    stood in; ``filled_rows`` have at least one such."""

    model: str
    sha256: str
    rows: int
    filled_rows: int
    filled: dict[str, int]
    outputs: dict[str, HeadEvaluation]
    cost: Cost | None = None
    notes: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Plain objects; a number that is not defined is null."""
        plain: dict[str, Any] = msgspec.to_builtins(self)
        return plain


def evaluate(
    model: DeviceModel,
    dataset: Dataset,
    rows: Sequence[int],
    *,
    reference: Recorded | None = None,
    cost: bool = True,
    progress: Progress | None = None,
) -> Evaluation:
    """Run the rows and judge the answers. ``reference``: what another model answered on the same rows.

    Raises ConfigError or ModelError, with the row's id where one row is the reason.
    """
    recorded = record(model, dataset, rows, progress=progress)
    name = recorded.model.name
    spent = measure_cost({name: model}, dataset.example(rows[0]), progress=progress)[name] if cost else None
    return judge(recorded, reference=reference, cost=spent)


def judge(recorded: Recorded, *, reference: Recorded | None = None, cost: Cost | None = None) -> Evaluation:
    """The judgement of answers that are there already."""
    agreement = compare_recorded(reference, recorded).outputs if reference else {}
    return Evaluation(
        model=recorded.model.name,
        sha256=recorded.model.sha256,
        rows=len(recorded),
        filled_rows=recorded.filled_rows,
        filled=recorded.filled,
        outputs={head.name: _head(recorded, head, agreement.get(head.name)) for head in recorded.heads},
        cost=cost,
        notes=recorded.notes,
    )


def head_result(recorded: Recorded, head: OutputCard) -> Result | None:
    """The task's own numbers over the rows that have a label; None where no row has one."""
    if isinstance(head, DetectionOutput):
        return _detection(recorded, head)
    rows, truth = recorded.truth(head)
    if not rows.size:
        return None
    if isinstance(head, ClassificationOutput):
        scores = recorded.scores(head)[rows]
        return classification_result(
            scores,
            recorded.best(head)[rows],
            truth.astype(np.int64),
            recorded.class_names(head, scores.shape[1]),
            activation=head.activation,
            floor=recorded.floor(head),
        )
    if isinstance(head, AnomalyOutput):
        return anomaly_result(recorded.reals(head)[rows, 0], truth.astype(bool), head.threshold)
    return regression_result(recorded.values(head)[rows], truth, head.unit)


def main_score(result: Result) -> float | None:
    """Higher is better, at most 1."""
    if isinstance(result, ClassificationResult):
        return result.accuracy
    if isinstance(result, DetectionResult):
        return result.map
    return result.r2 if isinstance(result, RegressionResult) else result.auc


def _head(recorded: Recorded, head: OutputCard, agreement: HeadAgreement | None) -> HeadEvaluation:
    task = task_of(head)
    result = head_result(recorded, head)
    if result is None:
        score = agreement.agreement if agreement else None
        return HeadEvaluation(task, score, AGREEMENT if agreement else MAIN_SCORES[task], 0, agreement=agreement)
    labelled = sum(label is not None for label in recorded.labels[head.name])
    return HeadEvaluation(task, main_score(result), MAIN_SCORES[task], labelled, result, agreement)


def _detection(recorded: Recorded, head: DetectionOutput) -> DetectionResult | None:
    pairs = list(zip(recorded.boxes[head.name], recorded.labels[head.name], strict=True))
    found = [boxes for boxes, label in pairs if label is not None]
    truth = [truth_boxes(label) for _, label in pairs if label is not None]
    most = max((box.index for boxes in truth for box in boxes), default=-1) + 1
    return detection_result(found, truth, recorded.class_names(head, most), head.threshold) if truth else None
