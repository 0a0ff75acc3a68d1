"""What ``edge-agent doctor`` says of updates, of devices as people leave them."""

from __future__ import annotations

import json
import shutil
from collections import namedtuple
from pathlib import Path

import pytest
from msgspec.structs import replace

from edge_agent.commands.common import Check
from edge_agent.commands.doctor_updates import update_checks
from edge_agent.io.model_store import ModelStore
from edge_agent.loading import load_configuration
from edge_agent.rollouts import Audience, Candidate, DeviceState, Held, Release, Rollout, Slot, Trial
from tests.simulators import agent_toml
from tests.simulators.command_line import edge_agent

RELEASE = Release(
    name="conveyor", version="2.2.0", target="models/conveyor/2.2.0.tflite", length=9, sha256="c" * 64, seq=8
)
ROLLOUT = Rollout(id="r8", number=8, model="conveyor", target=RELEASE.target, sha256=RELEASE.sha256, to=Audience())
RUNS = DeviceState(models={"conveyor": Held(current=Slot(sha256="a" * 64, version="2.1.0", seq=7, rollout="r7"))})
Usage = namedtuple("Usage", "total used free")


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "agent.toml"
    parts = (agent_toml.head(1883), agent_toml.belt(), agent_toml.machine(), agent_toml.inspect(), agent_toml.MODEL)
    path.write_text("".join(parts) + '[update]\npath = "update"\nrepository = "mqtt:"\n')
    return path


@pytest.fixture
def store(config: Path) -> ModelStore:
    (config.parent / "update").mkdir()
    return ModelStore(config.parent / "update")


def checks(config: Path) -> dict[str, Check]:
    return {check.id: check for check in update_checks(load_configuration(config))}


def test_a_new_device_is_told_what_it_needs(config: Path) -> None:
    found = checks(config)
    assert (found["update"].status, found["update.conveyor"].detail) == ("warn", "runs factory")
    assert "copy there what edge-fleet init printed" in found["update"].detail
    assert found["update.room"].status == "ok"
    assert not (config.parent / "update").exists(), "doctor changes nothing"
    (config.parent / "update-root.json").write_text("{}")
    assert checks(config)["update"] == Check("update", "ok", "from mqtt:, channel main; its root metadata is here")
    config.write_text(config.read_text().replace('repository = "mqtt:"\n', ""))
    assert checks(config)["update"].status == "skip"


def test_what_runs_what_is_on_trial_and_what_is_pinned(config: Path, store: ModelStore) -> None:
    pinned = {"conveyor": replace(RUNS.models["conveyor"], pinned=True)}
    trial = Trial(candidate=Candidate(RELEASE, ROLLOUT), starts=1)
    store.save(replace(RUNS, models=pinned, trial=trial))
    assert checks(config)["update.conveyor"].detail == (
        "runs 2.1.0; 2.2.0 is on trial; pinned: edge-agent models unpin conveyor"
    )


def test_a_state_that_is_damaged_or_can_not_be_read_is_said(config: Path, store: ModelStore) -> None:
    (store.folder / "state.json").write_text("nonsense")
    assert "the factory models run" in checks(config)["update.state"].detail
    (store.folder / "state.json").unlink()
    (store.folder / "state.json").mkdir()
    found = checks(config)
    assert found["update.state"].status == "warn" and "update.conveyor" not in found


def test_a_disk_without_room_for_another_model_is_said(config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(2**30, 2**30, 2**20))
    room = checks(config)["update.room"]
    assert (room.status, room.fix) == ("warn", "a new model needs 1.2 MiB: free some space")


def test_doctor_prints_them(config: Path, tmp_path: Path) -> None:
    ended = edge_agent(tmp_path, "doctor", "--json", "--config", config)
    assert {"update", "update.conveyor", "update.room"} <= {check["id"] for check in json.loads(ended.stdout)["checks"]}
