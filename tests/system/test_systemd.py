"""The service as an installer meets it: script/install in a Debian, then systemd, a broker and a subscriber, all real.

The tests share one container and run in the order in which they stand here; the last ones take the service away.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.simulators.waiting import wait_for
from tests.system.debian_machine import Machine, unavailable

pytestmark = [
    pytest.mark.system,
    pytest.mark.skipif(unavailable() is not None, reason=unavailable() or ""),
]

CONFIG = Path("etc/edge-agent/agent.toml")
UNIT = "edge-agent"
# The unit's own times, 60 s and 5 s, shortened; nothing else of it is changed.
QUICK = "[Service]\nWatchdogSec=4\nRestartSec=500ms\n"
OFFLINE = {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": "/srv/wheels"}

# struct timex is smaller than that; all zero: only read.
ASK_CLOCK = """\
import ctypes, sys
sys.exit(ctypes.CDLL(None).adjtimex((ctypes.c_char * 512)()) < 0)
"""


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    machine = Machine(tmp_path_factory.mktemp("debian"))
    machine.start()
    try:
        machine.run("/srv/checkout/script/install", **OFFLINE)
        drop_in = machine.root / "etc/systemd/system/edge-agent.service.d/test.conf"
        drop_in.parent.mkdir()
        drop_in.write_text(QUICK)
        machine.run("systemctl", "daemon-reload")
        yield machine
    finally:
        machine.stop()


@pytest.fixture
def service(machine: Machine) -> Machine:
    """The machine with the service started anew."""
    machine.run("systemctl", "reset-failed")
    machine.run("systemctl", "restart", UNIT)
    return machine


def heard(machine: Machine, topic: str) -> str:
    """The next message, or the retained one, on a topic below the device."""
    return machine.run("mosquitto_sub", "-h", "127.0.0.1", "-C", "1", "-W", "30", "-t", f"edge-agent/demo/{topic}")


def prediction(machine: Machine) -> dict[str, Any]:
    return json.loads(heard(machine, "prediction/inspect"))


def restarts(machine: Machine) -> int:
    return int(machine.show(UNIT, "NRestarts"))


def is_active(machine: Machine) -> bool:
    return machine.show(UNIT, "ActiveState") == "active"


def test_an_installed_service_starts_and_publishes_predictions(service: Machine) -> None:
    assert is_active(service)
    assert prediction(service)["schema"] == "edge-agent/prediction/1"
    assert heard(service, "availability") == "online"


def test_the_service_runs_as_a_user_without_privileges(service: Machine) -> None:
    status = service.run("cat", f"/proc/{service.show(UNIT, 'MainPID')}/status")
    fields = dict(line.split(":\t", 1) for line in status.splitlines())
    assert fields["Uid"].split()[0] == service.run("id", "-u", "edge-agent")
    assert int(fields["CapBnd"], 16) == 0
    assert (fields["NoNewPrivs"], fields["Seccomp"]) == ("1", "2")


def test_the_exposure_is_3_at_most(service: Machine) -> None:
    service.run("systemd-analyze", "security", "--no-pager", "--threshold=30", UNIT)


def test_the_sandbox_allows_to_ask_whether_the_clock_is_synchronised(machine: Machine) -> None:
    unit = (machine.root / "etc/systemd/system/edge-agent.service").read_text()
    unit = re.sub(r"(?m)^ExecStart=.*$", "ExecStart=/usr/bin/python3 /srv/ask_clock.py", unit)
    unit = re.sub(r"(?m)^(Type|Restart|WatchdogSec)=.*$", "", unit)
    (machine.root / "etc/systemd/system/ask-clock.service").write_text(unit)
    (machine.root / "srv/ask_clock.py").write_text(ASK_CLOCK)
    machine.run("systemctl", "daemon-reload")
    machine.run("systemctl", "start", "ask-clock")
    wait_for(lambda: machine.show("ask-clock", "ActiveState") == "inactive", "the end of the question")
    assert machine.show("ask-clock", "ExecMainStatus") == "0"


def test_systemd_has_nothing_to_say_about_the_unit(service: Machine) -> None:
    assert service.run("sh", "-c", f"systemd-analyze verify {UNIT}.service 2>&1") == ""


def test_a_reload_keeps_the_process(service: Machine) -> None:
    before = service.show(UNIT, "MainPID")
    service.run("systemctl", "reload", UNIT)
    assert prediction(service)
    assert (is_active(service), service.show(UNIT, "MainPID")) == (True, before)


def test_a_stop_is_clean_and_leaves_offline_behind(service: Machine) -> None:
    assert prediction(service)
    assert heard(service, "availability") == "online"
    service.run("systemctl", "stop", UNIT)
    assert heard(service, "availability") == "offline"
    assert (service.show(UNIT, "Result"), service.show(UNIT, "ExecMainStatus")) == ("success", "0")


def test_a_daemon_that_hangs_is_started_anew_by_the_watchdog(service: Machine) -> None:
    service.run("systemctl", "kill", "--kill-whom=main", "--signal=STOP", UNIT)
    wait_for(lambda: restarts(service) == 1 and is_active(service), "a restart after the watchdog's time")
    assert "Watchdog timeout" in service.run("journalctl", "--no-pager", "-b", "-u", UNIT)
    assert prediction(service)


def test_a_daemon_that_is_killed_is_started_anew(service: Machine) -> None:
    service.run("systemctl", "kill", "--kill-whom=main", "--signal=KILL", UNIT)
    wait_for(lambda: restarts(service) == 1 and is_active(service), "a restart")
    assert prediction(service)


def test_a_broker_that_is_away_neither_ends_nor_restarts_the_daemon(service: Machine) -> None:
    assert prediction(service)
    service.run("systemctl", "stop", "mosquitto")
    pings = {service.show(UNIT, "WatchdogTimestampMonotonic")}

    def pinged_on() -> bool:
        pings.add(service.show(UNIT, "WatchdogTimestampMonotonic"))
        return len(pings) > 4  # half the limit apart: longer than the limit

    wait_for(pinged_on, "signs of life without a broker")
    service.run("systemctl", "start", "mosquitto")
    assert prediction(service)
    assert restarts(service) == 0


def test_a_service_that_is_configured_wrong_says_so_and_is_not_started_again(service: Machine) -> None:
    config = service.root / CONFIG
    good = config.read_text()
    config.write_text(good + "\n[nonsense]\nkey = 1\n")
    try:
        assert service.status("systemctl", "restart", UNIT) != 0
        assert service.show(UNIT, "ExecMainStatus") == "2"
        assert (service.show(UNIT, "ActiveState"), restarts(service)) == ("failed", 0)
        assert "nonsense" in service.run("journalctl", "--no-pager", "-b", "-u", UNIT)
    finally:
        config.write_text(good)


def test_an_upgrade_keeps_the_configuration_and_restarts_the_service(service: Machine) -> None:
    config = service.root / CONFIG
    config.write_text(config.read_text() + "\n# mine\n")
    before = service.run("readlink", "/opt/edge-agent/current"), service.show(UNIT, "MainPID")
    service.run("/srv/checkout/script/install", **OFFLINE)
    after = service.run("readlink", "/opt/edge-agent/current"), service.show(UNIT, "MainPID")
    assert all(old != new for old, new in zip(before, after, strict=True))
    assert config.read_text().endswith("# mine\n")
    assert prediction(service)


def test_a_release_that_does_not_start_is_taken_back(service: Machine) -> None:
    before = service.run("readlink", "/opt/edge-agent/current")
    (service.root / "srv/checkout/edge_agent/agent.py").write_text("raise SystemExit(1)\n")
    try:
        assert service.status("/srv/checkout/script/install", **OFFLINE) == 1
    finally:
        service.copy_checkout()
    assert service.run("readlink", "/opt/edge-agent/current") == before
    assert service.run("ls", "/opt/edge-agent/releases") == Path(before).name
    assert prediction(service)


def test_uninstalling_keeps_configuration_and_state_until_it_is_told_to_purge(service: Machine) -> None:
    service.run("/srv/checkout/script/uninstall")
    assert service.status("systemctl", "cat", UNIT) != 0
    assert not (service.root / "opt/edge-agent").exists()
    assert not (service.root / "usr/local/bin/edge-agent").is_symlink()
    assert (service.root / CONFIG).exists()
    assert (service.root / "var/lib/edge-agent").exists()
    service.run("/srv/checkout/script/uninstall", "--purge")
    assert not (service.root / CONFIG).exists()
    assert not (service.root / "var/lib/edge-agent").exists()
    assert service.status("id", "edge-agent") != 0
