"""Models that the release key signs: one target each, with a sequence number that grows by name."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from edge_agent.children.verify import Requirements, verify_model
from edge_agent.core.rollout_steps import Evidence
from edge_agent.errors import ConfigError, ModelError, UpdateError
from edge_agent.io import tuf_documents
from edge_agent.records import ModelFile
from edge_agent.rollouts import Reason, Release
from fleet.repository import Repository

_NAME: Final = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}")
_VERSION: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9.+_-]{0,63}")


def releases(repository: Repository) -> dict[str, Release]:
    """All by target. Raises UpdateError where one was signed wrongly."""
    return {path: tuf_documents.release(target) for path, target in repository.targets("models").targets.items()}


def find_release(repository: Repository, what: str) -> Release:
    """ "NAME@VERSION", or "NAME" for the newest of it. Raises ConfigError that says what there is."""
    name, _, version = what.partition("@")
    ours = sorted((r for r in releases(repository).values() if r.name == name), key=lambda r: r.seq)
    found = [release for release in ours if not version or release.version == version]
    if found:
        return found[-1]
    if ours:
        raise ConfigError(f"{name} has no release {version!r}; it has: {', '.join(r.version for r in ours)}")
    known = ", ".join(sorted({r.name for r in releases(repository).values()})) or "none yet (edge-fleet publish)"
    raise ConfigError(f"no model {name!r} in {repository.folder}; models there: {known}")


def next_seq(repository: Repository, name: str) -> int:
    return 1 + max((r.seq for r in releases(repository).values() if r.name == name), default=0)


def identify(model: ModelFile, name: str | None, version: str | None) -> tuple[str, str]:
    """Name and version to publish under: those given, else the card's. Raises ConfigError."""
    return _word(model, "name", name, _NAME), _word(model, "version", version, _VERSION)


def _word(model: ModelFile, what: str, given: str | None, pattern: re.Pattern[str]) -> str:
    found = given or (model.card or {}).get(what)
    if not found:
        raise ConfigError(f"{model.path}: its card has no {what}: give --{what}")
    if not isinstance(found, str) or not pattern.fullmatch(found):
        raise ConfigError(f"{what} {found!r}: expected to match {pattern.pattern}; give another one with --{what}")
    return found


def examine(model: ModelFile, p95_ms: float | None, memory_mb: float | None) -> Evidence:
    """As a device will, in a child process: card, golden samples, budgets. Raises ModelError, and UpdateError where
    this machine is at fault."""
    requirements = Requirements(
        sha256=model.sha256, length=len(model.content), p95_ms=p95_ms, memory_mb=memory_mb, place=None
    )
    try:
        return verify_model(Path(model.path).absolute(), requirements)
    except UpdateError as error:
        if not error.final:
            raise
        raise ModelError(f"not published, no device would take it ({Reason(error.reason).value}): {error}") from error


def publish(
    repository: Repository, model: ModelFile, name: str, version: str, custom: Mapping[str, Any] | None = None
) -> tuple[Release, bool]:
    """Sign the bytes as that release and commit. ``custom``: profiles, agent, p95_ms, memory_mb. False: it was there
    already, with these bytes. Raises ConfigError, StorageError."""
    target = f"models/{name}/{version}.{'onnx' if model.form == 'onnx' else 'tflite'}"
    same = [release for release in releases(repository).values() if (release.name, release.version) == (name, version)]
    there = same[0] if same else None
    wanted = {key: value for key, value in (custom or {}).items() if value}
    if there is not None:
        if there.sha256 != model.sha256:
            raise ConfigError(
                f"{name}@{version} was published with other bytes, and a version means one file: give another --version"
            )
        if any(getattr(there, key) != value for key, value in wanted.items()):
            raise ConfigError(f"{name}@{version} was published with other conditions: give another --version")
        return there, False
    _sign(repository, target, model.content, {"name": name, "version": version, **wanted})
    repository.commit()
    return releases(repository)[target], True


def sign_again(repository: Repository, release: Release) -> Release:
    """The same bytes under a higher sequence number: the only way back for devices. Not committed yet.

    Raises ConfigError where the bytes are not there, or are others."""
    fields = {key: getattr(release, key) for key in ("name", "version", "profiles", "agent", "p95_ms", "memory_mb")}
    _sign(repository, release.target, content_of(repository, release), {k: v for k, v in fields.items() if v})
    return releases(repository)[release.target]


def content_of(repository: Repository, release: Release) -> bytes:
    """Raises ConfigError."""
    path = repository.target_path(repository.targets("models").targets[release.target])
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}; bring the file back, or publish another version") from None
    if hashlib.sha256(content).hexdigest() != release.sha256:
        raise ConfigError(f"{path}: not the bytes that were signed; bring the file back, or publish another version")
    return content


def _sign(repository: Repository, target: str, content: bytes, fields: Mapping[str, Any]) -> None:
    # Canonical JSON, which TUF signs, has no floats.
    signed = {key: str(value) if isinstance(value, float) else value for key, value in fields.items()}
    signed["seq"] = next_seq(repository, signed["name"])
    repository.put_target("models", target, content, {tuf_documents.KEY: signed})
