"""What is sent as a label: what is taken, what each task makes of it, and that nothing strange gets further."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_agent.core.card_schema import OutputCard
from edge_agent.core.feedback import NONE, PredictionId, parse_feedback, parse_id, transaction_of, truth_of
from edge_agent.core.wire import Identity
from tests.core.labelled import BOOT, CLASSES, FAULT, OBJECTS, ODD, WEAR, prediction_id


def sent(**said: Any) -> bytes:
    return json.dumps({"id": prediction_id(7), **said}).encode()


@pytest.mark.parametrize("pipeline", ["hall", "hall-2", "a-b-c"])
def test_the_id_of_a_published_prediction_is_taken_apart_again(pipeline: str) -> None:
    made = Identity("device", BOOT, 4_000_000_000).id(pipeline)
    assert parse_id(made) == PredictionId(BOOT, pipeline, 4_000_000_000)


@pytest.mark.parametrize(
    "text", ["", "7", f"{BOOT}-hall-", f"{BOOT}-hall-007", f"{BOOT}--1x", f" {BOOT}-hall-1", None, 3]
)
def test_what_is_no_id_is_refused_with_what_one_looks_like(text: object) -> None:
    with pytest.raises(ValueError, match="<boot_id>-<pipeline>-<seq>"):
        parse_id(text)


def test_one_label_and_labels_by_output_are_taken() -> None:
    one = parse_feedback(sent(label="good", transaction="t-1"))
    assert (one.labels, one.selected, one.transaction) == ({"": "good"}, False, "t-1")
    assert parse_feedback(sent(labels={"fault": 2, "wear": 0.3}, selected=True)).labels == {"fault": 2, "wear": 0.3}


@pytest.mark.parametrize(
    ("payload", "said"),
    [
        (b"", "Expected one JSON object"),
        (b"\xff\xfe", "Expected one JSON object"),
        (b"[" * 4000, "Expected one JSON object"),
        (b"[1]", '"id" and "label"'),
        (sent(), 'Expected "label"'),
        (sent(label=1, labels={}), "not both"),
        (sent(labels={}), "must be an object"),
        (sent(labels=[1]), "must be an object"),
        (sent(lable=1), 'did you mean "label"'),
        (sent(label=1, selected="yes"), "true or false"),
        (sent(label=1, prediction="text"), "an object"),
    ],
)
def test_what_is_no_feedback_is_refused_in_one_line(payload: bytes, said: str) -> None:
    with pytest.raises(ValueError, match=said) as caught:
        parse_feedback(payload)
    assert "\n" not in str(caught.value)


def test_what_was_sent_is_shown_as_it_was_sent() -> None:
    with pytest.raises(ValueError, match=r"^found 99; allowed") as number:
        truth_of(99, FAULT, CLASSES)
    with pytest.raises(ValueError, match=r'^found "x99"; allowed'):
        truth_of("x99", FAULT, CLASSES)
    assert "label of the model" in str(number.value)


@pytest.mark.parametrize(
    ("payload", "transaction"),
    [
        (sent(lable="good", transaction="t-1"), "t-1"),
        (b'{"transaction": {"deep": [1]}}', {"deep": [1]}),
        (b'{"id": 7}', None),
        (b"[7]", None),
        (b'{"transaction": 7', None),
        (b"\xff", None),
        (b"[" * 4000, None),
    ],
)
def test_also_what_is_refused_has_its_transaction(payload: bytes, transaction: object) -> None:
    assert transaction_of(payload) == transaction


@pytest.mark.parametrize(
    ("head", "value", "truth"),
    [
        (FAULT, "worn", 2),
        (FAULT, 1, 1),
        (FAULT, "1", 1),
        (OBJECTS, "hollow", 1),
        (OBJECTS, "none", NONE),
        (OBJECTS, [], NONE),
        (WEAR, 0.25, 0.25),
        (WEAR, "2.5", 2.5),
        (WEAR, -3, -3.0),
        (ODD, True, 1),
        (ODD, "false", 0),
        (ODD, 0, 0),
    ],
)
def test_a_label_means_what_its_task_says(head: OutputCard, value: object, truth: float) -> None:
    assert truth_of(value, head, CLASSES) == truth


def test_a_class_that_is_called_none_or_1_goes_before_what_the_word_means_else() -> None:
    assert truth_of("none", OBJECTS, ("some", "none")) == 1
    assert truth_of("1", FAULT, ("2", "1", "0")) == 1
    assert truth_of("0", FAULT, ("2", "1", "0")) == 2


@pytest.mark.parametrize(
    ("head", "value", "said"),
    [
        (FAULT, "wron", 'did you mean "worn"'),
        (FAULT, 3, "an index from 0 to 2"),
        (FAULT, -1, "an index from 0 to 2"),
        (FAULT, True, "a label of the model"),
        (FAULT, 1.0, "a label of the model"),
        (FAULT, None, "a label of the model"),
        (FAULT, "none", "a label of the model"),
        (WEAR, "thick", "a finite number in mm"),
        (WEAR, True, "a finite number"),
        (WEAR, "nan", "a finite number"),
        (WEAR, "inf", "a finite number"),
        (WEAR, {"value": 3}, "a finite number"),
        (ODD, 2, "true or 1"),
        (ODD, "maybe", "true or 1"),
        (ODD, 1.0, "true or 1"),
    ],
)
def test_a_label_that_does_not_fit_is_refused_with_what_is_allowed(head: OutputCard, value: object, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        truth_of(value, head, CLASSES)


def test_a_label_of_two_classes_and_one_beyond_what_is_counted_are_refused() -> None:
    with pytest.raises(ValueError, match="several classes"):
        truth_of("a", FAULT, ("a", "a"))
    assert truth_of(9999, FAULT, ()) == 9999
    with pytest.raises(ValueError, match="index from 0"):
        truth_of(NONE, FAULT, ())


OBJECTS_SENT = st.dictionaries(st.text(max_size=8), st.integers() | st.text()).map(
    lambda said: json.dumps(said).encode()
)


@given(st.binary(max_size=80) | OBJECTS_SENT)
def test_nothing_but_a_value_error_comes_of_what_a_stranger_sends(payload: bytes) -> None:
    try:
        parse_feedback(payload)
    except ValueError as error:
        assert str(error).isprintable()
