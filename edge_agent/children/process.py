"""Starting a child of the daemon and bringing its words back, whatever it does: bounded in time and in memory.

A child gets its request as a pickle (from us), and answers in JSON: what comes out of a process that ran a damaged
model is never unpickled. It reads it by ``inside.request``, and from then on ends with this process.
"""

from __future__ import annotations

import os
import pickle
import selectors
import signal
import subprocess
import threading
import time
from collections.abc import Sequence
from typing import IO

from msgspec import Struct

from edge_agent.errors import UpdateError
from edge_agent.io.board import memory_available_mb, memory_limit_mb, memory_rss_mb
from edge_agent.io.priority import put_behind
from edge_agent.io.python_child import in_memory, start
from edge_agent.io.runtimes.litert import one_line
from edge_agent.io.runtimes.native_log import last_words
from edge_agent.rollouts import Reason

OUT_BYTES_MOST = 64 * 1024
ERR_BYTES_MOST = 8 * 1024  # of the last words
TERMINATE_S = 1.0  # a child that is told to end ends its own children first
MEMORY_SHARE = 0.7  # of what the board has left: the rest is the live model's
MEMORY_MOST_MB = 2000.0
_LOOK_S = 0.1  # how often ``stop`` is looked at


class Ended(Struct, frozen=True):
    """``status`` is negative for a signal, as in subprocess. ``out`` is cut at OUT_BYTES_MOST; ``words`` is the last
    line on the standard error."""

    status: int
    out: bytes
    words: str

    @property
    def why(self) -> str:
        """One clause for a person."""
        words = f" ({self.words})" if self.words else ""
        if self.status >= 0:
            return f"ended with status {self.status}{words}"
        names = {int(known): known.name for known in signal.Signals}
        return f"died: {names.get(-self.status, f'signal {-self.status}')}{words}"

    @property
    def killed(self) -> bool:
        """By the kernel, as far as is known: it chose this child when memory ran out."""
        return self.status == -signal.SIGKILL

    @property
    def of_memory(self) -> bool:
        """Whether it died for want of memory, as far as that can be told."""
        return self.killed or "bad_alloc" in self.words or "MemoryError" in self.words


def spawn(module: str, request: object, pass_fds: Sequence[int] = ()) -> subprocess.Popen[bytes]:
    """``python -m MODULE`` with the request on its standard input. To be called on a thread that outlives the child:
    it is killed when that thread ends. It runs behind everybody else. Raises UpdateError where none can be started."""
    try:
        stdin = in_memory(pickle.dumps((os.getpid(), request)), "request")
        try:
            child = start(module, stdin=stdin, stdout=subprocess.PIPE, stderr=subprocess.PIPE, pass_fds=pass_fds)
        finally:
            os.close(stdin)
        put_behind(child.pid)
        return child
    except OSError as error:
        raise not_started(error) from error


def not_started(error: OSError) -> UpdateError:
    """The world is at fault: it has no process, memory or descriptor left."""
    return UpdateError(Reason.CRASHED, f"no child process can be started: {error.strerror or error}")


class Ears:
    """Both of a child's streams, read as they come."""

    def __init__(self, child: subprocess.Popen[bytes]) -> None:
        """Takes over the child. Raises UpdateError, and then it is gone."""
        assert child.stdout is not None and child.stderr is not None  # for the type checker: spawn makes both
        self._child = child
        self._err = bytearray()
        try:
            self._selector = selectors.DefaultSelector()
        except OSError as error:
            end_child(child)
            raise not_started(error) from error
        self._selector.register(child.stdout, selectors.EVENT_READ, True)
        self._selector.register(child.stderr, selectors.EVENT_READ, False)

    @property
    def pid(self) -> int:
        return self._child.pid

    def hear(self, timeout_s: float) -> bytes:
        """What came on the standard output, perhaps nothing; waits at most that long for either stream."""
        heard = b""
        for key, _ in self._selector.select(timeout_s):
            block = os.read(key.fd, 65536)
            if not block:
                self._selector.unregister(key.fileobj)
            elif key.data:
                heard += block
            else:
                self._err += block
                del self._err[:-ERR_BYTES_MOST]
        return heard

    @property
    def open(self) -> bool:
        """False when the child has closed both, as it does at its end."""
        return bool(self._selector.get_map())

    def ended(self, out: bytes = b"") -> Ended | None:
        """None while it lives, after a short wait."""
        try:
            return Ended(self._child.wait(_LOOK_S), out, one_line(last_words(self._err.decode(errors="replace"))))
        except subprocess.TimeoutExpired:
            return None

    def close(self) -> None:
        """End the child if it has not, and close its streams."""
        self._selector.close()
        end_child(self._child)


def wait(child: subprocess.Popen[bytes], timeout_s: float, stop: threading.Event | None = None) -> Ended:
    """Until it ends, read all that it says. It is gone afterwards in every case.

    Raises UpdateError: TIMEOUT (final), WITHDRAWN where ``stop`` was set.
    """
    ears, out, end = Ears(child), b"", time.monotonic() + timeout_s
    try:
        while True:
            if stop is not None and stop.is_set():
                raise UpdateError(Reason.WITHDRAWN, "the examination was stopped")
            if time.monotonic() > end:
                raise UpdateError(Reason.TIMEOUT, f"no verdict within {timeout_s:g} s", final=True)
            if ears.open:
                out = (out + ears.hear(_LOOK_S))[:OUT_BYTES_MOST]
            elif (ended := ears.ended(out)) is not None:
                return ended
    finally:
        ears.close()


def end_child(child: subprocess.Popen[bytes]) -> None:
    """Tell it to end, then make it. May be called twice."""
    if child.returncode is None:
        child.terminate()
        try:
            child.wait(TERMINATE_S)
        except subprocess.TimeoutExpired:
            os.killpg(child.pid, signal.SIGKILL)
            child.wait()
    for stream in (child.stdout, child.stderr):
        _close(stream)


def memory_most_mb() -> float:
    """What a child may grow by (10^6 bytes) without the kernel having to choose whom to end."""
    left = [MEMORY_MOST_MB]
    if (available := memory_available_mb()) is not None:
        left.append(available * 2**20 / 1e6 * MEMORY_SHARE)
    if (limit := memory_limit_mb()) is not None:
        left.append((limit - (memory_rss_mb() or 0.0)) * 2**20 / 1e6 * MEMORY_SHARE)
    return max(0.0, min(left))


def _close(stream: IO[bytes] | None) -> None:
    if stream is not None:
        stream.close()
