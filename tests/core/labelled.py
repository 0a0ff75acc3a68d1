"""Models with labels for the tests: cards, the payloads of their predictions, and feedback as it is sent."""

from __future__ import annotations

from typing import Any

import msgspec

from edge_agent.core.card_schema import (
    AnomalyOutput,
    Budgets,
    ClassificationOutput,
    DetectionOutput,
    Golden,
    OutputCard,
    RegressionOutput,
)
from edge_agent.core.feedback import Feedback, parse_feedback
from edge_agent.core.model_card import ResolvedCard
from edge_agent.monitoring import Moment
from edge_agent.records import ModelIdentity

BOOT = "0b2a7c52-5b7e-4a5e-9a46-3f1f0a3f9d10"
CLASSES = ("good", "hollow", "worn")
FAULT = ClassificationOutput(tensor="fault", name="fault")
OBJECTS = DetectionOutput(boxes="b", classes="c", scores="s", count="n")
WEAR = RegressionOutput(tensor="wear", name="wear", unit="mm")
ODD = AnomalyOutput(tensor="odd", name="odd", threshold=0.5)
MODEL = ModelIdentity("conveyor", "1.0.0", "ab" * 32)
SECOND = 10**9
HORIZON_NS = 7 * 86400 * SECOND
BEGIN_WALL_NS = 1_790_000_000 * SECOND


def card(*outputs: OutputCard, classes: tuple[str, ...] = CLASSES) -> ResolvedCard:
    """Every output that has classes has the same ones."""
    labelled = [output.name for output in outputs if isinstance(output, ClassificationOutput | DetectionOutput)]
    labels = dict.fromkeys(labelled, classes) if classes else {}
    return ResolvedCard("conveyor", "1.0.0", (), (), (), outputs, labels, Budgets(), Golden(), ())


def at(seconds: float, synced: bool = True) -> Moment:
    """So long after the begin of the first run."""
    return Moment(round(seconds * SECOND), BEGIN_WALL_NS + round(seconds * SECOND), synced)


def classified(*scores: float) -> dict[str, Any]:
    """The payload object of a classification with these scores by class."""
    best = sorted(enumerate(scores), key=lambda one: (-one[1], one[0]))
    classes = [{"label": str(index), "index": index, "score": score} for index, score in best[:5]]
    return {"task": "classification", "classes": classes}


def detected(*found: tuple[int, float]) -> dict[str, Any]:
    boxes = [{"label": str(index), "index": index, "score": score, "box": [0, 0, 1, 1]} for index, score in found]
    return {"task": "detection", "boxes": boxes}


def measured(value: float) -> dict[str, Any]:
    return {"task": "regression", "value": value, "unit": "mm"}


def judged(score: float) -> dict[str, Any]:
    return {"task": "anomaly", "score": score, "anomalous": score >= 0.5, "threshold": 0.5}


def prediction_id(seq: int, boot_id: str = BOOT) -> str:
    return f"{boot_id}-hall-{seq}"


def feedback(seq: int, label: object, boot_id: str = BOOT, **more: object) -> Feedback:
    """As parsed from what a subscriber sends; a dict is one label for each output."""
    key = "labels" if isinstance(label, dict) else "label"
    return parse_feedback(msgspec.json.encode({"id": prediction_id(seq, boot_id), key: label, **more}))
