"""What others would do to a device: whoever owns the server, the network, some of the keys, or the power switch."""

from __future__ import annotations

import copy
import itertools
import os
import random
import shutil
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest
from tuf.api.metadata import MetaFile, TargetFile, Targets

from edge_agent import limits
from edge_agent.errors import TransportError, UpdateError
from edge_agent.io.fetch.http import HttpSource
from edge_agent.io.fetch.pace import SlowError
from edge_agent.rollouts import Audience, Reason, Release, Rollout
from tests.simulators.raw_server import Caller, RawServer
from tests.simulators.tuf_device import TufDevice
from tests.simulators.tuf_repository import DELEGATED, TOP_LEVEL, TufRepository, new_signer, signed_by

TARGET = "models/hall/1.0.0.tflite"
LATER = datetime.now(timezone.utc).replace(microsecond=0) + timedelta(days=1000)


@pytest.fixture
def repository(tmp_path: Path) -> TufRepository:
    return TufRepository(tmp_path / "repository", roots=3, threshold=2)


@pytest.fixture
def release(repository: TufRepository) -> Release:
    return repository.add_model("hall", "1.0.0", b"good" * 1000, 1, p95_ms=20.5, profiles=["rpi5"])


@pytest.fixture
def device(tmp_path: Path, repository: TufRepository, release: Release) -> TufDevice:
    return TufDevice(tmp_path, repository)


def old_metadata(repository: TufRepository) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in (repository.folder / "metadata").iterdir()}


def replay(device: TufDevice, old: dict[str, bytes]) -> None:
    """Serve what was good once, however it was named then."""
    device.source.lies.update({f"metadata/{name}": content for name, content in old.items()})


# --- an old repository -----------------------------------------------------------------------------------------------


def test_a_replayed_old_release_is_refused(device: TufDevice, repository: TufRepository) -> None:
    old = old_metadata(repository)
    repository.add_model("hall", "1.0.0", b"better" * 1000, 2)
    assert device.refresh().release(TARGET).seq == 2
    replay(device, old)
    assert device.refused() is Reason.METADATA_REFUSED


def test_a_replayed_old_rollout_is_refused(device: TufDevice, repository: TufRepository) -> None:
    repository.set_rollouts("main", [])
    old = old_metadata(repository)
    repository.set_rollouts("main", [a_rollout(state="stopped")])
    assert device.refresh().channel("main").rollouts
    replay(device, old)
    assert device.refused() is Reason.METADATA_REFUSED


DAMAGED = ("timestamp.json", "snapshot.json", "targets.json", "models.json", "root.json", "root_history")


@pytest.mark.parametrize("how", ["zeroed", "cut", "gone"])
def test_an_old_release_is_refused_whichever_files_a_power_cut_damaged(
    device: TufDevice, repository: TufRepository, how: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every subset of TUF's own files; python-tuf by itself takes the old release once timestamp and snapshot went."""
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)  # nobody pulls the plug here
    old = old_metadata(repository)
    repository.add_model("hall", "1.0.0", b"better" * 1000, 2)
    device.refresh().release(TARGET)
    good = tmp_path / "good"
    shutil.copytree(device.folder, good, symlinks=True)
    for count in range(1, len(DAMAGED) + 1):
        for names in itertools.combinations(DAMAGED, count):
            shutil.rmtree(device.folder)
            shutil.copytree(good, device.folder, symlinks=True)
            for name in names:
                damage(device.folder / name, how)
            device.source.lies.clear()
            replay(device, old)
            assert device.refused() is Reason.METADATA_REFUSED, names
            device.source.lies.clear()
            assert device.refresh().release(TARGET).seq == 2, names


