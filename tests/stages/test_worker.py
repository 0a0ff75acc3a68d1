"""Supervision of threads: who fails is started again by itself, and everybody can see how often."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

import pytest

from edge_agent import limits
from edge_agent.stages.faults import Faults
from edge_agent.stages.worker import Worker
from tests.simulators.supervised import ManualClock, Site
from tests.simulators.waiting import wait_for

JOIN_S = 20.0
SECOND = 10**9


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "BACKOFF_FIRST_S", 0.002)
    monkeypatch.setattr(limits, "BACKOFF_LAST_S", 0.01)


class Task(Worker):
    """``do`` is its work: called with the number of the attempt, from 0."""

    def __init__(self, site: Site, do: Callable[[Task, int], None]) -> None:
        super().__init__("task", site.services)
        self.done: list[str] = []
        self._do = do
        self._attempts = 0

    def work(self) -> None:
        self.done.append("work")
        attempt, self._attempts = self._attempts, self._attempts + 1
        self._do(self, attempt)

    def recover(self) -> None:
        self.done.append("recover")

    def leave(self) -> None:
        self.done.append("leave")


def fail_first(times: int) -> Callable[[Task, int], None]:
    def do(_: Task, attempt: int) -> None:
        if attempt < times:
            raise ValueError(f"attempt {attempt}")

    return do


def run(task: Task) -> None:
    task.start()
    task.join(JOIN_S)
    assert not task.is_alive()


def test_a_worker_that_fails_is_started_again_until_its_work_is_done() -> None:
    site = Site()
    task = Task(site, fail_first(3))
    run(task)
    assert task.done == ["work", "recover"] * 3 + ["work", "leave"]
    assert task.crashes == 3
    assert not site.deaths


def test_a_row_of_failures_is_one_event_that_tells_what_happened_and_what_follows() -> None:
    site = Site()
    run(Task(site, fail_first(5)))
    (event,) = site.events
    assert (event.kind, event.severity, event.subject) == ("worker_failed", "error", "task")
    assert event.detail.startswith("ValueError: attempt 0; started again in ")


def test_a_worker_that_has_run_well_for_a_while_is_back_and_its_next_failure_is_an_event_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(limits, "WORKER_STEADY_S", 0.05)
    site = Site()

    def do(task: Task, attempt: int) -> None:
        while attempt and len(site.said("worker_back")) < attempt:
            task.beat()
            site.stopping.wait(0.005)
        if attempt < 2:
            raise ValueError(attempt)

    run(Task(site, do))
    assert [event.kind for event in site.events] == ["worker_failed", "worker_back"] * 2
    assert not site.deaths


def test_other_workers_go_on_while_one_fails_and_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "BACKOFF_FIRST_S", 600.0)
    monkeypatch.setattr(limits, "BACKOFF_LAST_S", 600.0)
    site = Site()
    failing, other = Task(site, fail_first(1)), Task(site, fail_first(0))
    failing.start()
    wait_for(lambda: failing.crashes == 1, "the first has failed")
    run(other)
    assert failing.is_alive()
    assert not failing.silent()
    site.stopping.set()
    failing.join(JOIN_S)
    assert not failing.is_alive()
    assert failing.done == ["work", "recover", "leave"]  # told to stop while it waited: not started again
    assert not site.deaths


def test_a_worker_that_waits_for_its_next_start_beats_each_second(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = ManualClock()
    site = Site(clock)
    task = Task(site, fail_first(0))
    task.silence_most_s = 1.5
    waits: list[float] = []

    def wait(timeout: float) -> bool:
        clock.now_ns += round(timeout * SECOND)
        waits.append(timeout)
        return False

    monkeypatch.setattr(site.stopping, "wait", wait)
    monkeypatch.setattr(task, "is_alive", lambda: True)
    task.pause(3.5)
    assert waits == [1.0, 1.0, 1.0, 0.5]
    assert not task.silent()
    clock.now_ns += 2 * SECOND
    assert task.silent()


def test_the_wait_grows_with_a_row_of_failures_and_is_short_again_after_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "BACKOFF_FIRST_S", 1.0)
    monkeypatch.setattr(limits, "BACKOFF_LAST_S", 64.0)
    clock = ManualClock()
    site = Site(clock)
    waits: list[float] = []

    def do(task: Task, attempt: int) -> None:
        if attempt == 5:
            clock.now_ns += 3600 * SECOND
            task.beat()
        if attempt < 6:
            raise ValueError(attempt)

    task = Task(site, do)
    monkeypatch.setattr(task, "pause", waits.append)
    run(task)
    assert [round(wait / ceiling, 3) >= 0.5 for wait, ceiling in zip(waits, (1, 2, 4, 8, 16, 1), strict=True)] == [
        True
    ] * 6
    assert waits[-1] <= 1.0
    assert [event.kind for event in site.events] == ["worker_failed", "worker_back", "worker_failed"]


def test_a_failure_while_the_process_stops_is_reported_and_is_the_worker_s_end() -> None:
    site = Site()
    site.stopping.set()
    task = Task(site, fail_first(9))
    run(task)
    assert task.done == ["work", "leave"]
    assert [event.detail for event in site.events] == ["ValueError: attempt 0; not started again: the process ends"]
    assert not site.deaths


def test_a_worker_with_work_left_after_the_order_to_stop_is_started_again_for_it() -> None:
    site = Site()
    site.stopping.set()
    task = Task(site, fail_first(2))
    task.outlives_stopping = True
    run(task)
    assert task.done == ["work", "recover", "work", "recover", "work", "leave"]


@pytest.mark.parametrize("fatal", [SystemExit(3), KeyboardInterrupt(), MemoryError("no room")])
def test_what_leaves_an_unknown_state_ends_the_process(fatal: BaseException) -> None:
    site = Site()

    def do(_task: Task, _attempt: int) -> None:
        raise fatal

    task = Task(site, do)
    run(task)
    assert site.deaths == [("task", fatal)]
    assert task.done == ["work", "leave"]


def test_a_worker_that_must_not_be_started_again_ends_the_process() -> None:
    site = Site()
    task = Task(site, fail_first(1))
    task.restartable = False
    run(task)
    assert [str(error) for _, error in site.deaths] == ["attempt 0"]


def test_a_recovery_that_fails_ends_the_process(monkeypatch: pytest.MonkeyPatch) -> None:
    site = Site()
    task = Task(site, fail_first(1))

    def broken() -> None:
        raise OSError("beyond help")

    monkeypatch.setattr(task, "recover", broken)
    run(task)
    assert [str(error) for _, error in site.deaths] == ["beyond help"]
    assert task.done == ["work", "leave"]


def test_each_distinct_failure_is_logged_with_its_traceback_once_a_minute(caplog: pytest.LogCaptureFixture) -> None:
    clock = ManualClock()
    faults = Faults("task", clock, lambda _: None)
    with caplog.at_level(logging.ERROR, "edge_agent"):
        for second in range(130):
            clock.now_ns = second * SECOND
            faults.add(ValueError("odd" if second % 2 else "even"), "the frame was discarded")
    assert faults.count == 130
    assert len(caplog.records) == 6  # two texts in three minutes
    assert all(record.exc_info for record in caplog.records)


def test_failures_with_ever_new_texts_do_not_flood_the_log(caplog: pytest.LogCaptureFixture) -> None:
    faults = Faults("task", ManualClock(), lambda _: None)
    with caplog.at_level(logging.ERROR, "edge_agent"):
        for number in range(1000):
            faults.add(ValueError(f"frame {number}\n" + 10_000 * "x"), "the frame was discarded")
    assert len(caplog.records) == limits.WORKER_TRACEBACKS_MOST


def test_the_minute_of_well_being_begins_when_the_worker_runs_again() -> None:
    clock = ManualClock()
    events: list[object] = []
    faults = Faults("task", clock, events.append)
    faults.add(ValueError("x"), "started again in 30.0 s", resumes_in_s=30.0)
    clock.now_ns = 89 * SECOND
    assert not faults.over()
    clock.now_ns = 90 * SECOND
    assert faults.over()
    assert not faults.over()
    assert len(events) == 2


def test_failures_in_many_threads_are_all_counted_and_told_once() -> None:
    events: list[object] = []
    faults = Faults("task", ManualClock(), events.append)

    def fail() -> None:
        for _ in range(200):
            faults.add(ValueError("x"), "")

    threads = [threading.Thread(target=fail) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert faults.count == 800
    assert len(events) == 1
