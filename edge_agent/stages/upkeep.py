"""The thread that looks after the board: heat, and models slower than their rate, lower the rates by rule; memory is
reported before the kernel acts."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol

from edge_agent import limits
from edge_agent.config.profile import Thermal
from edge_agent.core.heat import SLOWING_FLAGS, UNDER_VOLTAGE, Flicker, Heat, Step
from edge_agent.core.memory_watch import MemoryWatch
from edge_agent.core.overload import FULL, Change, Load, Overload
from edge_agent.records import Event
from edge_agent.stages.worker import Services, Worker

SUBJECT = "board"


class FirmwareFlags(Protocol):
    """Words of the Raspberry Pi firmware."""

    @property
    def now(self) -> tuple[str, ...]: ...

    @property
    def since_start(self) -> tuple[str, ...]: ...


class BoardState(Protocol):
    """One look at the board; None: it does not tell. Sizes in MiB, see ``core.memory_watch``."""

    @property
    def temperature_c(self) -> float | None: ...

    @property
    def throttled(self) -> FirmwareFlags | None: ...

    @property
    def memory_mb(self) -> float | None: ...  # of this process

    @property
    def memory_limit_mb(self) -> float | None: ...  # of its control group

    @property
    def memory_available_mb(self) -> float | None: ...

    @property
    def board_memory_mb(self) -> float | None: ...


class Paced(Protocol):
    """A pipeline, as far as its rate is concerned."""

    def load(self) -> Load | None: ...

    def slow(self, factor: float) -> None:
        """Divide the rate of a live camera by that, down to its floor."""

    def slowdown_most(self) -> int | None:
        """The factor from which the floor holds; None: not known."""


class Upkeep(Worker):
    """``read`` may take seconds (a tool is asked): a thread of its own, so that nothing else waits for it."""

    def __init__(
        self,
        thermal: Thermal,
        read: Callable[[], BoardState],
        pipelines: Mapping[str, Paced],
        services: Services,
    ) -> None:
        """``pipelines`` by name: all of them from the first look on."""
        super().__init__("upkeep", services)
        self._read = read
        self._pipelines = pipelines
        self._heat = Heat(thermal.slow_above_c, thermal.normal_below_c)
        self._overloads: dict[str, Overload] = {}
        self._under_voltage = Flicker(limits.UNDER_VOLTAGE_QUIET_S)
        self._memory = MemoryWatch()
        self._last: BoardState | None = None

    def work(self) -> None:
        while not self.services.stopping.is_set():
            self.beat()
            state = self._last = self._read()
            self._look(state, self.clock.monotonic_ns())
            self.pause(limits.UPKEEP_PERIOD_S)

    @property
    def temperature_c(self) -> float | None:
        """As last read. From any thread."""
        return self._last.temperature_c if self._last else None

    @property
    def slowdown(self) -> int:
        """What live rates are divided by because of heat. From any thread."""
        return self._heat.slowdown

    def overload(self, pipeline: str) -> float:
        """What the rate of that one is divided by because its model is too slow for it. From any thread."""
        overload = self._overloads.get(pipeline)
        return FULL if overload is None else overload.factor

    def report(self) -> dict[str, object]:
        """The board's part of ``stats``, as last read: no device is touched here. From any thread."""
        state = self._last
        memory_mb, limit_mb = (state.memory_mb, state.memory_limit_mb) if state else (None, None)
        return {
            "temperature_c": self.temperature_c,
            "throttled": state.throttled if state else None,
            "heat": {"level": self._heat.level, "slowdown": self.slowdown},
            "overload": {name: round(self.overload(name), 2) for name in self._pipelines},
            "memory_mb": None if memory_mb is None else round(memory_mb, 1),
            "memory_limit_mb": None if limit_mb is None else round(limit_mb, 1),
        }

    def _look(self, state: BoardState, now_ns: int) -> None:
        flags = state.throttled.now if state.throttled else ()
        if self._under_voltage.look(now_ns, UNDER_VOLTAGE in flags):
            detail = "the supply's voltage is too low now; use the board's own power supply and a short cable"
            self.services.emit(Event("under_voltage", "warning", SUBJECT, detail))
        slowing = sorted(SLOWING_FLAGS.intersection(flags))
        step = self._heat.look(now_ns, state.temperature_c, bool(slowing), self._slowdown_most())
        if step is not None:
            self._report_step(step, state.temperature_c, slowing)
        for name, pipeline in self._pipelines.items():
            change = self._look_at(name, pipeline, now_ns)
            if step is not None or change is not None:
                pipeline.slow(self.slowdown * self.overload(name))
            if change is not None:
                self._report_change(name, change)
        event = self._memory.look(
            now_ns, state.memory_mb, state.memory_limit_mb, state.memory_available_mb, state.board_memory_mb
        )
        if event is not None:
            self.services.emit(event)

    def _report_step(self, step: Step, temperature_c: float | None, slowing: list[str]) -> None:
        """A word at each step up and at the end; steps down in between only show in ``stats``."""
        heat = "unknown temperature" if temperature_c is None else f"{temperature_c:.0f} degC"
        if step.slower:
            firmware = f", firmware: {', '.join(slowing)}" if slowing else ""
            rates = f"the rates of live cameras are divided by {step.slowdown}, down to rate_floor"
            self.services.emit(Event("throttled", "warning", SUBJECT, f"{heat}{firmware}; {rates}"))
        elif step.level == 0:
            self.services.emit(Event("throttling_over", "info", SUBJECT, f"{heat}; the configured rates again"))

    def _slowdown_most(self) -> int | None:
        """The factor beyond which every pipeline is at its floor; None: not known."""
        factors = [pipeline.slowdown_most() for pipeline in self._pipelines.values()]
        return max((factor for factor in factors if factor is not None), default=None)

    def _look_at(self, name: str, pipeline: Paced, now_ns: int) -> Change | None:
        load = pipeline.load() if self.slowdown == 1 else None  # frames that heat refuses are no sign of anything
        return self._overloads.setdefault(name, Overload()).look(now_ns, load, pipeline.slowdown_most())

    def _report_change(self, name: str, change: Change) -> None:
        """A word when the rate falls and when it is whole again; what lies in between only shows in ``stats``."""
        takes = f"a frame takes {change.run_ms:.0f} ms"
        if change.slower:
            rates = f"{change.wished_hz:.1f}/s can't be kept; the rate is {change.wished_hz / change.factor:.1f}/s now"
            self.services.emit(Event("overloaded", "warning", name, f"{takes}: {rates}, down to rate_floor"))
        elif change.factor == FULL:
            self.services.emit(Event("overload_over", "info", name, f"{takes}; the configured rate again"))
