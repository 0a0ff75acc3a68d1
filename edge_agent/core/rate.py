"""Which frames of a camera a pipeline takes so as to keep to its rate: a schedule, not a sleep.

Over any window of N periods at most N + 1 frames are accepted, and a steady camera loses none of the rate to rounding.
"""

from __future__ import annotations


class RateGate:
    """The configured rate, and behind it the slowdown that heat or overload commands. One thread offers frames; any
    may change the rate and the slowdown."""

    def __init__(self, period_ns: int) -> None:
        """``period_ns`` is the least time between frames on average; 0 accepts every frame."""
        self.slowed = False  # whether the last refusal was the slowdown's, not the configured rate's
        self._configured = _Grid(period_ns)
        self._slower = _Grid(0)
        self._slowdown = (1.0, 0)  # factor, period of the floor: one object, so that a frame sees both or neither
        self._usual_ns = 0  # the camera's gap that the slowdown goes by

    @property
    def period_ns(self) -> int:
        """The configured one; 0: every frame."""
        return self._configured.period

    def set_period(self, period_ns: int) -> None:
        """Change the rate from the next frame on; the last accepted frame keeps its place in the grid."""
        self._configured.period = period_ns

    def set_slowdown(self, factor: float, floor_period_ns: int) -> None:
        """Take one frame in ``factor`` periods on average from the next frame on, but one in ``floor_period_ns`` at
        least.

        What counts as the period is the configured one or the camera's usual gap, whichever is longer. A rate that is
        below the floor anyway is not touched. 1 ends the slowdown.
        """
        self._slowdown = (factor, floor_period_ns)

    def slowdown_most(self, floor_period_ns: int) -> int | None:
        """From which factor on the floor holds; None as long as the rate is "max" and no frame gap is known."""
        period_ns = max(self._configured.period, self._configured.gap)
        return max(1, -(-floor_period_ns // period_ns)) if period_ns else None

    def accept(self, frame_ns: int) -> bool:
        """Whether to take the frame. Frames are offered in the order of time; a step back starts the grid again."""
        self.slowed = False
        if not self._configured.accept(frame_ns):
            return False
        period_ns = self._slow_period()
        if period_ns != self._slower.period:
            self._slower.restart(period_ns)
        self.slowed = period_ns > 0 and not self._slower.accept(frame_ns)
        return not self.slowed

    def _slow_period(self) -> int:
        """0 where the slowdown changes nothing."""
        factor, floor_ns = self._slowdown
        configured, gap = self._configured.period, self._configured.gap
        if factor == 1:
            return 0
        if abs(gap - self._usual_ns) * 8 > self._usual_ns:  # jitter must not move the grid at each frame
            self._usual_ns = gap
        unslowed = max(configured, self._usual_ns)
        period_ns = min(round(factor * unslowed), floor_ns)
        return period_ns if period_ns > unslowed else 0


class _Grid:
    """One frame for each slot of a grid of periods.

    A frame may come a quarter of the camera's usual gap before its slot, so that jitter neither costs a frame nor
    makes the choice irregular. The grid stays where it is while frames come up to three quarters of a period late
    (a camera whose rate is no multiple). A later frame starts the grid again: slots that were missed are not made up.
    """

    def __init__(self, period_ns: int) -> None:
        self.period = period_ns  # 0: every frame
        self.gap = 0  # between frames, smoothed; 0: not known
        self._slot: int | None = None  # of the last accepted frame
        self._accepted = 0  # the last accepted frame
        self._last = 0  # the last frame offered

    def restart(self, period_ns: int) -> None:
        """A grid with that period from the last accepted frame on: a late one is not followed by an early one."""
        self.period = period_ns
        if self._slot is not None:
            self._slot = max(self._slot, self._accepted)

    def accept(self, frame_ns: int) -> bool:
        gap, self._last = frame_ns - self._last, frame_ns
        slot = self._next_slot(frame_ns, gap)
        if slot is None:
            return False
        self._slot, self._accepted = slot, frame_ns
        return True

    def _next_slot(self, frame_ns: int, gap: int) -> int | None:
        if self._slot is None or gap < 0:
            return frame_ns
        self.gap += (min(gap, 2 * self.gap) - self.gap) // 8 if self.gap else gap  # a pause is no usual gap
        period = self.period  # once: another thread may set it
        if period == 0:
            return frame_ns
        due = self._slot + period
        if frame_ns < due - min(self.gap, period) // 4:
            return None
        return due if frame_ns - due < period * 3 // 4 else frame_ns
