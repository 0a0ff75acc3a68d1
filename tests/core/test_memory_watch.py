"""What is said of the process's memory, over simulated days."""

from __future__ import annotations

import pytest

from edge_agent.core.memory_watch import MemoryWatch

SECOND = 10**9
LOOK_S = 5


def run(sizes, until_s, *, limit=None, available=lambda _: 4000.0, board=8000.0) -> list[tuple[int, str]]:
    """(second, kind) of every event; ``sizes`` and ``available`` are functions of the time in seconds."""
    watch = MemoryWatch()
    told = []
    for at_s in range(0, until_s, LOOK_S):
        event = watch.look(at_s * SECOND, sizes(at_s), limit, available(at_s), board)
        if event is not None:
            told.append((at_s, event.kind))
    return told


def test_a_process_of_steady_size_is_never_mentioned() -> None:
    assert run(lambda at_s: 190.0 + at_s % 50, 86_400) == []


@pytest.mark.parametrize(
    ("limit", "board", "size", "told"),
    [
        (512.0, 8000.0, 409.0, []),
        (512.0, 8000.0, 410.0, [(0, "memory_high")]),
        (None, 1000.0, 801.0, [(0, "memory_high")]),
        (10_000.0, 1000.0, 801.0, [(0, "memory_high")]),  # a limit beyond what the board has is none
        (None, None, 10_000.0, []),  # nothing is known of any bound
        (512.0, None, 500.0, [(0, "memory_high")]),
    ],
)
def test_above_four_fifths_of_what_the_kernel_allows_it_is_reported_once(limit, board, size, told) -> None:
    assert run(lambda _: size, 3600, limit=limit, board=board) == told


def test_it_is_well_again_below_seven_tenths_and_not_between() -> None:
    sizes = {0: 450.0, 60: 365.0, 120: 420.0, 180: 350.0, 240: 420.0}
    told = run(lambda at_s: sizes[at_s // 60 * 60], 300, limit=512.0)
    assert told == [(0, "memory_high"), (180, "memory_normal"), (240, "memory_high")]


def test_a_board_that_runs_out_of_memory_by_anybody_s_fault_is_reported_until_a_tenth_is_free_again() -> None:
    free = {0: 401.0, 60: 399.0, 120: 500.0, 180: 801.0}
    told = run(lambda _: 100.0, 240, available=lambda at_s: free[at_s // 60 * 60])
    assert told == [(60, "memory_high"), (180, "memory_normal")]


def test_a_board_out_of_memory_is_reported_though_the_process_s_own_size_is_not_known() -> None:
    assert run(lambda _: None, 10, available=lambda _: 100.0) == [(0, "memory_high")]


def test_growth_is_measured_from_the_second_minute_and_told_at_each_doubling() -> None:
    """300 MiB while models load, 200 in the second minute, then a leak of 1 MiB a minute."""
    sizes = lambda at_s: 300.0 if at_s < 60 else 200.0 + max(0, at_s - 120) / 60  # noqa: E731
    told = run(sizes, 86_400, board=100_000.0, available=lambda _: 90_000.0)
    at = [sizes(at_s) for at_s, _ in told]
    assert {kind for _, kind in told} == {"memory_growing"}
    assert at == pytest.approx([400, 800, 1600], rel=0.01)


def test_a_small_process_may_double_as_long_as_it_grows_by_less_than_a_hundred_mebibytes() -> None:
    assert run(lambda at_s: 40.0 if at_s < 200 else 139.0, 3600) == []
    assert run(lambda at_s: 40.0 if at_s < 200 else 141.0, 3600) == [(200, "memory_growing")]


def test_one_outlier_in_the_second_minute_does_not_spoil_the_baseline() -> None:
    assert run(lambda at_s: 900.0 if at_s == 90 else 200.0 if at_s < 200 else 410.0, 3600) == [(200, "memory_growing")]


def test_a_machine_that_slept_through_the_second_minute_measures_from_its_first_look_after_it() -> None:
    watch = MemoryWatch()
    assert watch.look(0, 100.0, None, None, None) is None
    assert watch.look(500 * SECOND, 200.0, None, None, None) is None
    assert watch.look(505 * SECOND, 390.0, None, None, None) is None
    event = watch.look(510 * SECOND, 401.0, None, None, None)
    assert event is not None and event.kind == "memory_growing"
    assert "grown from 200 MiB" in event.detail


def test_high_goes_before_growing_and_neither_is_forgotten() -> None:
    told = run(lambda at_s: 200.0 if at_s < 200 else 450.0, 3600, limit=512.0)
    assert told == [(200, "memory_high"), (205, "memory_growing")]
