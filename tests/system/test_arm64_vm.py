"""The package in a virtual machine for arm64 with 512 MB: systemd, a V4L2 camera of the kernel (vivid), XNNPACK, MQTT,
and the plug pulled at random moments.

Tested in emulation: a real kernel of Debian and a real driver, on a CPU that QEMU translates. No time is a board's.
"""

from __future__ import annotations

import hashlib
import json
import random
import shutil
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import pytest

from tests.simulators.subscriber import Subscriber
from tests.simulators.waiting import wait_for
from tests.system import qemu_user
from tests.system.arm64 import EXAMPLE, board
from tests.system.debian_machine import REPOSITORY, cache
from tests.system.virtual_machine import ARM64, Image, VirtualMachine, missing_tools
from tests.system.vm_image import built
from tests.system.volatile_disk import Fate, VolatileDisk

WHY_NOT = qemu_user.unavailable() or missing_tools(ARM64)
pytestmark = [pytest.mark.system, pytest.mark.skipif(WHY_NOT is not None, reason=WHY_NOT or "")]

UNIT = "edge-agent"
MODEL = "model/conveyor.tflite"
MODEL_SHA256 = hashlib.sha256((REPOSITORY / "examples/conveyor" / MODEL).read_bytes()).hexdigest()
MEMORY_MIB = 512
PREDICTION_LIMIT_S = 900.0
# XNNPACK's goal on a small board, of which systemd counts the pages of files too.
RSS_MOST_MIB = 160
CUTS = 12
# A cut comes that long after the first prediction at most; every fourth comes while the machine boots.
WORKING_S = 15.0
# What nobody syncs goes to the disk after 0.2 s instead of 30 s: the disk's cache has something to lose.
WRITE_SOON = "cd /proc/sys/vm && echo 20 >dirty_writeback_centisecs && echo 20 >dirty_expire_centisecs"
SEED = 7
# vivid stamps a frame nine tenths of its period ahead; at less than 10 frames a second the daemon would not believe it.
CONFIG = f"""\
[device]
id = "board"

[mqtt]
stats_interval = "5s"

[outbox]
durability = "every"

[[camera]]
name = "belt"
source = "v4l2:/dev/video0"
width = 320
height = 180
fps = 10

[[sensor]]
name = "machine"
source = "csv:{EXAMPLE}/media/sensors.csv"
loop = true

[sensor.fields.weight]
unit = "g"
[sensor.fields.temperature]
unit = "degC"
[sensor.fields.vibration]
unit = "mm/s"

[[pipeline]]
name = "inspect"
camera = "belt"
model = "conveyor"
features = {{ weight = "machine.weight", temperature = "machine.temperature", vibration = "machine.vibration" }}
rate = "2/s"

[model.conveyor]
path = "{EXAMPLE}/{MODEL}"
"""
FILES = {
    "etc/edge-agent/agent.toml": CONFIG,
    "etc/modules-load.d/camera.conf": "vivid\n",
    # One device, of the type video capture.
    "etc/modprobe.d/camera.conf": "options vivid n_devs=1 node_types=0x1\n",
    # Nothing is kept: what the broker has is not what is tested, and its file does not survive a kill.
    "etc/mosquitto/mosquitto.conf": "listener 1883\nallow_anonymous true\npersistence false\n",
}


@pytest.fixture(scope="module")
def image() -> Image:
    return built(board(FILES))


@pytest.fixture(scope="module")
def booted(image: Image, tmp_path_factory: pytest.TempPathFactory) -> Iterator[VirtualMachine]:
    """Booted, with a first prediction made, and kept under the name ``ready``."""
    machine = VirtualMachine(image, tmp_path_factory.mktemp("vm"), memory_mib=MEMORY_MIB, forwards=[1883], paced=True)
    try:
        shell_s = machine.start()
        began = time.monotonic()
        first_prediction(machine)
        predicted_s = shell_s + time.monotonic() - began
        machine.run("systemctl is-system-running --wait", check=False, limit_s=PREDICTION_LIMIT_S)
        began = time.monotonic()
        machine.save("ready")
        print(
            f"shell after {shell_s:.0f} s, first prediction after {predicted_s:.0f} s, savevm"
            f" {time.monotonic() - began:.1f} s; image {used_mib(image.disk)} MiB, with the snapshot"
            f" {used_mib(machine.disk)} MiB more"
        )
        yield machine
    finally:
        machine.remove()


