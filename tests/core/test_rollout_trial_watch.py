"""What makes a model on trial sick, and what does not."""

from __future__ import annotations

import pytest

from edge_agent.core.latency import Quantiles
from edge_agent.core.rollout_steps import Sick
from edge_agent.core.trial_watch import Budget, TrialCounts, TrialWatch, Tried
from edge_agent.rollouts import Reason

SECOND = 10**9
BUDGET = Budget(p95_ms=10.0, memory_mb=50.0, lost=0.02)


def latencies(count: int, ms: float) -> Quantiles:
    quantiles = Quantiles()
    for _ in range(count):
        quantiles.add(round(ms * 1e6))
    return quantiles


def counts(invoked: int = 10, ms: float = 3.0, **fields) -> TrialCounts:
    plain = {"offered": invoked, "invoked": invoked, "latency": latencies(invoked, ms), "frames": invoked}
    return TrialCounts(**(plain | fields))


def watch(looks: list[TrialCounts], budget: Budget = BUDGET) -> Sick | Tried:
    """The first that is sick, or the last report; a look each second."""
    watch = TrialWatch(budget, 0)
    for second, look in enumerate(looks, 1):
        found = watch.look(second * SECOND, look)
        if isinstance(found, Sick):
            break
    return found


def reason(found: Sick | Tried) -> Reason | None:
    return found.reason if isinstance(found, Sick) else None


def test_a_model_that_is_well_is_reported_with_what_was_measured() -> None:
    found = watch([counts(memory_mb=20.0)] * 30)
    assert isinstance(found, Tried) and found.samples == 300
    assert found.evidence["p95_ms"] == pytest.approx(3.0, rel=0.05)
    assert found.evidence["memory_mb"] == 20.0 and found.evidence["lost"] == 0.0


def test_one_failed_run_is_enough() -> None:
    found = watch([counts(), counts(invoke_errors=1, error="no such op")])
    assert isinstance(found, Sick) and (found.reason, found.detail) == (Reason.INVOKE, "no such op")


def test_one_output_that_is_not_finite_is_enough() -> None:
    assert reason(watch([counts(), counts(bad_outputs=1)])) is Reason.OUTPUT


def test_errors_count_also_while_the_world_is_unsteady() -> None:
    assert reason(watch([counts(bad_outputs=1, steady=False)])) is Reason.OUTPUT


def test_latency_over_the_budget_needs_enough_runs() -> None:
    assert reason(watch([counts(ms=20.0)] * 9)) is None
    found = watch([counts(ms=20.0)] * 10)
    assert isinstance(found, Sick) and found.reason is Reason.LATENCY
    assert float(found.evidence["p95_ms"]) == pytest.approx(20.0, rel=0.05)


def test_a_few_slow_runs_are_no_alarm() -> None:
    looks = [counts(), counts(1, 500.0)] * 200
    assert reason(watch([look for look in looks for _ in range(2)][:60])) is Reason.LATENCY  # 9 % of them are slow
    assert reason(watch([*[counts()] * 3, counts(1, 500.0)] * 100)) is None  # 3 %


def test_a_model_that_grows_slow_later_is_found_though_it_was_fast_for_long() -> None:
    assert reason(watch([counts()] * 3000 + [counts(ms=20.0)] * 70)) is Reason.LATENCY


def test_without_a_budget_neither_latency_nor_memory_is_judged() -> None:
    assert reason(watch([counts(ms=900.0, memory_mb=9000.0)] * 30, Budget())) is None


def test_memory_over_the_budget_must_last() -> None:
    peak = [counts(memory_mb=90.0)] * 2
    assert reason(watch([*peak, counts(memory_mb=10.0), *peak])) is None
    assert reason(watch([*peak, counts(memory_mb=90.0)])) is Reason.MEMORY


def test_frames_lost_are_held_against_the_rate_before() -> None:
    losing = [counts(20, frames=20, lost=2)] * 10
    assert reason(watch(losing)) is Reason.FRAMES_LOST
    assert reason(watch(losing, Budget(lost=0.1))) is None


def test_a_broker_or_camera_that_is_away_is_no_alarm() -> None:
    away = counts(0, offered=10, frames=30, lost=30, steady=False)
    gone = counts(0, offered=0, frames=0)
    assert reason(watch([away] * 300 + [gone] * 300 + [counts()] * 20)) is None


def test_latencies_of_a_board_that_heat_slows_do_not_count() -> None:
    assert reason(watch([counts(ms=30.0, steady=False)] * 100 + [counts()] * 100)) is None


def test_a_model_that_answers_nothing_while_frames_come_is_found() -> None:
    silent = counts(0, offered=10)
    assert reason(watch([counts()] + [silent] * 29)) is None
    assert reason(watch([counts()] + [silent] * 31)) is Reason.WATCHDOG
