"""Which of the signed rollouts means this device, and whether it may have what it names. No network: the shell reads
the channel, then the releases that ``wanted`` names, and asks ``choose``.

For each model the rollout with the highest number that means the device counts, and no other: a device that was away
does the newest thing, once. One that is paused holds back those below it; a stopped one is as if it had not been.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from hashlib import sha256

from msgspec import Struct

from edge_agent.core.rollout_steps import Checked
from edge_agent.core.rollout_window import Window, parse_rfc3339
from edge_agent.rollouts import (
    Bad,
    Candidate,
    Channel,
    DeviceState,
    Held,
    Outcome,
    Reason,
    Release,
    Rollout,
    UpdateState,
)


class Device(Struct, frozen=True, kw_only=True):
    """What a rollout may ask about. ``models``: the names of [model.NAME]; ``profile``: of the board; ``agent``: this
    program's version."""

    id: str
    groups: frozenset[str]
    models: frozenset[str]
    profile: str
    agent: str


class _Wait(Struct, frozen=True):
    """Nothing to do for this model: why, and when that may change by itself (wall clock)."""

    detail: str
    retry_ns: int | None = None


class _Refusal(Struct, frozen=True):
    reason: Reason
    detail: str


def in_cohort(rollout: Rollout, device: str) -> bool:
    """Whether the percentage reaches this device: the same answer for ever, and a higher percentage keeps them all."""
    drawn = int.from_bytes(sha256((rollout.salt + device).encode()).digest()[:8], "big") / 2**64
    return 100 * drawn < rollout.percent


def means(rollout: Rollout, device: str, groups: frozenset[str]) -> bool:
    """Whether audience and percentage have this device in them, whatever the rollout's state."""
    if device in rollout.to.devices:
        return True
    return (rollout.to.everyone or not groups.isdisjoint(rollout.to.groups)) and in_cohort(rollout, device)


def wanted(channel: Channel, device: Device) -> tuple[Rollout, ...]:
    """The rollouts that count for this device, one for each model, oldest first; their targets are to be looked up.

    A model that this device does not have is of interest only where the device is named: then somebody erred.
    """
    newest: dict[str, Rollout] = {}
    for rollout in channel.rollouts:
        if rollout.state == "stopped" or not means(rollout, device.id, device.groups):
            continue
        if rollout.model not in device.models and device.id not in rollout.to.devices:
            continue
        rival = newest.get(rollout.model)
        if rival is None or rollout.number > rival.number:
            newest[rollout.model] = rollout
    return tuple(sorted(newest.values(), key=lambda rollout: rollout.number))


def choose(
    channel: Channel, releases: Mapping[str, Release], device: Device, state: DeviceState, wall_ns: int
) -> Checked:
    """``releases``: by target, of ``wanted``; a target that the models role does not sign is left out."""
    numbers = {rollout.id: rollout.number for rollout in channel.rollouts}
    candidate: Candidate | None = None
    refused: Outcome | None = None
    waits: list[_Wait] = []
    refusals: dict[str, Reason] = {}
    for rollout in wanted(channel, device):
        if (bad := _given_up(rollout, state)) is not None:
            refusals[rollout.id] = bad.reason
        found = _consider(rollout, releases.get(rollout.target), device, state, numbers, wall_ns)
        if isinstance(found, Candidate):
            candidate = candidate or found  # the oldest first: none is passed over for ever
        elif isinstance(found, _Wait):
            waits.append(found)
        else:
            refused = _outcome(rollout, releases.get(rollout.target), found, wall_ns)
            refusals[rollout.id] = found.reason
    details = [wait.detail for wait in waits]
    return Checked(
        candidate,
        "" if candidate else "; ".join(details) or (refused.detail if refused else "no rollout means this device"),
        min((wait.retry_ns for wait in waits if wait.retry_ns is not None), default=None),
        live=frozenset(rollout.id for rollout in channel.rollouts if rollout.state == "active"),
        paused=frozenset(rollout.id for rollout in channel.rollouts if rollout.state == "paused"),
        refused=refused,
        refusals=refusals,
    )


