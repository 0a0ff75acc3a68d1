"""Upgrade, a version that does not start and the way back, removal, purge. The last tests of the container: they take
the service away."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.simulators.waiting import wait_for
from tests.system.debian_machine import Machine
from tests.system.debian_root import Suite, changed_package
from tests.system.service import CONFIG, STATE, UNIT, Service

pytestmark = pytest.mark.system


@pytest.fixture(scope="session")
def later(deb: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The package of a later version."""
    new = lambda root: (root / "usr/share/edge-agent/new").write_text("")  # noqa: E731
    return changed_package(deb, tmp_path_factory.mktemp("later"), "0.2.0-1", new)


@pytest.fixture(scope="session")
def broken(deb: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The package of one that does not start."""

    def change(root: Path) -> None:
        agent = next(root.glob("usr/lib/edge-agent/lib/python3.*/site-packages/edge_agent/agent.py"))
        agent.write_text("raise SystemExit(1)\n")

    return changed_package(deb, tmp_path_factory.mktemp("broken"), "0.3.0-1", change)


def version(machine: Machine) -> str:
    return machine.run("dpkg-query", "-W", "-f", "${Version}", "edge-agent")


def test_what_is_installed_is_what_was_packed(machine: Machine) -> None:
    assert machine.run("dpkg", "--verify", "edge-agent") == ""


def test_lintian_finds_no_error(suite: Suite, deb: Path) -> None:
    if suite.name != "bookworm":
        pytest.skip("the packages differ in their wheels only: looked at for bookworm")
    if shutil.which("lintian") is None:
        pytest.skip("lintian is not installed: apt-get install lintian")
    done = subprocess.run(
        ["lintian", "--fail-on", "error", "--tag-display-limit", "0", str(deb)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_an_upgrade_keeps_configuration_and_state_and_starts_the_new_version(service: Service, later: Path) -> None:
    machine, config = service.machine, service.machine.root / CONFIG
    config.write_text(config.read_text() + "\n# mine\n")
    (machine.root / STATE / "mine").write_text("models live beside it")
    before = service.show("MainPID")
    machine.install(later)
    assert version(machine) == "0.2.0-1"
    assert (machine.root / "usr/share/edge-agent/new").exists()
    assert service.show("MainPID") not in (before, "0")
    assert config.read_text().endswith("# mine\n")
    assert (machine.root / STATE / "mine").read_text() == "models live beside it"
    assert service.predicts()
    wait_for(lambda: service.availability() == "online", "online")


def test_a_version_that_does_not_start_says_so_and_the_one_before_comes_back_by_apt(
    service: Service, broken: Path, deb: Path
) -> None:
    said = service.machine.install(broken)
    assert "does not start" in said
    assert "apt install --allow-downgrades" in said
    assert not service.active
    service.machine.install(deb, "--allow-downgrades")
    service.wait_ready()
    assert service.predicts()


def test_an_upgrade_of_a_stopped_service_leaves_it_stopped(service: Service, later: Path) -> None:
    service.systemctl("stop", UNIT)
    service.machine.install(later)
    assert version(service.machine) == "0.2.0-1"
    assert service.show("ActiveState") == "inactive"


def test_a_removal_stops_the_service_and_keeps_configuration_and_state(service: Service) -> None:
    service.predicts()
    service.machine.run("apt-get", "remove", "-y", "-q", "edge-agent", DEBIAN_FRONTEND="noninteractive")
    wait_for(lambda: service.availability() == "offline", "offline")
    root = service.machine.root
    assert not (root / "usr/lib/edge-agent").exists()
    assert not (root / "usr/bin/edge-agent").is_symlink()
    assert (root / CONFIG).exists()
    assert (root / STATE).exists()
    assert service.show("ActiveState") != "active"


@pytest.fixture
def purged(machine: Machine) -> Iterator[Machine]:
    machine.run("apt-get", "purge", "-y", "-q", "edge-agent", DEBIAN_FRONTEND="noninteractive")
    yield machine


def test_a_purge_leaves_nothing(purged: Machine) -> None:
    assert not (purged.root / "etc/edge-agent").exists()
    assert not (purged.root / STATE).exists()
    assert not list(purged.root.glob("usr/**/*edge-agent*"))
    assert purged.status("id", "edge-agent") != 0
    assert purged.status("systemctl", "cat", UNIT) != 0
