"""The look after the board, in its own thread: what it reads becomes slowdowns, events and statistics."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import pytest

from edge_agent import limits
from edge_agent.config.profile import Thermal
from edge_agent.core.overload import Load
from edge_agent.io.board import BoardState, Throttling, read_state
from edge_agent.stages.upkeep import Upkeep
from tests.simulators.supervised import ManualClock, Site

THERMAL = Thermal(slow_above_c=80.0, normal_below_c=75.0)
SECOND = 10**9
JOIN_S = 20.0


def state(
    celsius: float | None = 50.0, flags: Sequence[str] = (), memory_mb: float = 100.0, limit_mb: float | None = None
) -> BoardState:
    return BoardState(celsius, Throttling(tuple(flags), ()) if flags else None, memory_mb, limit_mb, 900.0, 1000.0)


class Pace:
    """A pipeline that is asked for ten frames a second and takes ``run_s`` for each."""

    def __init__(self, clock: ManualClock, run_s: float | None, most: int | None = None) -> None:
        self.slowdowns: list[float] = []
        self.run_s = run_s
        self._clock = clock
        self._most = most
        self._seconds = self._runs = self._busy_s = 0.0

    def load(self) -> Load | None:
        if self.run_s is None:
            return None
        seconds = self._clock.now_ns / SECOND
        runs = (seconds - self._seconds) * min(10.0 / (self.slowdowns or [1.0])[-1], 1 / self.run_s)
        self._seconds, self._runs, self._busy_s = seconds, self._runs + runs, self._busy_s + runs * self.run_s
        return Load(10.0, int(seconds * 10), int(self._runs), int(self._runs), round(self._busy_s * SECOND))

    def slow(self, factor: float) -> None:
        self.slowdowns.append(round(factor, 2))

    def slowdown_most(self) -> int | None:
        return self._most


class Board:
    """Plays ``states``, one for each look, five seconds apart on the given clock; then stops the process. ``run_s``: of
    the pipelines; None says nothing of its load."""

    def __init__(
        self, states: Sequence[BoardState | Exception], most: int | None = None, **run_s: float | None
    ) -> None:
        self.clock = ManualClock()
        self.site = Site(self.clock)
        self.pipelines = {name: Pace(self.clock, run, most) for name, run in (run_s or {"inspect": None}).items()}
        self._states = iter(states)
        self.upkeep = Upkeep(THERMAL, self._read, self.pipelines, self.site.services)

    @property
    def slowdowns(self) -> list[float]:
        return self.pipelines["inspect"].slowdowns

    def _read(self) -> BoardState:
        self.clock.now_ns += 5 * SECOND
        item = next(self._states, None)
        if item is None:
            self.site.stopping.set()
            return state()
        if isinstance(item, Exception):
            raise item
        return item

    def run(self, monkeypatch: pytest.MonkeyPatch) -> Board:
        monkeypatch.setattr(self.upkeep, "pause", lambda _seconds: None)
        self.upkeep.start()
        self.upkeep.join(JOIN_S)
        assert not self.upkeep.is_alive()
        assert not self.site.deaths
        return self

    def told(self) -> list[str]:
        return [event.kind for event in self.site.events]


def test_heat_lowers_the_rate_step_by_step_tells_it_and_gives_it_back(monkeypatch: pytest.MonkeyPatch) -> None:
    board = Board([state(85.0)] * 8 + [state(70.0)] * 30).run(monkeypatch)
    assert board.slowdowns == [2, 4, 2, 1]
    assert board.told() == ["throttled", "throttled", "throttling_over"]
    first, second, over = board.site.events
    assert (first.severity, over.severity) == ("warning", "info")
    assert first.detail == "85 degC; the rates of live cameras are divided by 2, down to rate_floor"
    assert "divided by 4" in second.detail


def test_the_firmware_s_flags_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    board = Board([state(None, ["throttled", "frequency_capped", "under_voltage"])]).run(monkeypatch)
    assert board.told() == ["under_voltage", "throttled"]
    assert board.site.events[1].detail.startswith("unknown temperature, firmware: frequency_capped, throttled; ")


def test_under_voltage_alone_is_told_once_and_slows_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    board = Board([state(flags=["under_voltage"]), state()] * 60).run(monkeypatch)
    assert board.told() == ["under_voltage"]
    assert board.slowdowns == []


def test_memory_is_watched(monkeypatch: pytest.MonkeyPatch) -> None:
    board = Board([state(memory_mb=450.0, limit_mb=512.0), state(memory_mb=300.0, limit_mb=512.0)]).run(monkeypatch)
    assert board.told() == ["memory_high", "memory_normal"]
    assert board.site.events[0].detail.startswith("450 MiB of 512 used")


def test_no_level_is_reached_beyond_what_the_floors_allow(monkeypatch: pytest.MonkeyPatch) -> None:
    board = Board([state(85.0)] * 200, most=4).run(monkeypatch)
    assert board.slowdowns == [2, 4]


def test_a_model_that_is_too_slow_lowers_its_own_rate_alone_and_tells_it(monkeypatch: pytest.MonkeyPatch) -> None:
    board = Board([state()] * 12, inspect=0.2, quick=0.05).run(monkeypatch)
    assert board.slowdowns == [pytest.approx(10 / 4.5, rel=0.02)]
    assert board.pipelines["quick"].slowdowns == []
    (event,) = board.site.events
    assert (event.kind, event.severity, event.subject) == ("overloaded", "warning", "inspect")
    assert event.detail == "a frame takes 200 ms: 10.0/s can't be kept; the rate is 4.5/s now, down to rate_floor"
    assert board.upkeep.report()["overload"] == {"inspect": pytest.approx(2.22, rel=0.02), "quick": 1.0}


def test_heat_and_overload_together_divide_the_rate_by_both_and_each_gives_back_its_own(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    board = Board([state()] * 6 + [state(85.0)] * 2 + [state(60.0)] * 20, inspect=0.2).run(monkeypatch)
    assert board.slowdowns == [pytest.approx(x, rel=0.02) for x in (2.22, 4.44, 2.22)]
    assert board.told() == ["overloaded", "throttled", "throttling_over"]


def test_the_end_of_an_overload_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    board = Board([state()] * 40, inspect=0.2)
    read = board.upkeep._read

    def quicker_after_a_minute() -> BoardState:
        if board.clock.now_ns == 60 * SECOND:
            board.pipelines["inspect"].run_s = 0.025
        return read()

    monkeypatch.setattr(board.upkeep, "_read", quicker_after_a_minute)
    board.run(monkeypatch)
    assert board.told() == ["overloaded", "overload_over"]
    assert board.slowdowns[-1] == 1.0
    assert board.site.events[1].detail == "a frame takes 25 ms; the configured rate again"


def test_a_look_that_fails_is_a_failure_of_this_thread_alone_and_the_level_stays(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    board = Board([state(85.0), ValueError("no number"), state(77.0)]).run(monkeypatch)
    assert board.slowdowns == [2]
    assert board.told() == ["throttled", "worker_failed"]
    assert board.upkeep.crashes == 1


def test_the_statistics_say_what_was_last_read_without_a_look_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    board = Board([state(85.0, ["throttled"], 123.45, 512.0), ValueError("the last look fails")])
    before = board.upkeep.report()
    assert before == {
        "temperature_c": None,
        "throttled": None,
        "heat": {"level": 0, "slowdown": 1},
        "overload": {"inspect": 1.0},
        "memory_mb": None,
        "memory_limit_mb": None,
    }
    monkeypatch.setattr(board.upkeep, "recover", board.site.stopping.set)
    board.run(monkeypatch)
    after = msgspec.json.decode(msgspec.json.encode(board.upkeep.report()))
    assert after == {
        "temperature_c": 85.0,
        "throttled": {"now": ["throttled"], "since_start": []},
        "heat": {"level": 1, "slowdown": 2},
        "overload": {"inspect": 1.0},
        "memory_mb": 123.5,
        "memory_limit_mb": 512.0,
    }


def test_this_machine_is_looked_at_again_and_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "UPKEEP_PERIOD_S", 0.001)
    site = Site()
    looks: list[BoardState] = []

    def read() -> BoardState:
        looks.append(read_state())
        if len(looks) == 5:
            site.stopping.set()
        return looks[-1]

    upkeep = Upkeep(THERMAL, read, {}, site.services)
    upkeep.start()
    upkeep.join(JOIN_S)
    assert not upkeep.is_alive()
    assert not site.deaths
    assert upkeep.report()["memory_mb"] == round(looks[-1].memory_mb or 0.0, 1)
