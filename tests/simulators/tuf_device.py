"""A device that follows a TUF repository, over a source that a test can let lie."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

import pytest
from tuf.api.metadata import Metadata

from edge_agent.errors import UpdateError
from edge_agent.io.fetch.folder import FolderSource
from edge_agent.io.tuf_client import TrustedRepository
from edge_agent.rollouts import Reason
from tests.simulators.tuf_repository import TufRepository


class LyingSource(FolderSource):
    """``asked``: every path; ``lies``: path -> what is given in place of the file, or raised."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.asked: list[str] = []
        self.lies: dict[str, bytes | Exception] = {}

    def read(self, path: str, most: int) -> bytes:
        self.asked.append(path)
        lie = self.lies.get(path)
        if isinstance(lie, Exception):
            raise lie
        return super().read(path, most) if lie is None else lie

    def download(self, path: str, part: Path, length: int, progress: Callable[[int], None]) -> None:
        self.asked.append(path)
        lie = self.lies.get(path)
        if isinstance(lie, Exception):
            raise lie
        if lie is None:
            super().download(path, part, length, progress)
            return
        size = part.stat().st_size if part.exists() else 0
        with part.open("ab") as file:
            file.write(lie[size:length])
        progress(part.stat().st_size)

    def asked_metadata(self) -> list[str]:
        """Names of metadata files, in their order, since the last call."""
        names = [path.removeprefix("metadata/") for path in self.asked if path.startswith("metadata/")]
        self.asked.clear()
        return names


class TufDevice:
    """``at``: what its clock says; None: the time now."""

    def __init__(self, folder: Path, repository: TufRepository, *, root: bytes | None = None) -> None:
        self.folder = folder / "tuf"
        self.part = folder / "part"
        self.root = repository.root_bytes if root is None else root
        self.source = LyingSource(repository.folder)
        self.at: datetime | None = None

    def open(self) -> TrustedRepository:
        wall_ns = time.time_ns() if self.at is None else int(self.at.timestamp() * 1e9)
        return TrustedRepository(self.folder, self.root, self.source, wall_ns)

    def refresh(self) -> TrustedRepository:
        repository = self.open()
        repository.refresh()
        return repository

    def refused(self, action: Callable[[], object] | None = None) -> Reason:
        """Why a refresh, or ``action``, comes to nothing."""
        with pytest.raises(UpdateError) as caught:
            (action or self.refresh)()
        assert "\n" not in str(caught.value)
        return Reason(caught.value.reason)

    def trusted(self) -> dict[str, int]:
        """The version of each role whose metadata is on the disk."""
        files = sorted(self.folder.glob("*.json"))
        return {file.stem: Metadata.from_file(str(file)).signed.version for file in files}
