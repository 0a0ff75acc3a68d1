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


# --- the slowdown that heat commands ---------------------------------------------------------------------------------


def slowed_gate(period, factor, floor=2**62):
    gate = RateGate(period)
    gate.set_slowdown(factor, floor)
    return gate


@settings(max_examples=300, deadline=None)
@given(
    st.integers(1, 10**10),
    st.integers(2, 64),
    st.lists(st.integers(0, 3 * 10**11), min_size=1, max_size=200),
    st.integers(1, 100),
)
def test_slowed_any_window_of_n_effective_periods_has_at_most_n_plus_one_frames(period, factor, gaps, scale):
    taken = accepted(slowed_gate(period, factor), accumulate(gap // scale for gap in gaps))
    for at, start in enumerate(taken):
        for periods in range(1, len(taken) - at + 1):
            assert bisect_left(taken, start + periods * factor * period) - at <= periods + 1


@settings(max_examples=200, deadline=None)
@given(st.integers(0, 10**9), st.lists(st.integers(-(10**9), 3 * 10**9), max_size=100), st.integers(0, 10**10))
def test_a_slowdown_of_one_is_no_slowdown(period, gaps, floor):
    frames = list(accumulate(gaps))
    assert accepted(slowed_gate(period, 1, floor), frames) == accepted(RateGate(period), frames)


@pytest.mark.parametrize("factor", [2, 4, 8])
@pytest.mark.parametrize("period", [0, SECOND // 10])
def test_a_slowed_pipeline_takes_every_nth_of_the_frames_that_it_would_take(period, factor):
    before, after = ([at * SECOND // 30 for at in frames] for frames in (range(30), range(30, 3030)))
    gate = RateGate(period)
    accepted(gate, before)
    gate.set_slowdown(factor, 2**62)
    assert accepted(gate, after) == accepted(RateGate(period), after)[::factor]


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(-3_300_000, 3_300_000), min_size=600, max_size=600), st.sampled_from([2, 4]))
def test_a_slowed_camera_at_full_rate_gives_its_share_despite_jitter_of_a_tenth(jitter, factor):
    frames = [at * SECOND // 30 + shift for at, shift in enumerate(jitter)]
    assert len(accepted(slowed_gate(0, factor), frames)) == pytest.approx(600 / factor, rel=0.15)


@pytest.mark.parametrize(
    ("rate", "camera", "floor", "factor", "wanted"),
    [
        (10, 30, 1, 4, 2.5),
        (10, 30, 1, 64, 1),  # the floor holds
        (10, 30, 10, 4, 10),  # a floor as high as the rate: nothing to lower
        (0.5, 30, 1, 8, 0.5),  # configured below the floor: not touched
        (10, 2, 1, 2, 1),  # what counts is what the camera really gives
        (10, 0.5, 1, 8, 0.5),  # a camera below the floor loses no frame
        (30, 30, 4, 16, 4),
    ],
)
def test_the_rate_falls_by_the_factor_but_not_below_the_floor(rate, camera, floor, factor, wanted):
    gate = slowed_gate(round(SECOND / rate), factor, round(SECOND / floor))
    frames = [round(at * SECOND / camera) for at in range(round(400 * camera))]
    assert len(accepted(gate, frames)) / 400 == pytest.approx(wanted, rel=0.03)


def test_the_gate_tells_a_frame_that_only_the_slowdown_refused():
    gate = slowed_gate(SECOND // 10, 2)
    refused = [gate.slowed for at in range(300) if not gate.accept(at * SECOND // 30)]
    assert (refused.count(False), refused.count(True)) == (200, 50)


def test_the_full_rate_is_back_with_the_first_frame_after_the_slowdown():
    gate = slowed_gate(SECOND // 10, 8)
    accepted(gate, range(0, 10 * SECOND, SECOND // 30))
    gate.set_slowdown(1, SECOND)
    assert len(accepted(gate, range(10 * SECOND, 20 * SECOND, SECOND // 30))) in (99, 100, 101)


def test_a_camera_that_comes_back_at_another_rate_is_slowed_by_its_new_one():
    gate = slowed_gate(0, 4)
    accepted(gate, range(0, 10 * SECOND, SECOND // 60))
    assert len(accepted(gate, range(11 * SECOND, 111 * SECOND, SECOND // 5))) == pytest.approx(125, rel=0.15)


def test_the_gate_knows_from_which_factor_on_the_floor_holds():
    assert RateGate(0).slowdown_most(SECOND) is None
    assert RateGate(SECOND // 10).slowdown_most(SECOND) == 10
    assert RateGate(2 * SECOND).slowdown_most(SECOND) == 1
    assert RateGate(SECOND // 10).slowdown_most(0) == 1
    gate = RateGate(0)
    accepted(gate, range(0, SECOND, SECOND // 30))
    assert gate.slowdown_most(SECOND) == pytest.approx(30, abs=1)


@settings(max_examples=200, deadline=None)
@given(st.integers(1, 10**9), st.floats(0, 1), st.integers(2, 64), st.lists(st.integers(0, 3 * 10**9), max_size=100))
def test_a_rate_at_or_below_the_floor_is_not_touched(period, share, factor, gaps):
    frames = list(accumulate(gaps))
    floor = min(period, round(period * share))
    assert accepted(slowed_gate(period, factor, floor), frames) == accepted(RateGate(period), frames)


def test_a_change_of_the_slowdown_is_no_reason_to_take_two_frames_in_a_row():
    gate = slowed_gate(0, 8)
    accepted(gate, range(0, 210, 10))
    assert gate.accept(290)  # 50 late
    gate.set_slowdown(2, 2**62)
    assert accepted(gate, range(300, 360, 10)) == [310, 330, 350]
