"""Somebody deletes the folder of models under a running daemon: it is made, and locked, again when it is wanted."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from edge_agent.errors import UpdateError
from edge_agent.io.model_store import InUseError, ModelStore
from edge_agent.rollouts import DeviceState, Held, Reason, Slot

CONTENT = b"model" * 1000
SHA = hashlib.sha256(CONTENT).hexdigest()
STATE = DeviceState(models={"hall": Held(current=Slot(sha256=SHA, version="2.1.0", seq=7, rollout="r7"))})


@pytest.fixture
def store(tmp_path: Path) -> Iterator[ModelStore]:
    made = ModelStore(tmp_path / "state" / "update")
    made.lock()
    made.save(STATE)
    shutil.rmtree(made.folder)
    yield made
    made.close()


def test_the_next_state_is_saved_into_a_new_folder(store: ModelStore) -> None:
    store.save(STATE)
    assert ModelStore(store.folder).load() == STATE


def test_the_next_model_is_fetched_into_a_new_folder(store: ModelStore) -> None:
    store.metadata.mkdir(parents=True)  # as whoever looks into the repository before it is fetched
    store.room(SHA, len(CONTENT))
    store.part(SHA).write_bytes(CONTENT)
    assert store.stage(SHA, len(CONTENT)).read_bytes() == CONTENT


def test_it_is_locked_as_before(store: ModelStore) -> None:
    store.save(STATE)
    with pytest.raises(InUseError):
        ModelStore(store.folder).lock()
    store.close()
    other = ModelStore(store.folder)
    other.lock()
    other.close()


def test_whoever_took_it_meanwhile_keeps_it_until_the_end(store: ModelStore) -> None:
    other = ModelStore(store.folder)
    other.lock()
    with pytest.raises(UpdateError, match="in use by another edge-agent") as refused:
        store.save(STATE)
    assert refused.value.reason == Reason.DISK_FAILED
    other.close()
    store.save(STATE)
    assert ModelStore(store.folder).load() == STATE


def test_what_stands_in_its_way_is_said_and_it_is_made_when_that_is_gone(store: ModelStore) -> None:
    store.folder.touch()
    with pytest.raises(UpdateError, match="must be a folder of this user"):
        store.save(STATE)
    store.folder.unlink()
    store.save(STATE)
    assert ModelStore(store.folder).load() == STATE


def test_one_that_was_never_locked_makes_none(tmp_path: Path) -> None:
    store = ModelStore(tmp_path / "update")
    with pytest.raises(UpdateError):
        store.room(SHA, 1)
    assert not store.folder.exists()
