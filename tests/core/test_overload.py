"""The rule by which a model that is too slow lowers its pipeline's rate, over simulated minutes."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_agent.core.overload import Change, Load, Overload

SECOND = 10**9
LOOK_S = 5


class Board:
    """Frames come at ``wished_hz``; each takes ``run_s(rate)`` seconds, at most as many as there is time for."""

    def __init__(self, wished_hz: float, run_s: Callable[[float], float], camera_s: float = 0.0) -> None:
        """``camera_s``: what another thread takes for each frame before the model."""
        self.rule = Overload()
        self.wished_hz = wished_hz
        self.run_s = run_s
        self.camera_s = camera_s
        self.now_s = 0
        self.frames = self.runs = self.busy_s = 0.0

    @property
    def rate(self) -> float:
        return self.wished_hz / self.rule.factor

    @property
    def load(self) -> Load:
        return Load(self.wished_hz, int(self.frames), int(self.runs), int(self.runs), int(self.busy_s * 1e9))

    def go(self, seconds: int, most: float | None = None) -> list[tuple[int, Change]]:
        changes = []
        for _ in range(0, seconds, LOOK_S):
            run_s = self.run_s(self.rate)
            runs = min(self.rate, 1 / max(run_s, self.camera_s)) * LOOK_S
            self.frames += self.wished_hz * LOOK_S
            self.runs += runs
            self.busy_s += runs * run_s
            self.now_s += LOOK_S
            change = self.rule.look(self.now_s * SECOND, self.load, most)
            if change is not None:
                changes.append((self.now_s, change))
        return changes


def test_a_model_that_keeps_up_is_left_alone_for_hours() -> None:
    assert Board(10, lambda _: 0.095).go(4 * 3600) == []


def test_a_model_that_is_too_slow_gets_the_rate_that_it_manages_at_once() -> None:
    board = Board(10, lambda _: 0.15)
    ((at_s, change),) = board.go(600)
    assert at_s == 15  # the first whole window after the first look
    assert change.slower
    assert board.rate == pytest.approx(6.0, rel=0.02)  # 0.9 of what 150 ms allow
    assert change.run_ms == pytest.approx(150, rel=0.02)
    assert change.wished_hz == pytest.approx(10, rel=0.02)


def test_the_rate_comes_back_a_minute_after_there_is_room() -> None:
    board = Board(10, lambda _: 0.15)
    board.go(60)
    board.run_s = lambda _: 0.05
    ((at_s, change),) = board.go(300)
    assert 120 <= at_s <= 60 + 60 + 2 * 10 + LOOK_S
    assert change == Change(1.0, False, pytest.approx(50, rel=0.02), pytest.approx(10, rel=0.02))


def test_a_rise_worth_less_than_a_fifth_is_not_made() -> None:
    board = Board(10, lambda _: 0.15)
    board.go(60)
    board.run_s = lambda _: 0.13
    assert board.go(600) == []


def test_the_floor_bounds_the_slowdown() -> None:
    board = Board(10, lambda _: 2.0)
    ((_, change),) = board.go(300, most=10)
    assert change.factor == 10


def test_a_board_that_has_no_room_at_the_higher_rate_is_tried_less_and_less_often() -> None:
    """A CPU quota: frames are slow at the full rate, fast below it."""
    board = Board(10, lambda rate: 0.2 if rate > 5 else 0.05)
    rises = [at_s for at_s, change in board.go(3600) if not change.slower]
    gaps = [later - sooner for sooner, later in pairwise(rises)]
    assert all(later > 1.5 * sooner for sooner, later in pairwise(gaps[:4]))
    assert len(rises) <= 8


def test_after_a_rise_that_stood_the_next_one_waits_no_longer_than_the_first() -> None:
    board = Board(10, lambda rate: 0.2 if rate > 5 else 0.05)
    board.go(1800)
    board.run_s = lambda _: 0.15
    board.go(60)
    board.run_s = lambda _: 0.08
    board.go(1000)  # patient still, but the rise stands
    board.run_s = lambda _: 0.06
    board.go(120)
    assert board.rule.factor == 1.0


def test_nothing_is_judged_while_the_pipeline_says_nothing() -> None:
    board = Board(10, lambda _: 0.15)
    board.go(60)
    factor = board.rule.factor
    board.run_s = lambda _: 0.01
    for at_s in range(60, 3600, LOOK_S):
        assert board.rule.look(at_s * SECOND, None) is None
    assert board.rule.factor == factor


def test_a_rate_that_is_set_anew_is_judged_from_then_on() -> None:
    rule = Overload()
    counts = [(at_s, at_s if at_s <= 20 else 20 + 10 * (at_s - 20)) for at_s in range(0, 200, LOOK_S)]
    for at_s, done in counts:
        load = Load(1.0 if at_s <= 20 else 10.0, 10 * at_s, done, done, done * 10_000_000)
        assert rule.look(at_s * SECOND, load) is None


def test_a_camera_that_delivers_nothing_changes_nothing() -> None:
    board = Board(10, lambda _: 0.15)
    board.go(60)
    assert all(board.rule.look(at_s * SECOND, board.load) is None for at_s in range(60, 3600, LOOK_S))


def test_a_few_slow_runs_wait_for_more() -> None:
    rule = Overload()
    loads = [(at_s, Load(1.0, at_s, at_s // 4, at_s // 4, at_s // 4 * 4 * SECOND)) for at_s in range(0, 20, LOOK_S)]
    assert [rule.look(at_s * SECOND, load) for at_s, load in loads] == [None] * 4


def test_a_board_that_loses_its_frames_before_the_model_gets_the_rate_that_it_manages() -> None:
    """Its camera's thread decodes for longer than the frames are apart; the model has time enough."""
    board = Board(10, lambda _: 0.02, camera_s=0.25)
    ((_, change),) = board.go(50)
    assert change.slower
    assert board.rate == pytest.approx(3.6, rel=0.05)  # 0.9 of the four that come through


