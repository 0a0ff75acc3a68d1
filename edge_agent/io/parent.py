"""A child of the daemon ends with it, in whatever way that one ends."""

from __future__ import annotations

import ctypes
import fcntl
import os
import select
import signal
from typing import Final

_PR_SET_PDEATHSIG: Final = 1  # linux/prctl.h
_F_SETSIG: Final = 10  # linux/fcntl.h


def end_with(parent: int) -> None:
    """To be called by the child of that process id: from now on it is killed when its parent dies, also where a library
    hangs (prctl(2)). To the kernel the thread that started the child is its parent."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it died before that
        os._exit(1)


def end_with_pipe(lifeline: int) -> None:
    """To be called by the child that holds the reading end of that pipe: from now on it is killed when nobody holds
    the other end any more, also where a library hangs (F_SETSIG of fcntl(2)), whichever thread started it."""
    fcntl.fcntl(lifeline, fcntl.F_SETOWN, os.getpid())
    fcntl.fcntl(lifeline, _F_SETSIG, signal.SIGKILL)
    fcntl.fcntl(lifeline, fcntl.F_SETFL, fcntl.fcntl(lifeline, fcntl.F_GETFL) | os.O_ASYNC)
    if select.select([lifeline], [], [], 0)[0]:  # it was closed before that
        os._exit(1)
