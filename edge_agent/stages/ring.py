"""The ring of ready tensors between a capture thread and an invoke thread.

A slot belongs to exactly one side at a time: free -> filled by the capture thread -> pending -> read by the invoke
thread -> free. Nobody else touches its memory.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Sequence

from msgspec import Struct, field

from edge_agent.records import Array, Crossing, Frame
from edge_agent.stages.inference import Look
from edge_agent.stages.route import Route


class Slot(Struct):
    """Ready tensors by input name, and what the sample needs to know of the frame that filled them. The tensors are
    borrowed from ``route``, the model that the frame goes to, while there is a frame."""

    tensors: dict[str, Array]
    route: Route | None = None
    frame: Frame | None = None
    due_ns: int = 0  # not to be aligned before that time (frame time + align.wait)
    crossing: Crossing = field(default_factory=Crossing)
    preprocess_ns: int = 0
    quality: tuple[str, ...] = ()
    look: Look | None = None  # None: this frame is not watched


class Ring:
    """Bounded. ``newest`` keeps only the newest frame that is due; else the capture thread waits for a free slot."""

    def __init__(self, slots: Sequence[Slot], newest: bool) -> None:
        self._changed = threading.Condition()
        self._free = deque(slots)
        self._pending: deque[Slot] = deque()
        self._newest = newest
        self._closed = False
        self._news = False  # something was submitted since the last take

    def acquire(self) -> tuple[Slot | None, bool]:
        """A slot to fill, and whether a pending frame was given up for it. None once closed."""
        with self._changed:
            while not self._free and not self._closed:
                if self._newest and self._pending:
                    return self._pending.popleft(), True
                self._changed.wait()
            return (None, False) if self._closed else (self._free.popleft(), False)

    def submit(self, slot: Slot) -> bool:
        """Hand a filled slot to the invoke thread. False once closed: nobody will read it."""
        with self._changed:
            if not self._closed:
                self._pending.append(slot)
                self._news = True
                self._changed.notify_all()
            return not self._closed

    def release(self, slot: Slot) -> None:
        """Hand a slot back after reading it (or without having filled it)."""
        with self._changed:
            slot.frame = None
            self._free.append(slot)
            self._changed.notify_all()

    def take(self, now_ns: int) -> tuple[Slot | None, list[Slot], int | None]:
        """The next slot that is due, the slots that a newer due frame replaced (to be counted and released), and, with
        no slot, when the next is due (None: nothing is pending)."""
        with self._changed:
            self._news = False
            due = 0
            while due < len(self._pending) and self._pending[due].due_ns <= now_ns:
                due += 1
            if not due:
                return None, [], self._pending[0].due_ns if self._pending else None
            replaced = [self._pending.popleft() for _ in range(due - 1)] if self._newest else []
            return self._pending.popleft(), replaced, None

    def wake(self) -> None:
        """Let ``wait`` return."""
        with self._changed:
            self._news = True
            self._changed.notify_all()

    def wait(self, timeout_s: float) -> None:
        """Until something is submitted, also between the last ``take`` and now, or the time is over."""
        with self._changed:
            self._changed.wait_for(lambda: self._news or self._closed, timeout_s)

    def close(self) -> None:
        """Wake both sides; no slot is given out any more."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def leftover(self) -> int:
        """How many pending frames nobody will read any more, once closed."""
        with self._changed:
            count = len(self._pending)
            self._pending.clear()
            return count
