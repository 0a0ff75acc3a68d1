"""The parent's side of a child: whatever it does, it is bounded in time and memory, and gone afterwards."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from edge_agent.children import process
from edge_agent.children.process import ERR_BYTES_MOST, OUT_BYTES_MOST, Ears, Ended, end_child, spawn, wait
from edge_agent.children.shadow import _line
from edge_agent.children.verify import _died
from edge_agent.errors import UpdateError
from edge_agent.io.priority import BEHIND
from edge_agent.rollouts import Reason
from tests.simulators.waiting import wait_for

ODD = "tests.simulators.odd_child"


def test_a_child_that_floods_both_streams_costs_a_bounded_memory_and_its_last_words_are_heard() -> None:
    ended = wait(spawn(ODD, "floods"), 60.0)
    assert ended.status == 3
    assert len(ended.out) == OUT_BYTES_MOST
    assert len(ended.why) < ERR_BYTES_MOST
    assert ended.why == "ended with status 3 (last words)"


@pytest.mark.parametrize("kind", ["stays", "closes its streams and stays"])
def test_a_child_that_ignores_its_end_is_made_to_end(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "TERMINATE_S", 0.05)
    child = spawn(ODD, kind)
    with pytest.raises(UpdateError, match=r"no verdict within 0\.4 s") as caught:
        wait(child, 0.4)
    assert (caught.value.reason, caught.value.final) == (Reason.TIMEOUT, True)
    assert not Path(f"/proc/{child.pid}").exists()


def test_a_child_runs_behind_everybody_else_from_its_first_moment() -> None:
    child = spawn(ODD, "stays")
    try:
        assert os.getpriority(os.PRIO_PROCESS, child.pid) == BEHIND
    finally:
        end_child(child)


def test_a_child_that_ignores_its_end_ends_with_the_process_that_started_it() -> None:
    program = (
        f"import time; from edge_agent.children.process import spawn; print(spawn({ODD!r}, 'stays').pid, flush=True)"
    )
    parent = subprocess.Popen([sys.executable, "-c", f"{program}; time.sleep(600)"], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    child = int(parent.stdout.readline())
    try:
        wait_for(lambda: "odd_child" in command_of(child), "the child runs")
        parent.kill()
        wait_for(lambda: not command_of(child), "the child is gone")
    finally:
        parent.kill()
        parent.wait()
        parent.stdout.close()
        if command_of(child):
            os.kill(child, signal.SIGKILL)


def command_of(pid: int) -> str:
    """Empty when it is dead, also where nobody has reaped it."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_text()
    except OSError:
        return ""


def test_where_no_process_can_be_started_the_world_is_at_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(11, "Resource temporarily unavailable")

    monkeypatch.setattr(process.subprocess, "Popen", refuse)
    before = len(list(Path("/proc/self/fd").iterdir()))
    with pytest.raises(UpdateError, match="Resource temporarily unavailable") as caught:
        spawn(ODD, "stays")
    assert not caught.value.final
    assert len(list(Path("/proc/self/fd").iterdir())) == before


@pytest.mark.parametrize(
    ("status", "words", "most_mb", "reason", "final"),
    [
        (-11, "", 2000.0, Reason.CRASHED, True),
        (-9, "", 2000.0, Reason.MEMORY, False),
        (-6, "what(): std::bad_alloc", 2000.0, Reason.MEMORY, True),
        (-6, "what(): std::bad_alloc", 100.0, Reason.MEMORY, False),
        (1, "ImportError: no numpy", 2000.0, Reason.CRASHED, True),
    ],
)
def test_how_it_died_says_who_is_at_fault(status: int, words: str, most_mb: float, reason: Reason, final: bool) -> None:
    error = _died(Ended(status, b"", words), most_mb)
    assert (error.reason, error.final) == (reason, final)


@pytest.mark.parametrize("line", [b"", b"{", b"\xff\xfe", b'{"failed": 3}', b"[]"])
def test_an_answer_without_sense_is_the_fault_of_the_child(line: bytes) -> None:
    failed = _line(line).failed
    assert failed is not None
    assert (failed.reason, failed.final) == (Reason.CRASHED, True)


def test_nothing_of_a_child_is_left_open() -> None:
    before = len(list(Path("/proc/self/fd").iterdir()))
    ears = Ears(spawn(ODD, "stays"))
    ears.close()
    ears.close()
    assert len(list(Path("/proc/self/fd").iterdir())) == before
    assert resource.getrlimit(resource.RLIMIT_DATA)[0] == resource.RLIM_INFINITY  # the child's limit is the child's
