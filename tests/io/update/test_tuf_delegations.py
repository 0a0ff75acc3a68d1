"""Which role may say what of a target: order, ends, paths, and names of roles that are no good names of files. The
cases are those of the public conformance suite (theupdateframework/tuf-conformance)."""

from __future__ import annotations

from hashlib import sha256
from pathlib import Path
from urllib.parse import quote

import pytest
from tuf.api.metadata import DelegatedRole, Delegations, SuccinctRoles, Targets

from edge_agent.rollouts import Reason
from tests.simulators.tuf_device import TufDevice
from tests.simulators.tuf_repository import TufRepository, new_signer


@pytest.fixture
def repository(tmp_path: Path) -> TufRepository:
    made = TufRepository(tmp_path / "repository")
    made.targets.delegations = None
    return made


@pytest.fixture
def device(tmp_path: Path, repository: TufRepository) -> TufDevice:
    return TufDevice(tmp_path, repository)


def visited(device: TufDevice, path: str) -> list[str]:
    """The delegated roles that were asked for on the way to a target, in their order."""
    followed = device.refresh()
    device.source.asked_metadata()
    followed.target(path)
    return [name.removesuffix(".json").partition(".")[2] for name in device.source.asked_metadata()]


# parent>child, with a ! for a terminating delegation and :pattern for paths other than all
GRAPHS = {
    "targets>A": "A",
    "targets>A targets>B": "A B",
    "targets>B targets>A": "B A",
    "targets>A targets>B B>C": "A B C",
    "targets>A targets>B A>C A>D": "A C D B",
    "targets>A targets>B A>C C>D": "A C D B",
    "targets>A targets>B A>C! A>D": "A C",
    "targets>A targets>B A>C! C>D": "A C D",
    "targets>A! targets>B": "A",
    "targets>A:*.py targets>B A>C": "B",
    "targets>A targets>B A>C:*.py C>D": "A B",
    "targets>A:*.py! targets>B": "B",
    "targets>A targets>B B>C C>D D>B": "A B C D",
    "targets>A A>A targets>B": "A B",
    "targets>A targets>B B>C A>C": "A C B",
    "targets>A targets>B B>C A>C:*.py": "A B C",
}


@pytest.mark.parametrize(("graph", "order"), GRAPHS.items())
def test_delegations_are_searched_depth_first_in_the_order_of_their_delegator(
    device: TufDevice, repository: TufRepository, graph: str, order: str
) -> None:
    for edge in graph.split():
        parent, _, child = edge.partition(">")
        child, _, pattern = child.removesuffix("!").partition(":")
        repository.delegate(parent, child, [pattern or "*"], terminating=edge.endswith("!"))
    repository.publish(*repository.signed)
    assert visited(device, "missing") == order.split()


@pytest.mark.parametrize(
    ("path", "found", "order"),
    [
        ("plain", True, ""),
        ("README.md", True, "A"),
        ("releases/x/x_v1", True, "B C"),
        ("releases/y/y_v1.zip", True, "B D"),
        ("releases/z/z_v1.zip", False, "B"),
        ("releases/y/y_v1.tar", False, "B"),
        ("releases/x/deep/x_v1", False, ""),
        ("other.txt", False, ""),
    ],
)
def test_a_target_is_found_where_every_role_on_the_way_may_speak_of_it(
    device: TufDevice, repository: TufRepository, path: str, found: bool, order: str
) -> None:
    repository.delegate("targets", "A", ["*.doc", "*.md"])
    repository.delegate("targets", "B", ["releases/*/*"])
    repository.delegate("B", "C", ["releases/x/*"])
    repository.delegate("B", "D", ["releases/y/*.zip"])
    repository.publish(*repository.signed)
    for role, name in [
        ("targets", "plain"),
        ("A", "README.md"),
        ("A", "other.txt"),
        ("C", "releases/x/x_v1"),
        ("C", "releases/x/deep/x_v1"),
        ("D", "releases/y/y_v1.zip"),
        ("D", "releases/z/z_v1.zip"),
    ]:
        repository.add_target(role, name, f"{name} by {role}".encode())
    assert visited(device, path) == order.split()
    followed = device.refresh()
    target = followed.target(path)
    assert (target is not None) == found
    if target is not None:
        followed.fetch(target, device.part, lambda _: None)
        assert device.part.read_bytes().startswith(path.encode())


