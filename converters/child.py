"""Runs a worker in the environment that its framework needs, and brings its result or its last words back."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from converters.environments import python_of
from converters.errors import WorkerFailedError
from converters.progress import Advance, Progress, Silent
from converters.records import Environment
from edge_agent.errors import ConfigError

RUN = Path(__file__).parent / "workers" / "run.py"
_LAST_LINES = 12
_LAST_BYTES = 64 * 1024  # read of the log's end; a framework may have said gigabytes
_LINE_CHARS = 300


def run_worker(
    environment: Environment,
    worker: str,
    operation: str,
    arguments: Mapping[str, Any],
    folder: Path,
    *,
    variables: Mapping[str, str] | None = None,
    progress: Progress | None = None,
    text: str = "",
) -> dict[str, Any]:
    """The result of ``operation`` of converters/workers/WORKER.py, run on ``folder`` (which holds its arrays, and gets
    what it writes). ``text`` says to a person what is being done.

    Raises EnvironmentMissingError, ConfigError for what the worker refuses, WorkerFailedError when it dies.
    """
    python = python_of(environment)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "result.json").unlink(missing_ok=True)
    with (progress or Silent()).step(text or f"{environment}: {operation}", None) as advance:
        code = _run(python, worker, operation, arguments, folder, variables or {}, advance)
    try:
        answer = json.loads((folder / "result.json").read_text())
    except (OSError, ValueError):
        raise WorkerFailedError(_last_words(environment, worker, operation, code, folder)) from None
    if not answer["ok"]:
        raise ConfigError(answer["error"])
    result: dict[str, Any] = answer["result"]
    return result


def _run(
    python: Path,
    worker: str,
    operation: str,
    arguments: Mapping[str, Any],
    folder: Path,
    variables: Mapping[str, str],
    advance: Advance,
) -> int:
    reading, writing = os.pipe()
    job = {"operation": operation, "arguments": dict(arguments), "progress_fd": writing}
    (folder / "job.json").write_text(json.dumps(job))
    command = [str(python), str(RUN), worker, str(folder), str(os.getpid())]
    with os.fdopen(reading, "rb") as progress:
        try:
            # what a framework leaves behind goes with the job
            own = {"TMPDIR": str(folder.absolute()), **variables}
            process = _start(command, folder / "log.txt", writing, own)
        finally:
            os.close(writing)
        reader = threading.Thread(target=_follow, args=(progress, advance), name="worker-progress", daemon=True)
        reader.start()
        try:
            os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        finally:
            # what it started must not outlive it, nor hold the pipe open. It is not reaped yet, so the number of its
            # group can't be another's; Ctrl-C comes here too
            os.killpg(process.pid, signal.SIGKILL)
            code = process.wait()
            reader.join()
    return code


def _start(command: list[str], log: Path, pipe: int, variables: Mapping[str, str]) -> subprocess.Popen[bytes]:
    with log.open("wb") as stream:
        try:
            return subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=subprocess.STDOUT,
                env=_variables(variables),
                pass_fds=(pipe,),
                start_new_session=True,  # a group of its own, which ends with it
            )
        except OSError as error:
            raise ConfigError(f"{command[0]} can't be started: {error.strerror or error}") from None


def _follow(stream: Any, advance: Advance) -> None:
    for line in stream:
        with contextlib.suppress(ValueError):  # cut short: the worker was killed while it wrote
            done, total, text = json.loads(line)
            advance(done, total, text)


def _variables(extra: Mapping[str, str]) -> dict[str, str]:
    kept = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}
    quiet = {"TF_CPP_MIN_LOG_LEVEL": "2", "CUDA_VISIBLE_DEVICES": "-1", "TF_ENABLE_ONEDNN_OPTS": "0"}
    # another backend, or Keras 2 in the place of 3, would come from the user's own settings
    own = {"KERAS_BACKEND": "tensorflow", "TF_USE_LEGACY_KERAS": "0"}
    # hash order decides the order of nodes in some exporters, and so the bytes of the file
    return {**kept, **quiet, **own, "PYTHONHASHSEED": "0", "PYTHONNOUSERSITE": "1", **extra}


def _last_words(environment: str, worker: str, operation: str, code: int, folder: Path) -> str:
    died = f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
    hint = " (out of memory?)" if code == -signal.SIGKILL else ""
    lines = _end_of(folder / "log.txt").strip().splitlines()[-_LAST_LINES:]
    last = [line if len(line) <= _LINE_CHARS else line[: _LINE_CHARS - 1] + "…" for line in lines]
    said = "\n".join(["; the end of what it said:", *(f"    {line}" for line in last)]) if last else ""
    return f"the {environment} process ({worker}: {operation}) {died}{hint}{said}"


def _end_of(log: Path) -> str:
    with log.open("rb") as stream:
        stream.seek(max(0, log.stat().st_size - _LAST_BYTES))
        return stream.read().decode(errors="replace")
