"""The service as an installer meets it: the package in a Debian or Ubuntu without a network, then systemd, a broker and
a subscriber outside, all real.

The tests of the service share one container for each system; test_systemd_upgrade.py, the last, takes the service away.
"""

from __future__ import annotations

import re

import pytest

from tests.simulators.waiting import wait_for
from tests.system.debian_machine import Machine
from tests.system.debian_root import Suite
from tests.system.service import (
    CONFIG,
    PASSWORD,
    PORT,
    PORT_WITH_PASSWORD,
    UNIT,
    USER,
    WATCHDOG_S,
    Service,
)

pytestmark = pytest.mark.system

STATUS = r"^inspect [\d.]+/s, conveyor [\d.]+ on xnnpack, camera belt streaming; broker connected to .*; waiting \d+"


def test_a_subscriber_outside_sees_an_installed_service_come_online_and_predict(service: Service) -> None:
    assert service.active
    assert service.predicts()["schema"] == "edge-agent/prediction/1"
    assert service.availability() == "online"


def test_the_service_runs_as_a_user_without_privileges(service: Service) -> None:
    status = service.machine.run("cat", f"/proc/{service.show('MainPID')}/status")
    fields = dict(line.split(":\t", 1) for line in status.splitlines())
    assert fields["Uid"].split()[0] == service.machine.run("id", "-u", "edge-agent")
    assert int(fields["CapBnd"], 16) == 0
    assert (fields["NoNewPrivs"], fields["Seccomp"]) == ("1", "2")
    groups = service.machine.run("id", "-nG", "edge-agent").split()
    assert {"video", "render", "dialout", "i2c", "gpio", "plugdev", "apex"} <= set(groups)


@pytest.mark.parametrize("name", ["", "gpu", "jetson", "small-board", "encrypted-credentials"])
def test_the_exposure_is_3_at_most_and_systemd_has_nothing_to_say(machine: Machine, suite: Suite, name: str) -> None:
    if name == "encrypted-credentials" and suite.name == "jammy":
        pytest.skip("encrypted credentials came with systemd 250; Ubuntu 22.04 has 249")
    folder = machine.root / f"etc/systemd/system/{UNIT}.service.d"
    if name:
        machine.run("sh", "-c", _enabling(machine, name))
    try:
        said = machine.run("sh", "-c", f"systemd-analyze verify {UNIT}.service 2>&1", check=False).splitlines()
        assert [line for line in said if UNIT in line] == []  # systemd 249 warns of units of its own
        table = machine.run("systemd-analyze", "security", "--no-pager", UNIT)
        exposure = re.search(r"Overall exposure level for edge-agent.service: ([\d.]+)", table)
        assert exposure, table
        assert float(exposure[1]) <= 3.0
    finally:
        if name:
            (folder / f"{name}.conf").unlink()
            machine.run("systemctl", "daemon-reload")


def _enabling(machine: Machine, name: str) -> str:
    """The command that the drop-in itself names, without sudo."""
    text = (machine.root / f"usr/share/edge-agent/drop-ins/{name}.conf").read_text()
    command = re.search(rf"^#   sudo (install .* /usr/share/edge-agent/drop-ins/{name}\.conf)$", text, re.MULTILINE)
    assert command, text
    return f"{command[1]} && systemctl daemon-reload"


def test_udev_takes_the_rules_and_knows_their_groups(machine: Machine, suite: Suite) -> None:
    if suite.name != "trixie":
        pytest.skip("udevadm verify came with systemd 254: only Debian 13 has it")
    machine.run("udevadm", "verify", "--resolve-names=early", "/usr/lib/udev/rules.d/60-edge-agent.rules")


def test_systemctl_status_shows_how_the_daemon_stands(service: Service) -> None:
    service.predicts()
    rates = re.compile(r"^inspect (?:9|10)\.\d/s")  # the example's camera gives 10 frames a second
    wait_for(lambda: rates.search(service.show("StatusText")), "the rate in the status line")
    assert re.search(STATUS, service.show("StatusText"))


def test_the_journal_finds_events_by_their_id_and_explains_them(service: Service) -> None:
    [ready] = service.logged("ready")
    assert ready["MESSAGE"].startswith("ready: device demo, boot ")
    assert (ready["PRIORITY"], ready["SYSLOG_IDENTIFIER"], ready["_TRANSPORT"]) == ("6", "edge-agent", "journal")
    assert (ready["EDGE_AGENT_EVENT"], ready["CODE_FUNC"]) == ("ready", "run")
    explained = service.machine.run("journalctl", "-x", "-b", "--no-pager", f"MESSAGE_ID={ready['MESSAGE_ID']}")
    assert "The configuration is valid, every model is loaded" in explained


