"""Keeps the C++ library's chatter ("INFO: Created TensorFlow Lite XNNPACK delegate for CPU.") off the terminal.

The library has no switch for it: it writes to file descriptor 2. Whatever else is written there meanwhile, by it
or by another thread, is passed on.
"""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

_CHATTER = re.compile(rb"^INFO: .*(?:TensorFlow Lite|[Dd]elegate).*\n?", re.MULTILINE)
_lock = threading.Lock()


@contextmanager
def without_chatter() -> Iterator[None]:
    """Hold back file descriptor 2 for the block, then write what was caught, less the library's INFO lines.

    For a short block only: nothing is seen of it until its end, and nothing at all should the process die.
    """
    with _lock:
        try:
            terminal = os.dup(2)
        except OSError:  # there is no standard error: nothing to keep clean
            yield
            return
        caught = os.memfd_create("native-log", os.MFD_CLOEXEC)
        try:
            os.dup2(caught, 2)
            try:
                yield
            finally:
                os.dup2(terminal, 2)
                _pass_on(caught, terminal)
        finally:
            os.close(caught)
            os.close(terminal)


def _pass_on(caught: int, terminal: int) -> None:
    rest = memoryview(_CHATTER.sub(b"", os.pread(caught, os.fstat(caught).st_size, 0)))
    with suppress(OSError):  # a reader of our standard error that went away must not cost the interpreter
        while rest:
            rest = rest[os.write(terminal, rest) :]
