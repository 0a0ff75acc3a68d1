"""The folder of models: what it holds is what was put there, whole, or it says what is amiss."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from edge_agent.config.schema import UpdateConfig
from edge_agent.errors import StorageError, UpdateError
from edge_agent.io import update_state
from edge_agent.io.model_store import InUseError, ModelStore, update_folder
from edge_agent.io.update_requests import Answer, Request
from edge_agent.rollouts import (
    Audience,
    Bad,
    Candidate,
    DeviceState,
    Held,
    Outcome,
    Reason,
    Release,
    Rollout,
    Slot,
    Trial,
    UpdateState,
)
from tests.simulators.disk import SmallDisk

MODEL = bytes(range(256)) * 40
SHA = hashlib.sha256(MODEL).hexdigest()
OTHER = hashlib.sha256(b"other").hexdigest()
RELEASE = Release(name="hall", version="2.1.0", target="models/hall/2.1.0.tflite", length=len(MODEL), sha256=SHA, seq=7)
ROLLOUT = Rollout(id="r7", number=7, model="hall", target=RELEASE.target, sha256=SHA, to=Audience(everyone=True))
FULL = DeviceState(
    models={"hall": Held(current=Slot(sha256=SHA, version="2.1.0", seq=7, rollout="r7"), previous=Slot(), floor=7)},
    pending=Candidate(RELEASE, ROLLOUT),
    trial=Trial(candidate=Candidate(RELEASE, ROLLOUT), starts=2, ran_s=12.5),
    bad=(Bad(OTHER, "r6", Reason.GOLDEN),),
    last=Outcome(
        state=UpdateState.ROLLED_BACK,
        model="hall",
        version="2.0.0",
        sha256=OTHER,
        rollout="r6",
        reason=Reason.LATENCY,
        evidence={"p95_ms": 31.5, "samples": 200, "delegate": "cpu"},
        wall_ns=1_790_000_000_000_000_000,
    ),
    time_floor_ns=1_790_000_000_000_000_000,
    unhealthy=1,
)


@pytest.fixture
def store(tmp_path: Path) -> ModelStore:
    store = ModelStore(tmp_path / "update")
    store.lock()
    return store


def fetched(store: ModelStore, content: bytes = MODEL, sha256: str = SHA) -> None:
    store.part(sha256).write_bytes(content)


# --- the state -------------------------------------------------------------------------------------------------------


def test_a_folder_that_nothing_was_ever_written_to_has_the_factory_models(tmp_path: Path) -> None:
    store = ModelStore(tmp_path / "nowhere")
    assert store.load() == DeviceState()
    assert store.damage is None
    assert not (tmp_path / "nowhere").exists()


def test_what_was_saved_is_loaded(store: ModelStore) -> None:
    store.save(FULL)
    assert ModelStore(store.folder).load() == FULL
    store.save(replace(FULL, pending=None))
    assert store.load() == replace(FULL, pending=None)


def test_evidence_that_json_can_not_hold_does_not_make_the_state_unreadable(store: ModelStore) -> None:
    assert FULL.last is not None
    odd = replace(
        FULL.last, evidence={"p95_ms": float("nan"), "most": float("inf"), "path": "a\udc80"}, detail="\udcff"
    )
    store.save(replace(FULL, last=odd))
    last = store.load().last
    assert last is not None
    assert last.evidence == {"p95_ms": "nan", "most": "inf", "path": "a?"}
    assert last.detail == "?"


@given(st.floats() | st.integers(-(2**63), 2**63 - 1) | st.text(), st.text())
@settings(max_examples=60, deadline=None)
def test_every_evidence_comes_back(value: float | int | str, name: str) -> None:
    assert FULL.last is not None
    last = update_state.decode(update_state.encode(replace(FULL, last=replace(FULL.last, evidence={name: value})))).last
    assert last is not None
    assert next(iter(last.evidence.values())) in (value, str(value))


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "is damaged"),
        (bytes(4096), "is damaged"),
        (b"[" * 100_000, "is damaged"),
        (
            b'{"schema":"edge-agent/update-state/9","sha256":"","state":{}}',
            "has the schema 'edge-agent/update-state/9'",
        ),
        (b'{"schema":"edge-agent/update-state/1","sha256":"00","state":{}}', "does not have the checksum"),
        (b"\xff\xfe", "is damaged"),
    ],
)
def test_a_damaged_state_is_told_of_and_its_copy_counts(store: ModelStore, content: bytes, said: str) -> None:
    store.save(FULL)
    (store.folder / "state.json").write_bytes(content)
    assert store.load() == FULL
    assert store.damage is not None
    assert said in store.damage
    assert store.damage.endswith("its copy counts")
    assert "\n" not in store.damage


def test_one_that_is_gone_is_too(store: ModelStore) -> None:
    store.save(FULL)
    (store.folder / "state.json").unlink()
    assert store.load() == FULL
    assert store.damage == f"{store.folder}/state.json is gone; its copy counts"


def test_where_both_are_damaged_the_factory_models_run_and_the_file_is_kept_for_a_person(store: ModelStore) -> None:
    store.save(FULL)
    for name in ("state.json", "state.spare.json"):
        (store.folder / name).write_bytes(b"junk")
    assert store.load() == DeviceState()
    assert store.damage is not None
    assert "factory models run" in store.damage
    assert (store.folder / "state.json").read_bytes() == b"junk"  # a look changes nothing
    store.save(FULL)
    assert store.load() == FULL
    assert store.damage is None
    assert (store.folder / "state.damaged.json").read_bytes() == b"junk"


@given(st.integers(0, 7), st.floats(0, 1, exclude_max=True))
@settings(max_examples=150, deadline=None)
def test_no_flipped_bit_goes_unnoticed(bit: int, where: float) -> None:
    content = bytearray(update_state.encode(FULL))
    content[int(where * len(content))] ^= 1 << bit
    try:
        assert update_state.decode(bytes(content)) == FULL  # the space at its end
    except ValueError:
        return


def test_a_state_that_can_not_be_read_now_is_an_error_and_no_loss(store: ModelStore) -> None:
    for name in ("state.json", "state.spare.json"):
        (store.folder / name).mkdir()
    with pytest.raises(StorageError, match="is the disk in order"):
        store.load()


# --- slots -----------------------------------------------------------------------------------------------------------


def test_a_part_becomes_a_slot_after_a_look_at_all_of_it(store: ModelStore) -> None:
    fetched(store)
    path = store.stage(SHA, len(MODEL))
    assert path.read_bytes() == MODEL
    assert path == store.folder / "slots" / SHA / "model.tflite"
    assert store.slot(SHA) == path
    assert not store.part(SHA).exists()


@pytest.mark.parametrize("content", [b"", MODEL[:-1], MODEL + b"x", MODEL[:-1] + b"\x00", bytes(len(MODEL))])
def test_a_part_of_other_bytes_is_deleted_and_never_a_slot(store: ModelStore, content: bytes) -> None:
    fetched(store, content)
    with pytest.raises(UpdateError, match="not the bytes that were signed") as raised:
        store.stage(SHA, len(MODEL))
    assert raised.value.reason == Reason.HASH
    assert not store.part(SHA).exists()
    assert store.slot(SHA) is None


def test_staging_again_is_nothing(store: ModelStore) -> None:
    fetched(store)
    path = store.stage(SHA, len(MODEL))
    fetched(store, b"the next attempt had begun")
    assert store.stage(SHA, len(MODEL)) == path
    assert not store.part(SHA).exists()


def test_a_part_that_is_gone_is_the_disks_fault(store: ModelStore) -> None:
    with pytest.raises(UpdateError, match="part: No such file") as raised:
        store.stage(SHA, len(MODEL))
    assert raised.value.reason == Reason.DISK_FAILED
    assert not raised.value.final


def test_a_slot_whose_bytes_changed_is_none_and_a_good_part_replaces_it(store: ModelStore) -> None:
    fetched(store)
    path = store.stage(SHA, len(MODEL))
    path.write_bytes(MODEL[:-1] + b"\x00")
    assert store.slot(SHA) is None
    fetched(store)
    store.stage(SHA, len(MODEL))
    assert store.slot(SHA) == path


@pytest.mark.parametrize("name", ["../../etc/passwd", "A" * 64, "a" * 63, "a" * 64 + "\n", "/etc/passwd"])
def test_only_a_hash_names_a_slot(store: ModelStore, name: str) -> None:
    for use in (store.slot, store.part):
        with pytest.raises(UpdateError, match="no SHA-256"):
            use(name)


def test_the_factory_model_has_no_slot(store: ModelStore) -> None:
    assert store.slot("") is None


def test_only_what_is_kept_stays(store: ModelStore) -> None:
    fetched(store)
    store.stage(SHA, len(MODEL))
    fetched(store, b"other", OTHER)
    store.stage(OTHER, 5)
    fetched(store, b"half", OTHER)
    (store.folder / "slots" / "left over").mkdir()
    (store.folder / "slots" / "left over" / "file").write_text("x")
    (store.folder / "slots" / "link").symlink_to(store.folder / "slots" / SHA)
    (store.folder / "parts" / f"{'0' * 64}.part.new").write_text("x")
    store.collect(frozenset({SHA, ""}))
    assert store.slot(SHA)
    assert [path.name for path in (store.folder / "slots").iterdir()] == [SHA]
    assert list((store.folder / "parts").iterdir()) == []


def test_a_model_larger_than_the_budget_is_refused_before_it_is_fetched(tmp_path: Path) -> None:
    store = ModelStore(tmp_path, budget=1000)
    store.lock()
    store.room(SHA, 1000)
    with pytest.raises(UpdateError, match=r"\[update\] disk allows") as raised:
        store.room(SHA, 1001)
    assert raised.value.reason == Reason.DISK_FULL


def test_what_is_fetched_already_needs_no_room(store: ModelStore) -> None:
    free = os.statvfs(store.folder)
    length = free.f_bavail * free.f_frsize
    with pytest.raises(UpdateError, match="are free on this disk"):
        store.room(SHA, length)
    with store.part(SHA).open("wb") as part:
        part.truncate(length)
    store.room(SHA, length)


# --- real disks ------------------------------------------------------------------------------------------------------


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[SmallDisk]:
    with SmallDisk(tmp_path / "disk", "4m") as disk:
        yield disk


def on_disk(tmp_path: Path) -> ModelStore:
    store = ModelStore(tmp_path / "disk" / "update")
    store.lock()
    store.save(FULL)
    return store


def test_a_full_disk_loses_nothing_and_is_used_again_when_there_is_room(tmp_path: Path, disk: SmallDisk) -> None:
    store = on_disk(tmp_path)
    fetched(store)
    disk.fill()
    with pytest.raises(UpdateError, match="free some space") as raised:
        store.save(DeviceState())
    assert raised.value.reason == Reason.DISK_FULL
    with pytest.raises(UpdateError, match="are still to be fetched") as raised:
        store.room(OTHER, 5)
    assert raised.value.reason == Reason.DISK_FULL
    assert store.load() == FULL
    assert store.damage is None
    # what frees room still works
    store.collect(frozenset({SHA}))
    disk.make_room()
    store.stage(SHA, len(MODEL))
    store.save(DeviceState())
    assert store.load() == DeviceState()
    store.close()


def test_a_read_only_disk_loses_nothing_and_says_so(tmp_path: Path, disk: SmallDisk) -> None:
    store = on_disk(tmp_path)
    fetched(store)
    store.close()
    disk.read_only()
    refusals: list[Callable[[], object]] = [
        lambda: store.save(DeviceState()),
        lambda: store.stage(SHA, len(MODEL)),
        lambda: store.collect(frozenset()),
    ]
    for refused in refusals:
        with pytest.raises(UpdateError, match="must be able to write") as raised:
            refused()
        assert raised.value.reason == Reason.DISK_FAILED
    with pytest.raises(StorageError, match="Read-only file system"):
        store.lock()
    with pytest.raises(StorageError, match="run this as the user of the daemon"):
        store.requests.post(Request(what="pin", model="hall"))
    assert store.load() == FULL
    disk.writable()
    store.lock()
    assert store.stage(SHA, len(MODEL)).read_bytes() == MODEL
    store.close()


# --- the lock --------------------------------------------------------------------------------------------------------


def test_one_process_at_a_time(store: ModelStore) -> None:
    other = ModelStore(store.folder)
    with pytest.raises(InUseError, match=rf"in use by another edge-agent \(pid {os.getpid()}\)") as raised:
        other.lock()
    assert raised.value.pid == str(os.getpid())
    store.close()
    other.lock()
    other.close()
    other.close()


def test_a_killed_process_leaves_no_lock(store: ModelStore) -> None:
    store.close()
    script = "import os, sys; from pathlib import Path; from edge_agent.io.model_store import ModelStore\n"
    script += "ModelStore(Path(sys.argv[1])).lock(); os._exit(9)"
    subprocess.run([sys.executable, "-c", script, store.folder], check=False, cwd=Path(__file__).parents[3])
    store.lock()


def test_a_folder_that_can_not_be_made_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match=r"File exists; \[update\] path must be a folder"):
        ModelStore(tmp_path / "file" / "update").lock()


def test_nobody_else_may_look_into_the_folder(store: ModelStore) -> None:
    store.save(FULL)
    assert store.folder.stat().st_mode & 0o777 == 0o700
    assert (store.folder / "state.json").stat().st_mode & 0o777 == 0o600


def test_where_the_folder_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("STATE_DIRECTORY", raising=False)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    assert update_folder(UpdateConfig(), Path("/etc"), "cam1") == tmp_path / "edge-agent" / "cam1" / "update"
    monkeypatch.setenv("STATE_DIRECTORY", "/var/lib/edge-agent:/elsewhere")
    assert update_folder(UpdateConfig(), Path("/etc"), "cam1") == Path("/var/lib/edge-agent/update")
    assert update_folder(UpdateConfig(path="models"), Path("/etc"), "cam1") == Path("/etc/models")


# --- requests --------------------------------------------------------------------------------------------------------


def test_a_request_comes_whole_and_is_answered_once(store: ModelStore) -> None:
    requests = store.requests
    first = requests.post(Request(what="pin", model="hall"))
    second = requests.post(Request(what="install", folder="/media/usb"))
    waiting = requests.waiting()
    assert [(request.id, request.what) for request in waiting] == [(first, "pin"), (second, "install")]
    requests.answer(first, Answer(True, "pinned"))
    assert [request.id for request in requests.waiting()] == [second]
    assert requests.wait(first, 0) == Answer(True, "pinned")
    assert requests.wait(second, 0) is None  # withdrawn
    assert list((store.folder / "requests").iterdir()) == []


def test_an_answer_that_nobody_waits_for_is_not_kept(store: ModelStore) -> None:
    name = store.requests.post(Request(what="pin", model="hall"))
    assert store.requests.wait(name, 0) is None
    store.requests.answer(name, Answer(True, "pinned"))
    assert list((store.folder / "requests").iterdir()) == []


@pytest.mark.parametrize("content", [b"", b"{}", b'{"what":"explode"}', b"\xff" * 10, b'{"what":"pin","id":"other"}'])
def test_what_is_no_request_is_thrown_away(store: ModelStore, content: bytes) -> None:
    store.requests.post(Request(what="pin", model="hall"))
    (store.folder / "requests" / "x.request").write_bytes(content)
    assert [request.what for request in store.requests.waiting()] == ["pin"]
    assert not (store.folder / "requests" / "x.request").exists()


def test_what_was_asked_of_an_earlier_run_is_forgotten(store: ModelStore) -> None:
    store.requests.post(Request(what="rollback", model="hall"))
    (store.folder / "requests" / "killed.request.new").write_text("half a requ")
    store.requests.clear()
    assert list((store.folder / "requests").iterdir()) == []


def test_a_folder_without_requests_has_none(tmp_path: Path) -> None:
    assert ModelStore(tmp_path / "none").requests.waiting() == []


def test_the_state_is_one_json_document_that_other_programs_can_read(store: ModelStore) -> None:
    store.save(FULL)
    document = json.loads((store.folder / "state.json").read_text())
    assert document["schema"] == "edge-agent/update-state/1"
    assert document["state"]["models"]["hall"]["current"]["version"] == "2.1.0"