def test_roles_by_the_hash_of_a_path_are_followed(device: TufDevice, repository: TufRepository) -> None:
    prefix = sha256(b"wanted").hexdigest()[:2]
    repository.delegate("targets", "A", [])
    repository.delegate("targets", "B", [])
    for role, prefixes in (("A", ["zz"]), ("B", [prefix])):
        repository.trust("targets", DelegatedRole(role, [], 1, terminating=False, path_hash_prefixes=prefixes))
    repository.publish(*repository.signed)
    repository.add_target("B", "wanted", b"content")
    assert visited(device, "wanted") == ["B"]
    assert device.refresh().target("wanted") is not None


def test_succinct_roles_are_followed(device: TufDevice, repository: TufRepository) -> None:
    bins = SuccinctRoles([], 1, 3, "bin")
    signer = new_signer()
    repository.targets.delegations = Delegations({}, None, bins)
    for name in bins.get_roles():
        repository.signed = {name: Targets(expires=repository.expires), **repository.signed}
        repository.signers[name] = [signer]
    repository.targets.add_key(signer.public_key)
    repository.publish(*repository.signed)
    name = bins.get_role_for_target("wanted")
    repository.add_target(name, "wanted", b"content")
    assert visited(device, "wanted") == [name]
    assert device.refresh().target("wanted") is not None


@pytest.mark.parametrize("role", ["?", "#", "/role", "../role", "a b", "%2e"])
def test_names_of_roles_stay_names_of_files(device: TufDevice, repository: TufRepository, role: str) -> None:
    repository.delegate("targets", role, ["*"])
    repository.publish("targets", role)
    device.refresh().target("missing")
    assert f"metadata/1.{quote(role, '')}.json" in device.source.asked
    assert len(device.trusted()) == 5
    assert {file.parent for file in device.folder.rglob("*role.json")} <= {device.folder}


@pytest.mark.parametrize("role", ["root", "snapshot", "timestamp", "targets"])
def test_a_delegated_role_takes_no_other_roles_name(device: TufDevice, repository: TufRepository, role: str) -> None:
    repository.trust("targets", DelegatedRole(role, [], 1, terminating=False, paths=["*"]))
    repository.publish("targets")
    assert device.refused(lambda: device.refresh().target("missing")) is Reason.METADATA_REFUSED
    assert device.trusted() == {"root": 1, "snapshot": 2, "timestamp": 2}


def test_a_role_that_two_others_share_is_verified_for_each_of_them(
    device: TufDevice, repository: TufRepository
) -> None:
    """A trusts C with C's key, B trusts it with another: what C says holds below A only."""
    repository.delegate("targets", "A", ["a/*"], terminating=True)
    repository.delegate("targets", "B", ["b/*"], terminating=True)
    repository.delegate("A", "C", ["*/*"])
    repository.signers["C"], by_a = [new_signer()], repository.signers["C"]
    repository.delegate("B", "C", ["*/*"])
    repository.signers["C"] = by_a
    repository.publish(*repository.signed)
    repository.add_target("C", "a/target", b"good")
    repository.add_target("C", "b/target", b"not wanted")
    followed = device.refresh()
    assert followed.target("a/target") is not None
    assert device.refused(lambda: followed.target("b/target")) is Reason.METADATA_REFUSED
    assert followed.target("a/target") is not None


def test_a_delegated_role_that_the_snapshot_does_not_name_is_refused(
    device: TufDevice, repository: TufRepository
) -> None:
    repository.delegate("targets", "A", ["*"])
    repository.publish("targets", "A")
    del repository.snapshot.meta["A.json"]
    repository.publish("snapshot")
    followed = device.refresh()
    assert device.refused(lambda: followed.target("missing")) is Reason.METADATA_REFUSED


def test_endless_delegations_come_to_an_end(device: TufDevice, repository: TufRepository) -> None:
    names = [f"role{number}" for number in range(60)]
    for parent, child in zip(["targets", *names], names, strict=False):
        repository.delegate(parent, child, ["*"])
    repository.publish(*repository.signed)
    assert len(visited(device, "missing")) <= 33
