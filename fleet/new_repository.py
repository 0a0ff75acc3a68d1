"""Making a repository: folders, keys by preset, the first metadata of each role."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final

from msgspec import Struct
from securesystemslib.signer import Signer
from tuf.api.metadata import DelegatedRole, Delegations, MetaFile, Root, Signed, Snapshot, Targets, Timestamp
from tuf.api.serialization.json import JSONSerializer

from edge_agent.errors import ConfigError
from fleet import files
from fleet.keys import OFFLINE, ONLINE, KeyRing
from fleet.metadata_files import DELEGATED, IN_SNAPSHOT
from fleet.repository import signed_by
from fleet.settings import FILE, Days, Settings, private_folder, write_settings

_OF_ROOT = ("root", "targets", "snapshot", "timestamp")


class Preset(Struct, frozen=True, kw_only=True):
    """``keys``: how many each role has, of which ``thresholds`` must sign (default 1); empty: one key for all."""

    says: str
    keys: Mapping[str, int] = {}
    thresholds: Mapping[str, int] = {}
    settings: Settings


PRESETS: Final = {
    "bench": Preset(
        says="one key for everything, kept here, good for a year",
        settings=Settings(),
    ),
    "fleet": Preset(
        says="2 of 3 root keys; root, targets, models and rollouts offline; snapshot and timestamp online",
        keys={"root": 3, "targets": 1, "models": 1, "rollouts": 1, "snapshot": 1, "timestamp": 1},
        thresholds={"root": 2},
        settings=Settings(
            offline=("root", "targets", "models", "rollouts"),
            # A stolen copy of the repository can hold devices back for so long; whoever runs it signs in that time.
            days=Days(snapshot=30, timestamp=14),
        ),
    ),
}


def create(folder: Path, preset: Preset, now: datetime) -> None:
    """Raises ConfigError where something is there already, and StorageError."""
    private = private_folder(folder)
    if (folder / "metadata").exists():
        raise ConfigError(f"{folder} is a repository already; nothing was changed")
    if (private / FILE).exists() or list(private.glob("*/*.pem")):
        raise ConfigError(f"{private} has keys or settings of a repository: move them away, or name another folder")
    files.make_folder(private, 0o700)
    write_settings(private, preset.settings)
    files.make_folder(folder / "targets")
    keys = _keys(private, preset)
    signed = _first_metadata(preset, keys, now.replace(microsecond=0))
    # Under another name until all of it is there: a cut leaves no half repository.
    beside = folder / ".metadata.new"
    files.make_folder(beside)
    for role, content in signed.items():
        name = "timestamp.json" if role == "timestamp" else f"1.{role}.json"
        files.write_whole(beside / name, signed_by(content, keys[role]).to_bytes(JSONSerializer()))
    try:
        beside.rename(folder / "metadata")
        files.sync_folder(folder)
    except OSError as error:
        raise files.failure(folder, error) from error


def key_folder(private: Path, settings: Settings, role: str) -> Path:
    """Where new keys of the role are made."""
    return private / (OFFLINE if role in settings.offline else ONLINE)


def _keys(private: Path, preset: Preset) -> dict[str, list[Signer]]:
    ring = KeyRing(private)
    if not preset.keys:
        only = ring.create("bench-1", private / ONLINE)
        return {role: [only] for role in (*_OF_ROOT, *DELEGATED)}
    return {
        role: [
            ring.create(f"{role}-{number}", key_folder(private, preset.settings, role))
            for number in range(1, count + 1)
        ]
        for role, count in preset.keys.items()
    }


def _first_metadata(preset: Preset, keys: dict[str, list[Signer]], now: datetime) -> dict[str, Signed]:
    def until(role: str) -> datetime:
        return now + timedelta(days=getattr(preset.settings.days, role))

    root = Root(expires=until("root"), consistent_snapshot=True)
    for role in _OF_ROOT:
        for signer in keys[role]:
            root.add_key(signer.public_key, role)
        root.roles[role].threshold = preset.thresholds.get(role, 1)
    roles = {role: DelegatedRole(role, [], 1, terminating=True, paths=[paths]) for role, paths in DELEGATED.items()}
    targets = Targets(expires=until("targets"), delegations=Delegations({}, roles))
    for role in DELEGATED:
        for signer in keys[role]:
            targets.add_key(signer.public_key, role)
        roles[role].threshold = preset.thresholds.get(role, 1)
    return {
        "root": root,
        "targets": targets,
        **{role: Targets(expires=until(role)) for role in DELEGATED},
        "snapshot": Snapshot(expires=until("snapshot"), meta={f"{role}.json": MetaFile(1) for role in IN_SNAPSHOT}),
        "timestamp": Timestamp(expires=until("timestamp")),
    }
