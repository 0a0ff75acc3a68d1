"""What a process does with the device's folder of models when it starts."""

from __future__ import annotations

from pathlib import Path

import pytest

from edge_agent.core.boot import STARTS_MOST
from edge_agent.io.model_store import ModelStore
from edge_agent.io.update_state import STATE
from edge_agent.loading import load_configuration
from edge_agent.rollouts import DeviceState
from edge_agent.updating.start import UpdateStart


@pytest.mark.parametrize(("unhealthy", "writes"), [(STARTS_MOST - 1, True), (STARTS_MOST, False)])
def test_where_nothing_is_left_to_change_a_process_that_dies_again_and_again_writes_nothing(
    unhealthy: int, writes: bool, example: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STATE_DIRECTORY", str(tmp_path))
    folder = tmp_path / "update"
    store = ModelStore(folder)
    store.lock()
    store.save(DeviceState(unhealthy=unhealthy))
    store.close()
    before = (folder / STATE).stat().st_ino
    start = UpdateStart(load_configuration(example / "agent.toml"))
    start.store.close()
    assert start.state.unhealthy == STARTS_MOST
    assert ((folder / STATE).stat().st_ino != before) is writes
