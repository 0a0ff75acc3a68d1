"""Delays between attempts."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from edge_agent.core.backoff import Backoff


@given(st.lists(st.floats(0, 1), min_size=1, max_size=2000), st.floats(0.01, 10), st.floats(10, 1000))
def test_each_delay_lies_between_half_and_the_whole_of_a_doubling_that_ends_at_the_last(draws, first_s, last_s):
    backoff = Backoff(first_s, last_s)
    for attempt, draw in enumerate(draws):
        ceiling_s = min(first_s * 2 ** min(attempt, 64), last_s)
        assert 0.5 * ceiling_s <= backoff.next(draw) <= ceiling_s


def test_the_whole_range_between_half_and_the_ceiling_is_used():
    assert [Backoff(2.0, 30.0).next(draw) for draw in (0.0, 0.5, 1.0)] == [1.0, 1.5, 2.0]


def test_after_a_success_the_next_failure_waits_for_the_shortest_time():
    backoff = Backoff(0.5, 30.0)
    assert [backoff.next(1.0) for _ in range(8)] == [0.5, 1, 2, 4, 8, 16, 30, 30]
    backoff.reset()
    assert backoff.next(1.0) == 0.5


def test_a_first_delay_above_the_last_is_held_at_the_last():
    assert Backoff(60.0, 30.0).next(1.0) == 30.0
