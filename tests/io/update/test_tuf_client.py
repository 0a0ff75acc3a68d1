"""What a device gets out of the repository: rollouts, releases, models; and what is signed and still wrong."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from edge_agent import limits
from edge_agent.errors import StorageError, TransportError, UpdateError
from edge_agent.rollouts import Audience, Channel, Reason, Release, Rollout
from tests.simulators.disk import SmallDisk
from tests.simulators.tuf_device import TufDevice
from tests.simulators.tuf_repository import TufRepository

CONTENT = bytes(range(256)) * 20
TARGET = "models/hall/1.0.0.tflite"
ROLLOUT = Rollout(
    id="r1",
    number=1,
    model="hall",
    target=TARGET,
    sha256="a" * 64,
    to=Audience(devices=("line3-cam1",), groups=("hall",)),
    percent=12.5,
    window="22:00-05:00",
    not_before="2026-11-21T17:00:00Z",
    agreement=0.95,
)


@pytest.fixture
def repository(tmp_path: Path) -> TufRepository:
    return TufRepository(tmp_path / "repository")


@pytest.fixture
def device(tmp_path: Path, repository: TufRepository) -> TufDevice:
    return TufDevice(tmp_path, repository)


# --- documents -------------------------------------------------------------------------------------------------------


def test_a_release_is_what_was_signed(device: TufDevice, repository: TufRepository) -> None:
    signed = repository.add_model(
        "hall", "1.0.0", CONTENT, 7, profiles=["rpi5", "jetson"], agent="1.2.0", p95_ms=12.5, memory_mb=64
    )
    assert signed.p95_ms == 12.5
    got = device.refresh().release(TARGET)
    assert got == msgspec.structs.replace(signed, profiles=("rpi5", "jetson"), memory_mb=64.0)


def test_a_release_may_say_no_more_than_its_name_version_and_number(
    device: TufDevice, repository: TufRepository
) -> None:
    signed = repository.add_model("hall", "1.0.0", CONTENT, 1, later="field")
    assert device.refresh().release(TARGET) == signed
    assert (signed.profiles, signed.agent, signed.p95_ms, signed.memory_mb) == ((), "", None, None)


def test_the_same_path_signed_again_is_a_new_release(device: TufDevice, repository: TufRepository) -> None:
    repository.add_model("hall", "1.0.0", CONTENT, 1)
    repository.add_model("hall", "1.0.0", CONTENT, 5)
    assert device.refresh().release(TARGET).seq == 5


@pytest.mark.parametrize(
    "fields",
    [
        None,
        {},
        {"name": "hall", "version": "1.0.0"},
        {"name": "hall", "version": "1.0.0", "seq": "many"},
        {"name": "hall", "version": "1.0.0", "seq": 0},
        {"name": "hall", "version": "1.0.0", "seq": -1},
        {"name": "other", "version": "1.0.0", "seq": 1},
        {"name": "hall", "version": "2.0.0", "seq": 1},
        {"name": "hall", "version": "1.0.0", "seq": 1, "profiles": "rpi5"},
        {"name": "hall", "version": "1.0.0", "seq": 1, "p95_ms": "fast"},
        {"name": "hall", "version": "1.0.0", "seq": 1, "p95_ms": "nan"},
        {"name": "hall", "version": "1.0.0", "seq": 1, "memory_mb": "-1"},
        ["hall", "1.0.0", 1],
    ],
)
def test_a_release_with_wrong_fields_is_refused(device: TufDevice, repository: TufRepository, fields: Any) -> None:
    repository.add_target("models", TARGET, CONTENT, {"edge-agent": fields} if fields is not None else None)
    followed = device.refresh()
    assert device.refused(lambda: followed.release(TARGET)) is Reason.METADATA_REFUSED


@pytest.mark.parametrize("target", ["models/hall/1.0.0.pt", "models/hall/.tflite"])
def test_a_target_that_is_no_model_is_no_release(device: TufDevice, repository: TufRepository, target: str) -> None:
    fields = {"name": "hall", "version": "1.0.0", "seq": 1}
    repository.add_target("models", target, CONTENT, {"edge-agent": fields})
    followed = device.refresh()
    assert device.refused(lambda: followed.release(target)) is Reason.METADATA_REFUSED


@pytest.mark.parametrize("sha256", ["", "../../../etc", "A" * 64, "a" * 63])
def test_a_hash_that_is_no_hash_names_no_folder(device: TufDevice, repository: TufRepository, sha256: str) -> None:
    repository.add_model("hall", "1.0.0", CONTENT, 1)
    repository.models.targets[TARGET].hashes = {"sha256": sha256} if sha256 else {"sha512": "a" * 128}
    repository.publish("models")
    followed = device.refresh()
    assert device.refused(lambda: followed.release(TARGET)) is Reason.METADATA_REFUSED


def test_a_model_that_no_board_could_hold_is_refused_before_it_is_fetched(
    device: TufDevice, repository: TufRepository
) -> None:
    repository.add_model("hall", "1.0.0", CONTENT, 1)
    repository.models.targets[TARGET].length = limits.MODEL_BYTES_MOST + 1
    repository.publish("models")
    followed = device.refresh()
    with pytest.raises(UpdateError) as caught:
        followed.release(TARGET)
    assert (caught.value.reason, caught.value.final) == (Reason.TOO_LARGE, True)


def test_a_release_that_was_never_signed_is_refused(device: TufDevice) -> None:
    followed = device.refresh()
    assert device.refused(lambda: followed.release("models/hall/9.tflite")) is Reason.METADATA_REFUSED


def test_a_channel_is_what_the_operator_signed(device: TufDevice, repository: TufRepository) -> None:
    repository.set_rollouts("main", [ROLLOUT])
    repository.set_rollouts("beta", [])
    followed = device.refresh()
    assert followed.channel("main") == Channel(schema="edge-agent/rollouts/1", channel="main", rollouts=(ROLLOUT,))
    assert followed.channel("beta").rollouts == ()
    assert followed.channel("never signed").rollouts == ()


@pytest.mark.parametrize(
    "document",
    [
        b"",
        b"{}",
        b"\xff",
        b"[" * 100_000,
        {"schema": "edge-agent/rollouts/2"},
        {"channel": "other"},
        {"rollouts": [{"id": "r1"}]},
        {"rollouts": [ROLLOUT, msgspec.structs.replace(ROLLOUT, number=2)]},
        {"rollouts": [ROLLOUT, msgspec.structs.replace(ROLLOUT, id="r2")]},
    ],
)
def test_a_signed_file_that_is_no_document_of_rollouts_is_refused(
    device: TufDevice, repository: TufRepository, document: bytes | dict[str, Any]
) -> None:
    if isinstance(document, dict):
        good = {"schema": "edge-agent/rollouts/1", "channel": "main", "rollouts": [ROLLOUT]}
        document = msgspec.json.encode({**good, **document})
    repository.add_target("rollouts", "rollouts/main.json", document)
    followed = device.refresh()
    assert device.refused(lambda: followed.channel("main")) is Reason.ROLLOUT_REFUSED


@pytest.mark.parametrize(
    "field",
    [
        {"target": "models/hall"},
        {"model": "other"},
        {"sha256": "A" * 64},
        {"sha256": "../" * 20},
        {"percent": 101},
        {"percent": -0.1},
        {"share": 0},
        {"share": 1.1},
        {"shadow_s": -1},
        {"trial_s": -1},
        {"agreement": 1.5},
        {"window": "22-05"},
        {"window": "24:00-05:00"},
        {"not_before": "tomorrow"},
        {"not_before": "2026-13-01T00:00:00Z"},
        {"not_before": "2026-12-01T00:00:00+01:00"},
        {"state": "halted"},
    ],
)
def test_a_rollout_with_a_wrong_field_is_named_with_it(
    device: TufDevice, repository: TufRepository, field: dict[str, Any]
) -> None:
    rollout = {**msgspec.to_builtins(ROLLOUT), **field}
    document = {"schema": "edge-agent/rollouts/1", "channel": "main", "rollouts": [rollout]}
    repository.add_target("rollouts", "rollouts/main.json", json.dumps(document).encode())
    followed = device.refresh()
    with pytest.raises(UpdateError) as caught:
        followed.channel("main")
    assert caught.value.reason is Reason.ROLLOUT_REFUSED
    assert next(iter(field)) in str(caught.value)


def test_rollouts_too_large_to_be_any_are_not_read(device: TufDevice, repository: TufRepository) -> None:
    repository.set_rollouts("main", [ROLLOUT])
    repository.rollouts.targets["rollouts/main.json"].length = limits.METADATA_BYTES_MOST + 1
    repository.publish("rollouts")
    followed = device.refresh()
    assert device.refused(lambda: followed.channel("main")) is Reason.ROLLOUT_REFUSED


@pytest.mark.parametrize("content", [b"", b"{}", b"x" * 10_000])
def test_rollouts_other_than_the_signed_ones_are_refused(
    device: TufDevice, repository: TufRepository, content: bytes
) -> None:
    repository.set_rollouts("main", [ROLLOUT])
    target = repository.rollouts.targets["rollouts/main.json"]
    path = repository.target_file(target).relative_to(repository.folder)
    device.source.lies[str(path)] = content
    followed = device.refresh()
    assert device.refused(lambda: followed.channel("main")) is Reason.METADATA_REFUSED


def test_a_refresh_comes_first(device: TufDevice) -> None:
    with pytest.raises(RuntimeError, match="refresh"):
        device.open().channel("main")


# --- a model ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def release(repository: TufRepository) -> Release:
    return repository.add_model("hall", "1.0.0", CONTENT, 1)


def test_a_model_comes_whole_and_its_progress_is_told(device: TufDevice, release: Release) -> None:
    told: list[int] = []
    device.refresh().download(release, device.part, told.append)
    assert device.part.read_bytes() == CONTENT
    assert told[-1] == len(CONTENT)


def test_a_model_known_from_before_needs_no_refresh(device: TufDevice, release: Release) -> None:
    """Resumed after a restart: what was signed is in the device's state."""
    device.open().download(release, device.part, lambda _: None)
    assert device.part.read_bytes() == CONTENT
    assert device.source.asked_metadata() == []


