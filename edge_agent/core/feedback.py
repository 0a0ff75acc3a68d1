"""A label that came back for a prediction (docs/mqtt.md, ``feedback``), and what a label means to an output.

What a stranger sent is checked here and nowhere else: what passes is one of the nouns below.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, Final, Literal

import msgspec
from msgspec import Struct

from edge_agent.core.card_rules import nearest
from edge_agent.core.card_schema import (
    AnomalyOutput,
    ClassificationOutput,
    DetectionOutput,
    OutputCard,
    RegressionOutput,
)

NONE: Final = 65535  # the class of a detection that shows nothing, and of a classification below its threshold
CLASSES_MOST: Final = 65534  # classes are kept as uint16; one from here on can't be labelled
TEXT_MOST: Final = 120  # characters of a stranger's text in an answer

Result = Literal["counted", "selected", "unknown", "late", "doubled", "malformed"]
Truth = int | float
"""Class number or NONE; a value in the output's unit; 1 or 0 for anomalous or not."""

_ID = re.compile(r"(?P<boot>[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})-(?P<pipeline>.+)-(?P<seq>0|[1-9]\d{0,9})")
_KEYS: Final = ("id", "label", "labels", "selected", "prediction", "transaction")


class PredictionId(Struct, frozen=True):
    """What ``prediction.id`` is made of. ``seq`` counts within the boot and the pipeline."""

    boot_id: str
    pipeline: str
    seq: int


class Feedback(Struct, frozen=True):
    """``labels`` by output; under "" the label of a model with one output. ``selected``: the sample was picked because
    it looked wrong, so it says nothing about how often the model is wrong. ``prediction``: the message that the label
    is for, as it was received; with it a label counts even where the device has forgotten the prediction."""

    id: PredictionId
    labels: Mapping[str, object]
    selected: bool = False
    prediction: Mapping[str, Any] | None = None
    transaction: object = None


class Answer(Struct, frozen=True):
    """What became of a label, for ``response/feedback``. ``wrong``: whether any labelled output was wrong; None where
    the label was not compared. ``detail`` says why it did not count."""

    id: str
    result: Result
    detail: str = ""
    wrong: bool | None = None


def parse_id(text: object) -> PredictionId:
    """Raises ValueError for what is no id of a prediction."""
    found = _ID.fullmatch(text) if isinstance(text, str) else None
    if found is None:
        raise ValueError(f'"id" must be that of a prediction, "<boot_id>-<pipeline>-<seq>"; found {_shown(text)}')
    return PredictionId(found["boot"], found["pipeline"], int(found["seq"]))


def parse_feedback(payload: bytes) -> Feedback:
    """``{"id": …, "label": "good"}`` or ``{"id": …, "labels": {"fault": "good", "wear": 0.3}}``, with ``selected``,
    ``prediction`` and ``transaction`` where they are wanted. Raises ValueError that says what is allowed."""
    try:
        said = msgspec.json.decode(payload)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ValueError(f"Expected one JSON object: {error}") from None
    if not isinstance(said, dict):
        raise ValueError('Expected one JSON object with "id" and "label"')
    for key in said:
        if key not in _KEYS:
            raise ValueError(f"unknown key {_shown(key)}{nearest(key, _KEYS)}; allowed are {', '.join(_KEYS)}")
    if ("label" in said) == ("labels" in said):
        raise ValueError('Expected "label", or "labels" with one for each output, and not both')
    labels = said["labels"] if "labels" in said else {"": said["label"]}
    if not isinstance(labels, dict) or not labels:
        raise ValueError('"labels" must be an object: {OUTPUT: label, …}')
    selected, prediction = said.get("selected", False), said.get("prediction")
    if not isinstance(selected, bool):
        raise ValueError('"selected" must be true or false')
    if prediction is not None and not isinstance(prediction, dict):
        raise ValueError('"prediction" must be the message of that prediction, an object')
    return Feedback(parse_id(said.get("id")), labels, selected, prediction, said.get("transaction"))


def transaction_of(payload: bytes) -> object:
    """What is wanted back with the answer, also of feedback that is refused; None where there is nothing to be read."""
    try:
        return msgspec.json.decode(payload, type=dict[str, Any]).get("transaction")
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None


def truth_of(value: object, head: OutputCard, labels: Sequence[str]) -> Truth:
    """What a label says of one output; ``labels`` are the card's, empty where it has none. Raises ValueError that says
    what is allowed."""
    if isinstance(head, ClassificationOutput):
        return _class_number(value, labels)
    if isinstance(head, DetectionOutput):
        return NONE if (value == "none" and "none" not in labels) or value == [] else _class_number(value, labels)
    if isinstance(head, AnomalyOutput):
        return _anomalous(value)
    return _number(value, head)


def _class_number(value: object, labels: Sequence[str]) -> int:
    if isinstance(value, str) and value in labels:
        if labels.count(value) > 1:
            raise ValueError(f"the model has several classes called {_shown(value)}: give the class's index")
        return labels.index(value)
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) < 6:
        value = int(value)
    most = len(labels) or CLASSES_MOST
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < min(most, CLASSES_MOST):
        near = nearest(value, labels) if isinstance(value, str) else ""
        known = "a label of the model, or " if labels else ""
        raise ValueError(f"found {_shown(value)}{near}; allowed are {known}an index from 0 to {most - 1}")
    return value


def _anomalous(value: object) -> int:
    words: Mapping[object, int] = {"true": 1, "false": 0, "1": 1, "0": 0}
    if isinstance(value, str):
        value = words.get(value.lower())
    if isinstance(value, bool | int) and value in (0, 1):
        return int(value)
    raise ValueError(f"found {_shown(value)}; allowed are true or 1 for anomalous, false or 0 for normal")


def _number(value: object, head: RegressionOutput) -> float:
    if isinstance(value, str):
        try:
            value = float(value)
        except ValueError:
            value = None
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) < 1e30:
        unit = f" in {head.unit}" if head.unit else ""
        raise ValueError(f"found {_shown(value)}; a finite number{unit} is needed")
    return float(value)


def _shown(value: object) -> str:
    """What a stranger sent, in one line of bounded length."""
    text = value if isinstance(value, str) else msgspec.json.encode(value).decode("utf-8", "replace")
    plain = "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)
    short = f"{plain[:TEXT_MOST]}…" if len(plain) > TEXT_MOST else plain
    return f'"{short}"' if isinstance(value, str) else short
