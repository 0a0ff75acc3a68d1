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
# INFO and warnings as LiteRT, Dawn and glog print them, the second line of one, and what glog prints of a stack
_UNSAID = re.compile(r"INFO: |WARNING: |Warning: |└|[IW]\d{4} |@ |\*\*\* ")
_PREFIX = re.compile(r"^[EF]\d{4} [^\]]*\] ")  # of glog: the time, the thread, the file
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


def last_words(text: str) -> str:
    """The last line of a process that died in a library which says something: no chatter, no stack, no prefix."""
    lines = [line.strip() for line in text.splitlines()]
    spoken = [line for line in lines if line and not _UNSAID.match(line)]
    return _PREFIX.sub("", spoken[-1]) if spoken else ""
