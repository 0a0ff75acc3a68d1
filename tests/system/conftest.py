"""One container for each system, booted once, for all the tests of the service."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.system.debian_machine import Machine, unavailable
from tests.system.debian_root import SUITES, Suite, package, system_root
from tests.system.service import UNIT, Service, set_up


@pytest.fixture(scope="session", params=SUITES.values(), ids=lambda suite: suite.name)
def suite(request: pytest.FixtureRequest) -> Suite:
    return request.param


@pytest.fixture(scope="session")
def deb(suite: Suite, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The package for that system. A copy: whoever builds a later one clears the cache."""
    if why := unavailable():
        pytest.skip(why)
    return Path(shutil.copy(package(suite), tmp_path_factory.mktemp("deb")))


@pytest.fixture(scope="session")
def machine(suite: Suite, deb: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    machine = Machine(tmp_path_factory.mktemp(suite.name), system_root(suite))
    machine.start()
    try:
        set_up(machine, deb)
        yield machine
    finally:
        machine.stop()


@pytest.fixture
def service(machine: Machine) -> Iterator[Service]:
    """Started anew and ready."""
    machine.run("systemctl", "start", "mosquitto")
    service = Service(machine)
    service.systemctl("reset-failed")
    service.systemctl("restart", UNIT)
    yield service
    service.close()