def _given_up(rollout: Rollout, state: DeviceState) -> Bad | None:
    return next((bad for bad in state.bad if (bad.rollout, bad.sha256) == (rollout.id, rollout.sha256)), None)


def _consider(
    rollout: Rollout,
    release: Release | None,
    device: Device,
    state: DeviceState,
    numbers: Mapping[str, int],
    wall_ns: int,
) -> Candidate | _Wait | _Refusal:
    held = state.models.get(rollout.model, Held())
    if (done := _nothing_to_do(rollout, held, state, numbers)) is not None:
        return _Wait(done)
    try:
        not_before_ns = 0 if rollout.not_before is None else parse_rfc3339(rollout.not_before)
        if rollout.window is not None:
            Window.parse(rollout.window)
    except ValueError as error:
        return _Refusal(Reason.ROLLOUT_REFUSED, f"rollout {rollout.id}: {error}")
    if wall_ns < not_before_ns:
        return _Wait(f"rollout {rollout.id} begins at {rollout.not_before}", not_before_ns)
    if release is None:
        return _Refusal(Reason.ROLLOUT_REFUSED, f"rollout {rollout.id} names {rollout.target}, which nobody signed")
    return _unfit(rollout, release, device, held) or Candidate(release, rollout)


def _nothing_to_do(rollout: Rollout, held: Held, state: DeviceState, numbers: Mapping[str, int]) -> str | None:
    label = f"{rollout.model}, rollout {rollout.id}"
    if held.pinned:
        return f"{rollout.model} is pinned on this device"
    if held.current.rollout == rollout.id and held.current.sha256 == rollout.sha256:
        return f"{label}: done, runs {held.current.version}"
    if numbers.get(held.current.rollout, -1) > rollout.number:
        return f"{label}: older than what runs"
    if bad := _given_up(rollout, state):
        return f"{label}: given up on this device ({bad.reason.value})"
    return f"{label}: paused" if rollout.state == "paused" else None


def _unfit(rollout: Rollout, release: Release, device: Device, held: Held) -> _Refusal | None:
    label = f"{release.name} {release.version}"
    if rollout.model not in device.models:
        had = ", ".join(sorted(device.models)) or "none"
        return _Refusal(Reason.INCOMPATIBLE, f"no [model.{rollout.model}] on this device (it has: {had})")
    if release.name != rollout.model or release.sha256 != rollout.sha256:
        return _Refusal(
            Reason.ROLLOUT_REFUSED, f"rollout {rollout.id} does not name what is signed as {rollout.target}"
        )
    if release.seq < held.floor and release.sha256 != held.current.sha256:
        # Equal is what the floor came from: a slot that the disk lost may be fetched again.
        return _Refusal(
            Reason.SEQUENCE,
            f"{label} has sequence number {release.seq}, this device was at {held.floor}: "
            "to go back, sign it again (edge-fleet rollback)",
        )
    if release.profiles and device.profile not in release.profiles:
        boards = ", ".join(release.profiles)
        return _Refusal(Reason.PROFILE, f"{label} is for {boards}, this device is {device.profile}")
    if _version(release.agent) > _version(device.agent):
        return _Refusal(Reason.AGENT, f"{label} wants edge-agent {release.agent}, this is {device.agent}")
    return None


def _version(text: str) -> tuple[int, ...]:
    """ "1.10.2rc1" -> (1, 10, 2): what is before a release counts as that release; trailing zeros do not count."""
    numbers = [int(number) for number in re.findall(r"\d+", re.split(r"[^\d.]", text)[0])]
    while numbers and not numbers[-1]:
        numbers.pop()
    return tuple(numbers)


def _outcome(rollout: Rollout, release: Release | None, refusal: _Refusal, wall_ns: int) -> Outcome:
    return Outcome(
        state=UpdateState.REJECTED,
        model=rollout.model,
        version=release.version if release else "",
        sha256=rollout.sha256,
        rollout=rollout.id,
        reason=refusal.reason,
        detail=refusal.detail,
        wall_ns=wall_ns,
    )
