"""The client by itself, over a real HTTP server, with the interface of the public conformance suite."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import pytest
from tuf.api.metadata import Metadata

from edge_agent.io import tuf_command
from tests.simulators.tuf_repository import TufRepository
from tests.simulators.tuf_server import TufServer


class Client:
    def __init__(self, folder: Path, repository: TufRepository, server: TufServer) -> None:
        self.metadata = folder / "metadata"
        self.targets = folder / "targets"
        self.server = server
        self._root = folder / "root"
        self._root.write_bytes(repository.root_bytes)
        for made in (self.metadata, self.targets):
            made.mkdir()

    def init(self) -> int:
        return tuf_command.main(["--metadata-dir", str(self.metadata), "init", str(self._root)])

    def refresh(self) -> int:
        return tuf_command.main([*self._where(), "refresh"])

    def download(self, *names: str, before: bool = False) -> int:
        wanted = [word for name in names for word in ("--target-name", name)]
        places = ["--target-dir", str(self.targets), "--target-base-url", f"{self.server.address}/targets/"]
        options = [*wanted, *places] if before else [*places, *wanted]
        return tuf_command.main([*self._where(), *options, "download"])

    def _where(self) -> list[str]:
        return ["--metadata-url", f"{self.server.address}/metadata/", "--metadata-dir", str(self.metadata)]

    def trusted(self) -> list[tuple[str, int]]:
        files = sorted(file for file in self.metadata.iterdir() if file.suffix == ".json")
        return [(file.stem, Metadata.from_file(str(file)).signed.version) for file in files]

    def downloaded(self) -> list[bytes]:
        return [file.read_bytes() for file in sorted(self.targets.iterdir())]


@pytest.fixture
def repository(tmp_path: Path) -> TufRepository:
    return TufRepository(tmp_path / "repository")


@pytest.fixture
def client(tmp_path: Path, repository: TufRepository) -> Iterator[Client]:
    (tmp_path / "client").mkdir()
    with TufServer(repository.folder) as server:
        made = Client(tmp_path / "client", repository, server)
        assert made.init() == 0
        yield made


def test_init_asks_for_nothing_and_refresh_for_each_role_once(client: Client) -> None:
    assert client.server.asked == []
    assert client.trusted() == [("root", 1)]
    assert client.refresh() == 0
    assert client.server.asked == [
        f"/metadata/{name}.json" for name in ("2.root", "timestamp", "1.snapshot", "1.targets")
    ]
    assert client.trusted() == [("root", 1), ("snapshot", 1), ("targets", 1), ("timestamp", 1)]


def test_a_download_refreshes_first(client: Client, capsys: pytest.CaptureFixture[str]) -> None:
    assert client.download("nothing like that") == 1
    assert client.trusted() == [("root", 1), ("snapshot", 1), ("targets", 1), ("timestamp", 1)]
    assert "nothing like that" in capsys.readouterr().err


def test_a_root_that_cannot_be_used_fails_before_anything_is_asked_for(client: Client) -> None:
    (client.metadata / tuf_command.ROOT).write_bytes(b"{}")
    assert client.refresh() == 1
    assert client.server.asked == []


def test_a_client_without_a_root_fails(client: Client) -> None:
    (client.metadata / tuf_command.ROOT).unlink()
    assert client.refresh() == 1
    assert client.server.asked == []


@pytest.mark.parametrize("name", ["plain.txt", "path/to/a/plain.txt", "with space", "ümlaut"])
def test_a_target_is_downloaded_once(client: Client, repository: TufRepository, name: str) -> None:
    target = repository.add_target("targets", name, b"content")
    file = repository.target_file(target)
    place = repository.folder / "targets" / quote(str(file.relative_to(repository.folder / "targets")))
    file.rename(place)
    assert client.download(name) == 0
    assert client.downloaded() == [b"content"]
    place.unlink()
    assert client.download(name) == 0, "what is there with the right hash is not asked for again"
    assert client.downloaded() == [b"content"]


@pytest.mark.parametrize("before", [True, False])
def test_several_targets_come_in_their_order_by_one_client(
    client: Client, repository: TufRepository, before: bool
) -> None:
    for name in ("a", "b", "c"):
        repository.add_target("targets", name, name.encode())
    assert client.download("c", "a", before=before) == 0
    assert client.downloaded() == [b"a", b"c"]
    assert client.server.asked.count("/metadata/timestamp.json") == 1
    assert client.download("b", "missing", "a") == 1
    assert client.downloaded() == [b"a", b"b", b"c"]


def test_several_names_may_follow_one_option(client: Client, repository: TufRepository) -> None:
    for name in ("a", "b"):
        repository.add_target("targets", name, name.encode())
    arguments = ["--metadata-dir", str(client.metadata), "--metadata-url", f"{client.server.address}/metadata"]
    arguments += ["--target-base-url", f"{client.server.address}/targets", "--target-dir", str(client.targets)]
    assert tuf_command.main([*arguments, "--target-name", "a", "b", "download"]) == 0
    assert client.downloaded() == [b"a", b"b"]


def test_the_first_target_that_fails_ends_the_download(client: Client, repository: TufRepository) -> None:
    repository.add_target("targets", "b", b"b")
    assert client.download("missing", "b") == 1
    assert client.downloaded() == []


def test_a_substituted_target_is_never_there(client: Client, repository: TufRepository) -> None:
    first = repository.add_target("targets", "first", b"first content")
    second = repository.add_target("targets", "second", b"second")
    assert client.download("first") == 0
    for target in (first, second):
        repository.target_file(target).write_bytes(b"something else that is longer")
    assert client.download("first") == 0
    assert client.download("second") == 1
    repository.target_file(second).write_bytes(b"sEcond")
    assert client.download("second") == 1
    assert [file for file in client.downloaded() if file] == [b"first content"]


def test_a_target_that_changes_often_is_always_the_signed_one(client: Client, repository: TufRepository) -> None:
    for number in range(10):
        good = f"good {number}".encode()
        target = repository.add_target("targets", "target", good)
        assert client.download("target") == 0
        assert client.downloaded() == [good]
        repository.target_file(target).write_bytes(b"bad")
        client.download("target")
        assert client.downloaded() == [good]


@pytest.mark.parametrize("role", ["?", "#", "/role", "../role", "a b"])
def test_names_of_roles_are_encoded_once_on_the_wire(client: Client, repository: TufRepository, role: str) -> None:
    repository.targets.delegations = None
    repository.delegate("targets", role, ["*"])
    repository.publish("targets", role)
    assert client.download("missing") == 1
    assert client.server.asked[-1] == f"/metadata/1.{quote(role, '')}.json"
    assert len(client.trusted()) == 5


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["refresh"],
        ["--metadata-dir", "d"],
        ["--metadata-dir", "d", "other"],
        ["--metadata-dir", "d", "init"],
        ["--metadata-dir", "d", "refresh"],
        ["--metadata-dir", "d", "--metadata-url", "http://127.0.0.1:1", "refresh", "more"],
        ["--metadata-dir", "d", "--metadata-url", "http://127.0.0.1:1", "download"],
    ],
)
def test_a_wrong_command_line_is_explained(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        tuf_command.main(arguments)
    assert caught.value.code == 2
    assert "usage: python -m edge_agent.io.tuf_client" in capsys.readouterr().err


def test_it_runs_as_a_module(client: Client, repository: TufRepository) -> None:
    command = [sys.executable, "-m", "edge_agent.io.tuf_client", *client._where(), "refresh"]
    assert subprocess.run(command, check=False, capture_output=True, text=True, timeout=60).returncode == 0
    repository.signers["timestamp"] = []
    repository.publish("timestamp")
    refused = subprocess.run(command, check=False, capture_output=True, text=True, timeout=60)
    assert (refused.returncode, refused.stderr.count("\n")) == (1, 1)
    assert refused.stderr.startswith("tuf_client refresh: the repository's metadata is refused: timestamp was signed")
