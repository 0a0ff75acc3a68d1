"""A model that runs in a process of its own, as a Runtime of this one.

The tensors lie in anonymous memory that both processes map, so that nothing goes through a pipe but a word for each run
and its answer. Waiting for it releases Python's lock, whatever the library does over there, and is bounded; a child
that dies, hangs or answers nonsense costs this process an error, never more.
"""

from __future__ import annotations

import fcntl
import mmap
import os
import signal
import socket
import subprocess
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, suppress
from typing import Final

import numpy as np

from edge_agent import limits
from edge_agent.errors import DeviceError, DeviceLostError, EdgeAgentError, ModelError
from edge_agent.io.python_child import in_memory, start
from edge_agent.io.runtimes.backend import Build
from edge_agent.io.runtimes.litert import misfit, one_line
from edge_agent.io.runtimes.native_log import last_words
from edge_agent.io.runtimes.shared_tensors import (
    WORDS_BYTES_MOST,
    Done,
    Place,
    Ready,
    Refused,
    Request,
    encode,
    read_answer,
)
from edge_agent.records import Array, RuntimeInfo, TensorSpec

_HOST: Final = "edge_agent.io.runtimes.child_host"
_LOG_BYTES: Final = 16 * 1024  # of its last words
_END_S: Final = 1.0  # for one that was killed: a driver may hold it for longer, and nobody waits for that
_OUT_OF_MEMORY: Final = "; the system stopped it, probably for want of memory"


