"""Files of what was learnt of drift."""

from __future__ import annotations

from pathlib import Path

import pytest

from edge_agent.errors import StorageError
from edge_agent.io import drift_state
from edge_agent.io.drift_state import DriftFolder


def test_what_is_saved_is_found_again_and_the_last_one_counts(tmp_path: Path) -> None:
    store = DriftFolder(tmp_path / "state" / "drift")
    assert store.load("inspect.monitor") is None
    store.save("inspect.monitor", b"one")
    store.save("inspect.monitor", b"two")
    assert DriftFolder(tmp_path / "state" / "drift").load("inspect.monitor") == b"two"
    assert [path.name for path in (tmp_path / "state" / "drift").iterdir()] == ["inspect.monitor"]


def test_what_was_set_aside_is_kept_for_a_person_and_learning_starts_again(tmp_path: Path) -> None:
    store = DriftFolder(tmp_path)
    store.save("inspect.monitor", b"damaged")
    aside = Path(store.set_aside("inspect.monitor"))
    assert store.load("inspect.monitor") is None
    assert aside.read_bytes() == b"damaged"


def test_a_disk_that_does_not_play_along_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "taken").write_text("a file where the folder should be")
    store = DriftFolder(tmp_path / "taken")
    with pytest.raises(StorageError, match=r"taken/inspect.monitor: "):
        store.save("inspect.monitor", b"x")
    with pytest.raises(StorageError, match=r"taken/inspect.monitor: "):
        store.load("inspect.monitor")
    with pytest.raises(StorageError, match=r"taken/inspect.monitor: "):
        store.set_aside("inspect.monitor")
    monkeypatch.setattr(drift_state, "BYTES_MOST", 4)
    large = DriftFolder(tmp_path)
    large.save("inspect.monitor", b"larger")
    with pytest.raises(StorageError, match="not ours; move it away"):
        large.load("inspect.monitor")
