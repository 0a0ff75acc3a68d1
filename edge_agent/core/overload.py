"""When a board that does not manage its pipeline's configured rate lowers that rate, and when it rises again: a rule
over counts and their times. No clock, no device.

What a frame needs is measured as it is (other programs, a CPU quota and the other pipelines are in it), so the rate
that the board manages is known at once and no halving has to feel its way.
"""

from __future__ import annotations

from typing import Final

from msgspec import Struct

from edge_agent import limits

FULL: Final = 1.0


class Load(Struct, frozen=True):
    """Of one pipeline since its start. ``rate_hz``: as configured; ``frames``: all that the camera had, also those that
    nobody took; ``done``: those that were not given up for a newer one; ``runs``: those that went through the model,
    and ``busy_ns`` what these took of the pipeline's thread."""

    rate_hz: float
    frames: int
    done: int
    runs: int
    busy_ns: int


class Change(Struct, frozen=True):
    """The rate is the configured one divided by ``factor``. ``run_ms``: what a frame takes; ``wished_hz``: the
    configured rate as it was asked for."""

    factor: float
    slower: bool
    run_ms: float
    wished_hz: float


class Overload:
    """Of one pipeline. Slower as soon as a window shows that the rate can't be kept: the model takes longer than the
    frames are apart, or frames are lost before it. Faster again once there has been room for a while; a rise that has
    to be taken back makes the next one wait twice as long."""

    def __init__(self) -> None:
        self.factor = FULL
        self._since: tuple[int, Load] | None = None  # where the window began
        self._room_since_ns: int | None = None
        self._patience_s = limits.OVERLOAD_FASTER_S
        self._rose_last = False
        self._losing = False  # the window before lost frames too

    def look(self, now_ns: int, load: Load | None, factor_most: float | None = None) -> Change | None:
        """The change that this look brings, if any. ``load`` None: nothing can be said now (paused, a model on trial,
        heat lowers the rate); the factor stays. ``factor_most``: where the floor of the rate holds; None: not known."""
        if load is None or self._since is None or load.rate_hz != self._since[1].rate_hz:
            self._since = None if load is None else (now_ns, load)
            self._room_since_ns, self._losing = None, False
            return None
        began_ns, before = self._since
        seconds, runs = (now_ns - began_ns) / 1e9, load.runs - before.runs
        if seconds < limits.OVERLOAD_WINDOW_S or runs < limits.OVERLOAD_RUNS_LEAST:
            return None
        self._since = (now_ns, load)
        run_s = (load.busy_ns - before.busy_ns) / runs / 1e9
        wished_hz = min(load.rate_hz, (load.frames - before.frames) / seconds)
        done_hz = (load.done - before.done) / seconds
        factor = self._next(now_ns, run_s * wished_hz, wished_hz / done_hz, factor_most)
        if factor == self.factor:
            return None
        slower, self.factor = factor > self.factor, factor
        self._room_since_ns = None
        return Change(factor, slower, run_s * 1e3, wished_hz)

    def _next(self, now_ns: int, demand: float, reached: float, factor_most: float | None) -> float:
        """``demand``: the part of the thread's time that the whole rate would take; ``reached``: the factor that the
        frames really were divided by."""
        # frames lost in one window alone are a camera that came back with a burst, not a board that can't keep up
        before, self._losing = self._losing, reached > self.factor / limits.OVERLOAD_KEPT
        lost = before and self._losing
        if demand > self.factor or lost:
            fitting = max(FULL, demand, reached if lost else 0.0) / limits.OVERLOAD_TARGET
            return self._slower(fitting if factor_most is None else min(fitting, max(FULL, factor_most)))
        fitting = max(FULL, demand / limits.OVERLOAD_TARGET)
        if self.factor == FULL or fitting > self.factor * limits.OVERLOAD_GAIN_LEAST:
            self._room_since_ns = None
            return self.factor
        if self._room_since_ns is None:
            self._room_since_ns = now_ns
        if now_ns - self._room_since_ns < self._patience_s * 1e9:
            return self.factor
        if self._rose_last:  # the rise before this one stood
            self._patience_s = limits.OVERLOAD_FASTER_S
        self._rose_last = True
        return fitting

    def _slower(self, wanted: float) -> float:
        self._room_since_ns = None
        if wanted <= self.factor:
            return self.factor
        if self._rose_last:
            self._patience_s = min(2 * self._patience_s, limits.OVERLOAD_FASTER_MOST_S)
        self._rose_last = False
        return wanted