@pytest.mark.parametrize("size", [0, 1, 1000, len(CONTENT) - 1, len(CONTENT)])
def test_a_transfer_goes_on_where_it_ended(device: TufDevice, release: Release, size: int) -> None:
    device.part.write_bytes(CONTENT[:size])
    device.open().download(release, device.part, lambda _: None)
    assert device.part.read_bytes() == CONTENT
    assert len(device.source.asked) == 1


@pytest.mark.parametrize("found", [b"garbage", bytes(len(CONTENT)), CONTENT + b"more"])
def test_a_garbled_part_is_fetched_anew_at_once(device: TufDevice, release: Release, found: bytes) -> None:
    device.part.write_bytes(found)
    device.open().download(release, device.part, lambda _: None)
    assert device.part.read_bytes() == CONTENT


def test_a_server_with_other_bytes_leaves_no_part_even_after_a_resume(device: TufDevice, release: Release) -> None:
    device.part.write_bytes(b"garbage")
    device.source.lies[f"targets/models/hall/{release.sha256}.1.0.0.tflite"] = bytes(len(CONTENT))
    assert device.refused(lambda: device.open().download(release, device.part, lambda _: None)) is Reason.HASH
    assert len(device.source.asked) == 2
    assert not device.part.exists()


def test_a_model_that_is_signed_and_not_there_is_named(
    device: TufDevice, repository: TufRepository, release: Release
) -> None:
    repository.target_file(repository.models.targets[release.target]).unlink()
    assert device.refused(lambda: device.open().download(release, device.part, lambda _: None)) is Reason.UNREACHABLE


