"""One back-end tried with one model in a child process, where it may abort, crash or hang at no cost.

Bytes that passed there load here too: the same library does the same steps with them. That is no proof that they
are undamaged, which only a hash and a golden input can give.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from edge_agent import limits
from edge_agent.errors import DeviceError
from edge_agent.io.priority import put_behind
from edge_agent.io.python_child import in_memory, start
from edge_agent.io.runtimes import backend, backends, plugins_of
from edge_agent.io.runtimes.litert import LibraryName, one_line
from edge_agent.io.runtimes.native_log import last_words
from edge_agent.io.runtimes.probe_child import ProbeResult

if TYPE_CHECKING:
    from edge_agent.config.schema import DelegateConfig

NO_ANSWER = "no answer within"  # begins the reason of one that took too long
_CHILD = "edge_agent.io.runtimes.probe_child"
_WHY = {
    "SIGKILL": "the system stopped it, probably for want of memory",
    "SIGILL": "the library needs instructions that this processor lacks",
}
_WHY_PLUGIN = "the library's ABI does not fit this runtime; install a build for it"
_WHY_MODEL = "the model is damaged, or breaks this runtime"


class Probe:
    """A child process that tries one back-end. ``start`` returns at once, ``result`` waits for the verdict.

    ``behind``: other models run meanwhile, and come first."""

    def __init__(
        self,
        model: bytes | Path,
        delegate: str,
        *,
        threads: int,
        external: Mapping[str, DelegateConfig],
        library: LibraryName | None = None,
        cache_dir: Path | None = None,
        behind: bool = False,
    ) -> None:
        plugins = {name: plugin.absolute() for name, plugin in plugins_of(external).items()}
        self._plugin = backend(delegate, backends(plugins)).plugin  # a wrong name fails here, not in the child
        self._model = model
        self._behind = behind
        self._request = json.dumps(
            {
                "parent": os.getpid(),
                "delegate": delegate,
                "threads": threads,
                "library": library,
                "cache_dir": None if cache_dir is None else str(cache_dir.absolute()),
                "plugins": {
                    name: (*plugin._replace(options=dict(plugin.options)),) for name, plugin in plugins.items()
                },
            }
        )
        self._child: subprocess.Popen[bytes] | None = None
        self._result: ProbeResult | None = None

    def start(self) -> Probe:
        """Start the child. Raises DeviceError where the system has no process left or the file can't be read."""
        try:
            model = _descriptor(self._model)
            try:
                self._child = start(_CHILD, self._request, stdin=model, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
            finally:
                os.close(model)
        except OSError as error:
            raise DeviceError(f"the back-end can't be probed: {error}") from error
        if self._behind:
            put_behind(self._child.pid)
        return self

    def result(self, timeout_s: float = limits.PROBE_TIMEOUT_S) -> ProbeResult:
        """The verdict, waiting for at most that long: a child that takes longer is killed and found unusable."""
        if self._result is None:
            if self._child is None:
                self.start()
            assert self._child is not None  # for the type checker: start() sets it or raises
            try:
                out, err = self._child.communicate(timeout=timeout_s)
                self._result = self._verdict(self._child.returncode, out, err)
            except subprocess.TimeoutExpired:
                self._result = ProbeResult(False, f"{NO_ANSWER} {timeout_s:g} s, so it was stopped")
            finally:
                self.cancel()
        return self._result

    def cancel(self) -> None:
        """Stop the child if it still runs. May be called at any time, more than once."""
        child = self._child
        if child is None or child.returncode is not None:
            return
        os.killpg(child.pid, signal.SIGKILL)  # a session of its own: helpers that the library started go too
        child.wait()
        for stream in (child.stdout, child.stderr):
            if stream:
                stream.close()

    def kill(self) -> None:
        """Let a ``result`` that another thread waits for come at once. May be called at any time."""
        if self._child is not None and self._child.returncode is None:
            with suppress(ProcessLookupError):
                os.killpg(self._child.pid, signal.SIGKILL)

    def _verdict(self, status: int, out: bytes, err: bytes) -> ProbeResult:
        if status < 0:
            names = {int(known): known.name for known in signal.Signals}
            name = names.get(-status, f"signal {-status}")
            why = _WHY.get(name, _WHY_PLUGIN if self._plugin else _WHY_MODEL)
            return ProbeResult(False, f"the process died: {name}{_last_words(err)}; {why}")
        try:
            return ProbeResult(**json.loads(out))
        except (ValueError, TypeError):
            return ProbeResult(False, f"the process ended with status {status}{_last_words(err)}")


def _descriptor(model: bytes | Path) -> int:
    """Where the child reads the model from, without a pipe to feed and without touching a disk."""
    if isinstance(model, Path):
        return os.open(model, os.O_RDONLY)
    return in_memory(model, "model")


def _last_words(err: bytes) -> str:
    words = one_line(last_words(err.decode(errors="replace")))
    return f" ({words})" if words else ""
