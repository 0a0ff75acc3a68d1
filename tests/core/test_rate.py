"""The rate gate over regular, jittering and wild cameras."""

from __future__ import annotations

from bisect import bisect_left
from itertools import accumulate

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_agent.core.rate import RateGate

SECOND = 10**9


def accepted(gate, frames):
    return [frame for frame in frames if gate.accept(frame)]


@settings(max_examples=300, deadline=None)
@given(
    st.integers(1, 10**10),
    st.lists(st.integers(0, 3 * 10**10), min_size=1, max_size=200),
    st.integers(1, 20),
)
def test_any_window_of_n_periods_has_at_most_n_plus_one_frames(period, gaps, scale):
    taken = accepted(RateGate(period), accumulate(gap // scale for gap in gaps))
    for at, start in enumerate(taken):
        for periods in range(1, len(taken) - at + 1):
            assert bisect_left(taken, start + periods * period) - at <= periods + 1


@settings(max_examples=100, deadline=None)
@given(st.lists(st.integers(-3_300_000, 3_300_000), min_size=120, max_size=120), st.integers(0, 2**62))
def test_thirty_a_second_at_ten_a_second_is_every_third_frame_despite_jitter_of_a_tenth(jitter, start):
    frames = [start + at * SECOND // 30 + shift for at, shift in enumerate(jitter)]
    assert accepted(RateGate(SECOND // 10), frames) == frames[::3]


@settings(max_examples=100, deadline=None)
@given(st.floats(0.1, 240), st.floats(1, 8))
def test_a_steady_camera_that_is_fast_enough_gives_the_configured_rate_in_the_long_run(rate, times_faster):
    gap = SECOND / (rate * times_faster)
    period = round(SECOND / rate)
    frames = [round(at * gap) for at in range(int(1000 * times_faster))]
    taken = accepted(RateGate(period), frames)
    assert len(taken) == pytest.approx(frames[-1] / period, rel=0.01)


@settings(max_examples=100, deadline=None)
@given(st.integers(1, SECOND), st.lists(st.integers(0, SECOND), max_size=100))
def test_a_camera_slower_than_the_rate_loses_no_frame(period, extra):
    frames = list(accumulate((period + more for more in extra), initial=0))
    assert accepted(RateGate(period), frames) == frames


def test_no_period_accepts_every_frame():
    frames = [0, 0, 1, 2, 2, 10**9]
    assert accepted(RateGate(0), frames) == frames


def test_after_a_long_pause_nothing_is_made_up_for():
    gate = RateGate(SECOND // 10)
    accepted(gate, range(0, SECOND, SECOND // 50))
    after = range(60 * SECOND + 7, 61 * SECOND, SECOND // 50)
    assert accepted(gate, after) == list(after)[::5]


def test_a_step_back_in_time_starts_the_grid_again():
    gate = RateGate(SECOND)
    assert accepted(gate, [100 * SECOND, 5 * SECOND, 5 * SECOND + 1, 6 * SECOND]) == [
        100 * SECOND,
        5 * SECOND,
        6 * SECOND,
    ]


def test_a_new_period_counts_from_the_last_accepted_frame():
    gate = RateGate(SECOND)
    assert gate.accept(0)
    gate.set_period(SECOND // 10)
    assert not gate.accept(SECOND // 20)
    assert gate.accept(SECOND // 10)
    gate.set_period(0)
    assert gate.accept(SECOND // 10 + 1)
