"""Signed bytes become our types, once: a release's ``custom`` fields and the document of rollouts.

What is signed may still be wrong: made by an older or newer edge-fleet, or by hand.
"""

from __future__ import annotations

import math
import re
from datetime import datetime
from typing import Final

import msgspec
from msgspec import Struct
from tuf.api.metadata import TargetFile

from edge_agent import limits
from edge_agent.errors import UpdateError
from edge_agent.rollouts import Channel, Reason, Release, Rollout

SCHEMA: Final = "edge-agent/rollouts/1"
KEY: Final = "edge-agent"  # of ``custom``
_MODEL: Final = re.compile(r"models/([^/]+)/([^/]+)\.(?:tflite|onnx)")
_SHA256: Final = re.compile(r"[0-9a-f]{64}")
_WINDOW: Final = re.compile(r"([01]\d|2[0-3]):[0-5]\d-([01]\d|2[0-3]):[0-5]\d")
_UTC: Final = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{3})?Z")


class _Custom(Struct, frozen=True, kw_only=True):
    """Canonical JSON, which TUF signs, has no floats: a number with a fraction is a string there."""

    name: str
    version: str
    seq: int
    profiles: tuple[str, ...] = ()
    agent: str = ""
    p95_ms: float | None = None
    memory_mb: float | None = None


def release(target: TargetFile) -> Release:
    """Raises UpdateError METADATA_REFUSED, or TOO_LARGE for a model that no board of ours could hold."""
    path = _MODEL.fullmatch(target.path)
    if path is None:
        raise _refused(target.path, "is not models/NAME/VERSION.tflite or .onnx")
    sha256 = target.hashes.get("sha256", "")
    if not _SHA256.fullmatch(sha256):
        raise _refused(target.path, "is signed without a SHA-256")
    try:
        custom = msgspec.convert(_fields(target), _Custom, strict=False)
    except msgspec.ValidationError as error:
        raise _refused(target.path, f"is signed with wrong custom fields: {error}") from error
    if (custom.name, custom.version) != path.groups():
        raise _refused(target.path, f"is signed as {custom.name} {custom.version}")
    if not (custom.name + custom.version).isprintable():  # they go to logs and terminals
        raise _refused(repr(target.path), "has characters in its name that can't be printed")
    if custom.seq < 1:
        raise _refused(target.path, f"has the sequence number {custom.seq}; they begin at 1")
    for field in ("p95_ms", "memory_mb"):
        if (budget := getattr(custom, field)) is not None and not 0 < budget < math.inf:
            raise _refused(target.path, f"has {field} {budget}; a number above 0 is wanted")
    if target.length > limits.MODEL_BYTES_MOST:
        message = f"{target.path} has {target.length} bytes; at most {limits.MODEL_BYTES_MOST} are taken"
        raise UpdateError(Reason.TOO_LARGE, message, final=True)
    return Release(
        target=target.path,
        length=target.length,
        sha256=sha256,
        **{f: getattr(custom, f) for f in custom.__struct_fields__},
    )


def _fields(target: TargetFile) -> object:
    return target.custom.get(KEY) if isinstance(target.custom, dict) else None


def _refused(target: str, why: str) -> UpdateError:
    return UpdateError(Reason.METADATA_REFUSED, f"{target} {why}; publish it again with edge-fleet")


def channel(name: str, content: bytes) -> Channel:
    """Raises UpdateError ROLLOUT_REFUSED."""
    try:
        document = msgspec.json.decode(content, type=Channel)
        _check(name, document)
    except (ValueError, RecursionError) as error:
        message = f"rollouts/{name}.json is signed, and is no document of rollouts: {error}"
        raise UpdateError(Reason.ROLLOUT_REFUSED, message) from error
    return document


def _check(name: str, document: Channel) -> None:
    """Raises ValueError."""
    if document.channel != name:
        raise ValueError(f"it is of the channel {document.channel!r}")
    for what in ("id", "number"):
        values = [getattr(rollout, what) for rollout in document.rollouts]
        if len(set(values)) != len(values):
            raise ValueError(f"two rollouts have the same {what}")
    for rollout in document.rollouts:
        _check_rollout(rollout)


def _check_rollout(rollout: Rollout) -> None:
    """Raises ValueError."""
    good = {
        "target": _MODEL.fullmatch(rollout.target) is not None,
        "model": rollout.target.startswith(f"models/{rollout.model}/"),
        "sha256": _SHA256.fullmatch(rollout.sha256) is not None,
        "percent": 0 <= rollout.percent <= 100,
        "share": 0 < rollout.share <= 1,
        "shadow_s": rollout.shadow_s >= 0,
        "trial_s": rollout.trial_s >= 0,
        "agreement": rollout.agreement is None or 0 <= rollout.agreement <= 1,
        "window": rollout.window is None or _WINDOW.fullmatch(rollout.window) is not None,
        "not_before": rollout.not_before is None or _is_time(rollout.not_before),
    }
    for field, is_good in good.items():
        if not is_good:
            raise ValueError(f"rollout {rollout.id}: {field} is {getattr(rollout, field)!r}")


def _is_time(text: str) -> bool:
    if not _UTC.fullmatch(text):
        return False
    try:
        datetime.fromisoformat(text.removesuffix("Z"))
    except ValueError:
        return False
    return True