def test_a_camera_slower_than_the_configured_rate_is_no_overload() -> None:
    board = Board(5, lambda _: 0.15)
    rule, loads = board.rule, []
    board.go(600)
    for at_s in range(600, 1200, LOOK_S):
        load = Load(30.0, at_s * 5, at_s * 5, at_s * 5, at_s * 750_000_000)
        loads.append(rule.look(at_s * SECOND, load))
    assert loads == [None] * len(loads)


@given(st.floats(2, 60), st.floats(0.001, 0.5), st.floats(1, 100))
def test_a_steady_load_settles_below_one_and_within_the_floor(wished: float, run_s: float, most: float) -> None:
    board = Board(wished, lambda _: run_s)
    changes = board.go(1200, most)
    assert len(changes) <= 2
    demand = run_s * wished
    assert 1.0 <= board.rule.factor <= max(1.0, most)
    if demand < 0.95:
        assert board.rule.factor == 1.0
    elif demand > 1.05:  # counts of whole frames in a window of 10 s
        assert board.rule.factor == pytest.approx(min(max(1.0, most), demand / 0.9), rel=0.12)


def test_a_burst_of_a_camera_that_comes_back_changes_nothing_and_lasting_losses_do() -> None:
    rule = Overload()
    frames = done = 0
    changes = []
    for look, (brought, kept) in enumerate([(20, 20), (20, 20), (40, 12), (20, 20), (20, 20), (40, 12), (40, 12)]):
        frames, done = frames + brought, done + kept
        change = rule.look(look * 10 * SECOND, Load(10.0, frames, done, done, done * 38 * 10**6))
        changes.append(change is not None)
    assert changes == [False] * 6 + [True]


def test_losses_before_and_after_a_pause_are_not_two_in_a_row() -> None:
    rule = Overload()
    frames = done = 0
    for look, brought in enumerate([20, 40, None, 20, 40]):
        if brought is None:
            assert rule.look(look * 10 * SECOND, None) is None
            continue
        frames, done = frames + brought, done + min(brought, 12)
        assert rule.look(look * 10 * SECOND, Load(10.0, frames, done, done, done * 38 * 10**6)) is None
