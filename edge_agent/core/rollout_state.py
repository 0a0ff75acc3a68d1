"""How the state on the disk changes: one function for each thing that becomes of an update. What they give is to be
written down before anything is done about it."""

from __future__ import annotations

from typing import Final

from msgspec.structs import replace

from edge_agent.core.rollout_steps import Evidence
from edge_agent.rollouts import Bad, Candidate, DeviceState, Held, Outcome, Reason, Slot, Trial, UpdateState

BAD_MOST: Final = 256
"""Pairs kept: a device would have to give up that many models before it forgot one."""


def take(state: DeviceState, candidate: Candidate) -> DeviceState:
    """It is to be fetched."""
    return replace(state, pending=candidate)


def drop(state: DeviceState) -> DeviceState:
    """What was pending is wanted no more; nothing is held against it."""
    return replace(state, pending=None)


def on_trial(state: DeviceState, candidate: Candidate, starts: int, ran_s: float) -> DeviceState:
    return replace(state, pending=None, trial=Trial(candidate=candidate, starts=starts, ran_s=ran_s))


def commit(state: DeviceState, candidate: Candidate, detail: str, evidence: Evidence, wall_ns: int) -> DeviceState:
    """It is what this device runs from now on; so is one whose bytes run already."""
    release, name = candidate.release, candidate.release.name
    held = state.models.get(name, Held())
    same = held.current.sha256 == release.sha256
    after = replace(
        held,
        current=Slot(sha256=release.sha256, version=release.version, seq=release.seq, rollout=candidate.rollout.id),
        previous=held.previous if same else held.current,
        floor=max(held.floor, release.seq),
    )
    last = outcome(candidate, UpdateState.COMMITTED, None, detail, evidence, wall_ns)
    return replace(state, models={**state.models, name: after}, pending=None, trial=None, last=last)


def give_up(
    state: DeviceState,
    how: UpdateState,
    reason: Reason,
    detail: str,
    wall_ns: int,
    evidence: Evidence | None = None,
) -> DeviceState:
    """The pending model, or the one on trial, is not tried again by its rollout."""
    candidate = state.trial.candidate if state.trial is not None else state.pending
    if candidate is None:
        return state
    bad = new_bad(state, candidate.release.sha256, candidate.rollout.id, reason)
    last = outcome(candidate, how, reason, detail, evidence or {}, wall_ns)
    # The unhealthy starts were this one's: what runs without it gets starts of its own.
    return replace(state, pending=None, trial=None, bad=bad, last=last, unhealthy=min(state.unhealthy, 1))


def go_back(state: DeviceState, model: str, told: Outcome) -> DeviceState:
    """From a committed model to the one before it: the operator's wish."""
    held = state.models.get(model, Held())
    after = replace(held, current=held.previous or Slot(), previous=None)
    bad = new_bad(state, held.current.sha256, held.current.rollout, told.reason or Reason.OPERATOR)
    return replace(state, models={**state.models, model: after}, bad=bad, last=told)


def pin(state: DeviceState, model: str, pinned: bool) -> DeviceState:
    held = replace(state.models.get(model, Held()), pinned=pinned)
    return replace(state, models={**state.models, model: held})


def keep(state: DeviceState) -> frozenset[str]:
    """Hashes of all that this state may still run."""
    slots = [slot for held in state.models.values() for slot in (held.current, held.previous) if slot is not None]
    under_way = [state.pending, state.trial.candidate if state.trial is not None else None]
    hashes = {slot.sha256 for slot in slots} | {found.release.sha256 for found in under_way if found is not None}
    return frozenset(hashes - {""})


def new_bad(state: DeviceState, sha256: str, rollout: str, reason: Reason) -> tuple[Bad, ...]:
    others = tuple(bad for bad in state.bad if (bad.sha256, bad.rollout) != (sha256, rollout))
    return (*others, Bad(sha256, rollout, reason))[-BAD_MOST:]


def outcome(
    candidate: Candidate, how: UpdateState, reason: Reason | None, detail: str, evidence: Evidence, wall_ns: int
) -> Outcome:
    return Outcome(
        state=how,
        model=candidate.release.name,
        version=candidate.release.version,
        sha256=candidate.release.sha256,
        rollout=candidate.rollout.id,
        reason=reason,
        detail=detail,
        evidence=evidence,
        wall_ns=wall_ns,
    )


def left(model: str, slot: Slot, reason: Reason, detail: str, wall_ns: int) -> Outcome:
    """What is told of a model that was committed and is not run any more."""
    return Outcome(
        state=UpdateState.ROLLED_BACK,
        model=model,
        version=slot.version,
        sha256=slot.sha256,
        rollout=slot.rollout,
        reason=reason,
        detail=detail,
        wall_ns=wall_ns,
    )
