"""``command:PROGRAM ARGS``: a program that prints one JSON document, run every ``interval``, without a shell.

It runs in the configuration's folder, in a process group of its own, which is killed as a whole when the program
takes longer than ``timeout`` or the sensor is closed: nothing that it started may outlive it then.
"""

from __future__ import annotations

import contextlib
import os
import selectors
import shlex
import shutil
import signal
import subprocess
from pathlib import Path
from typing import IO

from edge_agent.config.schema import SensorConfig
from edge_agent.errors import ConfigError, DeviceError
from edge_agent.io.sensors.context import SensorContext, source_of
from edge_agent.io.sensors.json_path import JsonFields
from edge_agent.io.sensors.pacing import Pacer
from edge_agent.records import RawSample

OUTPUT_BYTES_MOST = 64 * 1024  # of each of the two; a program that prints more is no sensor
SLICE_S = 0.1  # how often a running program's wait looks at `stopping`
REAP_S = 1.0  # a killed process that does not end (it hangs in a driver) is left to the system

_MESSAGE_CHARS = 200


class CommandSensor:
    """One sample a run, stamped when the program ended."""

    def __init__(self, config: SensorConfig, argument: str, context: SensorContext) -> None:
        """Raises ConfigError for a command line or a ``select`` that can't be read."""
        self._config = config
        self._context = context
        self._fields = JsonFields(config)
        self._pacer = Pacer(config, context)
        self._run: _Run | None = None
        self._began_ns = 0
        try:
            self._argv = shlex.split(argument)
        except ValueError as error:
            raise ConfigError(f"{source_of(config)} can't be split into words: {error}; check the quotes") from None
        if not self._argv:
            raise ConfigError(f"{source_of(config)} names no program")

    def open(self) -> None:
        """Look for the program; ``read`` starts it. Raises DeviceError."""
        program = self._argv[0]
        # With a slash it is a path from the folder on, as it will be for the child; without, a name in PATH.
        if shutil.which(str(self._context.folder / program) if "/" in program else program) is None:
            raise self._error(f"names {program}, which is no program; correct the path or its permissions")

    def read(self, timeout_s: float) -> RawSample | None:
        """The next run's values; None while it is not due or still runs. Raises DeviceError when it fails."""
        clock = self._context.clock
        deadline_ns = clock.monotonic_ns() + round(timeout_s * 1e9)
        if self._run is None and not self._pacer.wait(timeout_s):
            return None
        run = self._run = self._run or self._start()
        while not run.wait(min(SLICE_S, max(0.0, (deadline_ns - clock.monotonic_ns()) / 1e9))):
            now = clock.monotonic_ns()
            if now - self._began_ns > self._config.timeout:
                self.close()
                raise self._error(f"gave no answer within {self._config.timeout.seconds:g} s (timeout)")
            if len(run.output) >= OUTPUT_BYTES_MOST:
                self.close()
                raise self._error(f"printed more than {OUTPUT_BYTES_MOST} bytes; it must print one JSON document")
            if now >= deadline_ns or self._context.stopping.is_set():
                return None
        self._run = None
        run.release()
        return self._sample(run)

    def close(self) -> None:
        """Kill the program, if it runs, and all that it started."""
        run, self._run = self._run, None
        if run is not None:
            run.kill()

    def _start(self) -> _Run:
        self._began_ns = self._context.clock.monotonic_ns()
        try:
            return _Run(self._argv, self._context.folder)
        except OSError as error:
            raise self._error(f"can't be started: {error.filename}: {error.strerror}; correct the path") from None
        except ValueError as error:  # a zero byte in an argument
            raise self._error(f"can't be started: {error}") from None

    def _sample(self, run: _Run) -> RawSample:
        if run.status:
            how = f"status {run.status}" if run.status > 0 else f"signal {-run.status}"
            raise self._error(f"ended with {how}{run.complaint()}")
        try:
            values = self._fields.values(run.output.decode("utf-8"))
        except ValueError as error:
            text = run.output[:_MESSAGE_CHARS].decode("utf-8", errors="replace").strip()
            raise self._error(f"printed no usable JSON: {error}, found {text[:80]!r}{run.complaint()}") from None
        return RawSample(self._context.clock.monotonic_ns(), values)

    def _error(self, what: str) -> DeviceError:
        return DeviceError(f"{source_of(self._config)} {what}")


class _Run:
    """One run of the program and what it has printed so far."""

    def __init__(self, argv: list[str], folder: Path) -> None:
        """Raises OSError when the program can't be started."""
        self._process = subprocess.Popen(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd=folder,
            start_new_session=True,
        )
        self.output = bytearray()
        self.errors = bytearray()
        self.status: int | None = None
        self._selector = selectors.DefaultSelector()
        self._register(self._process.stdout, self.output)
        self._register(self._process.stderr, self.errors)

    def wait(self, slice_s: float) -> bool:
        """Take in what it prints, for about that long. True: it has ended, ``status`` says how."""
        if self._selector.get_map():
            for key, _ in self._selector.select(slice_s):
                self._take(key)
            # Both pipes may stay open in a process left behind in the background: the program's own end counts.
            self.status = self._process.poll()
        else:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.status = self._process.wait(slice_s)
        if self.status is not None:
            for key in list(self._selector.get_map().values()):
                self._take(key)
        return self.status is not None

    def kill(self) -> None:
        """SIGKILL at once: a program that overran its time can't be trusted to heed anything softer."""
        # Refused where the program runs as somebody else (sudo): nothing more can be done from here.
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(REAP_S)
        self.release()

    def release(self) -> None:
        """Close the pipes."""
        self._selector.close()
        for pipe in (self._process.stdout, self._process.stderr):
            if pipe is not None:
                pipe.close()

    def complaint(self) -> str:
        """The first line on stderr, for the end of a message."""
        lines = self.errors.decode("utf-8", errors="replace").strip().splitlines()
        return f": {lines[0][:_MESSAGE_CHARS]}" if lines else ""

    def _register(self, pipe: IO[bytes] | None, into: bytearray) -> None:
        if pipe is not None:
            os.set_blocking(pipe.fileno(), False)
            self._selector.register(pipe, selectors.EVENT_READ, into)

    def _take(self, key: selectors.SelectorKey) -> None:
        """What is in the pipe now, in one read: a program that never stops printing must not hold us here.

        What goes beyond the bound is dropped.
        """
        try:
            chunk = os.read(key.fd, OUTPUT_BYTES_MOST)
        except BlockingIOError:
            return
        if chunk:
            key.data.extend(chunk[: OUTPUT_BYTES_MOST - len(key.data)])
        else:
            self._selector.unregister(key.fileobj)
