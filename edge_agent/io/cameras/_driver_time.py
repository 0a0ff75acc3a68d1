"""Whether to believe a driver's time stamp. A frame gets the time of its capture or, failing that, of its arrival."""

from __future__ import annotations

from typing import Final

from edge_agent.records import Grab

# A stamp older than that is of another clock (wall time, time since the start of the stream), not of an old frame.
PLAUSIBLE_NS: Final = 5 * 10**9

# Drivers that estimate the end of a frame stamp a little ahead (vivid: most of a frame period).
AHEAD_NS: Final = 100 * 10**6


def grab_at(stamp_ns: int, arrival_ns: int) -> Grab:
    """The stamp, but never later than the arrival, where it can be CLOCK_MONOTONIC; else the arrival."""
    if arrival_ns - PLAUSIBLE_NS <= stamp_ns <= arrival_ns + AHEAD_NS:
        return Grab(min(stamp_ns, arrival_ns), arrival_ns, "driver")
    return Grab(arrival_ns, arrival_ns, "arrival")
