"""Who must sign what: rotations, thresholds, keys and signatures that count once. The cases are those of the public
conformance suite (theupdateframework/tuf-conformance)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import NamedTuple

import pytest
from tuf.api.metadata import Key, Metadata

from edge_agent.rollouts import Reason
from tests.simulators.tuf_device import TufDevice
from tests.simulators.tuf_repository import TufRepository, new_signer, signed_by

SIGNERS = [new_signer() for _ in range(10)]


@pytest.fixture
def repository(tmp_path: Path) -> TufRepository:
    return TufRepository(tmp_path / "repository")


@pytest.fixture
def device(tmp_path: Path, repository: TufRepository) -> TufDevice:
    return TufDevice(tmp_path, repository)


class Version(NamedTuple):
    """Of a role: which of SIGNERS it names, how many of them must sign, which do."""

    keys: list[int]
    threshold: int
    signed_by: list[int]


FIVE = [0, 1, 2, 3, 4]

ROOTS = {
    "one key after another": [Version([1], 1, [1]), Version([2], 1, [1, 2]), Version([2], 1, [2])],
    "signatures that nobody asked for": [
        Version([1], 1, [7, 1, 8]),
        Version([2], 1, [7, 2, 1]),
        Version([2], 1, [8, 2]),
    ],
    "three of five, others each time": [
        Version(FIVE, 3, [0, 1, 2]),
        Version(FIVE, 3, [2, 3, 4]),
        Version(FIVE, 3, [0, 2, 4]),
        Version(FIVE, 3, [0, 2, 4]),
    ],
    "three of five, one key exchanged": [Version(FIVE, 3, [0, 1, 2]), Version([1, 2, 3, 4, 5], 3, [1, 2, 3])],
    "three of five, one key exchanged, the old and the new sign": [
        Version(FIVE, 3, [0, 1, 2]),
        Version([1, 2, 3, 4, 5], 3, [0, 1, 2, 5]),
        Version([1, 2, 3, 4, 5], 3, [1, 2, 5]),
    ],
    "three of five, all keys exchanged": [
        Version(FIVE, 3, [0, 1, 2]),
        Version([5, 6, 7, 8, 9], 3, [0, 1, 2, 5, 6, 7]),
        Version([5, 6, 7, 8, 9], 3, [7, 8, 9]),
    ],
    "a higher threshold": [Version([1, 2, 3], 1, [3]), Version([1, 2, 3], 2, [2, 3])],
    "a lower threshold": [Version([1, 2, 3], 2, [1, 3]), Version([1, 2, 3], 1, [1, 3]), Version([1, 2, 3], 1, [2])],
    "one more key, and both must sign": [Version([1], 1, [1]), Version([1, 2], 2, [1, 2])],
}

ROOTS_REFUSED = {
    "not signed by the old key": [Version([1], 1, [1]), Version([2], 1, [2, 3])],
    "not signed by the new key": [Version([1], 1, [1]), Version([2], 1, [1, 3])],
    "three of five, under the threshold of the new keys": [
        Version(FIVE, 3, [0, 1, 2]),
        Version([1, 2, 3, 4, 5], 3, [0, 1, 2]),
    ],
    "three of five, under the threshold of the old keys": [
        Version(FIVE, 3, [0, 1, 2]),
        Version([1, 2, 5, 6, 7], 3, [1, 5, 6]),
    ],
    "under the higher threshold": [Version([1, 2, 3], 1, [1]), Version([1, 2, 3], 2, [2])],
    "under the old threshold, which was higher": [Version([1, 2, 3], 2, [1, 2]), Version([1, 2, 3], 1, [1])],
    "no signature at all": [Version([1], 1, [1]), Version([1], 1, [])],
    "one signature in the place of two": [Version([1, 2], 2, [1, 2]), Version([1, 2], 2, [1])],
}


def write_roots(repository: TufRepository, versions: list[Version]) -> list[bytes]:
    repository.root.version = 0
    written = []
    for version in versions:
        set_keys(repository, "root", version)
        written.append(repository.publish_root(*repository.signers["root"]))
    return written


def set_keys(repository: TufRepository, role: str, version: Version) -> None:
    repository.root.roles[role].keyids.clear()
    for number in version.keys:
        repository.root.add_key(SIGNERS[number].public_key, role)
    repository.root.roles[role].threshold = version.threshold
    repository.signers[role] = [SIGNERS[number] for number in version.signed_by]


@pytest.mark.parametrize("versions", ROOTS.values(), ids=ROOTS)
def test_roots_that_old_and_new_keys_sign_are_followed(
    device: TufDevice, repository: TufRepository, versions: list[Version]
) -> None:
    written = write_roots(repository, versions)
    device.root = written[0]
    device.refresh()
    assert (device.folder / "root.json").read_bytes() == written[-1]


@pytest.mark.parametrize("versions", ROOTS_REFUSED.values(), ids=ROOTS_REFUSED)
def test_a_root_that_old_or_new_keys_do_not_sign_is_refused(
    device: TufDevice, repository: TufRepository, versions: list[Version]
) -> None:
    written = write_roots(repository, versions)
    device.root = written[0]
    assert device.refused() is Reason.METADATA_REFUSED
    assert (device.folder / "root.json").read_bytes() == written[-2]


ROLES = {
    "another key": (Version([2], 1, [2]), True),
    "signatures that nobody asked for": (Version([1], 1, [3, 1, 4]), True),
    "three of five, the first": (Version(FIVE, 3, [0, 1, 2]), True),
    "three of five, the last": (Version(FIVE, 3, [2, 3, 4]), True),
    "three of five, some": (Version(FIVE, 3, [4, 0, 2]), True),
    "all of five": (Version(FIVE, 3, FIVE), True),
    "the old key": (Version([2], 1, [1, 3]), False),
    "three of five, one of them another": (Version([0, 1, 3, 4, 5], 3, [0, 2, 4]), False),
    "two of five for three": (Version(FIVE, 3, [0, 4]), False),
    "more wanted than there are keys": (Version([1, 2], 3, [1, 2]), False),
}


@pytest.mark.parametrize("role", ["timestamp", "snapshot", "targets"])
@pytest.mark.parametrize(("version", "good"), ROLES.values(), ids=ROLES)
def test_a_role_counts_when_enough_of_its_keys_sign(
    device: TufDevice, repository: TufRepository, role: str, version: Version, good: bool
) -> None:
    set_keys(repository, role, version)
    repository.publish("root", role)
    if good:
        device.refresh()
        versioned = "timestamp.json" if role == "timestamp" else f"2.{role}.json"
        assert (device.folder / f"{role}.json").read_bytes() == repository.metadata(versioned).read_bytes()
    else:
        assert device.refused() is Reason.METADATA_REFUSED
        assert role not in device.trusted()


def test_what_is_on_the_device_counts_no_more_once_its_key_is_revoked(
    device: TufDevice, repository: TufRepository
) -> None:
    device.refresh()
    stolen = repository.signers["targets"]
    repository.rotate("targets")
    repository.signers["targets"] = stolen
    repository.publish("targets")
    assert device.refused() is Reason.METADATA_REFUSED
    assert device.trusted()["targets"] == 1


def test_one_key_under_several_names_counts_once(device: TufDevice, repository: TufRepository) -> None:
    """A root that was made so by mistake: three key ids, one key, a threshold of three."""
    signer = SIGNERS[0]
    role = repository.root.roles["snapshot"]
    role.keyids.clear()
    for name in ("a" * 64, "b" * 64, signer.public_key.keyid):
        key = Key.from_dict(name, signer.public_key.to_dict())
        repository.root.add_key(key, "snapshot")
    role.threshold = 3
    repository.signers["snapshot"] = [signer]
    repository.publish("root", "snapshot")
    file = repository.metadata("2.snapshot.json")
    content = json.loads(file.read_bytes())
    content["signatures"] = [{**content["signatures"][0], "keyid": name} for name in role.keyids]
    file.write_text(json.dumps(content))
    assert device.refused() is Reason.METADATA_REFUSED


def test_one_signature_given_twice_counts_once(device: TufDevice, repository: TufRepository) -> None:
    set_keys(repository, "timestamp", Version([1, 2], 2, [1]))
    repository.publish("root", "timestamp")
    file = repository.metadata("timestamp.json")
    content = json.loads(file.read_bytes())
    content["signatures"] *= 2
    file.write_text(json.dumps(content))
    assert device.refused() is Reason.METADATA_REFUSED


def test_a_key_id_twice_in_a_role_counts_once(device: TufDevice, repository: TufRepository) -> None:
    root = json.loads(repository.root_bytes)["signed"]
    root["version"] = 2
    root["roles"]["timestamp"] = {"keyids": root["roles"]["timestamp"]["keyids"] * 2, "threshold": 2}
    wrapped = {"signed": root, "signatures": []}
    repository.metadata("2.root.json").write_text(json.dumps(wrapped))
    assert device.refused() is Reason.METADATA_REFUSED


def test_a_key_that_root_names_and_does_not_hold_signs_nothing(device: TufDevice, repository: TufRepository) -> None:
    repository.root.roles["snapshot"].keyids.append(SIGNERS[5].public_key.keyid)
    repository.root.roles["snapshot"].threshold = 2
    repository.signers["snapshot"].append(SIGNERS[5])
    repository.publish("root", "snapshot")
    assert device.refused() is Reason.METADATA_REFUSED


def test_hash_names_beside_a_key_do_not_matter(device: TufDevice, repository: TufRepository) -> None:
    keyid = repository.root.roles["snapshot"].keyids[0]
    repository.root.keys[keyid].unrecognized_fields["keyid_hash_algorithms"] = ["md5"]
    repository.publish("root", "snapshot")
    device.refresh()
    assert device.trusted()["snapshot"] == 2


def test_a_chain_of_a_hundred_roots_is_followed_in_one_refresh(device: TufDevice, repository: TufRepository) -> None:
    for _ in range(99):
        repository.publish("root")
    device.refresh()
    assert device.trusted()["root"] == 100


def test_the_chain_stops_at_the_first_root_that_is_refused(device: TufDevice, repository: TufRepository) -> None:
    repository.publish("root")
    repository.root.version = 3
    repository.metadata("3.root.json").write_bytes(signed_by(repository.root, SIGNERS[0]))
    assert device.refused() is Reason.METADATA_REFUSED
    assert device.trusted() == {"root": 2}


def test_metadata_of_a_role_does_not_stand_for_another(device: TufDevice, repository: TufRepository) -> None:
    """The same key for both: only the type in the signed part tells them apart."""
    set_keys(repository, "timestamp", Version([1], 1, [1]))
    set_keys(repository, "snapshot", Version([1], 1, [1]))
    repository.publish("root", "snapshot")
    repository.metadata("timestamp.json").write_bytes(repository.metadata("2.snapshot.json").read_bytes())
    assert device.refused() is Reason.METADATA_REFUSED
    assert Metadata.from_file(str(device.folder / "root.json")).signed.version == 2
