"""The memory of published results: bounded, found by id, the same after a restart."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_agent.core.feedback import NONE
from edge_agent.core.kept_results import (
    BYTES_MOST,
    CLASSES_KEPT,
    SCORE_BINS,
    ClassResult,
    KeptResults,
    ValueResult,
    read_result,
    score_bin,
)
from tests.core.labelled import FAULT, OBJECTS, ODD, WEAR, classified, detected, judged, measured

ROW_BYTES = 8 + 4 + 1 + CLASSES_KEPT * 3  # of a classification
HEADS = (FAULT, OBJECTS, WEAR, ODD)


def results(number: int) -> tuple[ClassResult | ValueResult, ...]:
    return (
        ClassResult((number % 3, (number + 1) % 3, NONE, NONE, NONE), (60, 3, 0, 0, 0)),
        ClassResult((number % 5,), (9,)),
        ValueResult(number / 2),
        ValueResult(0.75, True),
    )


def test_a_result_is_found_as_it_was_given() -> None:
    kept = KeptResults(HEADS)
    for number in range(50):
        kept.add(1, 3 * number, number, results(number))
    place = kept.find(1, 60)
    assert place is not None
    assert kept.get(place).heads == results(20)
    assert kept.get(place).at_s == 20
    assert [kept.find(1, 61), kept.find(2, 60), kept.find(0, 60)] == [None, None, None]


def test_the_memory_is_bounded_and_the_oldest_goes() -> None:
    kept = KeptResults([FAULT])
    assert kept.nbytes <= BYTES_MOST
    room = kept.nbytes // ROW_BYTES
    for number in range(room + 10):
        kept.add(1, number, number, [ClassResult((1, 0, NONE, NONE, NONE), (5, 4, 0, 0, 0))])
    assert len(kept) == room
    assert kept.find(1, 9) is None
    assert kept.before(1, 9)
    assert kept.find(1, room + 9) is not None
    assert kept.oldest_s() == room + 10 - len(kept)


def test_seq_begins_again_with_each_run() -> None:
    kept = KeptResults([WEAR])
    for run in (1, 2):
        for seq in range(3):
            kept.add(run, seq, 10 * run + seq, [ValueResult(run)])
    places = [kept.find(run, 1) for run in (1, 2)]
    assert [kept.get(place).heads[0] for place in places if place is not None] == [ValueResult(1), ValueResult(2)]
    with pytest.raises(ValueError, match="does not follow"):
        kept.add(2, 2, 0, [ValueResult(0)])


@given(count=st.integers(0, 60), room=st.integers(100, 3000))
def test_what_is_dumped_is_taken_up_again(count: int, room: int) -> None:
    kept = KeptResults(HEADS, room)
    for number in range(count):
        kept.add(1, number, number, results(number))
        place = kept.find(1, number)
        if number % 7 == 0 and place is not None:
            kept.mark(place)
    again = KeptResults(HEADS, room)
    again.load(kept.dump())
    assert again.dump() == kept.dump()
    for number in range(count):
        place, other = kept.find(1, number), again.find(1, number)
        assert (place is None) == (other is None)
        if place is not None and other is not None:
            assert again.get(other) == kept.get(place)
            assert again.labelled(other) == kept.labelled(place) == (number % 7 == 0)


def test_what_is_of_other_outputs_is_not_taken_up() -> None:
    kept = KeptResults([WEAR])
    kept.add(1, 0, 0, [ValueResult(1)])
    with pytest.raises(ValueError, match="not of these outputs"):
        KeptResults([FAULT]).load(kept.dump())


def test_payloads_become_results() -> None:
    bins = (score_bin(0.7), score_bin(0.2), score_bin(0.1), 0, 0)
    assert read_result(FAULT, classified(0.1, 0.7, 0.2)) == ClassResult((1, 2, 0, NONE, NONE), bins)
    assert read_result(FAULT, {"classes": []}) == ClassResult((NONE,) * 5, (0,) * 5)
    assert read_result(OBJECTS, detected((4, 0.9), (1, 0.6))) == ClassResult((4,), (score_bin(0.9),))
    assert read_result(OBJECTS, detected()) == ClassResult((NONE,), (0,))
    assert read_result(WEAR, measured(0.5)) == ValueResult(0.5)
    assert read_result(ODD, judged(0.75)) == ValueResult(0.75, True)


@pytest.mark.parametrize(
    ("head", "said"),
    [
        (FAULT, {}),
        (FAULT, {"classes": [1]}),
        (FAULT, {"classes": 5}),
        (FAULT, {"classes": [{"index": "x", "score": 0.1}]}),
        (OBJECTS, {"boxes": None}),
        (WEAR, {"value": None}),
        (WEAR, {"value": 1e999}),
        (WEAR, {"value": 1e39}),
        (ODD, {"score": 1}),
    ],
)
def test_what_is_no_payload_of_the_output_is_refused(head: object, said: dict[str, object]) -> None:
    with pytest.raises(ValueError):
        read_result(head, said)  # type: ignore[arg-type]


@given(st.lists(st.floats(-1, 2), min_size=2, max_size=30))
def test_the_bins_of_scores_keep_their_order(scores: list[float]) -> None:
    bins = [score_bin(score) for score in sorted(scores)]
    assert bins == sorted(bins)
    assert 0 <= bins[0] <= bins[-1] < SCORE_BINS


def test_scores_near_one_are_told_apart() -> None:
    assert len({score_bin(score) for score in (0.5, 0.9, 0.99, 0.999, 0.9999)}) == 5
