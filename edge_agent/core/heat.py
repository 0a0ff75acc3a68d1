"""When heat lowers the rate, and when it rises again: a rule over readings and their times. No clock, no device."""

from __future__ import annotations

from typing import Final

from msgspec import Struct

from edge_agent import limits

# Of the firmware's words for "now", those by which the board already runs slower.
SLOWING_FLAGS: Final = frozenset({"frequency_capped", "throttled", "soft_temperature_limit"})
UNDER_VOLTAGE: Final = "under_voltage"


class Step(Struct, frozen=True):
    """A change of level. The rate is the configured one divided by ``slowdown``."""

    level: int
    slowdown: int
    slower: bool


class Heat:
    """Level 0 is the full rate; each level above halves it. Between the two temperatures nothing changes."""

    def __init__(self, slow_above_c: float, normal_below_c: float) -> None:
        """Degrees Celsius of the hottest thermal zone."""
        self.level = 0
        self._slow_above_c = slow_above_c
        self._normal_below_c = normal_below_c
        self._changed_ns: int | None = None
        self._well_since_ns: int | None = None

    @property
    def slowdown(self) -> int:
        return int(2**self.level)

    def look(
        self, now_ns: int, temperature_c: float | None, throttled: bool, slowdown_most: int | None = None
    ) -> Step | None:
        """The change that this reading brings, if any.

        ``temperature_c`` None: only the flags count. ``throttled``: the firmware slows the board down now.
        ``slowdown_most``: a greater one would change no rate (None: not known); the first level is always reached, so
        that the heat is reported.
        """
        hot = throttled or (temperature_c is not None and temperature_c > self._slow_above_c)
        well = not throttled and (temperature_c is None or temperature_c < self._normal_below_c)
        if not well:
            self._well_since_ns = None
        elif self._well_since_ns is None:
            self._well_since_ns = now_ns
        if hot and self._may_slow(now_ns, slowdown_most):
            return self._go(self.level + 1, now_ns)
        if self.level and self._may_quicken(now_ns):
            return self._go(self.level - 1, now_ns)
        return None

    def _may_slow(self, now_ns: int, slowdown_most: int | None) -> bool:
        if self.level >= limits.HEAT_LEVEL_MOST:
            return False
        if self.level and slowdown_most is not None and self.slowdown >= slowdown_most:
            return False
        return self._changed_ns is None or now_ns - self._changed_ns >= limits.HEAT_SLOWER_S * 1e9

    def _may_quicken(self, now_ns: int) -> bool:
        if self._well_since_ns is None or self._changed_ns is None:
            return False
        return now_ns - max(self._well_since_ns, self._changed_ns) >= limits.HEAT_FASTER_S * 1e9

    def _go(self, level: int, now_ns: int) -> Step:
        slower = level > self.level
        self.level, self._changed_ns = level, now_ns
        return Step(level, self.slowdown, slower)


class Flicker:
    """Whether to speak of a condition that comes and goes: once, until it has been away for a while."""

    def __init__(self, quiet_s: float) -> None:
        self._quiet_ns = round(quiet_s * 1e9)
        self._seen_ns: int | None = None

    def look(self, now_ns: int, there: bool) -> bool:
        if not there:
            return False
        seen_ns, self._seen_ns = self._seen_ns, now_ns
        return seen_ns is None or now_ns - seen_ns >= self._quiet_ns
