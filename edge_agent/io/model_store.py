"""The device's folder of models: what state.json says of them, the parts that are being fetched, the slots that hold
whole ones, the lock of whoever may change it.

Everything is written so that a power cut leaves what was there, or what was to be there (docs/ota.md); the tests cut
between any two writes. One process changes the folder (``lock``); others may read it.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import re
import shutil
import threading
from pathlib import Path
from typing import Final

from edge_agent.config.schema import UpdateConfig
from edge_agent.errors import StorageError, UpdateError
from edge_agent.io import update_state
from edge_agent.io.durable import disk_failure, make_folder, sync_file, sync_folder
from edge_agent.io.state_directory import state_directory
from edge_agent.io.update_requests import Requests
from edge_agent.rollouts import DeviceState, Reason

MODEL: Final = "model.tflite"
# Left free beside a model: for the metadata and two copies of the state.
RESERVE_BYTES: Final = 2**20
_READ_BYTES: Final = 2**20
_SHA256: Final = re.compile(r"[0-9a-f]{64}")


class InUseError(StorageError):
    """Another process holds the lock: a running daemon. ``pid`` as it says itself."""

    def __init__(self, message: str, pid: str) -> None:
        super().__init__(message)
        self.pid = pid


def update_folder(config: UpdateConfig, base: Path, device: str) -> Path:
    """As configured (from ``base``, the configuration's folder), else in the state directory."""
    if config.path is not None:
        return base / config.path
    return state_directory(device) / "update"


class ModelStore:
    """Failures of the disk are an UpdateError with DISK_FULL or DISK_FAILED: nothing that was there is lost, and the
    same may be tried again. Used by one thread, ``part`` and ``slot`` by any."""

    def __init__(self, folder: Path, budget: int = 0) -> None:
        """``budget``: bytes for a new model ([update] disk); 0: what the disk has."""
        self.folder = folder
        self.metadata = folder / "tuf"
        self.requests = Requests(folder / "requests")
        self.damage: str | None = None  # what ``load`` found amiss, one line
        self._budget = budget
        self._parts = folder / "parts"
        self._slots = folder / "slots"
        self._lock: int | None = None
        self._owns = False  # the folder, or it would if somebody had not deleted it
        self._locking = threading.Lock()

    def lock(self) -> None:
        """Make the folder, and keep others from changing it until ``close``. Raises InUseError, StorageError."""
        try:
            for folder in (self.folder, self.metadata, self._parts, self._slots):
                make_folder(folder)
            lock = os.open(self.folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            said = error.strerror or error
            raise StorageError(f"{self.folder}: {said}; [update] path must be a folder of this user") from error
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            pid = os.pread(lock, 20, 0).decode("ascii", "replace").strip() or "unknown"
            os.close(lock)
            if not isinstance(error, BlockingIOError):
                raise StorageError(
                    f"{self.folder}: can't be locked ({error.strerror}); use a disk of this device"
                ) from error
            raise InUseError(f"{self.folder} is in use by another edge-agent (pid {pid})", pid) from error
        self._lock, self._owns = lock, True
        with contextlib.suppress(OSError):  # the pid is only for that message: a full disk does not matter here
            os.ftruncate(lock, 0)
            os.pwrite(lock, f"{os.getpid()}\n".encode(), 0)

    def close(self) -> None:
        """Give the lock back. Never raises; may be called twice."""
        self._owns = False
        self._let_go()

    def _let_go(self) -> None:
        lock, self._lock = self._lock, None
        if lock is not None:
            os.close(lock)

    def _hold_on(self) -> None:
        """Make the folder, and lock it, again where somebody has deleted it under a running daemon. Raises
        UpdateError."""
        with self._locking:
            if not self._owns or self._holds():
                return
            self._let_go()
            try:
                self.lock()
            except StorageError as error:
                raise UpdateError(Reason.DISK_FAILED, str(error)) from error

    def _holds(self) -> bool:
        """Whether the file that is locked is the one that others would lock."""
        try:
            return self._lock is not None and os.path.samestat(os.fstat(self._lock), (self.folder / "lock").stat())
        except OSError:
            return False

    # --- what is known -----------------------------------------------------------------------------------------------

    def load(self) -> DeviceState:
        """What was last saved; where that is damaged, its copy, else nothing but the factory models, and ``damage``
        says so. Changes nothing. Raises StorageError: it is there and can't be read now."""
        found = update_state.load(self.folder)
        self.damage = found.damage
        return found.state

    def save(self, state: DeviceState) -> None:
        """On the disk when it returns. Where it raises UpdateError, a later ``load`` may find either."""
        content = update_state.encode(state)
        self._hold_on()
        try:
            update_state.save(self.folder, content, keep_damaged=self.damage is not None)
        except OSError as error:
            raise disk_failure(self.folder / update_state.STATE, error) from error
        self.damage = None

    # --- models ------------------------------------------------------------------------------------------------------

    def part(self, sha256: str) -> Path:
        """Where the model is fetched to; may exist, from an earlier attempt."""
        return self._parts / f"{_checked(sha256)}.part"

    def stage(self, sha256: str, length: int) -> Path:
        """Make the fetched part a slot, after a look at all of it. Raises UpdateError; with HASH the part is gone."""
        there = self.slot(sha256)
        part, slot = self.part(sha256), self._slots / sha256
        try:
            if there is not None:
                part.unlink(missing_ok=True)
                return there
            # first on the disk, then read: what is hashed is what was written, or the disk lies
            sync_file(part)
            if part.stat().st_size != length or _hash(part) != sha256:
                part.unlink()
                raise UpdateError(Reason.HASH, f"{part}: these are not the bytes that were signed; fetched anew")
            slot.mkdir(mode=0o700, exist_ok=True)
            sync_folder(self._slots)
            part.replace(slot / MODEL)
            sync_folder(slot)
            sync_folder(self._parts)
        except OSError as error:
            raise disk_failure(Path(error.filename or slot), error) from error
        return slot / MODEL

    def slot(self, sha256: str) -> Path | None:
        """The model's file, all of it read and found to have this hash; None where it is not there, damaged, or can't
        be read: it is fetched again. The factory model (FACTORY) has no slot."""
        if not sha256:
            return None
        path = self._slots / _checked(sha256) / MODEL
        try:
            return path if _hash(path) == sha256 else None
        except OSError:
            return None

    def room(self, sha256: str, length: int) -> None:
        """For what is still to be fetched of a model of ``length`` bytes. Raises UpdateError with DISK_FULL."""
        if self._budget and length > self._budget:
            raise UpdateError(
                Reason.DISK_FULL,
                f"the model has {_mib(length)}, and [update] disk allows {_mib(self._budget)}: set it higher",
            )
        self._hold_on()
        try:
            part = self.part(sha256)
            missing = max(0, length - (part.stat().st_size if part.exists() else 0))
            status = os.statvfs(self._parts)
        except OSError as error:
            raise disk_failure(self._parts, error) from error
        free = status.f_bavail * status.f_frsize
        if missing + RESERVE_BYTES > free:
            raise UpdateError(
                Reason.DISK_FULL,
                f"{self.folder}: {_mib(missing)} are still to be fetched, and {_mib(free)} are free on this disk",
            )

    def collect(self, keep: frozenset[str]) -> None:
        """Delete every slot and part but those of these hashes, and the parts that became slots. Raises UpdateError;
        the next call goes on. Due at each start too: a cut may have undone the last one."""
        try:
            for path in sorted(self._slots.iterdir()):
                if path.name not in keep:
                    _delete(path)
            for path in sorted(self._parts.iterdir()):
                sha256 = path.name.removesuffix(".part")
                if sha256 not in keep or (self._slots / sha256 / MODEL).exists():
                    _delete(path)
        except OSError as error:
            raise disk_failure(Path(error.filename or self.folder), error) from error


def _delete(path: Path) -> None:
    """Of a slot its model first: a cut leaves an empty folder, which is no slot. Raises OSError."""
    if path.is_symlink() or not path.is_dir():
        path.unlink(missing_ok=True)
        return
    (path / MODEL).unlink(missing_ok=True)
    shutil.rmtree(path)


def _checked(sha256: str) -> str:
    """It becomes a file's name. Raises UpdateError."""
    if not _SHA256.fullmatch(sha256):
        raise UpdateError(Reason.METADATA_REFUSED, f"{sha256!r} is no SHA-256 in hexadecimal digits")
    return sha256


def _hash(path: Path) -> str:
    """Raises OSError."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(_READ_BYTES):
            digest.update(block)
    return digest.hexdigest()


def _mib(size: int) -> str:
    return f"{size / 2**20:.1f} MiB"
