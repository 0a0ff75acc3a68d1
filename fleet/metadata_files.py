"""The metadata of a repository from its folder, verified as a device would; and how its files are called."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from securesystemslib.exceptions import StorageError as UnreadableError
from tuf.api.exceptions import RepositoryError
from tuf.api.metadata import Metadata, Root, Signed, Snapshot, Targets, Timestamp

from edge_agent.errors import ConfigError

DELEGATED = {"models": "models/*/*", "rollouts": "rollouts/*"}
IN_SNAPSHOT = (*DELEGATED, "targets")
ROLES = ("root", *reversed(IN_SNAPSHOT), "snapshot", "timestamp")


def read_metadata(folder: Path) -> dict[str, Signed]:
    """What each role signed. Raises ConfigError: there is none, or it does not verify. Expiry is no error here."""
    metadata = folder / "metadata"
    if not metadata.is_dir():
        raise ConfigError(f"{folder} is no repository (it has no metadata/): make one with edge-fleet init {folder}")
    read: dict[str, Signed] = {}
    try:
        _read_roots(metadata, read)
        for role in ("timestamp", "snapshot", "targets", *DELEGATED):
            _read_role(metadata, role, read)
    except (RepositoryError, UnreadableError, KeyError, ValueError) as error:
        raise ConfigError(
            f"{folder}: the metadata does not verify, so it was edited by hand or copied in part ({error}); bring back "
            "a good copy of the folder, for example from the web server"
        ) from None
    return read


def _read_roots(metadata: Path, read: dict[str, Signed]) -> None:
    versions = sorted(int(path.name.partition(".")[0]) for path in metadata.glob("[0-9]*.root.json"))
    if not versions:
        raise ValueError("there is no root")
    before: Root | None = None
    for version in versions:
        current = Metadata[Root].from_file(str(metadata / f"{version}.root.json"))
        for voucher in [current.signed] if before is None else [before, current.signed]:
            voucher.verify_delegate("root", current.signed_bytes, current.signatures)
        if current.signed.version != version:
            raise ValueError(f"{version}.root.json is version {current.signed.version}")
        before = current.signed
    assert before is not None  # for the type checker
    read["root"] = before


def _read_role(metadata: Path, role: str, read: dict[str, Signed]) -> None:
    version: int | None = None
    if role == "snapshot":
        version = _as(read["timestamp"], Timestamp).snapshot_meta.version
    elif role != "timestamp":
        version = _as(read["snapshot"], Snapshot).meta[f"{role}.json"].version
    found: Metadata[Any] = Metadata.from_file(str(metadata / file_name(role, version or 0)))
    voucher = _as(read["targets"], Targets) if role in DELEGATED else _as(read["root"], Root)
    voucher.verify_delegate(role, found.signed_bytes, found.signatures)
    if version is not None and found.signed.version != version:
        raise ValueError(f"{file_name(role, version)} is version {found.signed.version}")
    read[role] = found.signed


def file_name(role: str, version: int) -> str:
    return "timestamp.json" if role == "timestamp" else f"{version}.{role}.json"


def _as(signed: Signed, kind: type) -> Any:
    if not isinstance(signed, kind):
        raise ValueError(f"{kind.__name__} expected, found {type(signed).__name__}")
    return signed
