"""TUF's detailed client workflow, role by role: what is asked for, what is taken over, what is refused. The cases are
those of the public conformance suite (theupdateframework/tuf-conformance)."""

from __future__ import annotations

import json
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest
from securesystemslib.signer import CryptoSigner
from tuf.api.metadata import TOP_LEVEL_ROLE_NAMES

from edge_agent.rollouts import Reason
from tests.simulators.tuf_device import TufDevice
from tests.simulators.tuf_repository import TufRepository, signed_by

EVERY_ROLE_1 = {"root": 1, "snapshot": 1, "targets": 1, "timestamp": 1}


@pytest.fixture
def repository(tmp_path: Path) -> TufRepository:
    return TufRepository(tmp_path / "repository")


@pytest.fixture
def device(tmp_path: Path, repository: TufRepository) -> TufDevice:
    return TufDevice(tmp_path, repository)


def test_a_first_refresh_asks_for_each_role_once_and_keeps_it(device: TufDevice) -> None:
    device.refresh()
    assert device.source.asked_metadata() == ["2.root.json", "timestamp.json", "1.snapshot.json", "1.targets.json"]
    assert device.trusted() == EVERY_ROLE_1


def test_a_refresh_without_news_asks_for_root_and_timestamp_alone(device: TufDevice) -> None:
    device.refresh()
    device.source.asked_metadata()
    device.refresh()
    assert device.source.asked_metadata() == ["2.root.json", "timestamp.json"]


@pytest.mark.parametrize("damage", ["no version", "other signature", "empty", "no JSON", "a list", "another role"])
def test_a_root_that_cannot_be_used_is_named_and_nothing_is_asked_for(
    device: TufDevice, repository: TufRepository, damage: str
) -> None:
    root = json.loads(repository.root_bytes)
    if damage == "no version":
        del root["signed"]["version"]
    root["signatures"][0]["sig"] = "00" * 64 if damage == "other signature" else root["signatures"][0]["sig"]
    device.root = {
        "empty": b"",
        "no JSON": b"\xff\x00{",
        "a list": b"[]",
        "another role": repository.metadata("1.targets.json").read_bytes(),
    }.get(damage, json.dumps(root).encode())
    assert device.refused() is Reason.NO_ROOT
    assert device.source.asked == []


@pytest.mark.parametrize(
    ("role", "trusted"),
    [
        ("root", {"root": 1}),
        ("timestamp", {"root": 1}),
        ("snapshot", {"root": 1, "timestamp": 2}),
        ("targets", {"root": 1, "snapshot": 2, "timestamp": 2}),
    ],
)
def test_an_unsigned_role_is_refused_and_what_comes_before_it_is_taken_over(
    device: TufDevice, repository: TufRepository, role: str, trusted: dict[str, int]
) -> None:
    repository.signers[role] = []
    repository.publish("root") if role == "root" else repository.publish("targets")
    assert device.refused() is Reason.METADATA_REFUSED
    assert device.trusted() == trusted


def test_a_timestamp_that_changes_without_a_new_version_is_not_taken_over(
    device: TufDevice, repository: TufRepository
) -> None:
    device.refresh()
    repository.timestamp.snapshot_meta.version = 100
    repository.write("timestamp")
    device.refresh()
    assert (
        json.loads((device.folder / "timestamp.json").read_bytes())["signed"]["meta"]["snapshot.json"]["version"] == 1
    )


def test_hashes_in_snapshot_and_timestamp_are_held_against_the_files(
    device: TufDevice, repository: TufRepository
) -> None:
    repository.hashes = True
    repository.publish("targets")
    device.refresh()
    assert device.trusted()["targets"] == 2
    repository.signed["targets"].version += 1
    repository.write("targets")
    named = repository.snapshot.meta["targets.json"]
    assert named.hashes
    named.hashes["sha256"] = "46" * 32
    repository.publish("snapshot")
    assert device.refused() is Reason.METADATA_REFUSED
    assert (device.trusted()["snapshot"], device.trusted()["targets"]) == (3, 2)


def test_targets_that_no_snapshot_names_are_not_asked_for(device: TufDevice, repository: TufRepository) -> None:
    device.refresh()
    device.source.asked_metadata()
    repository.signed["targets"].version += 1
    repository.write("targets")
    device.refresh()
    assert device.source.asked_metadata()[-1] == "timestamp.json"
    assert device.trusted()["targets"] == 1


