"""A repository in a folder: a stick that is pulled, files that are none, and which source a configuration names."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from edge_agent.config.schema import MqttConfig, UpdateConfig
from edge_agent.config.units import Size
from edge_agent.errors import ConfigError, NotThereError, StorageError, TransportError
from edge_agent.io.fetch import create_source
from edge_agent.io.fetch.folder import FolderSource
from edge_agent.ports import Source
from tests.simulators.served_folder import CONTENT, MODEL, TIMESTAMP, served_folder

SIZE = len(CONTENT)


def chosen(repository: str | None, folder: Path) -> Source:
    config = UpdateConfig(repository=repository, rate=Size(5))
    return create_source(config, MqttConfig(), folder, "edge-agent-cam1", "edge-agent/cam1")


@pytest.fixture
def source(tmp_path: Path) -> FolderSource:
    return FolderSource(served_folder(tmp_path / "repo"))


def test_files_come_whole(source: FolderSource, tmp_path: Path) -> None:
    assert source.read("metadata/timestamp.json", 100) == TIMESTAMP
    sizes: list[int] = []
    source.download(MODEL, tmp_path / "part", SIZE, sizes.append)
    assert (tmp_path / "part").read_bytes() == CONTENT
    assert sizes == [SIZE]


@pytest.mark.parametrize("had", [0, 1000, SIZE])
def test_a_part_goes_on_where_it_is(source: FolderSource, tmp_path: Path, had: int) -> None:
    (tmp_path / "part").write_bytes(CONTENT[:had])
    source.download(MODEL, tmp_path / "part", SIZE, lambda _: None)
    assert (tmp_path / "part").read_bytes() == CONTENT


@pytest.mark.parametrize(
    "path", ["metadata/2.root.json", "nothing/at/all", "metadata/timestamp.json/x", "../x", "targets"]
)
def test_what_is_not_there(source: FolderSource, path: str) -> None:
    with pytest.raises(NotThereError):
        source.read(path, 100)


def test_a_pipe_or_a_device_is_no_file(source: FolderSource, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "repo" / "metadata" / "pipe")
    (tmp_path / "repo" / "metadata" / "zero").symlink_to("/dev/zero")
    for name in ("pipe", "zero"):
        with pytest.raises(NotThereError, match="is no file"):
            source.read(f"metadata/{name}", 100)


def test_a_stick_that_is_not_plugged_in_is_told_from_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(TransportError, match="attach the medium") as caught:
        FolderSource(tmp_path / "stick").read("metadata/timestamp.json", 100)
    assert not isinstance(caught.value, NotThereError)


def test_files_of_another_size_than_was_signed_or_is_taken(source: FolderSource, tmp_path: Path) -> None:
    with pytest.raises(TransportError, match="at most 99999 are taken"):
        source.read("metadata/1.models.json", 99_999)
    for length in (SIZE - 1, SIZE + 1):
        with pytest.raises(TransportError, match=f"{length} were signed"):
            source.download(MODEL, tmp_path / "part", length, lambda _: None)


def test_a_full_disk(source: FolderSource) -> None:
    with pytest.raises(StorageError, match="No space left"):
        source.download(MODEL, Path("/dev/full"), SIZE, lambda _: None)


def test_stop(source: FolderSource, tmp_path: Path) -> None:
    source.stop()
    with pytest.raises(TransportError, match="stopped"):
        source.read("metadata/timestamp.json", 100)
    with pytest.raises(TransportError, match="stopped"):
        source.download(MODEL, tmp_path / "part", SIZE, lambda _: None)
    source.close()


@pytest.mark.parametrize(
    ("repository", "kind"),
    [
        ("https://updates.example.org/repo", "HttpSource"),
        ("http://127.0.0.1:8090", "HttpSource"),
        ("mqtt:", "MqttSource"),
        ("/media/stick/repo", "FolderSource"),
        ("repo", "FolderSource"),
    ],
)
def test_the_configuration_names_the_source(tmp_path: Path, repository: str, kind: str) -> None:
    source = chosen(repository, tmp_path)
    assert type(source).__name__ == kind
    source.close()


def test_a_folder_is_meant_from_the_configuration_file(tmp_path: Path) -> None:
    served_folder(tmp_path / "repo")
    assert chosen("repo", tmp_path).read("metadata/timestamp.json", 100) == TIMESTAMP


@pytest.mark.parametrize("repository", [None, "", "ftp://x/y", "mqtt://broker", "mqtt:topic", "HTTP://x", "file:/x"])
def test_what_names_no_source(tmp_path: Path, repository: str | None) -> None:
    with pytest.raises(ConfigError, match="expected"):
        chosen(repository, tmp_path)
