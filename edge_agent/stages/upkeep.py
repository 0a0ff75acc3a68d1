"""The thread that looks after the board: heat lowers the rates by rule, memory is reported before the kernel acts."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from edge_agent import limits
from edge_agent.config.profile import Thermal
from edge_agent.core.heat import SLOWING_FLAGS, UNDER_VOLTAGE, Flicker, Heat, Step
from edge_agent.core.memory_watch import MemoryWatch
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


class Upkeep(Worker):
    """``read`` may take seconds (a tool is asked): a thread of its own, so that nothing else waits for it."""

    def __init__(
        self,
        thermal: Thermal,
        read: Callable[[], BoardState],
        slow: Callable[[int], None],
        services: Services,
        slowdown_most: Callable[[], int | None] = lambda: None,
    ) -> None:
        """``slow`` is told the factor by which live rates are divided, at each change. ``slowdown_most`` gives the
        factor beyond which every pipeline is at its floor; None: not known."""
        super().__init__("upkeep", services)
        self._read = read
        self._slow = slow
        self._slowdown_most = slowdown_most
        self._heat = Heat(thermal.slow_above_c, thermal.normal_below_c)
        self._under_voltage = Flicker(limits.UNDER_VOLTAGE_QUIET_S)
        self._memory = MemoryWatch()
        self._last: BoardState | None = None

    def work(self) -> None:
        while not self.services.stopping.is_set():
            self.beat()
            state = self._last = self._read()
            self._look(state, self.clock.monotonic_ns())
            self.pause(limits.UPKEEP_PERIOD_S)

    def report(self) -> dict[str, object]:
        """The board's part of ``stats``, as last read: no device is touched here. From any thread."""
        state = self._last
        memory_mb, limit_mb = (state.memory_mb, state.memory_limit_mb) if state else (None, None)
        return {
            "temperature_c": state.temperature_c if state else None,
            "throttled": state.throttled if state else None,
            "heat": {"level": self._heat.level, "slowdown": self._heat.slowdown},
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
            self._slow(step.slowdown)
            self._report_step(step, state.temperature_c, slowing)
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
