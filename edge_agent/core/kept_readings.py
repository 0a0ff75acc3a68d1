"""The readings of one sensor field that are kept for alignment, by time, with when each arrived.

What a question answers depends on the readings and their arrivals, never on the order in which they were added.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from operator import itemgetter
from typing import Final

from edge_agent.limits import READINGS_KEPT
from edge_agent.records import Flag, Reading

_FLAG_ORDER: Final = {flag: order for order, flag in enumerate(Flag)}
INVALID: Final = math.inf  # stands for the value of an invalid reading; valid ones are finite

# Time, value, flags, arrival. Sorts by time; at one time the smallest value comes first, and is the one that counts.
Entry = tuple[int, float, tuple[Flag, ...], int]


class KeptReadings:
    """At most READINGS_KEPT readings, the latest by time; doubles once, with their first arrival."""

    __slots__ = ("_forgotten_arrival", "_horizon", "_invalid", "_late", "_valid")

    def __init__(self) -> None:
        self._valid: list[Entry] = []
        self._invalid: list[Entry] = []  # apart, so that a run of them never lengthens the search for a valid one
        self._late: set[tuple[int, float, tuple[Flag, ...]]] = set()
        self._horizon = -(2**63)
        self._forgotten_arrival = 2**63  # the first arrival among the readings no longer kept

    def __len__(self) -> int:
        return len(self._valid) + len(self._invalid)

    def add(self, reading: Reading, arrival_ns: int) -> Entry | None:
        """Keep a reading. None where that changes nothing: a double, or older than all that is kept."""
        time_ns, value = reading.mono_ns, reading.value
        if time_ns < self._horizon:
            self._forgotten_arrival = min(self._forgotten_arrival, arrival_ns)
            return None
        if value is None or not math.isfinite(value):
            entry: Entry = (time_ns, INVALID, (), arrival_ns)
            into = self._invalid
        else:
            entry = (time_ns, value, ordered(reading.flags), arrival_ns)
            into = self._valid
        at = bisect_left(into, entry[:3])
        if at < len(into) and into[at][:3] == entry[:3]:
            if arrival_ns < into[at][3]:
                into[at] = entry
            return None
        into.insert(at, entry)
        return entry if len(self) <= READINGS_KEPT or self._forget_oldest() is not entry else None

    def mark_late(self, entry: Entry) -> bool:
        """Whether this is the first time that the reading is found to be late."""
        before = len(self._late)
        self._late.add(entry[:3])
        return len(self._late) > before

    def forget_before(self, time_ns: int) -> None:
        """Nobody will ask for a time before this one again: drop such readings, now and when they are added."""
        self._horizon = time_ns
        for kept in (self._valid, self._invalid):
            if kept and kept[0][0] < time_ns:
                self._forget(kept, bisect_left(kept, (time_ns,)))

    def _forget_oldest(self) -> Entry:
        kept = min((kept for kept in (self._valid, self._invalid) if kept), key=itemgetter(0))
        entry = kept[0]
        self._forget(kept, 1)
        return entry

    def _forget(self, kept: list[Entry], count: int) -> None:
        self._forgotten_arrival = min(self._forgotten_arrival, *(entry[3] for entry in kept[:count]))
        self._late.difference_update(entry[:3] for entry in kept[:count])
        del kept[:count]

    def neighbours(
        self, frame_ns: int, first_ns: int, last_ns: int, deadline_ns: int
    ) -> tuple[Entry | None, Entry | None, list[Entry]]:
        """The valid readings next to the frame that had arrived in time, and those passed over that had not."""
        left = right = None
        missed = []
        valid = self._valid
        after = bisect_left(valid, (frame_ns + 1,))
        for at in range(after - 1, -1, -1):
            entry = valid[at]
            if entry[0] < first_ns:
                break
            if entry[3] <= deadline_ns:
                left, first_ns = entry, entry[0]  # goes on through equal times: the smallest value comes last
            else:
                missed.append(entry)
        for at in range(after, len(valid)):
            entry = valid[at]
            if entry[0] > last_ns:
                break
            if entry[3] <= deadline_ns:
                right = entry
                break
            missed.append(entry)
        return left, right, missed

    def invalid_within(self, first_ns: int, last_ns: int, deadline_ns: int) -> tuple[bool, list[Entry]]:
        """Whether an invalid reading of the window had arrived in time; if not, those that came later."""
        within = self._invalid[bisect_left(self._invalid, (first_ns,)) : bisect_left(self._invalid, (last_ns + 1,))]
        if any(entry[3] <= deadline_ns for entry in within):
            return True, []
        return False, within

    def any_before(self, time_ns: int, deadline_ns: int) -> bool:
        """Whether the sensor had delivered something before that time, valid or not, still kept or not."""
        return self._forgotten_arrival <= deadline_ns or any(
            kept[at][3] <= deadline_ns
            for kept in (self._valid, self._invalid)
            for at in range(bisect_left(kept, (time_ns,)) - 1, -1, -1)
        )


def ordered(flags: tuple[Flag, ...]) -> tuple[Flag, ...]:
    """Each flag once, in the order of their definition."""
    return flags if len(flags) < 2 else tuple(sorted(set(flags), key=_FLAG_ORDER.__getitem__))
