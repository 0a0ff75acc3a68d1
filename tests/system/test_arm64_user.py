"""The package's programs for arm64, each instruction translated by qemu-user, beside the same on this machine.

Emulation of a CPU's instructions: neither its speed nor its caches, and no kernel of a board.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from tests.simulators.broker import Mosquitto
from tests.simulators.ledger import Ledger, once_each
from tests.simulators.subscriber import Subscriber
from tests.simulators.waiting import wait_for
from tests.system import qemu_user
from tests.system.arm64 import EXAMPLE, board
from tests.system.debian_machine import REPOSITORY, cache
from tests.system.virtual_machine import ARM64
from tests.system.vm_image import finished_root, inside

pytestmark = [
    pytest.mark.system,
    pytest.mark.skipif(qemu_user.unavailable() is not None, reason=qemu_user.unavailable() or ""),
]

MODEL = "model/conveyor.tflite"
MOBILENET = "tf2_mobilenet_v2_1.0_224_ptq.tflite"
FEATURES = ("weight=115.4", "temperature=64.4", "vibration=1.45")
# XNNPACK's kernels for ARM round some sums otherwise than those for x86-64: the same class, a few steps of 1/256.
STEP = 1 / 256
CONVEYOR_STEPS, MOBILENET_STEPS = 2, 8
START_LIMIT_S = 600.0
RUN_S = 60.0


class Arm64Root:
    """A root file system whose programs are for arm64."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def command(self, *arguments: str, **environment: str) -> list[str]:
        """The command line that runs a program of the root."""
        return inside(ARM64, self.root, *(f"{name}={value}" for name, value in environment.items()), *arguments)

    def run(self, *arguments: str) -> str:
        done = subprocess.run(
            self.command(*arguments), capture_output=True, text=True, timeout=START_LIMIT_S, check=False
        )
        assert done.returncode == 0, f"{' '.join(arguments)}: {done.returncode}\n{done.stdout}{done.stderr}"
        return done.stdout


@pytest.fixture(scope="module")
def arm64() -> Iterator[Arm64Root]:
    with tempfile.TemporaryDirectory(dir=cache()) as folder, finished_root(board(), Path(folder)) as root:
        yield Arm64Root(root)


def predicted(arm64: Arm64Root, model: str, options: Sequence[str]) -> tuple[dict[str, float], dict[str, float]]:
    """The scores by label of ``edge-agent predict``: on arm64, and here. ``model`` and pictures: paths in the root."""
    there = arm64.run("edge-agent", "predict", "--json", "--threshold", "0", model, *options)
    outside = [str(arm64.root / option[1:]) if option.startswith("/") else option for option in options]
    command = [sys.executable, "-m", "edge_agent", "predict", "--json", "--threshold", "0"]
    command += [str(arm64.root / model[1:]), *outside]
    here = subprocess.run(command, capture_output=True, text=True, check=True, cwd=REPOSITORY)
    return scores(json.loads(there)), scores(json.loads(here.stdout))


def scores(prediction: dict[str, Any]) -> dict[str, float]:
    """Best first, by index: labels may come twice."""
    assert prediction["delegate"] == "xnnpack"
    (output,) = prediction["outputs"].values()
    return {f"{item['index']} {item['label']}": item["score"] for item in output["classes"]}


def largest_difference(one: dict[str, float], other: dict[str, float]) -> float:
    """Of the scores that both name; predictions name the best few."""
    return max(abs(one[name] - other[name]) for name in one.keys() & other.keys())


def test_the_architecture_is_arm64_and_nothing_else(arm64: Arm64Root) -> None:
    assert arm64.run("dpkg", "--print-architecture").strip() == "arm64"
    assert arm64.run("uname", "-m").strip() == "aarch64"


def test_doctor_finds_a_board_on_which_xnnpack_works(arm64: Arm64Root) -> None:
    report = json.loads(arm64.run("sh", "-c", "edge-agent doctor --json || test $? = 1"))
    checks = {check["id"]: check for check in report["checks"]}
    assert "aarch64" in checks["board"]["detail"]
    assert checks["runtime"]["status"] == "ok"
    assert checks["configuration"]["status"] == "ok"
    assert report["chosen"] == "xnnpack"
    assert {back_end["name"] for back_end in report["delegates"] if back_end["usable"]} >= {"xnnpack", "cpu"}


