"""The unit's limits bite: devices, system calls, files, memory, processor."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest

from tests.simulators.waiting import wait_for
from tests.system.debian_machine import Machine
from tests.system.service import STATE, UNIT, Service

pytestmark = pytest.mark.system

# Numbers of the kernel's Documentation/admin-guide/devices.txt: a serial line, /dev/fuse.
SERIAL, FUSE = "4 64", "10 229"
ALLOWED = ("clock", "state", "child", "low_priority", "shared_memory", "libusb")
FORBIDDEN = {
    "other_device": "EPERM",
    "system": "EROFS",
    "configuration": "EROFS",
    "homes": "EACCES",
    "kernel": "EROFS",
    "code": "EPERM EACCES",  # by a filter of system calls; since systemd 256 by the kernel itself
    "raw_packets": "EAFNOSUPPORT",
    "namespace": "EPERM",
    "mount": "EPERM",
    "first_process": "ENOENT",
}


@pytest.fixture(scope="session")
def tried(machine: Machine) -> dict[str, str]:
    """What came of each attempt in inside_sandbox.py, under the unit with nothing changed but the program."""
    unit = machine.run("systemctl", "cat", UNIT)
    unit = re.sub(r"(?m)^ExecStart=.*$", "ExecStart=/usr/bin/python3 /srv/inside_sandbox.py", unit)
    unit = re.sub(r"(?m)^(Type|Restart|WatchdogSec)=.*$", "", unit)
    (machine.root / "etc/systemd/system/sandbox.service").write_text(unit)
    shutil.copy(Path(__file__).with_name("inside_sandbox.py"), machine.root / "srv")
    for name, numbers in (("allowed", SERIAL), ("forbidden", FUSE)):
        machine.from_outside("sh", "-c", f"mknod /dev/{name} c {numbers} && chmod 666 /dev/{name}")
    machine.run("systemctl", "stop", UNIT)
    machine.run("systemctl", "daemon-reload")
    machine.run("systemctl", "start", "sandbox")
    wait_for(lambda: machine.show("sandbox", "ActiveState") in ("inactive", "failed"), "the end of the attempts")
    assert machine.show("sandbox", "ExecMainStatus") == "0", machine.journal("-u", "sandbox")
    return json.loads((machine.root / STATE / "sandbox.json").read_text())


@pytest.mark.parametrize("name", ALLOWED)
def test_the_sandbox_lets_the_daemon_do_its_work(tried: dict[str, str], name: str) -> None:
    assert tried[name] == "ok"


def test_a_device_of_an_allowed_class_may_be_opened(tried: dict[str, str]) -> None:
    assert tried["allowed_device"] in ("ok", "EIO", "ENXIO", "ENODEV")  # from the driver, not from the sandbox


@pytest.mark.parametrize("name", FORBIDDEN)
def test_the_sandbox_forbids_the_rest(tried: dict[str, str], name: str) -> None:
    assert tried[name] in FORBIDDEN[name].split()


def test_a_memory_limit_ends_the_daemon_alone_and_it_is_started_anew(service: Service) -> None:
    with service.with_drop_in("MemoryMax=30M\nMemorySwapMax=0\n"):
        service.systemctl("restart", "--no-block", UNIT)
        wait_for(lambda: service.restarts >= 1, "the kernel ends what needs more")
        assert service.machine.run("systemctl", "is-active", "mosquitto") == "active"
    service.systemctl("restart", UNIT)
    assert service.predicts()


def test_the_daemon_lives_within_the_limit_of_a_small_board_and_knows_it(service: Service) -> None:
    with service.with_drop_in("MemoryMax=200M\nMemorySwapMax=0\n"):
        service.systemctl("restart", UNIT)
        service.predicts()
        stats = wait_for(
            lambda: (found := service.stranger.last("/stats")) and found["memory_limit_mb"] and found, "a report"
        )
        assert stats["memory_limit_mb"] == 200
        assert stats["memory_mb"] < 160
        assert service.restarts == 0


def test_a_daemon_with_little_processor_time_still_starts_and_predicts(service: Service) -> None:
    with service.with_drop_in("CPUQuota=10%\n"):
        service.systemctl("restart", UNIT)
        service.stranger.wait_predictions(5)
        group = service.machine.group("cpu", UNIT)
        quota = int((group / "cpu.cfs_quota_us").read_text()) / int((group / "cpu.cfs_period_us").read_text())
        throttled = re.search(r"^nr_throttled (\d+)$", (group / "cpu.stat").read_text(), re.MULTILINE)
        assert quota == 0.1
        assert throttled
        assert int(throttled[1]) > 0
        assert service.restarts == 0