@pytest.fixture
def machine(booted: VirtualMachine) -> VirtualMachine:
    """The machine as it was when it was ready."""
    booted.kill()
    print(f"ready again after {booted.start('ready'):.1f} s")
    return booted


def used_mib(path: Path) -> int:
    return path.stat().st_blocks * 512 >> 20


def listener(machine: VirtualMachine, name: str = "stranger") -> Subscriber:
    """A subscriber outside, through the forwarded port. QEMU answers on it before the machine's broker does."""

    def try_once() -> Subscriber | None:
        try:
            return Subscriber(machine.port(1883), client_id=name)
        except (OSError, AssertionError):
            return None

    return wait_for(try_once, "the broker in the machine", PREDICTION_LIMIT_S)


def first_prediction(machine: VirtualMachine) -> dict[str, Any]:
    """The next prediction that a subscriber outside gets."""
    subscriber = listener(machine)
    try:
        return subscriber.wait_predictions(1, PREDICTION_LIMIT_S)[0]
    finally:
        subscriber.close()


def test_the_package_runs_as_a_service_and_a_camera_becomes_predictions(machine: VirtualMachine) -> None:
    assert machine.run("uname -m") == "aarch64"
    assert machine.run("systemctl is-system-running", check=False) == "running"
    assert machine.run(f"systemctl is-active {UNIT}") == "active"
    assert machine.run(f"systemctl show --value -p NRestarts {UNIT}") == "0"
    assert "vivid" in machine.run("v4l2-ctl --device /dev/video0 --info")
    prediction = first_prediction(machine)
    assert prediction["delegate"] == "xnnpack"
    assert prediction["time_source"] == "driver"
    assert prediction["readings"].keys() == {"weight", "temperature", "vibration"}
    print(f"latency in emulation: {prediction['latency_ms']}")
    print(machine.run(f"systemctl status --no-pager --lines 0 {UNIT}"))


def test_doctor_knows_the_camera_and_the_back_end(machine: VirtualMachine) -> None:
    output = machine.run("edge-agent doctor --json 2>/dev/null || test $? = 1", limit_s=PREDICTION_LIMIT_S)
    report = json.loads(output)
    checks = {check["id"]: check for check in report["checks"]}
    print("\n".join(f"{check['id']}: {check['status']}: {check['detail']}" for check in report["checks"]))
    assert "aarch64" in checks["board"]["detail"]
    assert report["chosen"] == "xnnpack"
    assert checks["camera"]["status"] == "ok"
    assert checks["configuration"]["status"] == "ok"


def test_half_a_gigabyte_is_enough(machine: VirtualMachine) -> None:
    pid = machine.run(f"systemctl show --value -p MainPID {UNIT}")
    status = dict(line.split(":\t", 1) for line in machine.run(f"cat /proc/{pid}/status").splitlines())
    peak_mib, now_mib = (int(status[name].split()[0]) >> 10 for name in ("VmHWM", "VmRSS"))
    meminfo = dict(line.split(":", 1) for line in machine.run("cat /proc/meminfo").splitlines())
    available_mib, total_mib = (int(meminfo[name].split()[0]) >> 10 for name in ("MemAvailable", "MemTotal"))
    print(f"daemon: {now_mib} MiB resident, at most {peak_mib}; machine: {available_mib} of {total_mib} MiB available")
    assert peak_mib <= RSS_MOST_MIB
    assert "oom-kill" not in machine.run("journalctl --no-pager --boot --dmesg")


def test_a_stop_says_offline_and_leaves_a_ledger_that_adds_up(machine: VirtualMachine) -> None:
    subscriber = listener(machine)
    boot_id = subscriber.wait_predictions(1, PREDICTION_LIMIT_S)[0]["boot_id"]
    machine.run(f"systemctl stop {UNIT}")
    wait_for(lambda: subscriber.raw("/availability")[-1][1] == b"offline", "offline")
    subscriber.close()
    assert machine.run(f"systemctl show --value -p Result {UNIT}") == "success"
    (run,) = [run for run in ledger(machine)["runs"] if run["boot_id"] == boot_id]
    assert run["clean"] and run["adds_up"]


