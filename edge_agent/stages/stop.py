"""The publisher's way to a clean stop, step by step and in bounded time:
flush -> last words -> store what is left -> ended. A broker that is away skips the first two."""

from __future__ import annotations

from enum import Enum

from edge_agent import limits


class _Step(Enum):
    FLUSH = 1
    LAST_WORDS = 2  # the broker has been told, its acknowledgement is awaited
    STORE = 3
    STORING = 4  # the last batch is on its way to the disk
    ENDED = 5


class StopPlan:
    """``flush`` ends early enough that the last words still fit before ``store`` must begin."""

    def __init__(self, now_ns: int) -> None:
        self._step = _Step.FLUSH
        self._words_ns = now_ns + round(limits.STOP_FLUSH_S * 1e9 * 2 / 3)
        self._store_ns = now_ns + round(limits.STOP_FLUSH_S * 1e9)
        self._end_ns = self._store_ns + round(limits.STOP_STORE_S * 1e9)

    @property
    def storing(self) -> bool:
        """The next batch is the last one."""
        return self._step is _Step.STORE

    def should_say_goodbye(self, now_ns: int, connected: bool, idle: bool) -> bool:
        """True once: when nothing is under way any more, or it is time."""
        if self._step is not _Step.FLUSH or not connected or not (idle or now_ns >= self._words_ns):
            return False
        self._step = _Step.LAST_WORDS
        return True

    def should_store(self, now_ns: int, connected: bool, idle: bool) -> bool:
        if self._step not in (_Step.FLUSH, _Step.LAST_WORDS):
            return False
        return not connected or now_ns >= self._store_ns or (self._step is _Step.LAST_WORDS and idle)

    def begin_storing(self, *, usable: bool) -> None:
        self._step = _Step.STORE if usable else _Step.ENDED

    def last_batch(self) -> None:
        self._step = _Step.STORING

    def answered(self, written: bool) -> None:
        """The disk has the batch that was under way, or failed."""
        if self._step is _Step.STORING or (self._step is _Step.STORE and not written):
            self._step = _Step.ENDED

    def ended(self, now_ns: int) -> bool:
        return self._step is _Step.ENDED or now_ns >= self._end_ns
