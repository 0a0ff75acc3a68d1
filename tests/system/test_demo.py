"""The demo as a person runs it: real broker, real daemon, and nothing left behind however it ends."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from tests.simulators.waiting import wait_for

EXAMPLE = Path(__file__).resolve().parents[2] / "examples/conveyor"
MOSQUITTO = shutil.which("mosquitto", path=os.environ.get("PATH", "") + ":/usr/sbin")
LIMIT_S = 90

pytestmark = pytest.mark.skipif(MOSQUITTO is None, reason="the broker mosquitto is not installed")


@contextmanager
def demo(folder: Path, *arguments: str, example: Path = EXAMPLE) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, str(example / "demo.py"), "--mosquitto", str(MOSQUITTO), "--folder", str(folder)]
    with subprocess.Popen(
        [*command, *arguments], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as running:
        try:
            yield running
        finally:
            running.kill()


def after_a_prediction(running: subprocess.Popen[str]) -> list[int]:
    """Waits for one; returns the processes that the demo has started."""
    assert running.stdout is not None
    for line in running.stdout:
        if re.search(r"\d\d:\d\d:\d\d\.\d{3}  .* ms  ", line):
            return [int(pid) for pid in Path(f"/proc/{running.pid}/task/{running.pid}/children").read_text().split()]
    raise AssertionError("the demo ended without a prediction")


def is_alive(pid: int) -> bool:
    with suppress(FileNotFoundError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return False


def test_the_demo_ends_by_itself_and_sums_up_what_was_received(tmp_path: Path) -> None:
    with demo(tmp_path, "--for", "2s") as running:
        output, _ = running.communicate(timeout=LIMIT_S)
    assert running.returncode == 0, output
    assert re.search(r"^received: \d+ predictions at [\d.]+/s, none missing$", output, re.MULTILINE), output
    assert re.search(r"^inspect: \d+ frames, \d+ predictions$", output, re.MULTILINE), output
    assert "latency from frame to result: p50" in output
    assert not tmp_path.exists(), "the demo's folder goes when all went well"


@pytest.mark.soak
def test_the_demo_of_models_over_the_air_commits_a_good_one_and_gives_up_two_bad_ones(tmp_path: Path) -> None:
    with demo(tmp_path, "--ota") as running:
        output, _ = running.communicate(timeout=2 * LIMIT_S)
    assert running.returncode == 0, output
    assert re.search(r"^ +conveyor-1\.2\.0-1: done$", output, re.MULTILINE), output
    assert re.search(r"demo  rejected  runs 1\.2\.0  agreement: ", output), output
    assert re.search(r"demo  rolled back  runs 1\.2\.0  output: .* is not finite", output), output
    assert re.search(r"^received: \d+ predictions at [\d.]+/s, none missing$", output, re.MULTILINE), output
    assert not tmp_path.exists(), "the demo's folder goes when all went well"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_demo_that_is_told_to_stop_leaves_no_process(tmp_path: Path, number: signal.Signals) -> None:
    with demo(tmp_path) as running:
        children = after_a_prediction(running)
        running.send_signal(number)
        running.communicate(timeout=LIMIT_S)
        assert running.returncode == 0
        assert len(children) == 2
        assert not any(map(is_alive, children))


def test_a_demo_that_is_killed_leaves_no_process(tmp_path: Path) -> None:
    with demo(tmp_path) as running:
        children = after_a_prediction(running)
        running.kill()
        wait_for(lambda: not any(map(is_alive, children)), "the broker and the daemon end with the demo")


def test_a_demo_whose_reader_goes_away_ends(tmp_path: Path) -> None:
    with demo(tmp_path) as running:
        after_a_prediction(running)
        assert running.stdout is not None
        running.stdout.close()
        assert running.wait(LIMIT_S) == 0


def test_a_daemon_that_does_not_start_is_shown_with_its_own_words(tmp_path: Path) -> None:
    example = tmp_path / "example"
    example.mkdir()
    for name in ("demo.py", "place_config.py", "subscriber.py"):
        shutil.copy(EXAMPLE / name, example)
    (example / "agent.toml").write_text('[device]\nid = "demo"\nnonsense = 1\n\n[mqtt]\nport = 1883\n')
    with demo(tmp_path / "run", example=example) as running:
        output, _ = running.communicate(timeout=LIMIT_S)
    assert running.returncode == 1
    assert "the daemon ended with status 2" in output
    assert "nonsense" in output
