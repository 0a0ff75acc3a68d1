"""Hours of the day, across midnight, and of two windows at once."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_agent.core.rollout_window import Window, opens_ns, parse_rfc3339

MINUTE_NS = 60 * 10**9
DAY = 24 * 60
MIDNIGHT = 20_833 * DAY  # minutes since 1970: 2027-01-15 00:00 UTC
minutes = st.integers(0, DAY - 1)


def clock(text: str) -> int:
    hours, rest = text.split(":")
    return (MIDNIGHT + int(hours) * 60 + int(rest)) * MINUTE_NS


@pytest.mark.parametrize(
    ("window", "time", "inside"),
    [
        ("02:00-05:00", "02:00", True),
        ("02:00-05:00", "04:59", True),
        ("02:00-05:00", "05:00", False),
        ("02:00-05:00", "01:59", False),
        ("22:30-04:00", "22:30", True),
        ("22:30-04:00", "00:00", True),
        ("22:30-04:00", "03:59", True),
        ("22:30-04:00", "04:00", False),
        ("22:30-04:00", "12:00", False),
        ("08:00-08:00", "07:59", True),
    ],
)
def test_a_window_holds_from_its_first_minute_up_to_its_last(window: str, time: str, inside: bool) -> None:
    assert Window.parse(window).contains(clock(time)) is inside


@pytest.mark.parametrize(
    ("windows", "time", "opens"),
    [
        (["02:00-05:00"], "01:00", "02:00"),
        (["02:00-05:00"], "06:00", "26:00"),
        (["22:00-04:00"], "12:00", "22:00"),
        (["22:00-04:00", "02:00-05:00"], "12:00", "26:00"),
        (["22:00-04:00", "02:00-05:00"], "03:00", "03:00"),
        (["22:00-04:00", "04:00-05:00"], "12:00", None),
        ([], "12:00", "12:00"),
    ],
)
def test_the_next_time_that_all_are_open(windows: list[str], time: str, opens: str | None) -> None:
    found = opens_ns([Window.parse(text) for text in windows], clock(time))
    assert found == (None if opens is None else clock(opens))


@given(st.lists(st.builds(Window, minutes, minutes), max_size=3), st.integers(0, 3 * DAY))
def test_the_opening_is_the_first_minute_in_which_all_are_open(windows: list[Window], after: int) -> None:
    now_ns = (MIDNIGHT + after) * MINUTE_NS
    edges = sorted(
        {0, *((edge - after) % DAY for window in windows for edge in (window.from_minute, window.to_minute))}
    )
    every = (now_ns + minute * MINUTE_NS for minute in edges)  # nothing changes between two edges
    first = next((time for time in every if all(window.contains(time) for window in windows)), None)
    assert opens_ns(windows, now_ns) == first


@pytest.mark.parametrize(
    "text", ["", "2:00-5:00", "02:00", "24:00-01:00", "02:60-03:00", "02:00-05:00 ", "02:00 to 05:00"]
)
def test_what_is_not_a_window_is_told_so(text: str) -> None:
    with pytest.raises(ValueError, match="is not a window"):
        Window.parse(text)


def test_a_window_is_written_as_it_is_read() -> None:
    assert str(Window.parse("22:30-04:00")) == "22:30-04:00 UTC"


@pytest.mark.parametrize(
    ("text", "milliseconds"),
    [
        ("1970-01-01T00:00:00Z", 0),
        ("2027-01-15T12:00:00Z", 1_800_014_400_000),
        ("2027-01-15T12:00:00.250+02:00", 1_800_007_200_250),
    ],
)
def test_a_time_is_read_with_its_zone(text: str, milliseconds: int) -> None:
    assert parse_rfc3339(text) == milliseconds * 10**6


@pytest.mark.parametrize("text", ["", "soon", "2027-01-15T12:00:00", "2027-13-15T12:00:00Z"])
def test_a_time_without_a_zone_or_sense_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is not a time"):
        parse_rfc3339(text)
