"""The body of ``update/status`` (``edge-agent/update-status/1``), as docs/mqtt.md and docs/asyncapi.yaml have it."""

from __future__ import annotations

from collections.abc import Mapping

from msgspec import Struct, field

from edge_agent.core.wire import object_body, rfc3339
from edge_agent.rollouts import Candidate, DeviceState, Held, Outcome, Reason, Slot, UpdateState


class CheckResult(Struct, frozen=True):
    """Of the last look at the repository; ``wall_ns`` None: none yet."""

    wall_ns: int | None = None
    ok: bool | None = None
    reason: Reason | None = None
    detail: str = ""


class UpdateStatus(Struct, frozen=True, kw_only=True):
    """``candidate``: of the update under way, None in idle and while checking."""

    state: UpdateState
    device: DeviceState
    candidate: Candidate | None = None
    progress: float | None = None  # 0 to 1: of the transfer, of the shadow's or the trial's time
    reason: Reason | None = None  # why it waits or was put off
    detail: str = ""
    evidence: dict[str, float | int | str] = field(default_factory=dict)
    check: CheckResult = CheckResult()
    refusals: Mapping[str, Reason] = field(default_factory=dict)  # by rollout: it means this device, and won't run here
    held_until_ns: int | None = None  # wall clock


def status_body(status: UpdateStatus, device: str, boot_id: str) -> bytes:
    """The payload without its seal."""
    release = status.candidate.release if status.candidate else None
    return object_body(
        {
            "device": device,
            "boot_id": boot_id,
            "state": status.state.value,
            "model": release.name if release else None,
            "version": release.version if release else None,
            "sha256": release.sha256 if release else None,
            "seq": release.seq if release else None,
            "rollout": status.candidate.rollout.id if status.candidate else None,
            "progress": None if status.progress is None else round(status.progress, 3),
            "reason": _word(status.reason),
            "detail": status.detail,
            "evidence": status.evidence,
            "models": {name: held_object(held) for name, held in sorted(status.device.models.items())},
            "last": None if status.device.last is None else outcome_object(status.device.last),
            "check": {
                "time": _time(status.check.wall_ns),
                "ok": status.check.ok,
                "reason": _word(status.check.reason),
                "detail": status.check.detail,
            },
            "refused": {rollout: reason.value for rollout, reason in sorted(status.refusals.items())},
            "held_until": _time(status.held_until_ns),
        }
    )


def held_object(held: Held) -> dict[str, object]:
    """What is kept for one model name, as ``update/status`` and ``edge-agent models --json`` show it."""
    return {
        "current": _slot(held.current),
        "previous": None if held.previous is None else _slot(held.previous),
        "floor": held.floor,
        "pinned": held.pinned,
    }


def outcome_object(outcome: Outcome) -> dict[str, object]:
    """How an update ended, as ``update/status`` and ``edge-agent models --json`` show it."""
    return {
        "state": outcome.state.value,
        "model": outcome.model,
        "version": outcome.version,
        "sha256": outcome.sha256,
        "rollout": outcome.rollout,
        "reason": _word(outcome.reason),
        "detail": outcome.detail,
        "evidence": outcome.evidence,
        "time": rfc3339(outcome.wall_ns),
    }


def _slot(slot: Slot) -> dict[str, object]:
    return {"version": slot.version, "sha256": slot.sha256, "seq": slot.seq, "rollout": slot.rollout}


def _word(reason: Reason | None) -> str | None:
    return None if reason is None else reason.value


def _time(wall_ns: int | None) -> str | None:
    return None if wall_ns is None else rfc3339(wall_ns)
