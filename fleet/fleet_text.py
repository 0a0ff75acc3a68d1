"""Devices and rollouts in words: lines, tables, JSON objects. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from fleet.campaign import Campaign, Phase, Standing, Verdict
from fleet.fleet_view import Device, StatusSaid, printable

_WORDS = {
    Phase.COMMITTED: "committed",
    Phase.UNDER_WAY: "under way",
    Phase.WAITING: "waiting",
    Phase.FAILED: "failed",
    Phase.LEFT_OUT: "left out",
}


def title(campaign: Campaign) -> str:
    rollout = campaign.rollout
    share = "" if rollout.percent >= 100 else f", {rollout.percent:g} %"
    return f"{rollout.id}: {rollout.model}{share}, {rollout.state}"


def counts_text(campaign: Campaign) -> str:
    if not campaign.standings:
        return "no device that is meant is known yet"
    parts = [f"{count} {word}" for phase, word in _WORDS.items() if (count := campaign.count(phase))]
    total = len(campaign.standings)
    return f"{total} device{'' if total == 1 else 's'}: {', '.join(parts)}"


def standing_line(standing: Standing) -> str:
    why = ": ".join(part for part in (standing.reason, standing.detail) if part)
    away = "offline" if standing.online is False else ""
    runs = f"runs {standing.runs}" if standing.runs else ""
    return "  ".join(part for part in (standing.device, standing.word, runs, away, why) if part)


def standing_object(standing: Standing) -> dict[str, object]:
    return {
        "device": standing.device,
        "phase": standing.phase.value,
        "state": standing.word,
        "runs": standing.runs or None,
        "reason": standing.reason or None,
        "detail": standing.detail,
        "progress": standing.progress,
        "online": standing.online,
    }


def ended_text(campaign: Campaign, verdict: Verdict | None) -> str:
    """The last words on a rollout that was watched."""
    rollout = campaign.rollout
    back = "edge-fleet rollback takes it back from those that have it"
    if not campaign.count(Phase.COMMITTED):
        back = "every device runs what it ran before"
    ends = {
        Verdict.GOOD: "done",
        Verdict.FAILED: f"failed; {back}",
        Verdict.TOO_MANY: f"too many failed; {back}",
        Verdict.STOPPED: "was stopped",
        None: "not over yet; it goes on, whoever watches",
    }
    lines = [f"{rollout.id}: {ends[verdict]}", counts_text(campaign)]
    told = (Phase.FAILED,) if verdict is not None else (Phase.FAILED, Phase.WAITING)
    lines += [standing_line(standing) for standing in campaign.standings if standing.phase in told][:20]
    return "\n".join(lines)


def device_rows(devices: Iterable[Device]) -> list[tuple[str, ...]]:
    """A row for each model of each device: device, online, model, what runs, state, reason."""
    rows: list[tuple[str, ...]] = []
    for device in sorted(devices, key=lambda device: device.id):
        there = {True: "online", False: "offline", None: "-"}[device.online]
        status = device.status
        if status is None:
            rows.append((device.id, there, "-", "-", "-", "has said nothing of updates"))
            continue
        if not status.models:
            rows.append((device.id, there, "-", "-", *_model_state(status, "")))
        for name, held in sorted(status.models.items()):
            version = printable(held.current.version) + (" (pinned)" if held.pinned else "")
            rows.append((device.id, there, printable(name), version, *_model_state(status, name)))
    return rows


def _model_state(status: StatusSaid, model: str) -> tuple[str, str]:
    if status.model == model:
        progress = "" if status.progress is None else f" {status.progress:.0%}"
        return f"{status.state.value} {printable(status.version or '')}{progress}", printable(status.detail)
    if status.last is not None and status.last.model == model:
        last = status.last
        why = ": ".join(part for part in (last.reason or "", last.detail) if part)
        return f"{last.state.value.replace('_', ' ')} {printable(last.version)}", printable(why)
    if status.check.ok is False:
        return "check failed", printable(f"{status.check.reason}: {status.check.detail}")
    return "idle", ""


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    widths = [max(len(row[column]) for row in [head, *rows]) for column in range(len(head))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in [head, *rows]]
    return "\n".join(line.rstrip() for line in lines)


def device_object(device: Device) -> dict[str, object]:
    status = device.status
    models: Mapping[str, object] = {}
    if status is not None:
        models = {
            name: {"version": held.current.version, "sha256": held.current.sha256, "seq": held.current.seq,
                   "rollout": held.current.rollout, "pinned": held.pinned}
            for name, held in status.models.items()
        }  # fmt: skip
    return {
        "device": device.id,
        "online": device.online,
        "agent": device.agent or None,
        "profile": device.profile or None,
        "groups": sorted(device.groups),
        "models": models,
        "state": None if status is None else status.state.value,
        "check_ok": None if status is None else status.check.ok,
        "check_detail": "" if status is None else status.check.detail,
    }
