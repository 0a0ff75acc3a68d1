"""Maintenance windows, hours of the day in UTC, and the times that signed documents name."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import datetime, timedelta, timezone
from typing import Final

from msgspec import Struct

_MINUTE_NS: Final = 60 * 10**9
_DAY_MINUTES: Final = 24 * 60
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=timezone.utc)
_HOURS: Final = re.compile(r"([01]\d|2[0-3]):([0-5]\d)-([01]\d|2[0-3]):([0-5]\d)")


class Window(Struct, frozen=True):
    """From the first minute of the day up to the second, without it. Where the first is above the second the window
    crosses midnight; where they are equal it is the whole day."""

    from_minute: int
    to_minute: int

    @classmethod
    def parse(cls, text: str) -> Window:
        """ "02:00-05:00" or "22:30-04:00". Raises ValueError with a sentence."""
        match = _HOURS.fullmatch(text)
        if match is None:
            raise ValueError(f'"{text}" is not a window: two times of the day in UTC, as "02:00-05:00"')
        first_h, first_min, last_h, last_min = map(int, match.groups())
        return cls(first_h * 60 + first_min, last_h * 60 + last_min)

    def contains(self, wall_ns: int) -> bool:
        minute = wall_ns // _MINUTE_NS % _DAY_MINUTES
        long = (self.to_minute - self.from_minute) % _DAY_MINUTES or _DAY_MINUTES
        return (minute - self.from_minute) % _DAY_MINUTES < long

    def next_start_ns(self, wall_ns: int) -> int:
        """The first start of it after that time."""
        minute = wall_ns // _MINUTE_NS
        return (minute + ((self.from_minute - minute - 1) % _DAY_MINUTES) + 1) * _MINUTE_NS

    def __str__(self) -> str:
        hours = [f"{minute // 60:02}:{minute % 60:02}" for minute in (self.from_minute, self.to_minute)]
        return "-".join(hours) + " UTC"


def opens_ns(windows: Sequence[Window], wall_ns: int) -> int | None:
    """When all of them are next open at once: ``wall_ns`` itself while they are, None where they never are."""
    # All are open at once for the first time when one of them opens.
    times = [wall_ns, *sorted(window.next_start_ns(wall_ns) for window in windows)]
    return next((time for time in times if all(window.contains(time) for window in windows)), None)


def parse_rfc3339(text: str) -> int:
    """Nanoseconds since 1970 UTC. Raises ValueError: also for a time without a zone."""
    try:
        when = datetime.fromisoformat(text.upper().replace("Z", "+00:00"))
    except ValueError:
        when = None
    if when is None or when.tzinfo is None:
        raise ValueError(f'"{text}" is not a time as "2026-11-20T22:53:00Z"')
    return (when - _EPOCH) // timedelta(microseconds=1) * 1000
