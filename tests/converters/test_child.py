"""Child processes that do their job, refuse it, die at it or are stopped at it. The workers here need no framework."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from converters import child
from converters.errors import EnvironmentMissingError, WorkerFailedError
from converters.progress import Advance
from converters.workers import protocol
from edge_agent.errors import ConfigError
from tests.simulators.waiting import wait_for

ROOT = Path(__file__).resolve().parents[2]
WORKER = """
import os, signal, subprocess, sys, time
from converters.workers.protocol import RefusedError, work

def answer(job):
    return {"got": job.arguments, "environment": dict(os.environ), "path": sys.path}

def double(job):
    job.save_arrays("outputs", {name: 2 * rows for name, rows in job.arrays("inputs").items()})
    return {}

def refuse(job):
    raise RefusedError("input 'a' takes text; give numbers")

def fail(job):
    print("about to fail")
    return {"x": 1 / 0}

def leave(job):
    print("nothing more to say")
    sys.stdout.flush()
    os._exit(7)

def killed(job):
    os.kill(os.getpid(), signal.SIGKILL)

def missing(job):
    import a_framework_that_is_not_there

def count(job):
    for done in range(1, job.arguments["total"] + 1):
        job.progress(done, job.arguments["total"], "counting")
    return {}

def cut(job):
    os.write(job._pipe, b"[1, 2")
    return {}

def talk(job):
    for _ in range(job.arguments["lines"]):
        print("x" * 999)
    os._exit(1)

def hang(job):
    (job.folder / "pid").write_text(str(os.getpid()))
    job.progress(0, 1, "hanging")
    time.sleep(600)

def leave_a_child_behind(job):
    # it inherits the pipe, as a framework's forked helpers do
    started = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], pass_fds=(job._pipe,))
    return {"pid": started.pid}

def main():
    work({name: value for name, value in globals().items() if callable(value)})
