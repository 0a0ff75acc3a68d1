"""Files that are whole after a power cut: written beside, synced, renamed, and the folder synced for the new name."""

from __future__ import annotations

import errno
import os
from pathlib import Path

from edge_agent.errors import UpdateError
from edge_agent.rollouts import Reason

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def write_whole(path: Path, content: bytes) -> None:
    """Replace the file at ``path``: after a power cut it is the old one or the new one. On the disk when it returns;
    where it raises OSError, either may be there after a cut."""
    beside = path.with_name(path.name + ".new")
    try:
        # a leftover of a cut is thrown away, a link is not followed
        beside.unlink(missing_ok=True)
        descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            rest = memoryview(content)
            while rest:
                rest = rest[os.write(descriptor, rest) :]
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        beside.replace(path)
    except OSError:
        _forget(beside)
        raise
    sync_folder(path.parent)


def sync_file(path: Path) -> None:
    """Put all that was written to it on the disk, by whomever. Raises OSError."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_folder(folder: Path) -> None:
    """So that names made or changed in it survive a power cut. Raises OSError."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def make_folder(folder: Path) -> None:
    """With those above it, for this user alone, on the disk. Raises OSError."""
    if folder.is_dir():
        return
    make_folder(folder.parent)
    folder.mkdir(mode=0o700, exist_ok=True)
    sync_folder(folder.parent)


def disk_failure(path: Path, error: OSError) -> UpdateError:
    """An update ends for the disk's sake: what is there stays, and the next attempt may find it mended."""
    said = error.strerror or str(error)
    if error.errno in _FULL:
        return UpdateError(Reason.DISK_FULL, f"{path}: {said}; free some space on this disk")
    if error.errno in (errno.EROFS, errno.EACCES, errno.EPERM):
        return UpdateError(Reason.DISK_FAILED, f"{path}: {said}; this user must be able to write there")
    return UpdateError(Reason.DISK_FAILED, f"{path}: {said}; look into dmesg: is the disk in order?")


def _forget(path: Path) -> None:
    try:
        path.unlink(missing_ok=True)
    except OSError:
        return  # a disk that is read-only by now: the next write throws it away
