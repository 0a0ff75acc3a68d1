"""The sections about what the model answers: one for each output, by its task."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from converters.evaluation.agreement import HeadAgreement
from converters.evaluation.classification import CALIBRATION_BINS, ClassificationResult
from converters.evaluation.detection import DetectionResult
from converters.evaluation.paired import Drop
from converters.evaluation.recorded import Recorded
from converters.evaluation.regression import AnomalyResult, RegressionResult
from converters.evaluation.results import HeadEvaluation
from converters.report import charts
from converters.report.blocks import Block, Column, Columns, Paragraph, Picture, Section, Table
from converters.report.confusion import confusion_blocks
from converters.report.content import ReportContent
from converters.report.words import NOTHING, THIN, TIMES, number, percent, plural, score, signed
from edge_agent.core.card_schema import AnomalyOutput, ClassificationOutput, OutputCard, RegressionOutput
from edge_agent.records import Array

CHART_MOST = 24  # classes beside each other in a chart


class _Side(NamedTuple):
    """One model's answers for one output and their judgement."""

    recorded: Recorded
    head: HeadEvaluation


def result_sections(content: ReportContent) -> list[Section]:
    """One section for each output that was judged."""
    if content.deployed is None:
        return []
    sections = []
    heads = content.deployed.recorded.heads
    for number_, head in enumerate(heads):
        after = _Side(content.deployed.recorded, content.deployed.evaluation.outputs[head.name])
        before = None
        if content.reference and head.name in content.reference.evaluation.outputs:
            before = _Side(content.reference.recorded, content.reference.evaluation.outputs[head.name])
        title = f"Results of “{head.name}”" if len(heads) > 1 else "Results"
        sections.append(Section(f"results-{number_}", title, tuple(_blocks(head, before, after))))
    return sections


def _blocks(head: OutputCard, before: _Side | None, after: _Side) -> list[Block]:
    blocks: list[Block] = []
    agreement = after.head.agreement
    if after.head.labelled < len(after.recorded):
        every = plural(len(after.recorded), "row")
        blocks.append(Paragraph(f"{after.head.labelled} of {every} have a label; scores count these alone.", "note"))
    if agreement and agreement.drop:
        blocks.append(Paragraph(drop_words(agreement.drop)))
    blocks.append(_scores(before, after))
    result = after.head.result
    if isinstance(head, ClassificationOutput) and isinstance(result, ClassificationResult):
        blocks += _classification(head, before, after, result)
    elif isinstance(head, RegressionOutput) and isinstance(result, RegressionResult):
        labelled, truth = after.recorded.truth(head)
        told = before.recorded.values(head)[labelled] if before else None
        chart = charts.scatter(truth, told, after.recorded.values(head)[labelled], head.unit)
        blocks.append(
            Picture(chart, f"Each row once: on the diagonal the answer is right (float ○, as deployed {TIMES}).")
        )
    elif isinstance(head, AnomalyOutput) and isinstance(result, AnomalyResult):
        labelled, truth = after.recorded.truth(head)
        chart = charts.scores_by_truth(after.recorded.reals(head)[labelled, 0], truth.astype(bool), head.threshold)
        blocks.append(Picture(chart, "Scores of normal and of anomalous rows: the less they overlap, the better."))
    elif isinstance(result, DetectionResult):
        blocks += _detection(before, result)
    return blocks


def drop_words(drop: Drop) -> str:
    """The loss with its interval, and whether chance alone may explain it."""
    said = (
        f"On {plural(drop.rows, 'labelled row')} the float model reaches {drop.score} {score(drop.reference)}, this "
        f"file {score(drop.other)}. Lost: {signed(drop.drop)}, with {percent(drop.confidence)} confidence between "
        f"{signed(drop.low)} and {signed(drop.high)} ({drop.method})"
    )
    if drop.only_reference is not None:
        said += f". Only the float model got {drop.only_reference} of them right, only this file {drop.only_other}"
    return f"{said}. A difference of zero lies within that interval." if drop.by_chance else f"{said}."


def _scores(before: _Side | None, after: _Side) -> Block:
    now, then = _numbers(after.head), _numbers(before.head) if before else {}
    columns = [Column("measure"), *([Column("float", True)] if before else []), Column("as deployed", True)]
    rows = [(name, *([then.get(name, NOTHING)] if before else []), value) for name, value in now.items()]
    tables: list[Block] = [Table("Scores", tuple(columns), tuple(rows))] if rows else []
    if after.head.agreement:
        tables.append(_agreement(after.head.agreement))
    return Columns(tuple(tables))


def _agreement(agreement: HeadAgreement) -> Table:
    unit = {"classification": "of a probability", "anomaly": "of the score"}.get(agreement.task, "")
    found = {
        "agreement": score(agreement.agreement),
        "rows with the same answer": percent(agreement.same),
        f"mean difference {unit}": number(agreement.mean_error),
        f"largest difference {unit}": number(agreement.max_error),
        f"root mean square difference {unit}": number(agreement.rmse),
        "Kullback-Leibler divergence (nats)": number(agreement.divergence),
        "mean overlap of boxes": score(agreement.mean_overlap),
    }
    rows = tuple((name.strip(), value) for name, value in found.items() if value != NOTHING)
    return Table("As deployed against float", (Column("measure"), Column("value", True)), rows)


