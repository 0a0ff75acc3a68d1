"""How often a camera delivers, and whether that is what it should. The time and the count of frames are arguments."""

from __future__ import annotations

from statistics import median
from typing import Final

_WINDOW_NS: Final = 60_000_000_000  # a rate is measured over that long, and over so many frames as are expected in it
_WINDOW_FRAMES: Final = 30  # at least: one more or less is 3 %
_LEARNT_WINDOWS: Final = 5
_OFF: Final = 0.25  # part of the expected rate. A camera that exposes longer in the dark halves its rate.


class FrameRate:
    """Of one camera. ``measured``: frames a second over the last whole window, None before the first."""

    def __init__(self, configured: float | None) -> None:
        """``configured``: the rate that the camera was asked for, in frames a second; None: what it does over its first
        windows is what it should do."""
        self.expected = configured
        self.measured: float | None = None
        self._from: tuple[int, int] | None = None  # when the window began, and the frames until then
        self._learnt: list[float] = []

    @property
    def off(self) -> bool:
        """Whether the last window was more than a quarter slower or faster than expected."""
        if self.measured is None or self.expected is None:
            return False
        return abs(self.measured - self.expected) > _OFF * self.expected

    def look(self, mono_ns: int, frames: int | None) -> None:
        """``frames``: delivered since the start; None: the camera does not stream, and what was measured is void. To be
        called about once a second."""
        if frames is None or self._from is None:
            self.measured = None
            self._from = None if frames is None else (mono_ns, frames)
            return
        since_ns, before = self._from
        took_ns, got = mono_ns - since_ns, frames - before
        # A window without enough frames ends too where the expected rate is known: that is what it is to find.
        long_enough = got >= _WINDOW_FRAMES or (self.expected and took_ns * self.expected >= _WINDOW_FRAMES * 1e9)
        if took_ns < _WINDOW_NS or not long_enough:
            return
        self.measured = got * 1e9 / took_ns
        self._from = mono_ns, frames
        if self.expected is None:
            self._learnt.append(self.measured)
            if len(self._learnt) == _LEARNT_WINDOWS:
                self.expected = median(self._learnt)
