"""When to connect again, and whether somebody else connects under our name. Pure: the caller brings time and chance."""

from __future__ import annotations

from typing import Final

# Two clients of one id throw each other out at every connection: slowly, so that either gets something done.
FIGHT_DELAY_S: Final = 30.0
FIGHT_OVER_S: Final = 300.0  # that long without being thrown out
SHORT_S: Final = 2.0  # a connection that the broker ends that soon after accepting it ...
SHORT_TIMES: Final = 4  # ... so many times in a row is a fight that 3.1.1 has no word for


class Pace:
    """Delays between half and the whole of a ceiling that doubles with each failure, so that a fleet does not come
    back in step."""

    def __init__(self, first_s: float, last_s: float) -> None:
        self._first_s, self._last_s = first_s, last_s
        self._ceiling_s = self._least_s = first_s
        self._fight_until_s: float | None = None
        self._short = 0

    def settled(self) -> None:
        """Messages may go: the next loss is a new one."""
        self._ceiling_s = self._least_s

    def misbehaved(self) -> None:
        """The broker sent what can't be understood; until it takes a message, accepting us is not worth much."""
        self._least_s = min(2 * self._least_s, self._last_s)

    def acknowledged(self) -> None:
        self._least_s = self._first_s

    def taken_over(self, now_s: float) -> None:
        self._fight_until_s = now_s + FIGHT_OVER_S

    def closed(self, now_s: float, lasted_s: float) -> bool:
        """The broker closed an accepted connection without a word, and no message is to blame. Returns whether that
        looks like a fight over the client id."""
        self._short = self._short + 1 if lasted_s < SHORT_S else 0
        if self._short < SHORT_TIMES:
            return False
        self._short = 0
        self.taken_over(now_s)
        return True

    def delay_s(self, now_s: float, random_0_1: float) -> float:
        """Seconds until the next attempt. ``random_0_1`` is drawn evenly from 0..1."""
        ceiling_s = self._ceiling_s
        self._ceiling_s = min(2 * ceiling_s, self._last_s)
        delay_s = ceiling_s * (0.5 + 0.5 * random_0_1)
        if self._fight_until_s is not None and now_s < self._fight_until_s:
            return max(delay_s, FIGHT_DELAY_S * (1 + 0.25 * random_0_1))
        return delay_s
