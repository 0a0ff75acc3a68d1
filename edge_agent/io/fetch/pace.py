"""How fast bytes come: never for long below the least rate, never above the rate that the operator allows.

A server that sends one byte now and then would otherwise hold an update for ever.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from edge_agent import limits
from edge_agent.errors import TransportError


class SlowError(TransportError):
    """Fewer bytes than the least rate."""


class Pace:
    """Of one transfer after another, used by one thread. ``rate``: bytes a second at most, 0 for any."""

    def __init__(
        self,
        rate: int = 0,
        *,
        silence_s: float = limits.TRANSFER_SILENCE_S,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self.rate = rate
        self.silence_s = silence_s
        # Half of what is allowed: a limit must not look like a slow server.
        least_rate = min(limits.TRANSFER_LEAST_RATE, rate / 2) if rate else limits.TRANSFER_LEAST_RATE
        self._least_bytes = least_rate * silence_s
        self._monotonic = monotonic
        self.begin()

    def begin(self) -> None:
        """A transfer begins now."""
        self._since_s = self._next_s = self._monotonic()
        self._bytes = 0

    def delay_s(self) -> float:
        """How long to wait before more is asked for, or taken from the network; 0: nothing to wait for."""
        return max(0.0, self._next_s - self._monotonic())

    def left_s(self) -> float:
        """How long the next bytes may take, above 0. Raises SlowError when too few came over that time."""
        left_s = self._since_s + self.silence_s - self._monotonic()
        if left_s <= 0:
            raise SlowError(f"too slow: {self._bytes} bytes in {self.silence_s:g} s; it is tried again later")
        return left_s

    def received(self, count: int) -> None:
        now_s = self._monotonic()
        if self.rate:
            self._next_s = max(self._next_s, now_s) + count / self.rate
        self._bytes += count
        if self._bytes >= self._least_bytes:
            self._since_s, self._bytes = max(self._next_s, now_s), 0
