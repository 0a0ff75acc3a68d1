"""The rows on which the two models differ most, as a person can judge them: picture, readings, both answers."""

from __future__ import annotations

import numpy as np

from converters.evaluation.detection import from_threshold
from converters.evaluation.recorded import Boxes, Recorded
from converters.report.blocks import Gallery, Outline, Paragraph, Section, Shot
from converters.report.content import ReportContent, ShownSample, true_boxes
from converters.report.pictures import picture_uri
from converters.report.words import MINUS, number, plural
from edge_agent.core.card_schema import DetectionOutput, Feature

OUTLINES_MOST = 12  # of one model in one picture


def sample_section(content: ReportContent) -> list[Section]:
    """Nothing without samples."""
    if not content.samples or content.deployed is None:
        return []
    several = len({sample.output for sample in content.samples}) > 1
    shots = tuple(_shot(content, sample, several) for sample in content.samples)
    said = f"{plural(len(shots), 'row')} on which this file is furthest from the float model"
    if different := sum(shot.wrong for shot in shots):
        said += f", those with another answer first ({different})"
    if any(shot.outlines for shot in shots):
        said += ". Boxes: truth dashed, float dotted, this file whole lines"
    return [Section("samples", "Samples that differ most", (Paragraph(f"{said}."), Gallery(shots)))]


def _shot(content: ReportContent, sample: ShownSample, several: bool) -> Shot:
    answers = sample.answers
    task = content.deployed.evaluation.outputs[sample.output].task if content.deployed else ""
    lines = [("float", answers.reference), ("deployed", answers.other)]
    if answers.truth is not None:
        lines.append(("truth", answers.truth))
    lines.append((f"1 {MINUS} F1 of the boxes" if task == "detection" else "difference", number(answers.distance)))
    title = f"{answers.id} ({sample.output})" if several else answers.id
    pixels = next(iter(sample.images.values()), None)
    return Shot(
        title=title,
        uri="" if pixels is None else picture_uri(pixels),
        text=f"picture of {answers.id}: float says {answers.reference}, as deployed {answers.other}",
        lines=tuple(lines),
        readings=tuple(_reading(sample, feature) for feature in _features(content) if feature.name in sample.features),
        outlines=_outlines(content, sample),
        wrong=task != "regression" and _answer(answers.reference) != _answer(answers.other),
    )


def _answer(words: str) -> str:
    """Without the number in brackets behind it."""
    return words.rpartition(" (")[0] or words


def _features(content: ReportContent) -> list[Feature]:
    return [feature for vector in content.model.card.feature_inputs for feature in vector.features]


def _reading(sample: ShownSample, feature: Feature) -> tuple[str, str]:
    said = f"{number(sample.features[feature.name])} {feature.unit}".strip()
    return feature.name, f"{said} (missing: filled)" if feature.name in sample.filled else said


def _outlines(content: ReportContent, sample: ShownSample) -> tuple[Outline, ...]:
    head = next((h for h in content.model.card.outputs if h.name == sample.output), None)
    if not isinstance(head, DetectionOutput) or content.deployed is None:
        return ()
    names = content.deployed.recorded.class_names(head, 1 + max((b.index for b in true_boxes(sample)), default=0))
    place = sample.answers.place
    found = [_outline("truth", names[box.index], box.corners) for box in true_boxes(sample)[:OUTLINES_MOST]]
    sides: list[tuple[str, Recorded | None]] = [
        ("float", content.reference.recorded if content.reference else None),
        ("deployed", content.deployed.recorded),
    ]
    for whose, recorded in sides:
        if recorded is not None:
            found += _boxes(whose, recorded, head, from_threshold(recorded.boxes[head.name][place], head.threshold))
    return tuple(found)


def _boxes(whose: str, recorded: Recorded, head: DetectionOutput, boxes: Boxes) -> list[Outline]:
    names = recorded.class_names(head, 1 + int(boxes.indices.max(initial=0)))
    best = zip(boxes.indices.tolist(), boxes.scores.tolist(), boxes.corners.tolist(), strict=True)
    return [_outline(whose, f"{names[index]} {rate:.2f}", corners) for index, rate, corners in [*best][:OUTLINES_MOST]]


def _outline(whose: str, label: str, corners: tuple[float, ...]) -> Outline:
    x0, y0, x1, y1 = (100 * float(np.clip(value, 0.0, 1.0)) for value in corners)
    return Outline(whose, label, x0, y0, x1 - x0, y1 - y0)
