"""The signed repository as a device trusts it: TUF metadata in a folder, signed documents and models out of a Source.

Nothing that comes from the Source is believed before its signature, version and expiry were; whatever is wrong with it
is an UpdateError with a reason, and leaves what was trusted before. As a command: see tuf_command.py.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

from tuf.api.exceptions import (
    DownloadError,
    DownloadHTTPError,
    ExpiredMetadataError,
    LengthOrHashMismatchError,
    RepositoryError,
)
from tuf.api.metadata import TargetFile

from edge_agent import limits
from edge_agent.errors import NotThereError, StorageError, TooLargeError, TransportError, UpdateError
from edge_agent.io import tuf_documents, tuf_floor
from edge_agent.io.durable import disk_failure, make_folder
from edge_agent.io.fetch.pace import SlowError
from edge_agent.io.tuf_updater import TARGETS, DurableUpdater
from edge_agent.ports import Source
from edge_agent.rollouts import Channel, Reason, Release


class TrustedRepository:
    """One for each check: ``refresh`` first, then ``channel`` and ``release`` as often as wanted. ``download`` needs no
    refresh: a release was trusted when it was given out. Used by one thread.

    ``folder``: of TUF's metadata, this client's alone; ``root``: the root metadata that the device was given;
    ``wall_ns``: the time now (1970 UTC), by which expiry is judged: the caller knows whether it can be right.
    """

    def __init__(self, folder: Path, root: bytes, source: Source, wall_ns: int) -> None:
        self._folder = folder
        self._root = root
        self._source = source
        self._wall_ns = wall_ns
        self._updater: DurableUpdater | None = None

    def refresh(self) -> None:
        """Bring the metadata up to date. Raises UpdateError: NO_ROOT, UNREACHABLE, SLOW, METADATA_EXPIRED,
        METADATA_REFUSED, DISK_FULL, DISK_FAILED."""
        with self._refusals():
            make_folder(self._folder / "root_history")
            floor = tuf_floor.restore(self._folder)
            updater = self._begin(floor.least_root(self._root))
            try:
                updater.refresh()
            finally:
                # also of half a refresh: what TUF took over counts
                tuf_floor.keep(self._folder, self._root, updater.root_version, floor)
            self._updater = updater

    def _begin(self, least_root: int) -> DurableUpdater:
        try:
            return DurableUpdater(self._folder, self._source, self._root, self._wall_ns, least_root)
        except RepositoryError as error:
            message = (
                f"the root metadata of this device can't be used: {error}; copy it from the repository's owner again"
            )
            raise UpdateError(Reason.NO_ROOT, message) from error

    def channel(self, name: str) -> Channel:
        """The rollouts of a channel; none where the operator has not signed any yet. Raises UpdateError as ``refresh``,
        and ROLLOUT_REFUSED."""
        path = f"rollouts/{name}.json"
        target = self.target(path)
        if target is None:
            return Channel(schema=tuf_documents.SCHEMA, channel=name)
        if target.length > limits.METADATA_BYTES_MOST:
            raise UpdateError(Reason.ROLLOUT_REFUSED, f"{path} has {target.length} bytes, too many for rollouts")
        with self._refusals():
            content = self._source.read(self._path(target), target.length)
            target.verify_length_and_hashes(content)
        return tuf_documents.channel(name, content)

    def release(self, target: str) -> Release:
        """What the release key signed for ``models/NAME/VERSION.tflite`` or ``.onnx``. Raises UpdateError as
        ``refresh``, and TOO_LARGE, or METADATA_REFUSED where nothing was signed."""
        found = self.target(target)
        if found is None:
            message = f"{target} is not signed by the repository's release key; publish it with edge-fleet first"
            raise UpdateError(Reason.METADATA_REFUSED, message)
        return tuf_documents.release(found)

    def download(self, release: Release, part: Path, progress: Callable[[int], None]) -> None:
        """Bring ``part`` to the whole model, resuming what is there; ``progress`` gets the bytes on the disk. Length
        and hash are verified over all of it: a wrong ``part`` is deleted.

        Raises UpdateError: HASH, UNREACHABLE, SLOW, DISK_FULL, DISK_FAILED.
        """
        self.fetch(TargetFile(release.length, {"sha256": release.sha256}, release.target), part, progress)

    # --- any target ----------------------------------------------------------------------------------------------

    def target(self, path: str) -> TargetFile | None:
        """What is signed for any path, by the role that may. After ``refresh``. Raises UpdateError as it."""
        if self._updater is None:
            raise RuntimeError("refresh comes first")
        with self._refusals():
            return self._updater.get_targetinfo(path)

    def fetch(self, target: TargetFile, part: Path, progress: Callable[[int], None]) -> None:
        """``download`` of any target."""
        with self._refusals():
            resumed = part.exists() and part.stat().st_size > 0
            self._source.download(self._path(target), part, target.length, progress)
            if resumed and not _is_whole(target, part):
                # what was there may be damaged: only a whole file from this server speaks against it
                part.unlink()
                self._source.download(self._path(target), part, target.length, progress)
            if not _is_whole(target, part):
                part.unlink()
                message = f"{target.path} does not have the signed hash: damaged on the way or on the server"
                raise UpdateError(Reason.HASH, message)

    def _path(self, target: TargetFile) -> str:
        """For a Source. Our repositories have consistent snapshots: each file's hash is in its name."""
        if self._updater is not None and not self._updater.consistent_snapshot:
            return TARGETS + target.path
        folder, slash, name = target.path.rpartition("/")
        return f"{TARGETS}{folder}{slash}{next(iter(target.hashes.values()))}.{name}"

    @contextlib.contextmanager
    def _refusals(self) -> Iterator[None]:
        try:
            yield
        except ExpiredMetadataError as error:
            message = f"{error}: nobody has signed the repository anew in time, or it is an old copy"
            raise UpdateError(Reason.METADATA_EXPIRED, message) from error
        except RepositoryError as error:
            raise UpdateError(Reason.METADATA_REFUSED, f"the repository's metadata is refused: {error}") from error
        except (DownloadHTTPError, NotThereError) as error:
            message = f"{error}: is this the address of a repository, and is it whole?"
            raise UpdateError(Reason.UNREACHABLE, message) from error
        except TooLargeError as error:
            raise UpdateError(Reason.METADATA_REFUSED, str(error)) from error
        except (DownloadError, TransportError) as error:
            reason = Reason.SLOW if isinstance(error, SlowError) else Reason.UNREACHABLE
            raise UpdateError(reason, str(error)) from error
        except StorageError as error:
            raise _storage_failure(self._folder, error) from error
        except OSError as error:
            raise disk_failure(self._folder, error) from error


def _storage_failure(folder: Path, error: StorageError) -> UpdateError:
    """A Source says StorageError from an OSError."""
    if isinstance(error.__cause__, OSError):
        return disk_failure(folder, error.__cause__)
    return UpdateError(Reason.DISK_FAILED, str(error))


def _is_whole(target: TargetFile, part: Path) -> bool:
    """Raises OSError."""
    with part.open("rb") as file:
        try:
            target.verify_length_and_hashes(file)
        except LengthOrHashMismatchError:
            return False
    return True


if __name__ == "__main__":
    from edge_agent.io.tuf_command import main

    sys.exit(main(sys.argv[1:]))
