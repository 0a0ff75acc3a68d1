"""Keys over time, with devices that were shipped long before."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from securesystemslib.signer import CryptoSigner
from tuf.api.metadata import Metadata
from tuf.api.serialization.json import JSONSerializer

from edge_agent.errors import ConfigError
from edge_agent.rollouts import Audience, Reason
from fleet.metadata_files import ROLES
from fleet.rotation import refresh, revoke, roles_at_hand, rotate
from tests.fleet.repository_world import NOW, Device, Operator, days

EVERYONE = Audience(everyone=True)


@pytest.fixture
def operator(tmp_path: Path) -> Operator:
    return Operator(tmp_path / "repo", "fleet")


@pytest.fixture
def bench(tmp_path: Path) -> Operator:
    return Operator(tmp_path / "repo")


@pytest.fixture
def device(tmp_path: Path) -> Device:
    return Device(tmp_path / "device", tmp_path / "repo", (tmp_path / "repo/metadata/1.root.json").read_bytes())


def signed_with(operator: Operator, role: str) -> list[str]:
    with operator.opened() as repository:
        return sorted(repository.key_name(role, keyid) for keyid in repository.keyids(role))


@pytest.mark.parametrize("role", ROLES)
def test_a_device_follows_a_role_to_its_new_keys(operator: Operator, device: Device, role: str) -> None:
    release = operator.publish("1.0.0")
    with operator.book() as book:
        begun = book.begin(release, EVERYONE)
    device.check()
    before = signed_with(operator, role)
    with operator.opened() as repository:
        replaced = rotate(repository, role)
    after = signed_with(operator, role)
    assert len(after) == len(before) and not set(after) & set(before)
    assert sorted(replaced.old) == before
    assert not [path for path in operator.private.rglob("*.pem") if path.stem in before]
    with operator.book() as book:
        book.pause(begun.id)
    assert device.check().rollouts[0].state == "paused"
    fresh = Device(device.folder / "fresh", operator.folder, operator.first_root)
    assert fresh.check().rollouts[0].state == "paused"
    assert fresh.fetch(release.target)[0] == release


@pytest.mark.parametrize("preset", ["bench", "fleet"])
def test_a_device_that_was_away_while_all_keys_changed_again_and_again_comes_back(tmp_path: Path, preset: str) -> None:
    operator = Operator(tmp_path / "repo", preset)
    device = Device(tmp_path / "device", operator.folder, operator.first_root)
    release = operator.publish("1.0.0")
    device.check()
    for year in (1, 2):
        operator.now = NOW + days(350 * year)
        for role in ROLES:
            with operator.opened() as repository:
                rotate(repository, role)
    with operator.book() as book:
        book.begin(release, EVERYONE)
    assert len(device.check(at=operator.now).rollouts) == 1
    fresh = Device(tmp_path / "fresh", operator.folder, operator.first_root)
    assert fresh.fetch(release.target, at=operator.now)[0] == release


def test_a_bench_gets_a_key_for_each_role_when_all_are_rotated(bench: Operator, device: Device) -> None:
    for role in ROLES:
        with bench.opened() as repository:
            replaced = rotate(repository, role)
        assert replaced.elsewhere == ROLES[ROLES.index(role) + 1 :]
    assert sorted(path.stem for path in bench.private.rglob("*.pem")) == sorted(f"{role}-1" for role in ROLES)
    assert [path.name for path in bench.private.rglob("*.retired")] == ["bench-1.pem.retired"]
    device.check()


def test_one_stolen_root_key_is_replaced_and_its_thief_is_alone(operator: Operator, device: Device) -> None:
    thief = operator.private / "offline" / "root-2.pem"
    stolen = thief.read_bytes()
    device.check()
    with operator.opened() as repository:
        replaced = revoke(repository, "root", "root-2")
    assert replaced.old == ("root-2",) and [path.stem for path in replaced.new] == ["root-4"]
    assert signed_with(operator, "root") == ["root-1", "root-3", "root-4"]
    device.check()
    _forge_next_root(operator, [stolen, (operator.private / "offline" / "root-1.pem").read_bytes()])
    assert device.refused() is Reason.METADATA_REFUSED


def test_a_lost_root_key_is_replaced_without_it(operator: Operator, device: Device) -> None:
    (operator.private / "offline" / "root-1.pem").unlink()
    with operator.opened() as repository:
        revoke(repository, "root", "root-1")
    device.check()


def test_stolen_online_keys_that_raced_ahead_are_left_behind(operator: Operator, device: Device) -> None:
    """Fast-forward: a thief signs versions so high that the owner's would look old for ever."""
    good = Path(shutil.copytree(operator.folder, operator.folder.with_name("good")))
    metadata = operator.folder / "metadata"
    keys = {name: (operator.private / f"online/{name}-1.pem").read_bytes() for name in ("snapshot", "timestamp")}
    snapshot = Metadata.from_file(str(metadata / "1.snapshot.json"))
    timestamp = Metadata.from_file(str(metadata / "timestamp.json"))
    snapshot.signed.version = timestamp.signed.version = timestamp.signed.snapshot_meta.version = 10**6
    _sign(snapshot, [keys["snapshot"]], metadata / f"{10**6}.snapshot.json")
    _sign(timestamp, [keys["timestamp"]], metadata / "timestamp.json")
    device.check()
    shutil.rmtree(operator.folder)
    good.rename(operator.folder)
    assert device.refused() is Reason.METADATA_REFUSED
    for role in ("snapshot", "timestamp"):
        with operator.opened() as repository:
            rotate(repository, role)
    device.check()