def ledger(machine: VirtualMachine) -> dict[str, Any]:
    """``edge-agent ledger``; AssertionError where a row does not add up."""
    command = "edge-agent ledger --json"
    return json.loads(machine.run(command, limit_s=PREDICTION_LIMIT_S))


class PlugPulled:
    """A machine that is cut off again and again, and what was heard of each of its runs."""

    def __init__(self, image: Image, folder: Path) -> None:
        self.chance = random.Random(SEED)
        self.disk = VolatileDisk(image.disk, folder / "disk")
        self.machine = VirtualMachine(
            image, folder, memory_mib=MEMORY_MIB, forwards=[1883], paced=True, drive=self.disk.drive()
        )
        self.heard: dict[str, set[int]] = defaultdict(set)
        """boot_id -> the seq of the predictions that arrived outside."""
        self._boot_s = 60.0  # how long a boot takes until predictions arrive; the last one's, as soon as there is one

    def run_and_cut(self, fate: Fate) -> str:
        """Boot after a cut, examine what it left, cut again while it works; returns a line for the report."""
        found, subscriber = self._begin()
        after_s = self.chance.uniform(0, WORKING_S)
        time.sleep(after_s)  # the random moment, not a wait for something
        self.machine.kill()
        for item in subscriber.predictions():
            self.heard[item["boot_id"]].add(item["seq"])
        subscriber.close()
        return f"{found}; cut {after_s:.1f} s later, {fate}: {self.disk.cut(fate, self.chance)}"

    def boot_and_cut(self, fate: Fate) -> str:
        """Cut at some moment of the boot or of the daemon's start."""
        self.machine.switch_on()
        after_s = self.chance.uniform(0, self._boot_s)
        time.sleep(after_s)
        self.machine.kill()
        return f"cut {after_s:.0f} s after the power came, {fate}: {self.disk.cut(fate, self.chance)}"

    def examine(self) -> str:
        """Boot once more, and have the models examined as an update would be."""
        found, subscriber = self._begin()
        subscriber.close()
        self.machine.run("edge-agent models verify", limit_s=PREDICTION_LIMIT_S)
        return found

    def _begin(self) -> tuple[str, Subscriber]:
        shell_s = self.machine.start()
        began = time.monotonic()
        subscriber = listener(self.machine)

        def new_run() -> bool:
            return bool(
                {item["boot_id"] for item in subscriber.predictions() if not item["buffered"]} - set(self.heard)
            )

        wait_for(new_run, "predictions of a new run", PREDICTION_LIMIT_S)
        self._boot_s = shell_s + time.monotonic() - began
        assert {item["model"]["sha256"] for item in subscriber.predictions()} == {MODEL_SHA256}
        self._examine_ledger()
        self.machine.run(WRITE_SOON)
        assert "EXT4-fs error" not in self.machine.run("dmesg")
        return f"shell after {shell_s:.0f} s, predictions after {self._boot_s:.0f} s", subscriber

    def _examine_ledger(self) -> None:
        runs = {run["boot_id"]: run for run in ledger(self.machine)["runs"]}
        for boot_id, seqs in self.heard.items():
            assert boot_id in runs, f"{boot_id} was heard and is not in the ledger"
            count = runs[boot_id]["streams"]["prediction/inspect"]
            # On the disk before it is published: what somebody heard, the ledger knows.
            assert count["produced"] >= len(seqs), (boot_id, count, len(seqs))


@pytest.mark.soak
def test_a_plug_pulled_at_random_moments_costs_neither_ledger_nor_model(image: Image) -> None:
    fates = get_args(Fate)
    folder = Path(tempfile.mkdtemp(dir=cache()))
    pulled = PlugPulled(image, folder)
    try:
        for number in range(CUTS):
            cut = pulled.boot_and_cut if number % 4 == 3 else pulled.run_and_cut
            print(f"{number}: {cut(fates[number % len(fates)])}", flush=True)
        print(f"after the last: {pulled.examine()}; heard of {len(pulled.heard)} runs")
    finally:
        pulled.machine.remove()
        pulled.disk.remove()
        shutil.rmtree(folder, ignore_errors=True)
