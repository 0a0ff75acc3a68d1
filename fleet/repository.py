"""A TUF repository in a folder: read and verified as a device would, changed in memory, signed and written at once.

``metadata/`` and ``targets/`` are public as they are; private keys and settings lie beside, in ``NAME.private``. All
that a change writes stays unseen until ``timestamp.json`` is replaced, which is the last but one thing written: a root
comes after it, and what it newly allows was signed by the keys before and after.
"""

from __future__ import annotations

import contextlib
import copy
import fcntl
import os
import time
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from msgspec import Struct
from securesystemslib.signer import Signer
from tuf.api.metadata import Metadata, Root, Signed, Snapshot, TargetFile, Targets, Timestamp
from tuf.api.serialization.json import JSONSerializer

from edge_agent.errors import ConfigError
from fleet import files
from fleet.keys import KeyRing, name_of
from fleet.metadata_files import DELEGATED, IN_SNAPSHOT, ROLES, file_name, read_metadata
from fleet.settings import Settings, private_folder, read_settings

WARN_SHARE, WARN_DAYS_MOST = 0.25, 30.0  # of a signature's life that is left
VERSIONS_KEPT = 20  # of each role but root: a device may be in the middle of reading an older one

LOCK_WAIT_S, LOCK_POLL_S = 15.0, 0.05


class Expiry(Struct, frozen=True):
    """Until when a role's signature lasts."""

    role: str
    expires: datetime
    left_days: float
    due: bool  # time to sign it again


def expiry_sentence(folder: Path, expiries: Iterable[Expiry]) -> str:
    """What ends soon or has ended, and the command that signs it anew; empty where all is well."""
    due = [expiry for expiry in expiries if expiry.due]
    if not due:
        return ""
    ends: dict[str, list[str]] = {}
    for expiry in due:
        when = f"{'expired' if expiry.left_days <= 0 else 'expires'} {expiry.expires:%Y-%m-%d}"
        ends.setdefault(when, []).append(expiry.role)
    said = "; ".join(f"{', '.join(roles)} {when}" for when, roles in ends.items())
    over = any(expiry.left_days <= 0 for expiry in due)
    after = "devices take no updates until then" if over else "else devices take no updates"
    return f"{said}: edge-fleet keys refresh {folder} {' '.join(expiry.role for expiry in due)}, {after}"