def test_fields_that_nobody_knows_yet_are_part_of_what_is_signed(device: TufDevice, repository: TufRepository) -> None:
    repository.root.unrecognized_fields["later"] = "value"
    keyid = repository.root.roles["root"].keyids[0]
    repository.root.keys[keyid].unrecognized_fields["later"] = {"a": 1, "b": [2]}
    repository.root.roles["root"].unrecognized_fields["later"] = "value"
    repository.publish("root")
    device.refresh()
    assert device.trusted()["root"] == 2


@pytest.mark.parametrize("consistent", [True, False])
def test_repositories_with_and_without_versions_in_their_names_are_followed(
    device: TufDevice, repository: TufRepository, consistent: bool
) -> None:
    repository.root.consistent_snapshot = consistent
    repository.publish("root")
    repository.publish("targets")
    repository.add_target("rollouts", "rollouts/other.json", b"content")
    followed = device.refresh()
    target = followed.target("rollouts/other.json")
    assert target is not None
    followed.fetch(target, device.part, lambda _: None)
    assert device.part.read_bytes() == b"content"
    assert ("2.rollouts.json" in device.source.asked_metadata()) == consistent


@pytest.mark.parametrize("kind", ["ed25519", "ecdsa", "rsassa-pss-sha256", "rsa-pkcs1v15-sha256"])
def test_keys_of_every_kind_are_verified(device: TufDevice, repository: TufRepository, kind: str) -> None:
    signer = (
        CryptoSigner.generate_rsa(scheme=kind)
        if kind.startswith("rsa")
        else getattr(CryptoSigner, f"generate_{kind}")()
    )
    repository.root.add_key(signer.public_key, "timestamp")
    repository.signers["timestamp"].append(signer)
    repository.root.roles["timestamp"].threshold = 2
    repository.publish("root", "timestamp")
    device.refresh()
    assert device.trusted()["timestamp"] == 2


# --- rollback --------------------------------------------------------------------------------------------------------


def test_a_timestamp_that_goes_back_is_refused(device: TufDevice, repository: TufRepository) -> None:
    old = repository.metadata("timestamp.json").read_bytes()
    repository.publish("timestamp")
    device.refresh()
    repository.metadata("timestamp.json").write_bytes(old)
    assert device.refused() is Reason.METADATA_REFUSED
    assert device.trusted()["timestamp"] == 2


@pytest.mark.parametrize("hashes", [False, True])
def test_a_snapshot_that_goes_back_is_refused(device: TufDevice, repository: TufRepository, hashes: bool) -> None:
    repository.hashes = hashes
    repository.publish("snapshot")
    device.refresh()
    repository.snapshot.version = 1
    repository.write("snapshot")
    repository.publish("timestamp")
    assert device.refused() is Reason.METADATA_REFUSED
    assert (device.trusted()["timestamp"], device.trusted()["snapshot"]) == (2, 2)


@pytest.mark.parametrize("role", ["targets", "models", "rollouts"])
@pytest.mark.parametrize("hashes", [False, True])
def test_targets_that_go_back_are_refused(
    device: TufDevice, repository: TufRepository, hashes: bool, role: str
) -> None:
    repository.hashes = hashes
    repository.publish(role)
    device.refresh()
    repository.signed[role].version = 1
    repository.write(role)
    repository.publish("snapshot")
    assert device.refused() is Reason.METADATA_REFUSED
    assert device.trusted()["snapshot"] == 2


def test_a_snapshot_that_forgets_a_role_is_refused(device: TufDevice, repository: TufRepository) -> None:
    device.refresh()
    del repository.snapshot.meta["models.json"]
    repository.publish("snapshot")
    assert device.refused() is Reason.METADATA_REFUSED


def test_a_snapshot_of_another_version_than_named_is_refused(device: TufDevice, repository: TufRepository) -> None:
    repository.snapshot.version = 2
    repository.metadata("1.snapshot.json").write_bytes(signed_by(repository.snapshot, *repository.signers["snapshot"]))
    assert device.refused() is Reason.METADATA_REFUSED
    assert device.trusted() == {"root": 1, "timestamp": 1}


def test_a_root_of_another_version_than_asked_for_is_refused(device: TufDevice, repository: TufRepository) -> None:
    repository.root.version = 3
    repository.metadata("2.root.json").write_bytes(signed_by(repository.root, *repository.signers["root"]))
    assert device.refused() is Reason.METADATA_REFUSED
    assert device.trusted() == {"root": 1}