def test_an_unknown_or_ambiguous_key_is_not_revoked(operator: Operator) -> None:
    for key in ("root-9", "", "a"):
        with operator.opened() as repository, pytest.raises(ConfigError, match=r"its keys: root-1 \("):
            revoke(repository, "root", key)
    with operator.opened() as repository:
        keyid = repository.keyids("models")[0]
        assert revoke(repository, "models", keyid[:8]).old == ("models-1",)


def test_more_root_keys_and_a_threshold_come_by_rotation(bench: Operator, device: Device) -> None:
    device.check()
    with bench.opened() as repository, pytest.raises(ConfigError, match="the threshold is 1 to 3"):
        rotate(repository, "root", count=3, threshold=4)
    assert not list(bench.private.rglob("root-*.pem"))
    with bench.opened() as repository:
        rotate(repository, "root", count=3, threshold=2)
    device.check()
    (bench.private / "online" / "root-1.pem").unlink()
    with bench.opened() as repository:
        refresh(repository, ["root"])
    (bench.private / "online" / "root-2.pem").unlink()
    with bench.opened() as repository, pytest.raises(ConfigError, match=r"1 more private key\(s\) of root needed"):
        refresh(repository, ["root"])
    device.check()


# --- keys on a stick -------------------------------------------------------------------------------------------------


def test_a_key_that_is_away_is_named_and_nothing_is_written(operator: Operator, device: Device, tmp_path: Path) -> None:
    operator.carry_away(tmp_path / "stick")
    before = (operator.folder / "metadata/timestamp.json").read_bytes()
    with pytest.raises(ConfigError, match=r"of models needed, of models-1\.pem: .*give --keys FOLDER"):
        operator.publish("1.0.0")
    assert (operator.folder / "metadata/timestamp.json").read_bytes() == before
    with pytest.raises(ConfigError, match="no such folder"):
        operator.sticks = [tmp_path / "drawer"]
        operator.publish("1.0.0")
    operator.sticks = [tmp_path / "stick"]
    operator.publish("1.0.0")
    device.check()


def test_the_online_keys_keep_a_repository_alive_alone(operator: Operator, device: Device, tmp_path: Path) -> None:
    operator.publish("1.0.0")
    operator.carry_away(tmp_path / "stick")
    for day in range(10, 101, 10):
        operator.now = NOW + days(day)
        with operator.opened() as repository:
            assert roles_at_hand(repository) == ["snapshot", "timestamp"]
            refresh(repository, ["snapshot", "timestamp"])
        device.check(at=operator.now)


def test_new_keys_are_made_beside_the_old_ones_on_the_stick(operator: Operator, tmp_path: Path) -> None:
    operator.carry_away(tmp_path / "stick")
    operator.sticks = [tmp_path / "stick"]
    with operator.opened() as repository:
        replaced = rotate(repository, "models")
    assert replaced.new == (tmp_path / "stick" / "models-2.pem",)
    assert (tmp_path / "stick" / "models-1.pem.retired").exists()


def test_a_rotation_that_fails_leaves_no_key_behind(operator: Operator, tmp_path: Path) -> None:
    operator.carry_away(tmp_path / "stick")
    before = sorted(operator.private.rglob("*"))
    with operator.opened() as repository, pytest.raises(ConfigError, match="of root needed"):
        rotate(repository, "timestamp")
    assert sorted(operator.private.rglob("*")) == sorted([*before, operator.private / "lock"])


@pytest.mark.parametrize(
    "content", [b"", b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n", b"\xff" * 99]
)
def test_a_file_that_is_no_key_is_named(bench: Operator, tmp_path: Path, content: bytes) -> None:
    (tmp_path / "stick").mkdir()
    (tmp_path / "stick" / "broken.pem").write_bytes(content)
    bench.sticks = [tmp_path / "stick"]
    with pytest.raises(ConfigError, match=r"broken\.pem is no private key"), bench.opened():
        pass


def test_tls_files_of_the_broker_are_no_keys_of_the_repository(bench: Operator, device: Device) -> None:
    (bench.private / "ca.pem").write_text("-----BEGIN CERTIFICATE-----")
    bench.publish("1.0.0")


def test_a_key_from_elsewhere_signs_nothing(operator: Operator, device: Device, tmp_path: Path) -> None:
    other = Operator(tmp_path / "other", "fleet")
    operator.carry_away(tmp_path / "stick")
    operator.sticks = [other.private / "offline"]
    with pytest.raises(ConfigError, match="of models needed"):
        operator.publish("1.0.0")


def _forge_next_root(operator: Operator, keys: list[bytes]) -> None:
    with operator.opened() as repository:
        current = repository.root_file()
    forged = Metadata.from_file(str(current))
    forged.signed.version += 1
    _sign(forged, keys, current.with_name(f"{forged.signed.version}.root.json"))
    assert len(json.loads(current.read_text())["signatures"]) >= 2


def _sign(metadata: Metadata, keys: list[bytes], path: Path) -> None:
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    metadata.signatures.clear()
    for key in keys:
        metadata.sign(CryptoSigner(load_pem_private_key(key, None)), append=True)
    path.write_bytes(metadata.to_bytes(JSONSerializer()))