def test_a_reload_keeps_the_process_and_applies_what_can_change(service: Service) -> None:
    before = service.show("MainPID")
    path = service.machine.root / CONFIG
    text = path.read_text()
    path.write_text(text.replace('model = "conveyor"\n', 'model = "conveyor"\nrate = "2/s"\n'))
    try:
        service.systemctl("reload", UNIT)
        wait_for(
            lambda: (service.stranger.last("/setting/inspect/rate") or {}).get("value") == "2/s",
            "the rate that was set",
        )
    finally:
        path.write_text(text)
    assert service.predicts()
    assert (service.active, service.show("MainPID")) == (True, before)


def test_a_reload_with_a_mistake_changes_nothing(service: Service) -> None:
    path = service.machine.root / CONFIG
    text = path.read_text()
    path.write_text(text + "\n[nonsense]\n")
    try:
        service.systemctl("reload", UNIT)
        wait_for(lambda: service.logged("reload_refused"), "the refusal in the journal")
    finally:
        path.write_text(text)
    assert service.logged("reload_refused")[0]["PRIORITY"] == "3"
    assert service.predicts()
    assert service.restarts == 0


def test_a_stop_is_clean_and_leaves_offline_behind(service: Service) -> None:
    service.predicts()
    service.systemctl("stop", UNIT)
    wait_for(lambda: service.availability() == "offline", "offline")
    assert (service.show("Result"), service.show("ExecMainStatus")) == ("success", "0")


def test_a_daemon_that_is_frozen_is_started_anew_by_the_watchdog(service: Service) -> None:
    service.kill("STOP")
    wait_for(lambda: service.restarts == 1 and service.active, "a restart after the watchdog's time")
    assert "Watchdog timeout" in service.machine.run("journalctl", "--no-pager", "-b", "-u", UNIT)
    assert service.predicts()


def test_a_daemon_that_is_killed_is_started_anew_and_says_that_it_was(service: Service) -> None:
    service.predicts()
    service.kill("KILL")
    wait_for(lambda: service.restarts == 1 and service.active, "a restart")
    service.predicts()
    wait_for(lambda: service.stranger.events("unclean_stop"), "the event unclean_stop")
    assert [entry["PRIORITY"] for entry in service.logged("unclean_stop")] == ["4"]


def test_signs_of_life_go_on_without_a_broker(service: Service) -> None:
    service.predicts()
    service.systemctl("stop", "mosquitto")
    pings = {service.show("WatchdogTimestampMonotonic")}

    def longer_than_the_limit() -> bool:
        pings.add(service.show("WatchdogTimestampMonotonic"))
        numbers = sorted(int(ping) for ping in pings)
        return numbers[-1] - numbers[0] > 1.5e6 * WATCHDOG_S

    wait_for(longer_than_the_limit, "signs of life without a broker")
    service.systemctl("start", "mosquitto")
    assert service.predicts()
    assert service.restarts == 0


def test_a_service_that_is_configured_wrong_says_so_and_is_not_started_again(service: Service) -> None:
    with service.configured(more="\n[nonsense]\nkey = 1\n"):
        wait_for(lambda: service.show("ActiveState") == "failed", "the service gives up")
        assert (service.show("ExecMainStatus"), service.restarts) == ("2", 0)
        assert "nonsense" in service.show("StatusText")
        [failed] = service.logged("start_failed")
        assert (failed["PRIORITY"], "nonsense" in failed["MESSAGE"]) == ("2", True)


def test_a_password_comes_as_a_credential_that_nobody_else_can_read(service: Service) -> None:
    credential = service.machine.root / "etc/edge-agent/credentials/mqtt-password"
    credential.write_text(f"{PASSWORD}\n")
    credential.chmod(0o600)
    try:
        with service.configured((f"port = {PORT}", f'port = {PORT_WITH_PASSWORD}\nusername = "{USER}"')):
            service.wait_status(f"broker connected to 127.0.0.1:{PORT_WITH_PASSWORD}")
            assert service.predicts()
            copy = f"/run/credentials/{UNIT}.service/mqtt-password"
            assert service.machine.run("cat", copy) == PASSWORD
            assert service.machine.status("runuser", "-u", "nobody", "--", "cat", copy) != 0
    finally:
        credential.unlink()


def test_without_its_credential_the_service_starts_and_says_what_the_broker_says(service: Service) -> None:
    with service.configured((f"port = {PORT}", f'port = {PORT_WITH_PASSWORD}\nusername = "{USER}"')):
        service.wait_status("broker the broker refused the connection")
        assert service.active