# --- fast-forward: a thief made the versions too high; new keys lead back ---------------------------------------------


def test_a_timestamp_made_too_high_is_left_by_a_new_key(device: TufDevice, repository: TufRepository) -> None:
    repository.timestamp.version = 99_999
    repository.write("timestamp")
    device.refresh()
    repository.timestamp.version = 0
    repository.rotate("timestamp")
    device.refresh()
    assert device.trusted()["timestamp"] == 1


def test_a_snapshot_made_too_high_is_left_by_new_keys(device: TufDevice, repository: TufRepository) -> None:
    repository.snapshot.version = 99_999
    repository.publish("snapshot")
    device.refresh()
    repository.snapshot.version = 0
    repository.rotate("snapshot")
    assert device.refused() is Reason.METADATA_REFUSED, "the timestamp's key still stands for the high version"
    repository.rotate("timestamp")
    device.refresh()
    assert device.trusted()["snapshot"] == 1


@pytest.mark.parametrize("role", ["targets", "models", "rollouts"])
def test_targets_made_too_high_are_left_by_a_new_snapshot_key(
    device: TufDevice, repository: TufRepository, role: str
) -> None:
    repository.signed[role].version = 99_999
    repository.publish(role)
    device.refresh()
    repository.signed[role].version = 1
    repository.write(role)
    repository.publish("snapshot")
    assert device.refused() is Reason.METADATA_REFUSED
    repository.rotate("snapshot")
    device.refresh()
    assert json.loads((device.folder / "snapshot.json").read_bytes())["signed"]["meta"][f"{role}.json"]["version"] == 1


# --- expiry ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("role", "trusted"),
    [
        ("root", {"root": 2, "snapshot": 1, "targets": 1, "timestamp": 1}),
        ("timestamp", {"root": 1, "snapshot": 1, "targets": 1, "timestamp": 1}),
        ("snapshot", {"root": 1, "snapshot": 1, "targets": 1, "timestamp": 2}),
        ("targets", {"root": 1, "snapshot": 2, "targets": 1, "timestamp": 2}),
    ],
)
def test_a_role_that_has_expired_is_told_apart_from_a_refused_one(
    device: TufDevice, repository: TufRepository, role: str, trusted: dict[str, int]
) -> None:
    device.refresh()
    repository.expire(role)
    assert device.refused() is Reason.METADATA_EXPIRED
    assert device.trusted() == trusted


def test_expired_metadata_on_the_device_leads_to_newer_metadata(device: TufDevice, repository: TufRepository) -> None:
    now = datetime.now(timezone.utc).replace(microsecond=0)
    repository.timestamp.expires = now + timedelta(days=7)
    repository.publish("timestamp")
    device.refresh()
    repository.timestamp.expires = now + timedelta(days=21)
    repository.publish("targets")
    device.at = now + timedelta(days=18)
    device.refresh()
    assert {role: version for role, version in device.trusted().items() if role in TOP_LEVEL_ROLE_NAMES} == {
        "root": 1,
        "snapshot": 2,
        "targets": 2,
        "timestamp": 3,
    }


def test_an_expired_root_on_the_way_to_a_good_one_does_not_matter(device: TufDevice, repository: TufRepository) -> None:
    good = repository.root.expires
    repository.expire("root")
    repository.root.expires = good
    repository.publish("root")
    device.refresh()
    assert device.trusted()["root"] == 3


def test_a_delegated_role_that_has_expired_is_not_used(device: TufDevice, repository: TufRepository) -> None:
    repository.add_model("hall", "1.0.0", b"content", 1)
    repository.expire("models")
    followed = device.refresh()
    assert device.refused(lambda: followed.release("models/hall/1.0.0.tflite")) is Reason.METADATA_EXPIRED
    assert "models" not in device.trusted()


def test_a_delegated_role_that_expires_on_the_device_is_used_again_once_it_is_signed_anew(
    device: TufDevice, repository: TufRepository
) -> None:
    now = datetime.now(timezone.utc).replace(microsecond=0)
    repository.models.expires = now + timedelta(days=7)
    wanted = repository.add_model("hall", "1.0.0", b"content", 1)
    assert device.refresh().release(wanted.target) == wanted
    device.at = now + timedelta(days=18)
    followed = device.refresh()
    assert device.refused(lambda: followed.release(wanted.target)) is Reason.METADATA_EXPIRED
    repository.models.expires = now + timedelta(days=21)
    repository.publish("models")
    assert device.refresh().release(wanted.target) == wanted
