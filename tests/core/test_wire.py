"""The seal in front of a body, and the topics."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_agent.core.wire import Topics, object_body, rfc3339, seal
from edge_agent.outgoing import Schema


def test_the_seal_makes_one_json_object() -> None:
    payload = json.loads(seal(Schema.PREDICTION, b'{"id":"x"}', 1_500_000_000_123_999_999, True, buffered=False))
    assert payload == {
        "schema": "edge-agent/prediction/1",
        "time": "2017-07-14T02:40:00.123Z",
        "clock_synced": True,
        "buffered": False,
        "id": "x",
    }


def test_only_predictions_say_whether_they_were_buffered() -> None:
    assert "buffered" not in json.loads(seal(Schema.STATS, b"{}", 0, False))


@given(st.integers(0, 4 * 10**18))
def test_times_have_milliseconds_rounded_down(wall_ns: int) -> None:
    from datetime import datetime

    parsed = datetime.fromisoformat(rfc3339(wall_ns).replace("Z", "+00:00"))
    assert round(parsed.timestamp() * 1000) == wall_ns // 10**6


def test_a_number_that_json_does_not_know_becomes_null() -> None:
    assert json.loads(object_body({"value": float("nan")})) == {"value": None}


@pytest.mark.parametrize(
    ("topic", "levels"),
    [
        ("edge-agent/d/set/p/rate", ("set", "p", "rate")),
        ("edge-agent/d/request/ping", ("request", "ping")),
        ("edge-agent/other/request/ping", ()),
        ("elsewhere", ()),
    ],
)
def test_the_levels_of_a_topic_are_those_below_the_device(topic: str, levels: tuple[str, ...]) -> None:
    assert Topics("edge-agent", "d").levels(topic) == levels
