"""Arrays that are too many for memory and come only once: kept as they are in one temporary file without a name, which
ends with the process however it ends.

Raw, since encoding 12,000 frames of 320 x 240 as PNG takes half a minute and saves half of 2.7 GB at best; what is
used again soon stays in the operating system's cache, so a small data set is never read back from the disk.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from msgspec import Struct

from edge_agent.errors import ConfigError
from edge_agent.records import Array

CHUNK = 2**20


class Stored(Struct, frozen=True):
    """Where an array lies in the spool."""

    offset: int
    shape: tuple[int, ...]
    dtype: np.dtype[Any]


class Spool:
    """``source`` names the data set in messages. Raises ConfigError when the disk is full."""

    def __init__(self, source: str) -> None:
        self._source = source
        self._file = tempfile.TemporaryFile()  # noqa: SIM115 - lives as long as the data set
        self._end = 0
        self._digest = hashlib.sha256()

    def add(self, array: Array) -> Stored:
        """Keep a copy of ``array``, of any dtype without Python objects."""
        content = np.ascontiguousarray(array)
        stored = Stored(self._end, array.shape, array.dtype)
        with room_on_disk(self._source):
            self._file.write(content.data if content.size else b"")
        self._end += content.nbytes
        self.note(f"{array.shape} {array.dtype.str}".encode())
        self._digest.update(content.data if content.size else b"")
        return stored

    def get(self, stored: Stored) -> Array:
        """The array again, read-only."""
        self._file.flush()
        size = stored.dtype.itemsize * int(np.prod(stored.shape))
        content = os.pread(self._file.fileno(), size, stored.offset)
        return np.frombuffer(content, stored.dtype).reshape(stored.shape)

    def note(self, content: bytes) -> None:
        """Take something that is not stored here into the hash."""
        self._digest.update(b"%d:" % len(content) + content)

    def sha256(self) -> str:
        """Of all that was added and noted, in that order."""
        return self._digest.copy().hexdigest()


@contextmanager
def room_on_disk(source: str) -> Iterator[None]:
    """Says where the room was wanting and how to give more."""
    try:
        yield
    except OSError as error:
        folder = tempfile.gettempdir()
        raise ConfigError(
            f"{source}: its pictures can't be kept in {folder}: {error.strerror or error}; name a folder with more "
            "room in TMPDIR"
        ) from error


def files_sha256(files: list[tuple[str, Path]], *, then: str = "") -> str:
    """Of names and contents, in that order, and of the text ``then``. Raises ConfigError."""
    digest = hashlib.sha256()
    for name, path in files:
        try:
            size = path.stat().st_size
            digest.update(f"{len(name)}:{name}{size}:".encode())
            with path.open("rb") as stream:
                while chunk := stream.read(CHUNK):
                    digest.update(chunk)
        except OSError as error:
            raise ConfigError(f"{path}: can't be read: {error.strerror or error}") from error
    digest.update(then.encode())
    return digest.hexdigest()
