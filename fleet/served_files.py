"""What of a repository is public: regular files below ``metadata/`` and ``targets/``, and only to be read."""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Final

from edge_agent.errors import ConfigError, NotThereError
from edge_agent.io.fetch.paths import inside

PUBLIC: Final = ("metadata", "targets")


@dataclass(frozen=True)
class ServedFile:
    """A context. ``size`` in bytes; ``tag`` is another one when the file is."""

    descriptor: int
    size: int
    tag: str

    def read(self, offset: int, length: int) -> bytes:
        """Fewer bytes only at the end. Raises OSError."""
        return os.pread(self.descriptor, length, offset)

    def __enter__(self) -> ServedFile:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.close(self.descriptor)


class ServedFiles:
    def __init__(self, repository: Path) -> None:
        """Raises ConfigError for a folder that is no repository."""
        if not (repository / "metadata" / "timestamp.json").is_file():
            raise ConfigError(
                f"{repository}: no repository (there is no metadata/timestamp.json); edge-fleet init makes one"
            )
        self._repository = repository

    def open(self, path: str) -> ServedFile:
        """Raises NotThereError for whatever is not public. Symbolic links are not followed, at no level."""
        names = inside(path)
        if names[0] not in PUBLIC:
            raise NotThereError(f"{path[:80]!r} is not public")
        try:
            descriptor = self._walk(names)
        except (OSError, ValueError) as error:  # ValueError: no name that a file can have
            raise NotThereError(f"{path!r} can't be read: {getattr(error, 'strerror', None) or error}") from None
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            os.close(descriptor)
            raise NotThereError(f"{path!r} is no file")
        return ServedFile(descriptor, status.st_size, f'"{status.st_ino:x}-{status.st_size:x}-{status.st_mtime_ns:x}"')

    def _walk(self, names: tuple[str, ...]) -> int:
        folder = os.open(self._repository, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        flags = os.O_NOFOLLOW | os.O_CLOEXEC
        try:
            for name in names[:-1]:
                inner = os.open(name, os.O_RDONLY | os.O_DIRECTORY | flags, dir_fd=folder)
                os.close(folder)
                folder = inner
            return os.open(names[-1], os.O_RDONLY | os.O_NONBLOCK | flags, dir_fd=folder)
        finally:
            os.close(folder)