class Repository:
    """As it was when it was opened, and what was changed since; ``commit`` makes that the new state."""

    def __init__(self, folder: Path, ring: KeyRing, settings: Settings, now: datetime) -> None:
        """Raises ConfigError where what is there does not verify."""
        self.folder, self.ring, self.settings = folder, ring, settings
        self.now = now.replace(microsecond=0)
        self._signed = read_metadata(folder)
        self._root_before = copy.deepcopy(self.root)
        self._changed: set[str] = set()
        self._leaving: dict[str, set[str]] = {}  # role -> keys that sign once more

    # --- what is there -------------------------------------------------------------------------------------------

    @property
    def root(self) -> Root:
        root: Root = self._of("root", Root)
        return root

    def targets(self, role: str) -> Targets:
        """ "targets", "models" or "rollouts"."""
        targets: Targets = self._of(role, Targets)
        return targets

    def keyids(self, role: str) -> list[str]:
        return list(self.vouching(role).get_delegated_role(role).keyids)

    def vouching(self, role: str) -> Root | Targets:
        """Whose metadata says which keys the role has."""
        return self.targets("targets") if role in DELEGATED else self.root

    def key_name(self, role: str, keyid: str) -> str:
        return name_of(self.vouching(role).get_key(keyid))

    def version(self, role: str) -> int:
        return self._signed[role].version

    def expiries(self) -> list[Expiry]:
        found = []
        for role in ROLES:
            expires = self._signed[role].expires
            left = (expires - self.now) / timedelta(days=1)
            life = getattr(self.settings.days, role)
            found.append(Expiry(role, expires, left, left < min(WARN_DAYS_MOST, life * WARN_SHARE)))
        return found

    def root_file(self) -> Path:
        """What a new device is given: the newest root."""
        return self.folder / "metadata" / f"{self.root.version}.root.json"

    def target_path(self, target: TargetFile) -> Path:
        """Where its bytes lie: consistent snapshots have the hash in the name."""
        folder, _, name = target.path.rpartition("/")
        return self.folder / "targets" / folder / f"{target.hashes['sha256']}.{name}"

    # --- changes -------------------------------------------------------------------------------------------------

    def change(self, role: str) -> None:
        """Sign it anew at the next commit."""
        self._changed.add(role)

    def sign_once_more(self, role: str, keyids: Sequence[str]) -> None:
        """Keys that the role loses by this commit sign it beside the new ones: a device that knows only the root
        before, and one that knows the new, both take it."""
        self._leaving.setdefault(role, set()).update(keyids)

    def put_target(self, role: str, path: str, content: bytes, custom: dict[str, Any] | None = None) -> None:
        """Write the bytes and name them in the role's metadata. Raises StorageError."""
        target = TargetFile.from_data(path, content, ["sha256"])
        if custom is not None:
            target.unrecognized_fields["custom"] = custom
        place = self.target_path(target)
        files.make_folder(place.parent)
        files.write_whole(place, content)
        self.targets(role).targets[path] = target
        self.change(role)

    def commit(self) -> None:
        """Sign and write all that was changed and what follows from it. Raises ConfigError (a key is not at hand:
        nothing was written then) and StorageError (all of it counts, or nothing)."""
        if self._changed & set(IN_SNAPSHOT):
            self.change("snapshot")
        if "snapshot" in self._changed:
            self.change("timestamp")
        order = [role for role in (*IN_SNAPSHOT, "snapshot", "timestamp", "root") if role in self._changed]
        for role in order:
            self._signed[role].version += 1
            self._signed[role].expires = self.now + timedelta(days=getattr(self.settings.days, role))
        self._link()
        written = {file_name(role, self._signed[role].version): self._sign(role) for role in order}
        for name, content in written.items():
            files.write_whole(self.folder / "metadata" / name, content)
        self._changed, self._leaving, self._root_before = set(), {}, copy.deepcopy(self.root)
        self._forget_old_versions()

    def _link(self) -> None:
        snapshot = self._of("snapshot", Snapshot)
        for role in IN_SNAPSHOT:
            snapshot.meta[f"{role}.json"].version = self._signed[role].version
        self._of("timestamp", Timestamp).snapshot_meta.version = snapshot.version

    def _sign(self, role: str) -> bytes:
        wanted = [*self.keyids(role), *sorted(self._leaving.get(role, ()))]
        vouching = [self.vouching(role)]
        if role == "root":  # the devices' way from one root to the next
            wanted += self._root_before.roles["root"].keyids
            vouching.append(self._root_before)
        metadata = signed_by(self._signed[role], self.ring.signers(dict.fromkeys(wanted)))
        for who in vouching:
            self._require_threshold(role, who, metadata)
        return metadata.to_bytes(JSONSerializer())

    def _require_threshold(self, role: str, who: Root | Targets, metadata: Metadata[Any]) -> None:
        result = who.get_verification_result(role, metadata.signed_bytes, metadata.signatures)
        if result:
            return
        missing = ", ".join(sorted(name_of(key) + ".pem" for key in result.unsigned.values()))
        raise ConfigError(
            f"{result.missing} more private key(s) of {role} needed, of {missing}: not in "
            f"{private_folder(self.folder)} or --keys; attach where they are kept and give --keys FOLDER"
        )

    def _forget_old_versions(self) -> None:
        for role in (*IN_SNAPSHOT, "snapshot"):
            old = self.version(role) - VERSIONS_KEPT
            with contextlib.suppress(OSError):  # another day
                (self.folder / "metadata" / f"{old}.{role}.json").unlink(missing_ok=True)

    def _of(self, role: str, kind: type) -> Any:
        signed = self._signed[role]
        assert isinstance(signed, kind)  # for the type checker: _read saw to it
        return signed


def signed_by(signed: Signed, signers: Sequence[Signer]) -> Metadata[Any]:
    metadata: Metadata[Any] = Metadata(signed)
    for signer in signers:
        metadata.sign(signer, append=True)
    return metadata


# --- opening ---------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def open_repository(
    folder: Path, now: datetime, sticks: Sequence[Path] = (), *, wait_s: float = LOCK_WAIT_S
) -> Iterator[Repository]:
    """For a change: one writer at a time, who is waited for. ``sticks``: folders with further private keys.

    Raises ConfigError."""
    private = private_folder(folder)
    settings = read_settings(private)
    with _locked(private, folder, wait_s):
        yield Repository(folder, KeyRing(private, sticks), settings, now)


def read_repository(folder: Path, now: datetime) -> Repository:
    """To look at; without the private folder too. Raises ConfigError."""
    private = private_folder(folder)
    settings = read_settings(private) if private.exists() else Settings()
    return Repository(folder, KeyRing(private), settings, now)


@contextlib.contextmanager
def _locked(private: Path, folder: Path, wait_s: float) -> Iterator[None]:
    """Raises ConfigError where another program changes the repository all that time."""
    try:
        descriptor = os.open(private / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, files.PRIVATE)
    except OSError as error:
        raise ConfigError(f"{private / 'lock'}: {error.strerror}; check who may write there") from None
    try:
        end_s = time.monotonic() + wait_s
        while not _lock(descriptor):
            if time.monotonic() > end_s:
                raise ConfigError(f"{folder}: another edge-fleet changes it now; try again when it has ended")
            time.sleep(LOCK_POLL_S)
        yield
    finally:
        os.close(descriptor)


def _lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True
