"""What ``edge-agent models`` shows of state.json, for a person and for a program."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from edge_agent.core.update_status import held_object, outcome_object
from edge_agent.core.wire import printable, rfc3339
from edge_agent.rollouts import FACTORY, Candidate, DeviceState, Held, Slot, Trial

HEADINGS = ("model", "runs", "sha256", "seq", "before it", "rollout", "")


def as_json(folder: Path, configured: Iterable[str], state: DeviceState) -> dict[str, object]:
    """``configured``: the names of [model.NAME]."""
    return {
        "folder": str(folder),
        "models": {name: held_object(state.models.get(name, Held())) for name in _names(configured, state)},
        "pending": None if state.pending is None else _candidate(state.pending),
        "trial": None if state.trial is None else _trial(state.trial),
        "last": None if state.last is None else outcome_object(state.last),
        "given_up": [{"sha256": bad.sha256, "rollout": bad.rollout, "reason": bad.reason.value} for bad in state.bad],
    }


def as_text(folder: Path, configured: Iterable[str], state: DeviceState) -> str:
    found = [_row(name, state.models.get(name, Held())) for name in _names(configured, state)]
    rows = [HEADINGS, *(tuple(map(printable, row)) for row in found)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(HEADINGS))]
    lines = [str(folder), ""]
    lines += ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    lines += [""] if state.pending or state.trial or state.last else []
    if state.pending is not None:
        lines.append(f"under way: {_label(state.pending)}")
    if state.trial is not None:
        lines.append(
            f"on trial: {_label(state.trial.candidate)}, start {state.trial.starts} with it, "
            f"{state.trial.ran_s:.0f} s of {state.trial.candidate.rollout.trial_s:.0f} s"
        )
    if state.last is not None:
        last = state.last
        why = f", {last.reason.value}: {last.detail}" if last.reason else ""
        when = f"{rfc3339(last.wall_ns)}  " if last.wall_ns else ""
        lines.append(f"last: {when}{last.state.value} {last.model} {last.version} (rollout {last.rollout}){why}")
    return "\n".join(map(printable, lines))


def _names(configured: Iterable[str], state: DeviceState) -> Sequence[str]:
    """Those of the configuration in its order, then those that it no longer has."""
    return tuple(dict.fromkeys((*configured, *sorted(state.models))))


def _row(name: str, held: Held) -> tuple[str, ...]:
    slot = held.current
    before = "" if slot.sha256 == FACTORY else (held.previous or Slot()).version
    seq = str(slot.seq) if slot.seq else ""
    return (name, slot.version, slot.sha256[:12], seq, before, slot.rollout, "pinned" if held.pinned else "")


def _label(candidate: Candidate) -> str:
    return f"{candidate.release.name} {candidate.release.version} (rollout {candidate.rollout.id})"


def _candidate(candidate: Candidate) -> dict[str, object]:
    release = candidate.release
    return {
        "model": release.name,
        "version": release.version,
        "sha256": release.sha256,
        "seq": release.seq,
        "rollout": candidate.rollout.id,
    }


def _trial(trial: Trial) -> dict[str, object]:
    return {
        **_candidate(trial.candidate),
        "starts": trial.starts,
        "ran_s": trial.ran_s,
        "trial_s": trial.candidate.rollout.trial_s,
    }