def _numbers(head: HeadEvaluation) -> dict[str, str]:
    result = head.result
    if isinstance(result, ClassificationResult):
        found = {
            "accuracy": score(result.accuracy),
            "top 5": score(result.top5),
            "macro F1": score(result.macro_f1),
            "mean AUC": score(result.auc),
            "calibration error": score(result.calibration_error),
            "log loss (nats)": score(result.log_loss),
        }
    elif isinstance(result, DetectionResult):
        found = {
            "mAP@[.5:.95]": score(result.map),
            "mAP@.5": score(result.map50),
            "mAP@.75": score(result.map75),
            f"precision from {result.threshold:g} on": score(result.precision),
            f"recall from {result.threshold:g} on": score(result.recall),
            "boxes published": str(result.published),
            "true boxes": str(result.truths),
        }
    elif isinstance(result, RegressionResult):
        unit = f" ({result.unit})" if result.unit else ""
        found = {
            "R²": score(result.r2),
            f"mean absolute error{unit}": number(result.mae),
            f"root mean square error{unit}": number(result.rmse),
            f"largest error{unit}": number(result.max_error),
            f"bias{unit}": number(result.bias),
        }
    elif isinstance(result, AnomalyResult):
        found = {
            "AUC": score(result.auc),
            "accuracy": score(result.accuracy),
            "precision": score(result.precision),
            "recall": score(result.recall),
            "flagged": str(result.flagged),
            "anomalous": str(result.anomalies),
        }
    else:
        return {}
    return {name: value for name, value in found.items() if value != NOTHING}


def _classification(
    head: ClassificationOutput, before: _Side | None, after: _Side, result: ClassificationResult
) -> list[Block]:
    then = before.head.result if before else None
    was = then if isinstance(then, ClassificationResult) else None
    blocks: list[Block] = [*confusion_blocks(was, result)]
    pictures: list[Block] = []
    if chart := _class_chart(was, result):
        pictures.append(chart)
    if result.calibration_error is not None:
        curves = [_curve("as deployed", after.recorded, head)]
        if before and was and was.calibration_error is not None:
            curves.insert(0, _curve("float", before.recorded, head))
        caption = (
            f"How far probabilities can be believed: of the rows that are stated with 0.8, are 80{THIN}% right? "
            f"Calibration error {score(result.calibration_error)}."
        )
        pictures.append(Picture(charts.reliability(curves), caption))
    if pictures:
        blocks.append(Columns(tuple(pictures)))
    rows = tuple(
        (c.label, str(c.support), str(c.answered), score(c.precision), score(c.recall), score(c.f1), score(c.auc))
        for c in result.classes
    )
    names = ("class", "rows", "answered", "precision", "recall", "F1", "AUC")
    columns = tuple(Column(name, numeric=bool(place)) for place, name in enumerate(names))
    return [*blocks, Table("Each class as deployed", columns, rows, folded=len(rows) > 12)]


def _class_chart(was: ClassificationResult | None, result: ClassificationResult) -> Picture | None:
    """F1 by class; of many classes those that lost most, or without a reference the worst."""
    known = [place for place, item in enumerate(result.classes) if item.f1 is not None]
    if was is not None:
        known = [place for place in known if was.classes[place].f1 is not None]
    if not known:
        return None
    after = {place: result.classes[place].f1 or 0.0 for place in known}
    before = {place: was.classes[place].f1 or 0.0 for place in known} if was else {}
    if len(known) > CHART_MOST:
        known = sorted(known, key=lambda place: after[place] - before.get(place, 0.0))[:CHART_MOST]
    names = [result.classes[place].label for place in known]
    told = [before[place] for place in known] if was else None
    chart = charts.by_class(names, told, [after[place] for place in known], "F1")
    some = f"The {len(known)} that lost most of {len(result.classes)} classes" if len(after) > len(known) else "F1"
    return Picture(chart, f"{some} of each class: precision and recall in one number.")


def _curve(name: str, recorded: Recorded, head: ClassificationOutput) -> charts.Curve:
    rows, truth = recorded.truth(head)
    best = recorded.best(head)[rows]
    stated = np.take_along_axis(recorded.scores(head)[rows], best[:, None], axis=1)[:, 0]
    return reliability_curve(name, stated, best == truth)


def reliability_curve(name: str, stated: Array, right: Array) -> charts.Curve:
    """Bins as in the calibration error: 15 of equal width, each with its upper edge; empty ones are left out.

    ``stated`` (n,) float64 is the probability of the answer, ``right`` (n,) bool.
    """
    stated = np.clip(stated, 0.0, 1.0)
    bins = np.clip(np.ceil(stated * CALIBRATION_BINS).astype(np.int64) - 1, 0, CALIBRATION_BINS - 1)
    counts = np.bincount(bins, minlength=CALIBRATION_BINS)
    kept = counts > 0
    sums = [np.bincount(bins, values.astype(np.float64), CALIBRATION_BINS)[kept] for values in (stated, right)]
    mean, share = (values / counts[kept] for values in sums)
    return charts.Curve(name, tuple(mean.tolist()), tuple(share.tolist()), tuple(counts[kept].tolist()))


def _detection(before: _Side | None, result: DetectionResult) -> list[Block]:
    then = before.head.result if before else None
    was = {c.label: c for c in then.classes} if isinstance(then, DetectionResult) else {}
    classes = sorted(result.classes, key=lambda item: item.ap or 0.0)[:CHART_MOST]
    told: Sequence[float] | None = None
    if was and all(item.label in was for item in classes):
        told = [was[item.label].ap or 0.0 for item in classes]
    blocks: list[Block] = []
    if classes:
        chart = charts.by_class([c.label for c in classes], told, [c.ap or 0.0 for c in classes], "average precision")
        blocks.append(Picture(chart, "Average precision of each class, the weakest on top."))
    rows = tuple((c.label, str(c.support), score(c.ap), score(c.ap50)) for c in result.classes)
    columns = (Column("class"), Column("true boxes", True), Column("AP@[.5:.95]", True), Column("AP@.5", True))
    return [*blocks, Table("Each class as deployed", columns, rows, folded=len(rows) > 12)]