@pytest.mark.parametrize("frame", ["0000", "0060", "0120", "0200"])
def test_the_example_predicts_what_it_predicts_here(arm64: Arm64Root, frame: str) -> None:
    options = ["--image", f"{EXAMPLE}/media/frames/{frame}.jpg"]
    for feature in FEATURES:
        options += ["--feature", feature]
    there, here = predicted(arm64, f"{EXAMPLE}/{MODEL}", options)
    print(f"example, {frame}.jpg: largest difference {largest_difference(there, here) / STEP:g}/256")
    assert next(iter(there)) == next(iter(here))
    assert there.keys() == here.keys()
    assert largest_difference(there, here) <= CONVEYOR_STEPS * STEP


@pytest.mark.parametrize("picture", ["cat", "sunflower", "grace_hopper"])
def test_mobilenet_predicts_what_it_predicts_here(arm64: Arm64Root, shared: Path, picture: str) -> None:
    folder = arm64.root / "srv"
    for path in (shared / "models" / MOBILENET, shared / "images" / f"{picture}.bmp"):
        shutil.copy(path, folder)
    there, here = predicted(arm64, f"/srv/{MOBILENET}", ["--image", f"/srv/{picture}.bmp"])
    print(f"MobileNetV2, {picture}: largest difference {largest_difference(there, here) / STEP:g}/256")
    assert next(iter(there)) == next(iter(here))
    assert largest_difference(there, here) <= MOBILENET_STEPS * STEP


@pytest.fixture
def running(arm64: Arm64Root, broker: Mosquitto, tmp_path: Path) -> Iterator[subprocess.Popen[bytes]]:
    """``edge-agent run`` with the package's own configuration and the port of the broker outside."""
    config = (arm64.root / "etc/edge-agent/agent.toml").read_text()
    assert "port = 1883" in config
    text = config.replace("port = 1883", f'port = {broker.port}\nstats_interval = "5s"')
    (arm64.root / "etc/edge-agent/test.toml").write_text(text)
    command = arm64.command(
        *("edge-agent", "run", "--config", "/etc/edge-agent/test.toml"), STATE_DIRECTORY="/var/lib/edge-agent"
    )
    with (tmp_path / "run.log").open("wb") as log:
        daemon = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)
    yield daemon
    with suppress(ProcessLookupError):
        os.killpg(daemon.pid, signal.SIGKILL)
    daemon.wait()


def test_a_minute_of_run_adds_up_and_ends_clean(
    arm64: Arm64Root, running: subprocess.Popen[bytes], subscriber: Subscriber, tmp_path: Path
) -> None:
    def alive() -> bool:
        assert running.poll() is None, (tmp_path / "run.log").read_text()
        return True

    began = time.monotonic()
    wait_for(lambda: alive() and subscriber.predictions(), "a first prediction", START_LIMIT_S)
    first = time.monotonic() - began
    wait_for(lambda: alive() and time.monotonic() - began >= first + RUN_S, "the end of the minute", 2 * RUN_S)
    running.send_signal(signal.SIGTERM)
    assert running.wait(60.0) == 0, (tmp_path / "run.log").read_text()
    wait_for(lambda: subscriber.raw("/availability")[-1:], "the availability")
    assert subscriber.raw("/availability")[-1][1] == b"offline"

    ledger = Ledger(arm64.root / "var/lib/edge-agent/outbox.sqlite").check()
    (boot_id,) = {item["boot_id"] for item in subscriber.predictions()}
    row = ledger.predictions(boot_id)
    arrived = once_each(subscriber.predictions())
    print(f"first prediction after {first:.0f} s, then {len(arrived)} in {RUN_S:.0f} s; ledger: {row}")
    assert row.clean
    assert row.acknowledged == len(arrived)
    assert not set(row.discarded) - {"unpublished"}
    assert {item["delegate"] for item in arrived} == {"xnnpack"}
