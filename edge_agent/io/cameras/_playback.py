"""Media time of a source that can be played again: laps joined without a gap, and waiting for a frame's turn.

A frame's ``mono_ns`` is always the epoch plus its media time, whether the reader waits for it or not.
"""

from __future__ import annotations

import threading
from typing import Literal

from edge_agent.ports import Clock
from edge_agent.records import Grab


class Playback:
    """``epoch_ns`` is CLOCK_MONOTONIC at media time 0: the moment of the first frame, kept for ever after."""

    def __init__(self, clock: Clock, stopping: threading.Event, pace: Literal["media", "max"]) -> None:
        self.epoch_ns: int | None = None
        self._clock = clock
        self._stopping = stopping
        self._waits = pace == "media"
        self._lap_start_ns = 0
        self._last_ns: int | None = None

    def begin_lap(self, frame_period_ns: int) -> None:
        """The source starts anew: its next frame comes one frame period after the last one."""
        if self._last_ns is not None:
            self._lap_start_ns = self._last_ns + frame_period_ns

    def grab(self, lap_ns: int) -> Grab | None:
        """The frame at that time of its lap, when it is due (``pace = "media"``) or at once. None: told to stop.

        A reader that is late gets its frames late, never fewer of them.
        """
        media_ns = self._last_ns = self._lap_start_ns + lap_ns
        if self.epoch_ns is None:
            self.epoch_ns = self._clock.monotonic_ns()
        due_ns = self.epoch_ns + media_ns
        wait_ns = due_ns - self._clock.monotonic_ns() if self._waits else 0
        if self._stopping.wait(max(0, wait_ns) / 1e9):
            return None
        return Grab(due_ns, self._clock.monotonic_ns(), "media")
