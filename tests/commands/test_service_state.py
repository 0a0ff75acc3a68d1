"""Commands that look at what a daemon left: with the service's configuration they mean the service's state."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from edge_agent.commands import common, doctor
from edge_agent.errors import ConfigError


@pytest.fixture
def service(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The configuration of a service whose state is there."""
    state = tmp_path / "state"
    state.mkdir()
    monkeypatch.setattr(common, "SERVICE_STATE", state)
    monkeypatch.setattr(common, "DEFAULT_CONFIG", tmp_path / "agent.toml")
    monkeypatch.setenv("STATE_DIRECTORY", "")  # put back after the test
    return tmp_path / "agent.toml"


def test_the_services_configuration_means_its_state(service: Path) -> None:
    common.look_at_service(service)
    assert os.environ["STATE_DIRECTORY"] == str(common.SERVICE_STATE)


def test_another_configuration_and_a_named_state_are_left_alone(service: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    common.look_at_service(service.with_name("other.toml"))
    assert os.environ["STATE_DIRECTORY"] == ""
    monkeypatch.setenv("STATE_DIRECTORY", "/elsewhere")
    common.look_at_service(service)
    assert os.environ["STATE_DIRECTORY"] == "/elsewhere"


def test_without_a_service_nothing_changes(service: Path) -> None:
    common.SERVICE_STATE.rmdir()
    common.look_at_service(service)
    assert os.environ["STATE_DIRECTORY"] == ""


def test_who_may_not_look_is_told_how(service: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "access", lambda *_: False)  # root, who runs tests in containers, may look everywhere
    with pytest.raises(ConfigError, match="run this command with sudo"):
        common.look_at_service(service)


def test_doctor_says_that_it_may_not_look_and_takes_nothing_else_for_it(
    service: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert doctor._closed(service) is None
    monkeypatch.setattr(os, "access", lambda *_: False)
    monkeypatch.setenv("STATE_DIRECTORY", "")
    check = doctor._closed(service)
    assert check is not None
    assert (check.id, check.status, check.fix) == ("update.state", "skip", "sudo edge-agent doctor sees more")
