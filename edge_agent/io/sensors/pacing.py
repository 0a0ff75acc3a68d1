"""The pace of a sensor that is asked rather than one that speaks: a fixed grid on the monotonic clock.

A late or slow reading never shifts the grid, and ticks that were missed are left out, not made up for.
"""

from __future__ import annotations

from edge_agent.config.schema import SensorConfig
from edge_agent.errors import ConfigError
from edge_agent.io.sensors.context import SensorContext


class Pacer:
    """Ticks every ``interval`` from the first wait on. The grid outlives a reopening of the device."""

    def __init__(self, config: SensorConfig, context: SensorContext) -> None:
        """Raises ConfigError for an interval of 0."""
        if config.interval == 0:
            raise ConfigError(f'sensor "{config.name}": interval "0s" would ask without pause; allowed: "1ms" or more')
        self._interval_ns = int(config.interval)
        self._clock = context.clock
        self._stopping = context.stopping
        self._due_ns: int | None = None

    def wait(self, timeout_s: float) -> bool:
        """Wait for the next tick, at most that long. False: it is not due yet, or the process is stopping."""
        now = self._clock.monotonic_ns()
        due = now if self._due_ns is None else self._due_ns
        left_s = max(0.0, (due - now) / 1e9)
        if self._stopping.wait(min(left_s, timeout_s)) or left_s > timeout_s:
            self._due_ns = due
            return False
        missed = (self._clock.monotonic_ns() - due) // self._interval_ns
        self._due_ns = due + self._interval_ns * max(1, missed + 1)
        return True
