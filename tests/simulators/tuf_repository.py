"""A small real TUF repository in a folder, with all of its private keys, that a test changes as it likes:
``repository.snapshot.expires = ...; repository.publish("snapshot", "timestamp")``. Any static server can serve it.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any
from urllib.parse import quote

import msgspec
from securesystemslib.signer import CryptoSigner, Signer
from tuf.api.metadata import (
    DelegatedRole,
    Delegations,
    Metadata,
    MetaFile,
    Root,
    Signed,
    Snapshot,
    TargetFile,
    Targets,
    Timestamp,
)
from tuf.api.serialization.json import JSONSerializer

from edge_agent.io.onnx_file import looks_like_onnx
from edge_agent.rollouts import Channel, Release, Rollout

TOP_LEVEL = ("root", "targets", "snapshot", "timestamp")
DELEGATED = ("models", "rollouts")
PATHS = {"models": "models/*/*", "rollouts": "rollouts/*"}


class TufRepository:
    """``signed[role]`` (also ``.root`` .. ``.rollouts``) is what the next ``publish`` signs with ``signers[role]``.
    ``hashes``: whether snapshot and timestamp name lengths and hashes beside versions."""

    hashes = False

    def __init__(
        self, folder: Path, *, now: datetime | None = None, days: int = 365, roots: int = 1, threshold: int = 1
    ) -> None:
        self.folder = folder
        self.expires = (now or datetime.now(timezone.utc)).replace(microsecond=0) + timedelta(days=days)
        self.signers: dict[str, list[Signer]] = {role: [new_signer()] for role in (*TOP_LEVEL, *DELEGATED)}
        self.signers["root"] += [new_signer() for _ in range(roots - 1)]
        self.signed: dict[str, Signed] = self._first(threshold)
        (folder / "metadata").mkdir(parents=True, exist_ok=True)
        (folder / "targets").mkdir(exist_ok=True)
        for role in self.signed:
            self.write(role)

    def _first(self, threshold: int) -> dict[str, Signed]:
        root = Root(expires=self.expires, consistent_snapshot=True)
        for role in TOP_LEVEL:
            for signer in self.signers[role]:
                root.add_key(signer.public_key, role)
        root.roles["root"].threshold = threshold
        roles = {role: DelegatedRole(role, [], 1, terminating=True, paths=[PATHS[role]]) for role in DELEGATED}
        targets = Targets(expires=self.expires, delegations=Delegations({}, roles))
        for role in DELEGATED:
            targets.add_key(self.signers[role][0].public_key, role)
        return {
            "root": root,
            "targets": targets,
            "models": Targets(expires=self.expires),
            "rollouts": Targets(expires=self.expires),
            "snapshot": Snapshot(
                expires=self.expires, meta={f"{role}.json": MetaFile(1) for role in ("targets", *DELEGATED)}
            ),
            "timestamp": Timestamp(expires=self.expires),
        }

    # --- the metadata by name ------------------------------------------------------------------------------------

    @property
    def root(self) -> Root:
        return self._role("root", Root)

    @property
    def targets(self) -> Targets:
        return self._role("targets", Targets)

    @property
    def models(self) -> Targets:
        return self._role("models", Targets)

    @property
    def rollouts(self) -> Targets:
        return self._role("rollouts", Targets)

    @property
    def snapshot(self) -> Snapshot:
        return self._role("snapshot", Snapshot)

    @property
    def timestamp(self) -> Timestamp:
        return self._role("timestamp", Timestamp)

    def _role(self, role: str, kind: type) -> Any:
        signed = self.signed[role]
        assert isinstance(signed, kind)
        return signed

    @property
    def root_bytes(self) -> bytes:
        """The root that devices are shipped with: version 1."""
        return self.metadata("1.root.json").read_bytes()

    # --- what an owner does --------------------------------------------------------------------------------------

    def add_model(self, name: str, version: str, content: bytes, seq: int, **custom: Any) -> Release:
        """Sign ``models/<name>/<version>.tflite`` (.onnx for such) and publish. ``custom``: profiles, agent, p95_ms,
        memory_mb."""
        signed = {"name": name, "version": version, "seq": seq, **custom}
        # Signed JSON is canonical JSON, which has no floats: those are strings.
        fields = {key: str(value) if isinstance(value, float) else value for key, value in signed.items()}
        suffix = "onnx" if looks_like_onnx(content) and content[4:8] != b"TFL3" else "tflite"
        target = self.add_target("models", f"models/{name}/{version}.{suffix}", content, {"edge-agent": fields})
        known = {key: value for key, value in custom.items() if key in Release.__struct_fields__}
        return Release(
            name=name,
            version=version,
            target=target.path,
            length=target.length,
            sha256=target.hashes["sha256"],
            seq=seq,
            **known,
        )

    def set_rollouts(self, channel: str, rollouts: Sequence[Rollout]) -> None:
        """Sign ``rollouts/<channel>.json`` and publish."""
        document = Channel(schema="edge-agent/rollouts/1", channel=channel, rollouts=tuple(rollouts))
        self.add_target("rollouts", f"rollouts/{channel}.json", msgspec.json.encode(document))

    def add_target(self, role: str, path: str, content: bytes, custom: dict[str, Any] | None = None) -> TargetFile:
        """Put a target of that role beside its metadata and publish."""
        target = TargetFile.from_data(path, content, ["sha256"])
        if custom is not None:
            target.unrecognized_fields["custom"] = custom
        self._role(role, Targets).targets[path] = target
        file = self.target_file(target)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)
        self.publish(role)
        return target

    def delegate(self, parent: str, role: str, paths: list[str], *, terminating: bool = False) -> None:
        """Let ``parent`` trust one more role with these paths; publish both afterwards."""
        if role not in self.signed:
            signed = Targets(expires=self.expires)
            signed.version = 0
            self.signed = {role: signed, **self.signed}  # before snapshot and timestamp, which name it
            self.signers[role] = [new_signer()]
        self.trust(parent, DelegatedRole(role, [], 1, terminating=terminating, paths=paths))

    def trust(self, parent: str, delegated: DelegatedRole) -> None:
        """A delegation as it is, with the role's keys."""
        signed = self._role(parent, Targets)
        if signed.delegations is None:
            signed.delegations = Delegations({}, {})
        signed.delegations.roles[delegated.name] = delegated
        for signer in self.signers[delegated.name]:
            signed.add_key(signer.public_key, delegated.name)

    def publish(self, *roles: str) -> None:
        """Raise the versions of these roles and of those that follow from them, sign and write."""
        following = {"snapshot", "timestamp"} if set(roles) - {"root", "timestamp"} else set()
        for role in self.signed:
            if role in following or role in roles:
                self.signed[role].version += 1
                self.write(role)

    def _named(self, role: str, file: Path) -> MetaFile:
        content = file.read_bytes()
        version = self.signed[role].version
        return MetaFile.from_data(version, content, ["sha256"]) if self.hashes else MetaFile(version)

    def expire(self, role: str) -> None:
        """Publish that role as having ended long ago, all others as valid."""
        self.signed[role].expires = datetime(2021, 1, 1, tzinfo=timezone.utc)
        self.publish(role)

    def renew(self, expires: datetime) -> None:
        """Sign everything anew until then."""
        for signed in self.signed.values():
            signed.expires = expires
        self.publish(*self.signed)

    def rotate(self, role: str) -> None:
        """Replace all keys of a role by one new one, and publish whoever vouches for it; the role itself is signed
        anew. A root is signed by its old keys too."""
        old, self.signers[role] = self.signers[role], [new_signer()]
        parent = self.root if role in TOP_LEVEL else self.targets
        for signer in old:
            parent.revoke_key(signer.public_key.keyid, role)
        parent.add_key(self.signers[role][0].public_key, role)
        if role == "root":
            self.root.roles["root"].threshold = 1
            self.publish_root(*old, *self.signers["root"])
            return
        if role in TOP_LEVEL:
            self.publish("root")
        self.publish(*(("targets", role) if role in DELEGATED else (role,)))

    def publish_root(self, *signers: Signer) -> bytes:
        """The next root, signed by exactly these."""
        self.root.version += 1
        content = signed_by(self.root, *signers)
        self.metadata(f"{self.root.version}.root.json").write_bytes(content)
        return content

    # --- files ---------------------------------------------------------------------------------------------------

    def write(self, role: str) -> Path:
        """Sign as it stands, and write; no version is raised. Snapshot and timestamp will name it."""
        versioned = role == "root" or (role != "timestamp" and self.root.consistent_snapshot)
        name = quote(role, "") + ".json"
        file = self.metadata(f"{self.signed[role].version}.{name}" if versioned else name)
        file.write_bytes(signed_by(self.signed[role], *self.signers[role]))
        if role == "snapshot":
            self.timestamp.snapshot_meta = self._named(role, file)
        elif role not in TOP_LEVEL or role == "targets":
            self.snapshot.meta[f"{role}.json"] = self._named(role, file)
        return file

    def metadata(self, name: str) -> Path:
        return self.folder / "metadata" / name

    def target_file(self, target: TargetFile) -> Path:
        """Where a client looks for its bytes."""
        folder, _, name = target.path.rpartition("/")
        prefix = f"{target.hashes['sha256']}." if self.root.consistent_snapshot else ""
        return self.folder / "targets" / folder / f"{prefix}{name}"


def new_signer() -> Signer:
    return CryptoSigner.generate_ed25519()


def signed_by(signed: Signed, *signers: Signer) -> bytes:
    """The metadata file with exactly these signatures, whoever may sign it."""
    metadata = Metadata(signed)
    for signer in signers:
        metadata.sign(signer, append=True)
    return metadata.to_bytes(JSONSerializer())
