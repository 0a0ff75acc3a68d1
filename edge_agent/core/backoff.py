"""How long to wait before trying again: doubling, with jitter, so that a fleet does not come back in step."""

from __future__ import annotations


class Backoff:
    """Delays for one thing that is tried again and again. The caller draws the random numbers."""

    def __init__(self, first_s: float, last_s: float) -> None:
        self._first_s, self._last_s = first_s, last_s
        self._ceiling_s = min(first_s, last_s)

    def next(self, random_0_1: float) -> float:
        """Seconds to wait after one more failure: between half and the whole of a ceiling that doubles each time,
        from ``first_s`` up to ``last_s``. ``random_0_1`` is drawn evenly from 0..1."""
        ceiling_s = self._ceiling_s
        self._ceiling_s = min(2 * ceiling_s, self._last_s)
        return ceiling_s * (0.5 + 0.5 * random_0_1)

    def reset(self) -> None:
        """It worked: the next failure waits for the shortest time again."""
        self._ceiling_s = min(self._first_s, self._last_s)