def damage(path: Path, how: str) -> None:
    files = list(path.iterdir()) if path.is_dir() else [path]
    for file in files:
        content = file.read_bytes()
        if how == "gone":
            file.unlink()
        else:
            file.write_bytes(b"\0" * len(content) if how == "zeroed" else content[: len(content) // 2])


@pytest.mark.parametrize("content", [b"", b"\0" * 4096, b"{}", b"\n{}", None])
def test_a_damaged_floor_leaves_tufs_own_files_to_stand_for_it(
    device: TufDevice, repository: TufRepository, content: bytes | None
) -> None:
    old = old_metadata(repository)
    repository.publish("models")
    device.refresh()
    (device.folder / "floor").unlink()
    if content is not None:
        (device.folder / "floor").write_bytes(content)
    replay(device, old)
    assert device.refused() is Reason.METADATA_REFUSED
    device.source.lies.clear()
    device.refresh()


def test_a_revocation_is_not_hidden_from_a_device_that_lost_its_roots(
    device: TufDevice, repository: TufRepository
) -> None:
    """Old keys of the online roles were stolen and revoked; the thief serves the root of before."""
    old = old_metadata(repository)
    for role in ("timestamp", "snapshot"):
        repository.rotate(role)
    device.refresh()
    shutil.rmtree(device.folder / "root_history")
    shutil.copytree(device.folder, device.folder.with_name("lost"), symlinks=True)
    replay(device, old)
    for name in ("2.root.json", "3.root.json"):
        repository.metadata(name).rename(repository.metadata(name + ".hidden"))
    assert device.refused() is Reason.METADATA_REFUSED
    for name in ("2.root.json", "3.root.json"):
        repository.metadata(name + ".hidden").rename(repository.metadata(name))
    device.source.lies.clear()
    device.refresh()


def test_a_device_that_was_given_another_repository_begins_anew(
    device: TufDevice, repository: TufRepository, tmp_path: Path
) -> None:
    for _ in range(5):
        repository.publish("root", "targets")
    device.refresh()
    other = TufRepository(tmp_path / "other")
    other.add_model("hall", "1.0.0", b"other", 1)
    begun = TufDevice(tmp_path, other)
    assert begun.refresh().release(TARGET).length == 5
    assert begun.trusted()["root"] == 1


# --- freeze ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("role", [*TOP_LEVEL, *DELEGATED])
def test_a_repository_that_stands_still_ends_with_each_role(
    device: TufDevice, repository: TufRepository, role: str
) -> None:
    repository.set_rollouts("main", [])
    for signed in repository.signed.values():
        signed.expires = LATER
    repository.signed[role].expires = LATER - timedelta(days=500)
    repository.publish(*repository.signed)
    device.refresh()
    device.at = LATER - timedelta(days=1)

    def check() -> None:
        followed = device.refresh()
        followed.channel("main")
        followed.release(TARGET)

    assert device.refused(check) is Reason.METADATA_EXPIRED
    repository.signed[role].expires = LATER
    repository.publish(role)
    check()


def test_at_1970_nothing_has_expired_so_the_caller_must_know_the_time(
    device: TufDevice, repository: TufRepository
) -> None:
    """Not a defence: the reason why a check waits for a clock above the floor of time."""
    repository.expire("timestamp")
    assert device.refused() is Reason.METADATA_EXPIRED
    device.at = datetime(1970, 1, 2, tzinfo=timezone.utc)
    device.refresh()


# --- a mix of repositories -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("hashes", [True, False])
def test_a_mix_of_two_states_is_refused(device: TufDevice, repository: TufRepository, hashes: bool) -> None:
    repository.hashes = hashes
    repository.publish(*repository.signed)
    before = repository.metadata(f"{repository.models.version}.models.json").read_bytes()
    repository.add_model("hall", "1.0.0", b"better" * 1000, 2)
    device.source.lies[f"metadata/{repository.models.version}.models.json"] = before
    followed = device.refresh()
    assert device.refused(lambda: followed.release(TARGET)) is Reason.METADATA_REFUSED


def test_a_mix_with_another_owners_repository_is_refused(
    device: TufDevice, repository: TufRepository, tmp_path: Path
) -> None:
    device.refresh()
    other = TufRepository(tmp_path / "other")
    for _ in range(5):
        other.publish(*other.signed)
    for name in ("timestamp.json", "6.snapshot.json", "6.targets.json"):
        device.source.lies[f"metadata/{name}"] = other.metadata(name).read_bytes()
    assert device.refused() is Reason.METADATA_REFUSED


# --- stolen keys -----------------------------------------------------------------------------------------------------


def forge(repository: TufRepository, role: str, content: bytes) -> None:
    """A thief who holds the keys of timestamp and snapshot publishes ``content`` for a role."""
    version = repository.signed[role].version + 1
    repository.metadata(f"{version}.{role}.json").write_bytes(content)
    repository.snapshot.meta[f"{role}.json"] = MetaFile(version)
    repository.publish("snapshot")


@pytest.mark.parametrize("role", ["models", "rollouts", "targets"])
def test_stolen_online_keys_sign_no_model_and_no_rollout(
    device: TufDevice, repository: TufRepository, role: str
) -> None:
    repository.set_rollouts("main", [])
    device.refresh().channel("main")
    evil = copy.deepcopy(repository.signed[role])
    assert isinstance(evil, Targets)
    evil.version += 1
    for path in (TARGET, "rollouts/main.json"):
        evil.targets[path] = TargetFile.from_data(path, b"evil")
    keys = [*repository.signers["timestamp"], *repository.signers["snapshot"]]
    forge(repository, role, signed_by(evil, *keys))

    def check() -> None:
        followed = device.refresh()
        followed.channel("main")
        followed.release(TARGET)

    assert device.refused(check) is Reason.METADATA_REFUSED


def test_versions_made_too_high_with_stolen_online_keys_are_left_by_new_ones(
    device: TufDevice, repository: TufRepository
) -> None:
    good = {role: repository.signed[role].version for role in ("timestamp", "snapshot")}
    for role in good:
        repository.signed[role].version = 2**31
    repository.publish("snapshot")
    device.refresh()
    for role, version in good.items():
        repository.signed[role].version = version
    repository.publish("snapshot")
    assert device.refused() is Reason.METADATA_REFUSED, "stuck until the keys are rotated"
    for role in good:
        repository.rotate(role)
    repository.add_model("hall", "1.0.0", b"better", 2)
    assert device.refresh().release(TARGET).seq == 2
    assert device.trusted()["timestamp"] < 20
    shutil.rmtree(device.folder / "root_history")
    assert device.refresh().release(TARGET).seq == 2, "and the floor does not bring the high versions back"


@pytest.mark.parametrize(
    ("thief", "path"), [("rollouts", TARGET), ("models", "rollouts/main.json"), ("models", "agent")]
)
def test_a_delegated_key_does_not_escape_from_its_folder(
    device: TufDevice, repository: TufRepository, thief: str, path: str
) -> None:
    other = "models" if thief == "rollouts" else "rollouts"
    repository.signed[other].targets.pop(path, None)
    repository.publish(other)
    repository.add_target(thief, path, b"evil", {"edge-agent": {"name": "hall", "version": "1.0.0", "seq": 9}})
    followed = device.refresh()
    assert followed.target(path) is None
    if path == TARGET:
        assert device.refused(lambda: followed.release(TARGET)) is Reason.METADATA_REFUSED
    else:
        assert followed.channel("main").rollouts == ()


@pytest.mark.parametrize("deep", ["models/a.tflite", "models/a/b/c.tflite", "rollouts/a/b.json", "rollouts", "models/"])
def test_patterns_of_delegations_do_not_cross_folders(device: TufDevice, repository: TufRepository, deep: str) -> None:
    for role in DELEGATED:
        repository.signed[role].targets[deep] = TargetFile.from_data(deep, b"evil")
    repository.publish(*DELEGATED)
    assert device.refresh().target(deep) is None


@pytest.mark.parametrize("count", [0, 1])
def test_a_root_under_its_threshold_is_refused(device: TufDevice, repository: TufRepository, count: int) -> None:
    device.refresh()
    thief = new_signer()
    repository.root.add_key(thief.public_key, "targets")
    repository.publish_root(*repository.signers["root"][:count], thief)
    assert device.refused() is Reason.METADATA_REFUSED
    assert device.trusted()["root"] == 1


def test_a_root_that_one_key_signs_twice_is_refused(device: TufDevice, repository: TufRepository) -> None:
    signer = repository.signers["root"][0]
    repository.publish_root(signer, signer)
    assert device.refused() is Reason.METADATA_REFUSED


# --- away for long ---------------------------------------------------------------------------------------------------


def test_400_days_offline_with_every_key_rotated(tmp_path: Path) -> None:
    now = datetime.now(timezone.utc)
    repository = TufRepository(tmp_path / "repository", now=now - timedelta(days=400), days=30, roots=3, threshold=2)
    repository.add_model("hall", "1.0.0", b"old", 1)
    device = TufDevice(tmp_path, repository)
    device.at = now - timedelta(days=399)
    assert device.refresh().release(TARGET).seq == 1
    device.at = now
    assert device.refused() is Reason.METADATA_EXPIRED
    for role in (*TOP_LEVEL, *DELEGATED, "root"):
        repository.rotate(role)
    repository.renew(now.replace(microsecond=0) + timedelta(days=30))
    repository.add_model("hall", "1.0.0", b"new", 2)
    assert device.refresh().release(TARGET).seq == 2


# --- a server that lies ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("content", [b"evil" * 1000, b"goo" * 1000, b"", b"good" * 999])
def test_a_substituted_model_is_never_whole(device: TufDevice, release: Release, content: bytes) -> None:
    followed = device.refresh()
    device.source.lies[f"targets/models/hall/{release.sha256}.1.0.0.tflite"] = content
    assert device.refused(lambda: followed.download(release, device.part, lambda _: None)) is Reason.HASH
    assert not device.part.exists()


def test_garbage_in_the_place_of_any_metadata_is_refused(
    device: TufDevice, repository: TufRepository, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)
    repository.set_rollouts("main", [])
    files = old_metadata(repository)
    chance = random.Random(5)
    for name, content in files.items():
        for garbage in mutations(content, chance):
            device.source.lies = {f"metadata/{name}": garbage}
            shutil.rmtree(device.folder, ignore_errors=True)
            try:
                followed = device.refresh()
                followed.channel("main")
                followed.release(TARGET)
            except UpdateError as error:
                assert error.reason in (Reason.METADATA_REFUSED, Reason.METADATA_EXPIRED)
            device.source.lies.clear()
            assert device.refresh().release(TARGET).seq == 1, name


def mutations(content: bytes, chance: random.Random) -> list[bytes]:
    flipped = bytearray(content)
    flipped[chance.randrange(len(flipped))] ^= 1 << chance.randrange(8)
    start = chance.randrange(len(content))
    depth = 50_000
    return [
        bytes(flipped),
        content[:start],
        content[:start] + content[start + 1 :],
        chance.randbytes(300),
        b"",
        b"null",
        b'{"signed": {}, "signatures": []}',
        b"[" * depth,
        b'{"a":' * depth,
        b"9" * 5000,
        content.replace(b'"version": ', b'"version": -'),
        content.replace(b'"version": ', b'"version": 1e400, "x": '),
    ]


def test_endless_metadata_comes_to_an_end(device: TufDevice, release: Release) -> None:
    def endless(caller: Caller) -> None:
        caller.send(b"HTTP/1.1 200 OK\r\n\r\n")
        caller.for_ever(b"x" * 65536)

    with RawServer(endless) as server:
        device.source = HttpSource(f"http://{server.address}")
        assert device.refused() is Reason.METADATA_REFUSED
        assert device.refused(lambda: device.open().download(release, device.part, lambda _: None)) in (
            Reason.UNREACHABLE,
            Reason.HASH,
        )
        assert not device.part.exists() or device.part.stat().st_size <= release.length


def test_slow_metadata_is_given_up(device: TufDevice) -> None:
    def slow(caller: Caller) -> None:
        caller.send(b"HTTP/1.1 200 OK\r\nContent-Length: 4000\r\n\r\n")
        caller.for_ever(b"x", every_s=0.02)

    with RawServer(slow) as server:
        device.source = HttpSource(f"http://{server.address}", silence_s=0.3)
        assert device.refused() is Reason.SLOW


@pytest.mark.parametrize(
    ("lie", "reason"),
    [(TransportError("no route"), Reason.UNREACHABLE), (SlowError("too slow"), Reason.SLOW)],
)
@pytest.mark.parametrize(
    "name", ["2.root.json", "timestamp.json", "2.snapshot.json", "1.targets.json", "2.models.json"]
)
def test_a_network_that_fails_at_any_file_is_no_refusal(
    device: TufDevice, name: str, lie: Exception, reason: Reason
) -> None:
    device.source.lies[f"metadata/{name}"] = lie
    assert device.refused(lambda: device.refresh().release(TARGET)) is reason
    device.source.lies.clear()
    assert device.refresh().release(TARGET).seq == 1


def test_an_address_without_a_repository_is_named(device: TufDevice, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    device.source = type(device.source)(tmp_path / "empty")
    assert device.refused() is Reason.UNREACHABLE


def a_rollout(**fields: object) -> Rollout:
    known = {
        "id": "r1",
        "number": 1,
        "model": "hall",
        "target": TARGET,
        "sha256": "0" * 64,
        "to": Audience(everyone=True),
    }
    return Rollout(**{**known, **fields})


def test_more_bytes_than_any_metadata_has_are_not_read(device: TufDevice) -> None:
    """The updater's own limits, and ours above them all."""
    asked: list[int] = []
    read = device.source.read

    def note(path: str, most: int) -> bytes:
        asked.append(most)
        return read(path, most)

    device.source.read = note  # type: ignore[method-assign]
    device.refresh().release(TARGET)
    assert max(asked) <= limits.METADATA_BYTES_MOST
    assert min(asked) <= 2**14
