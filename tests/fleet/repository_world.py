"""An operator's repository and a device that follows it, at a time of the test's choice."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest

from edge_agent.errors import UpdateError
from edge_agent.io.fetch.folder import FolderSource
from edge_agent.io.tuf_client import TrustedRepository
from edge_agent.records import ModelFile
from edge_agent.rollouts import Channel, Reason, Release
from fleet import files
from fleet.new_repository import PRESETS, create
from fleet.releases import publish
from fleet.repository import Repository, open_repository
from fleet.rollout_book import RolloutBook
from fleet.settings import private_folder

NOW = datetime(2027, 3, 1, 12, tzinfo=timezone.utc)


class Operator:
    """``now`` can be moved; ``sticks`` are the folders of ``--keys``."""

    def __init__(self, folder: Path, preset: str = "bench") -> None:
        self.folder = folder
        self.private = private_folder(folder)
        self.now = NOW
        self.sticks: list[Path] = []
        create(folder, PRESETS[preset], NOW)
        self.first_root = (folder / "metadata" / "1.root.json").read_bytes()

    @contextmanager
    def opened(self) -> Iterator[Repository]:
        with open_repository(self.folder, self.now, self.sticks) as repository:
            yield repository

    @contextmanager
    def book(self) -> Iterator[RolloutBook]:
        with self.opened() as repository:
            yield RolloutBook(repository)

    def publish(self, version: str, content: bytes = b"", **custom: object) -> Release:
        with self.opened() as repository:
            return publish(repository, model(content or version.encode() * 50), "hall", version, custom)[0]

    def carry_away(self, stick: Path) -> None:
        """Move the offline keys to a medium."""
        shutil.move(self.private / "offline", stick)


class Device:
    """It was given ``root`` once, and keeps what it trusts in ``folder``."""

    def __init__(self, folder: Path, repository: Path, root: bytes) -> None:
        self.folder, self.repository, self.root = folder, repository, root

    def check(self, at: datetime = NOW) -> Channel:
        return self.trusted(at).channel("main")

    def trusted(self, at: datetime = NOW) -> TrustedRepository:
        repository = TrustedRepository(
            self.folder / "tuf", self.root, FolderSource(self.repository), int(at.timestamp() * 1e9)
        )
        repository.refresh()
        return repository

    def fetch(self, release: str, at: datetime = NOW) -> tuple[Release, bytes]:
        repository = self.trusted(at)
        found = repository.release(release)
        part = self.folder / "part"
        part.unlink(missing_ok=True)
        repository.download(found, part, lambda _: None)
        return found, part.read_bytes()

    def refused(self, at: datetime = NOW) -> Reason:
        with pytest.raises(UpdateError) as caught:
            self.check(at)
        return Reason(caught.value.reason)

    def at(self, repository: Path, folder: Path) -> Device:
        """The same device, with what it trusts now, looking at another copy of the repository."""
        if self.folder.exists():
            shutil.copytree(self.folder, folder)
        return Device(folder, repository, self.root)


def model(content: bytes) -> ModelFile:
    """To be signed, whatever it is."""
    return ModelFile("model.tflite", content, hashlib.sha256(content).hexdigest(), None, None, {})


def days(count: float) -> timedelta:
    return timedelta(days=count)


class Images:
    """Copies of a repository after each file that an operation writes: what a power cut could leave of it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, operator: Operator, folder: Path) -> None:
        self.taken: list[Path] = []
        self._write = files.write_whole

        def write(path: Path, content: bytes, mode: int = files.PUBLIC) -> None:
            self._write(path, content, mode)
            leftover = path.with_name(f".{path.name}.new")
            leftover.write_bytes(content[: len(content) // 2])  # a cut while the next one is written
            self._take(operator.folder, folder / f"{len(self.taken)}" / "repo")
            leftover.unlink()

        monkeypatch.setattr(files, "write_whole", write)

    def _take(self, public: Path, image: Path) -> None:
        shutil.copytree(public, image)
        shutil.copytree(private_folder(public), private_folder(image))
        self.taken.append(image)