"""


class Recorder:
    """A Progress that keeps what it was told; ``on_advance`` is called each time."""

    def __init__(self, on_advance: Any = None) -> None:
        self.steps: list[str] = []
        self.seen: list[tuple[int, int | None, str | None]] = []
        self._on_advance = on_advance

    @contextmanager
    def step(self, text: str, total: int | None = None) -> Iterator[Advance]:
        self.steps.append(text)

        def advance(done: int, total: int | None = None, text: str | None = None) -> None:
            self.seen.append((done, total, text))
            if self._on_advance is not None:
                self._on_advance()

        yield advance

    def say(self, text: str) -> None:
        self.steps.append(text)


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """run_worker with the worker above; this Python stands in for the environment."""
    monkeypatch.setattr(child, "RUN", workers_with(tmp_path, WORKER))
    monkeypatch.setenv("EDGE_CONVERT_KERAS", sys.executable)

    def start(operation: str, progress: Any = None, variables: Any = None, **arguments: Any) -> dict[str, Any]:
        folder = tmp_path / "job"
        return child.run_worker(
            "keras", "odd", operation, arguments, folder, progress=progress, variables=variables, text="odd work"
        )

    return start


def workers_with(folder: Path, worker: str) -> Path:
    """A copy of the real start and protocol, with one more worker beside them."""
    target = folder / "converters" / "workers"
    target.mkdir(parents=True)
    for name in ("__init__.py", "run.py", "protocol.py"):
        (target / name).write_text((ROOT / "converters" / "workers" / name).read_text())
    (target / "odd.py").write_text(worker)
    return target / "run.py"


def alive(pid: int) -> bool:
    """Whether it still runs; a zombie that nobody has asked for yet does not."""
    try:
        return "State:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False


def test_a_worker_gets_its_arguments_and_its_answer_comes_back(run: Any) -> None:
    answer = run("answer", number=3, text="ü", nothing=None)
    assert answer["got"] == {"number": 3, "text": "ü", "nothing": None}


def test_arrays_of_any_name_go_there_and_back(run: Any, tmp_path: Path) -> None:
    arrays = {"image/0:x ü": np.arange(6, dtype=np.float32).reshape(2, 3), "b": np.array([1, 2], np.int64)}
    protocol.save_arrays(tmp_path / "job", "inputs", arrays)
    run("double")
    outputs = protocol.load_arrays(tmp_path / "job", "outputs")
    assert outputs.keys() == arrays.keys()
    for name, values in arrays.items():
        assert outputs[name].dtype == values.dtype
        assert np.array_equal(outputs[name], 2 * values)


def test_a_worker_sees_neither_this_projects_packages_nor_its_settings(
    run: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", "/somewhere/else")
    monkeypatch.setenv("KERAS_BACKEND", "jax")
    monkeypatch.setenv("TF_USE_LEGACY_KERAS", "1")
    answer = run("answer")
    assert "/somewhere/else" not in answer["path"]
    assert answer["environment"]["KERAS_BACKEND"] == "tensorflow"
    assert answer["environment"]["TF_USE_LEGACY_KERAS"] == "0"
    assert run("answer", variables={"TF_USE_LEGACY_KERAS": "1"})["environment"]["TF_USE_LEGACY_KERAS"] == "1"


def test_what_a_worker_refuses_is_the_persons_to_mend(run: Any) -> None:
    with pytest.raises(ConfigError, match=r"^input 'a' takes text; give numbers$"):
        run("refuse")


def test_a_module_that_the_environment_lacks_is_named_with_its_python(run: Any) -> None:
    with pytest.raises(ConfigError, match="has no module 'a_framework_that_is_not_there'") as caught:
        run("missing")
    assert sys.executable in str(caught.value)


def test_a_worker_that_fails_leaves_its_last_words(run: Any) -> None:
    with pytest.raises(WorkerFailedError, match="ended with exit code 1") as caught:
        run("fail")
    assert "ZeroDivisionError" in str(caught.value)
    assert caught.value.exit_code == 1


def test_a_worker_that_leaves_without_an_answer_is_a_failure(run: Any) -> None:
    with pytest.raises(WorkerFailedError, match=r"ended with exit code 7; .*\n    nothing more to say"):
        run("leave")


def test_a_worker_that_is_killed_is_said_to_be(run: Any) -> None:
    with pytest.raises(
        WorkerFailedError, match=r"keras process \(odd: killed\) was ended by SIGKILL \(out of memory\?"
    ):
        run("killed")


def test_an_answer_of_an_earlier_run_is_never_taken_for_this_one(run: Any, tmp_path: Path) -> None:
    run("answer")
    assert (tmp_path / "job" / "result.json").exists()
    with pytest.raises(WorkerFailedError):
        run("leave")


def test_progress_comes_through_whole_and_in_order(run: Any) -> None:
    recorder = Recorder()
    run("count", progress=recorder, total=5000)
    assert recorder.steps == ["odd work"]
    assert recorder.seen == [(done, 5000, "counting") for done in range(1, 5001)]


def test_progress_that_is_cut_short_is_survived(run: Any) -> None:
    recorder = Recorder()
    assert run("cut", progress=recorder) == {}
    assert recorder.seen == []


def test_a_worker_may_say_as_much_as_it_likes(run: Any) -> None:
    with pytest.raises(WorkerFailedError) as caught:
        run("talk", lines=20_000)
    assert len(str(caught.value)) < 5000


def test_what_a_worker_started_ends_with_it(run: Any) -> None:
    pid = run("leave_a_child_behind")["pid"]
    wait_for(lambda: not alive(pid), "the worker's own child has ended")


def test_a_python_that_does_not_start_is_named(run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    odd = tmp_path / "python"
    odd.write_bytes(b"\x7fELF nonsense")
    odd.chmod(0o755)
    monkeypatch.setenv("EDGE_CONVERT_KERAS", str(odd))
    with pytest.raises(ConfigError, match=f"{odd} can't be started"):
        run("answer")


def test_a_missing_environment_gives_the_command(run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("EDGE_CONVERT_KERAS")
    monkeypatch.setenv("EDGE_CONVERT_HOME", str(tmp_path))
    with pytest.raises(EnvironmentMissingError, match="`edge-convert setup keras`"):
        run("answer")


def test_an_interrupt_ends_the_worker_at_once(run: Any, tmp_path: Path) -> None:
    recorder = Recorder(on_advance=lambda: signal.pthread_kill(threading.main_thread().ident, signal.SIGINT))
    # a shell starts what runs in its background with interrupts ignored
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            run("hang", progress=recorder)
    finally:
        signal.signal(signal.SIGINT, before)
    assert not alive(int((tmp_path / "job" / "pid").read_text()))


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel ends it, and only Linux does")
def test_a_worker_does_not_outlive_a_parent_that_is_killed(tmp_path: Path) -> None:
    runner = workers_with(tmp_path, WORKER)
    code = (
        "import pathlib, sys\nfrom converters import child\n"
        f"child.RUN = pathlib.Path({json.dumps(str(runner))})\n"
        f"child.run_worker('keras', 'odd', 'hang', {{}}, pathlib.Path({json.dumps(str(tmp_path / 'job'))}))\n"
    )
    settings = {**os.environ, "EDGE_CONVERT_KERAS": sys.executable}
    parent = subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, env=settings)
    try:
        pid = int(wait_for(lambda: _read(tmp_path / "job" / "pid"), "the worker has started"))
    finally:
        parent.kill()
        parent.wait()
    wait_for(lambda: not alive(pid), "the worker has ended")


def _read(path: Path) -> str:
    return path.read_text() if path.exists() else ""