def test_what_came_before_the_network_went_stays(device: TufDevice, release: Release) -> None:
    device.part.write_bytes(CONTENT[:1000])
    path = f"targets/models/hall/{release.sha256}.1.0.0.tflite"
    device.source.lies[path] = TransportError("no route")
    assert device.refused(lambda: device.open().download(release, device.part, lambda _: None)) is Reason.UNREACHABLE
    assert device.part.read_bytes() == CONTENT[:1000]


@pytest.mark.parametrize(
    ("error", "reason"),
    [(StorageError("full"), Reason.DISK_FAILED), (OSError(28, "No space left on device"), Reason.DISK_FULL)],
)
def test_a_disk_that_fails_during_the_transfer_is_named(
    device: TufDevice, release: Release, error: Exception, reason: Reason
) -> None:
    device.source.lies[f"targets/models/hall/{release.sha256}.1.0.0.tflite"] = error
    assert device.refused(lambda: device.open().download(release, device.part, lambda _: None)) is reason


# --- a real disk -----------------------------------------------------------------------------------------------------


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[SmallDisk]:
    with SmallDisk(tmp_path / "disk", "1m") as mounted:
        yield mounted


@pytest.mark.parametrize("state", ["full", "read-only"])
@pytest.mark.parametrize("first", [True, False])
def test_a_disk_that_takes_no_metadata_is_named_and_loses_none(
    tmp_path: Path, repository: TufRepository, disk: SmallDisk, state: str, first: bool
) -> None:
    device = TufDevice(tmp_path / "disk", repository)
    if not first:
        device.refresh()
        repository.publish("targets")
    if state == "full":
        disk.fill()
    else:
        disk.read_only()
    assert device.refused() is (Reason.DISK_FULL if state == "full" else Reason.DISK_FAILED)
    disk.make_room() if state == "full" else disk.writable()
    device.refresh()
    assert device.trusted()["targets"] == repository.targets.version


def test_a_disk_that_takes_no_model_is_named_and_goes_on_later(
    tmp_path: Path, repository: TufRepository, disk: SmallDisk
) -> None:
    device = TufDevice(tmp_path / "disk", repository)
    release = repository.add_model("hall", "1.0.0", CONTENT * 10, 1)
    followed = device.refresh()
    disk.fill()
    assert device.refused(lambda: followed.download(release, device.part, lambda _: None)) is Reason.DISK_FULL
    disk.make_room()
    followed.download(release, device.part, lambda _: None)
    assert device.part.read_bytes() == CONTENT * 10
