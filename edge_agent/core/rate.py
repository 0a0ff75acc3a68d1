"""Which frames of a camera a pipeline takes so as to keep to its rate: a schedule, not a sleep.

Over any window of N periods at most N + 1 frames are accepted, and a steady camera loses none of the rate to rounding.
"""

from __future__ import annotations


class RateGate:
    """One frame for each slot of a grid of periods.

    A frame may come a quarter of the camera's usual gap before its slot, so that jitter neither costs a frame nor
    makes the choice irregular. The grid stays where it is while frames come up to three quarters of a period late
    (a camera whose rate is no multiple). A later frame starts the grid again: slots that were missed are not made up.
    """

    def __init__(self, period_ns: int) -> None:
        """``period_ns`` is the least time between frames on average; 0 accepts every frame."""
        self._period = period_ns
        self._slot: int | None = None  # of the last accepted frame
        self._last = 0  # the last frame offered
        self._gap = 0  # between frames, smoothed; 0: not known

    def set_period(self, period_ns: int) -> None:
        """Change the rate from the next frame on; the last accepted frame keeps its place in the grid."""
        self._period = period_ns

    def accept(self, frame_ns: int) -> bool:
        """Whether to take the frame. Frames are offered in the order of time; a step back starts the grid again."""
        gap, self._last = frame_ns - self._last, frame_ns
        if self._slot is None or gap < 0 or self._period == 0:
            self._slot = frame_ns
            return True
        self._gap += (min(gap, 2 * self._gap) - self._gap) // 8 if self._gap else gap  # a pause is no usual gap
        due = self._slot + self._period
        if frame_ns < due - min(self._gap, self._period) // 4:
            return False
        self._slot = due if frame_ns - due < self._period * 3 // 4 else frame_ns
        return True
