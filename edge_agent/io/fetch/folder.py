"""A repository in a folder: a USB stick, a mounted share, a bench."""

from __future__ import annotations

import contextlib
import os
import stat
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

from edge_agent.errors import NotThereError, TooLargeError, TransportError
from edge_agent.io.fetch.part import PartFile
from edge_agent.io.fetch.paths import inside

BLOCK_BYTES: Final = 2**18


class FolderSource:
    """Implements ``ports.Source``."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._stopping = threading.Event()

    def read(self, path: str, most: int) -> bytes:
        with self._opened(path) as (file, size):
            if size > most:
                raise TooLargeError(f"{self._folder / path} has {size} bytes; at most {most} are taken")
            return b"".join(self._blocks(file, path, size))

    def download(self, path: str, part: Path, length: int, progress: Callable[[int], None]) -> None:
        with self._opened(path) as (file, size), PartFile(part, length, progress) as grown:
            if size != length:
                raise TransportError(f"{self._folder / path} has {size} bytes; {length} were signed")
            os.lseek(file, grown.size, os.SEEK_SET)
            for block in self._blocks(file, path, length - grown.size):
                grown.write(block)

    def stop(self) -> None:
        self._stopping.set()

    def close(self) -> None:
        """Nothing is kept open between two calls."""

    @contextlib.contextmanager
    def _opened(self, path: str) -> Iterator[tuple[int, int]]:
        """File descriptor and size of a regular file: a pipe or a device on a stick could be read for ever."""
        place = self._folder.joinpath(*inside(path))
        try:
            file = os.open(place, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError as error:
            if not self._folder.is_dir():
                raise TransportError(f"{self._folder} is not there: attach the medium, or check the path") from None
            if isinstance(error, FileNotFoundError | NotADirectoryError):
                raise NotThereError(f"{place} is not there") from None
            raise TransportError(f"{place} can't be read: {error.strerror}") from error
        try:
            status = os.fstat(file)
            if not stat.S_ISREG(status.st_mode):
                raise NotThereError(f"{place} is no file")
            yield file, status.st_size
        finally:
            os.close(file)

    def _blocks(self, file: int, path: str, length: int) -> Iterator[bytes]:
        while length:
            if self._stopping.is_set():
                raise TransportError("stopped")
            try:
                block = os.read(file, min(BLOCK_BYTES, length))
            except OSError as error:
                raise TransportError(f"{self._folder / path} can't be read: {error.strerror}") from error
            if not block:
                raise TransportError(f"{self._folder / path} became shorter while it was read")
            length -= len(block)
            yield block