class ChildRuntime:
    """Implements ``ports.Runtime``. ``invoke`` is for one thread at a time; which thread built it means nothing."""

    inputs: Sequence[TensorSpec]
    outputs: Sequence[TensorSpec]
    info: RuntimeInfo

    def __init__(
        self,
        entry: str,
        model: bytes,
        wanted: Build,
        *,
        start_s: float,
        run_s: float = limits.CHILD_RUN_S,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        """``entry``: what builds the runtime over there, as "package.module:function", called as ``Backend.build`` is;
        ``environment``: of the child, beside this process's. Building it and its first run take ``start_s`` at most,
        each later run ``run_s``.

        Raises what the function raises, DeviceLostError where the child dies, DeviceError where it takes too long or
        can't be started.
        """
        try:
            self._child = _Child(entry, model, wanted, environment or {})
        except OSError as error:
            raise DeviceError(f"no process can be started for it: {one_line(error)}") from error
        self._run_s = run_s
        self._runs = 0
        self._lost = ""  # why nothing can run any more
        self._inputs: dict[str, tuple[TensorSpec, Array]] = {}
        try:
            ready = self._child.answer(start_s)
            if not isinstance(ready, Ready):
                raise _error_of(ready)
            self._memory = self._child.map(ready.size)
            self._inputs = {place.name: (place.spec(), place.view(self._memory)) for place in ready.inputs}
            self._outputs = ready.outputs
            self.inputs = tuple(spec for spec, _view in self._inputs.values())
            self.outputs = tuple(place.spec() for place in ready.outputs)
            self.info = ready.info
        except TimeoutError:
            self.close()
            raise DeviceError(f"not ready within {start_s:g} s, so its process was stopped") from None
        except (OSError, ValueError, TypeError) as error:
            raise self._loss(error) from None
        except EdgeAgentError:
            self.close()
            raise

    @property
    def pid(self) -> int:
        """Of the child."""
        return self._child.pid

    def invoke(self, tensors: Mapping[str, Array]) -> dict[str, Array]:
        """As ``ports.Runtime``. Raises ModelError for a tensor that does not fit, RunError for a run that fails, and
        DeviceLostError, now and at every later call, where the process behind it dies or does not answer in time."""
        if self._lost:
            raise DeviceLostError(self._lost)
        for name, array in tensors.items():
            spec, view = self._inputs.get(name, (None, None))
            if spec is None or view is None or array.shape != spec.shape or array.dtype != spec.dtype:
                raise ModelError(misfit(name, array, spec, self.inputs))
            np.copyto(view, array)
        self._runs += 1
        try:
            done = self._child.ask(b"%d" % self._runs, self._run_s)
            if isinstance(done, Ready) or done.run != self._runs:
                raise ValueError("it answered another question")
            if isinstance(done, Refused):
                raise _error_of(done)
            return {place.name: self._copy(place, done.shapes.get(place.name)) for place in self._outputs}
        except (OSError, ValueError, TypeError) as error:
            raise self._loss(error) from None

    def close(self) -> None:
        """End the child; the runtime can't be used afterwards. May be called twice."""
        self._lost = self._lost or "it was closed"
        self._inputs = {}  # views of the memory that goes now
        self._child.end()

    def _copy(self, place: Place, shape: tuple[int, ...] | None) -> Array:
        copy: Array = place.view(self._memory, shape).copy()
        return copy

    def _loss(self, error: Exception) -> DeviceLostError:
        self._lost = self._child.verdict(error)
        self.close()
        return DeviceLostError(self._lost)


class _Child:
    """The process, and what joins it to this one."""

    def __init__(self, entry: str, model: bytes, wanted: Build, environment: Mapping[str, str]) -> None:
        """Raises OSError."""
        with ExitStack() as given, ExitStack() as kept:
            self._memory = _held(kept, os.memfd_create("tensors", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING))
            self._log = _held(kept, os.memfd_create("log"))
            fcntl.fcntl(self._log, fcntl.F_SETFL, os.O_APPEND)  # after the child has emptied it, from its start
            self._words, words = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            kept.enter_context(self._words)
            given.enter_context(words)
            lifeline, ours = os.pipe()
            _held(given, lifeline)
            _held(kept, ours)  # never used: the kernel closes it when this process ends, and kills the child then
            request = Request(
                entry=entry,
                lifeline=lifeline,
                words=words.fileno(),
                memory=self._memory,
                label=wanted.label,
                threads=wanted.threads,
                library=wanted.library,
                cache_dir=str(wanted.cache_dir.absolute()) if wanted.cache_dir else None,
            )
            self._process = start(
                _HOST,
                encode(request).decode(),
                stdin=_held(given, in_memory(model, "model")),
                stdout=self._log,
                stderr=self._log,
                environment=environment,
                pass_fds=(lifeline, words.fileno(), self._memory),
            )
            self._kept = kept.pop_all()

    @property
    def pid(self) -> int:
        return self._process.pid

    def ask(self, word: bytes, timeout_s: float) -> Ready | Done | Refused:
        """Raises OSError, TimeoutError, ValueError."""
        self._words.send(word)
        return self.answer(timeout_s)

    def answer(self, timeout_s: float) -> Ready | Done | Refused:
        """Raises ConnectionError where nobody is there any more, TimeoutError, ValueError for nonsense."""
        self._words.settimeout(timeout_s)
        word = self._words.recv(WORDS_BYTES_MOST)
        if not word:
            raise ConnectionError("its end of the line is closed")
        return read_answer(word)

    def map(self, size: int) -> mmap.mmap:
        """The tensors, once the child has given them their size. Raises OSError, ValueError."""
        # touching what shrank would kill this process, too
        fcntl.fcntl(self._memory, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL)
        memory = mmap.mmap(self._memory, size)
        self._kept.callback(_unmap, memory)
        return memory

    def verdict(self, error: Exception) -> str:
        """What became of it, in one clause."""
        words = last_words(self._said())
        words = f" ({one_line(words)})" if words else ""
        if isinstance(error, TimeoutError):
            return f"no answer in time, so its process was stopped{words}"
        if not isinstance(error, ConnectionError):
            return f"its process answered nonsense ({one_line(error)})"
        try:
            status = self._process.wait(_END_S)
        except subprocess.TimeoutExpired:
            return f"its process answers no more{words}"
        if status >= 0:
            return f"its process ended with status {status}{words}"
        names = {int(known): known.name for known in signal.Signals}
        why = _OUT_OF_MEMORY if -status == signal.SIGKILL else ""
        return f"its process died: {names.get(-status, f'signal {-status}')}{words}{why}"

    def end(self) -> None:
        """May be called twice."""
        if self._process.returncode is None:
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)  # helpers that the library started go too
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(_END_S)
        self._kept.close()

    def _said(self) -> str:
        size = os.fstat(self._log).st_size
        return os.pread(self._log, _LOG_BYTES, max(0, size - _LOG_BYTES)).decode(errors="replace")


def _held(stack: ExitStack, descriptor: int) -> int:
    stack.callback(os.close, descriptor)
    return descriptor


def _unmap(memory: mmap.mmap) -> None:
    with suppress(BufferError):  # a traceback holds a view of it: it goes with that
        memory.close()


def _error_of(answer: Done | Refused) -> EdgeAgentError:
    """Raises ValueError for what is no error of ours."""
    if isinstance(answer, Done):
        raise ValueError("it began with the end of a run")
    try:
        return answer.error()
    except KeyError as error:
        raise ValueError(f"it names an error {error}") from error
