"""Files of a repository: whole or not there after a power cut, readable by any web server or by their owner alone."""

from __future__ import annotations

import os
from pathlib import Path

from edge_agent.errors import StorageError

PUBLIC, PRIVATE = 0o644, 0o600


def write_whole(path: Path, content: bytes, mode: int = PUBLIC) -> None:
    """Replace the file at ``path``: at any moment it is the old one or the new one, and on the disk when this returns.
    Raises StorageError."""
    beside = path.with_name(f".{path.name}.new")
    try:
        beside.unlink(missing_ok=True)  # a leftover of a cut
        descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
        with os.fdopen(descriptor, "wb") as file:
            os.fchmod(descriptor, mode)  # whatever the umask: a web server must be able to read it
            file.write(content)
            file.flush()
            os.fsync(descriptor)
        beside.replace(path)
        sync_folder(path.parent)
    except OSError as error:
        raise failure(path, error) from error


def make_folder(folder: Path, mode: int = 0o755) -> None:
    """With those above it, on the disk. Raises StorageError."""
    if folder.is_dir():
        return
    make_folder(folder.parent)
    try:
        folder.mkdir(exist_ok=True)
        folder.chmod(mode)
        sync_folder(folder.parent)
    except OSError as error:
        raise failure(folder, error) from error


def sync_folder(folder: Path) -> None:
    """So that names made or changed in it survive a power cut. Raises OSError."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def failure(path: Path, error: OSError) -> StorageError:
    return StorageError(f"{path}: {error.strerror or error}; check the disk's room and who may write there")
