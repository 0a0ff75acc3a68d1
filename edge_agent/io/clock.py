"""The clocks of the kernel: CLOCK_MONOTONIC, the wall clock, and whether the wall clock can be believed.

Cheap enough to be asked for every frame, from any thread.
"""

from __future__ import annotations

import ctypes
import time
from pathlib import Path
from typing import Final

_STA_UNSYNC: Final = 0x0040  # linux/timex.h: the clock is not disciplined by anybody
_SYNCED_FOR_NS: Final = 5 * 10**9

# Two clocks read farther apart than that had the thread lose the processor in between: they are read again.
_TOGETHER_NS: Final = 50_000
_TRIES: Final = 3

_TIMESYNC_MARK: Final = Path("/run/systemd/timesync/synchronized")


class _Timex(ctypes.Structure):
    """struct timex of the C library: 64-bit, and 32-bit with its old 32-bit times."""

    _fields_ = (
        ("modes", ctypes.c_uint),
        *((name, ctypes.c_long) for name in ("offset", "freq", "maxerror", "esterror")),
        ("status", ctypes.c_int),
        *((name, ctypes.c_long) for name in ("constant", "precision", "tolerance", "sec", "usec", "tick")),
        *((name, ctypes.c_long) for name in ("ppsfreq", "jitter")),
        ("shift", ctypes.c_int),
        *((name, ctypes.c_long) for name in ("stabil", "jitcnt", "calcnt", "errcnt", "stbcnt")),
        ("tai", ctypes.c_int),
        ("reserved", ctypes.c_int * 11),
    )


class SystemClock:
    """``ports.Clock`` over the kernel's clocks. ``timesync_mark`` is the file that systemd-timesyncd makes."""

    def __init__(self, timesync_mark: Path = _TIMESYNC_MARK) -> None:
        self._timesync_mark = timesync_mark
        self._adjtimex = getattr(ctypes.CDLL(None, use_errno=True), "adjtimex", None)
        # One tuple, replaced as a whole: threads see the old pair or the new one, never half of each.
        self._known: tuple[int, bool] = (-_SYNCED_FOR_NS, False)

    def monotonic_ns(self) -> int:
        return time.monotonic_ns()

    def wall_ns(self, mono_ns: int) -> int:
        """The wall clock's estimate at that monotonic time, with the distance of the two clocks as it is now."""
        for _ in range(_TRIES):
            before = time.monotonic_ns()
            wall = time.time_ns()
            after = time.monotonic_ns()
            if after - before < _TOGETHER_NS:
                break
        return mono_ns + wall - (before + after) // 2

    def synced(self) -> bool:
        """Whether the kernel says that the wall clock is synchronised; at most 5 s old."""
        asked_ns, synced = self._known
        now = time.monotonic_ns()
        if now - asked_ns >= _SYNCED_FOR_NS:
            synced = self._ask()
            self._known = (now, synced)
        return synced

    def _ask(self) -> bool:
        if self._adjtimex is not None:
            timex = _Timex()  # modes = 0: only read, which needs no privilege
            if self._adjtimex(ctypes.byref(timex)) >= 0:
                return not timex.status & _STA_UNSYNC
        # A sandbox may forbid even reading (ProtectClock=yes answers EPERM).
        return self._timesync_mark.exists()
