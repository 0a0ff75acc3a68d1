"""The part of a file that has come so far: appended to, and put on the disk every MiB."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Final, NoReturn

from edge_agent.errors import StorageError, TransportError

SYNC_BYTES: Final = 2**20


class PartFile:
    """A context, in which ``path`` grows from its present size up to ``length`` bytes. ``progress`` gets the size that
    is on the disk. Every method raises StorageError, with the OSError as its cause."""

    def __init__(self, path: Path, length: int, progress: Callable[[int], None]) -> None:
        self.size = 0
        self._path = path
        self._length = length
        self._progress = progress
        self._synced = 0

    def __enter__(self) -> PartFile:
        try:
            self._file = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
            self.size = self._synced = os.fstat(self._file).st_size
        except OSError as error:
            self._failed(error)
        if self.size > self._length:  # of another file
            self.restart()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if not isinstance(error, StorageError):  # what came before a lost connection is worth keeping
                self._sync()
        finally:
            os.close(self._file)

    @property
    def whole(self) -> bool:
        return self.size == self._length

    def write(self, data: bytes) -> None:
        """Raises TransportError for more than ``length`` bytes; those up to it are kept."""
        room = self._length - self.size
        try:
            rest = memoryview(data)[:room]
            while rest:
                count = os.write(self._file, rest)
                self.size += count
                rest = rest[count:]
        except OSError as error:
            self._failed(error)
        if self.size - self._synced >= SYNC_BYTES:
            self._sync()
        if len(data) > room:
            raise TransportError(f"the repository sends more than the {self._length} bytes that were signed")

    def restart(self) -> None:
        """From its first byte again."""
        try:
            os.ftruncate(self._file, 0)
        except OSError as error:
            self._failed(error)
        self.size = self._synced = 0

    def _sync(self) -> None:
        if self.size == self._synced:
            return
        try:
            os.fsync(self._file)
        except OSError as error:
            self._failed(error)
        self._synced = self.size
        self._progress(self.size)

    def _failed(self, error: OSError) -> NoReturn:
        raise StorageError(f"{self._path} can't be written: {error.strerror}; free or mend the disk") from error
