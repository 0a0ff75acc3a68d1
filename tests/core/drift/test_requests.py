"""What may be asked of the drift monitor, and what is said to all else."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_agent.core.drift.requests import REASON_MOST, Asked, parse_rebaseline, parse_silence

KNOWN = ("inspect", "count")
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)
OBJECTS = st.fixed_dictionaries({}, optional=dict.fromkeys(("for", "reason", "pipeline"), JSON))


def test_a_reason_is_kept_and_without_a_pipeline_all_are_meant() -> None:
    assert parse_rebaseline({"reason": " new lens "}, KNOWN) == Asked(KNOWN, "new lens")
    assert parse_rebaseline({"reason": "x", "pipeline": "count"}, KNOWN) == Asked(("count",), "x")
    assert parse_silence({"for": "2h", "reason": "x"}, KNOWN) == Asked(KNOWN, "x", 7200 * 10**9)
    assert parse_silence({"for": "0s", "reason": "x"}, KNOWN).for_ns == 0


def test_a_reason_can_neither_command_a_terminal_nor_fill_a_disk() -> None:
    asked = parse_rebaseline({"reason": "\x1b[2J\nred" + "x" * 5000}, KNOWN)
    assert asked.reason.isprintable()
    assert len(asked.reason) == REASON_MOST


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (None, "JSON object"),
        (["reason"], "JSON object"),
        ({"reason": "x", "why": "y"}, "JSON object"),
        ({}, "reason"),
        ({"reason": ""}, "reason"),
        ({"reason": "x", "pipeline": "nobody"}, "known: inspect, count"),
        ({"reason": "x", "pipeline": ["inspect"]}, "known: inspect, count"),
        ({"reason": "x", "pipeline": {"inspect": 1}}, "known: inspect, count"),
        ({"reason": "x", "pipeline": "y" * 4000}, "known: inspect, count"),
    ],
)
def test_what_is_wrong_is_said_in_a_line(value: object, said: str) -> None:
    with pytest.raises(ValueError, match=said) as caught:
        parse_rebaseline(value, KNOWN)
    assert len(str(caught.value)) < 200


def test_a_length_without_a_unit_is_not_taken_for_a_missing_one() -> None:
    with pytest.raises(ValueError, match=r'^"for" is 7200: expected a time with its unit'):
        parse_silence({"for": 7200, "reason": "x"}, KNOWN)
    with pytest.raises(ValueError, match=r'^"for" is missing'):
        parse_silence({"reason": "x"}, KNOWN)


@pytest.mark.parametrize("text", [None, 7, ["2h"], "", "2", "-2h", "for ever", "31d", "1e99h", "x" * 4000])
def test_a_silence_has_a_length_that_is_allowed(text: object) -> None:
    with pytest.raises(ValueError, match=r"2h|24h|30d") as caught:
        parse_silence({"for": text, "reason": "x"}, KNOWN)
    assert len(str(caught.value)) < 200


@given(JSON | OBJECTS)
def test_whatever_comes_is_understood_or_refused(value: Any) -> None:
    for parse in (parse_rebaseline, parse_silence):
        try:
            asked = parse(value, dict.fromkeys(KNOWN))
        except ValueError:
            continue
        assert set(asked.pipelines) <= set(KNOWN)
        assert asked.reason
