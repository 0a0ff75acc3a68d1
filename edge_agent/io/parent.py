"""A child of the daemon ends with it, in whatever way that one ends."""

from __future__ import annotations

import ctypes
import os
import signal
from typing import Final

_PR_SET_PDEATHSIG: Final = 1  # linux/prctl.h


def end_with(parent: int) -> None:
    """To be called by the child of that process id: from now on it is killed when its parent dies, also where a library
    hangs (prctl(2)). To the kernel the thread that started the child is its parent."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it died before that
        os._exit(1)
