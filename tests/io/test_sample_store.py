"""The folder of samples: bounded, oldest out, whole after a cut, and damaged files out of the way."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import msgspec
import numpy as np
import pytest
from msgspec import Raw
from msgspec.structs import replace

from edge_agent.errors import StorageError
from edge_agent.io import sample_store
from edge_agent.io.sample_store import SampleFolder, look
from edge_agent.monitoring import Held
from tests.simulators.disk import SmallDisk
from tests.simulators.kept_samples import kept, name_of, picture

ROOM = 2**20
NOTHING = Raw(b"{}")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "state" / "samples"


def test_a_sample_is_found_again_as_it_was_put(folder: Path) -> None:
    store = SampleFolder(folder, ROOM)
    assert store.put(kept(1), picture(1)) == []
    again = SampleFolder(folder, ROOM)
    found = again.get(name_of(1))
    assert found is not None
    assert msgspec.json.decode(found.prediction) == msgspec.json.decode(kept(1).prediction)
    assert replace(found, prediction=NOTHING) == replace(kept(1), picture=f"{name_of(1)}.jpg", prediction=NOTHING)
    assert again.held("inspect") == [kept(1).held]
    assert again.held("other") == []
    assert again.get(name_of(2)) is None


def test_a_picture_looks_as_it_did(folder: Path) -> None:
    SampleFolder(folder, ROOM).put(kept(1), picture(1))
    stored = cv2.imread(str(folder / f"{name_of(1)}.jpg"))
    assert stored is not None
    assert stored.shape == (24, 32, 3)
    assert np.abs(stored.astype(int) - picture(1)).mean() < 2


def test_without_a_picture_there_is_only_the_json(folder: Path) -> None:
    store = SampleFolder(folder, ROOM)
    store.put(kept(1), None)
    assert [path.name for path in folder.iterdir()] == [f"{name_of(1)}.json"]
    assert json.loads((folder / f"{name_of(1)}.json").read_text())["schema"] == "edge-agent/sample/1"


def test_the_oldest_go_where_there_is_no_room(folder: Path) -> None:
    store = SampleFolder(folder, 12_000)
    gone = []
    for number in range(30):
        gone += store.put(kept(number, pipeline="ab"[number % 2]), picture(number))
        assert sum(path.stat().st_size for path in folder.iterdir()) <= 12_000
    assert gone == [name_of(number, "ab"[number % 2]) for number in range(len(gone))]
    assert 0 < len(gone) < 30
    left = [*SampleFolder(folder, 12_000).held("a"), *SampleFolder(folder, 12_000).held("b")]
    assert len(left) == 30 - len(gone)


def test_a_lower_bound_holds_from_the_next_start_on(folder: Path) -> None:
    store = SampleFolder(folder, ROOM)
    for number in range(10):
        store.put(kept(number), None)
    bound = sum(path.stat().st_size for path in folder.iterdir()) // 2
    assert 3 <= len(SampleFolder(folder, bound).held("inspect")) <= 5
    assert sum(path.stat().st_size for path in folder.iterdir()) <= bound


def test_what_is_larger_than_the_bound_is_not_kept_and_costs_nothing_else(folder: Path) -> None:
    store = SampleFolder(folder, 4_000)
    store.put(kept(1), None)
    noise = np.random.default_rng(1).integers(0, 256, (200, 200, 3), np.uint8)
    assert store.put(kept(2), noise) == [name_of(2)]
    assert store.held("inspect") == [kept(1).held]


def test_a_label_is_added_and_the_picture_stays(folder: Path) -> None:
    store = SampleFolder(folder, ROOM)
    store.put(kept(1), picture(1))
    sample = store.get(name_of(1))
    assert sample is not None
    held = Held(name_of(1), "mislabelled", 5.0, sample.held.wall_ns)
    store.replace(replace(sample, labels={"fault": "good"}, held=held))
    store.replace(kept(99))  # has gone meanwhile
    again = SampleFolder(folder, ROOM)
    found = again.get(name_of(1))
    assert found is not None
    assert (found.labels, found.held, found.picture) == ({"fault": "good"}, held, sample.picture)
    assert len(list(folder.glob("*.jpg"))) == 1
    again.remove(name_of(1))
    again.remove(name_of(1))
    assert list(folder.iterdir()) == []


def test_damaged_files_are_put_aside_and_leftovers_of_a_cut_deleted(folder: Path) -> None:
    store = SampleFolder(folder, ROOM)
    for number in range(4):
        store.put(kept(number), picture(number))
    (folder / f"{name_of(0)}.json").write_bytes(b'{"held"')
    (folder / f"{name_of(1)}.jpg").unlink()
    stolen = (folder / f"{name_of(2)}.json").read_text()
    (folder / "stranger.json").write_text(stolen)  # a name that is not its own
    (folder / f"{name_of(9)}.json.new").write_bytes(b"half")
    assert len(look(folder).damaged) == 5  # those, and the picture of the first
    again = SampleFolder(folder, ROOM)
    assert [held.id for held in again.held("inspect")] == [name_of(2), name_of(3)]
    assert again.set_aside == 3
    assert {path.name for path in (folder / "damaged").iterdir()} == {
        f"{name_of(0)}.json",
        f"{name_of(1)}.json",
        "stranger.json",
    }
    assert look(folder).damaged == []


def test_a_json_that_names_a_file_elsewhere_is_damaged(folder: Path) -> None:
    store = SampleFolder(folder, ROOM)
    store.put(kept(1), picture(1))
    path = folder / f"{name_of(1)}.json"
    path.write_text(path.read_text().replace(f"{name_of(1)}.jpg", "../secret.jpg"))
    assert look(folder).samples == []


def test_only_some_damaged_files_are_kept(folder: Path) -> None:
    SampleFolder(folder, ROOM).put(kept(1), None)
    for number in range(sample_store.DAMAGED_MOST + 9):
        (folder / f"bad{number}.json").write_text("{")
    SampleFolder(folder, ROOM).held("inspect")
    assert len(list((folder / "damaged").iterdir())) == sample_store.DAMAGED_MOST


@pytest.mark.parametrize("after", ["nothing", "picture"])
def test_a_cut_while_a_sample_is_put_leaves_the_others(
    folder: Path, after: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = SampleFolder(folder, ROOM)
    store.put(kept(1), picture(1))
    write, calls = sample_store.write_whole, iter(range(9))

    class Cut(BaseException):
        pass

    def cut(path: Path, content: bytes) -> None:
        if next(calls) == (0 if after == "nothing" else 1):
            raise Cut
        write(path, content)

    monkeypatch.setattr(sample_store, "write_whole", cut)
    with pytest.raises(Cut):
        store.put(kept(2), picture(2))
    monkeypatch.undo()
    again = SampleFolder(folder, ROOM)
    assert again.held("inspect") == [kept(1).held]
    assert sorted(path.suffix for path in folder.iterdir()) == [".jpg", ".json"]


def test_a_full_disk_is_told_and_leaves_nothing_half(tmp_path: Path) -> None:
    with SmallDisk(tmp_path / "disk", "256k") as disk:
        folder = tmp_path / "disk" / "samples"
        store = SampleFolder(folder, ROOM)
        store.put(kept(1), picture(1))
        disk.fill()
        with pytest.raises(StorageError, match="No space left"):
            store.put(kept(2), picture(2))
        disk.make_room()
        assert store.put(kept(3), picture(3)) == []
        assert [sample.held.id for sample in look(folder).samples] == [name_of(1), name_of(3)]
        assert look(folder).damaged == []


def test_a_folder_that_is_not_there_has_no_samples(folder: Path) -> None:
    assert look(folder).samples == []
    assert SampleFolder(folder, ROOM).held("inspect") == []
