"""The rules about looking for something new: when, and what is made of the answer, whatever else is under way."""

from __future__ import annotations

from typing import Final

from msgspec.structs import replace

from edge_agent.core import rollout_state
from edge_agent.core.rollout_mind import (
    Errand,
    Mind,
    Now,
    Turn,
    backoff_s,
    ended,
    held,
    poll_ns,
    tell,
    to_idle,
)
from edge_agent.core.rollout_steps import (
    Action,
    Cancel,
    Check,
    Checked,
    Failed,
    Fetch,
    Hold,
    Tick,
    Unshadow,
    Wake,
)
from edge_agent.core.update_status import CheckResult
from edge_agent.core.wire import rfc3339
from edge_agent.rollouts import Candidate, DeviceState, Held, Outcome, Reason, UpdateState

BELL_GAP_S: Final = 2.0  # between a check and the next one that a bell may ask for: bells are not signed
HOLD_MOST_S: Final = 24 * 3600.0  # whatever an unsigned message says
CLOCK_RETRY_S: Final = 30.0  # costs nothing but a look at the clock
EARLIEST_WALL_NS: Final = 1_767_225_600 * 10**9  # 2026-01-01: this program is not older
FLOOR_STEP_NS: Final = 24 * 3600 * 10**9  # the clock's floor is not written down more often than that


def wake(mind: Mind, happening: Wake, now: Now) -> Turn:
    person = happening.source is not None or happening.why == "operator"
    if mind.settings.poll_s is None and happening.source is None:
        return mind, []
    if person:  # at the device, and so above whoever may publish a hold
        mind = replace(mind, held_ns=None, held_wall_ns=None, source=happening.source or mind.source)
    if mind.errand is Errand.CHECK:
        return replace(mind, look_again=True), []
    gap_ns = round(BELL_GAP_S * 10**9)
    soonest_ns = now.mono_ns if person or mind.checked_ns is None else max(now.mono_ns, mind.checked_ns + gap_ns)
    return replace(mind, check_ns=soonest_ns if mind.check_ns is None else min(mind.check_ns, soonest_ns)), []


def hold(mind: Mind, happening: Hold, now: Now) -> Turn:
    wait_s = 0.0 if happening.until_wall_ns is None else (happening.until_wall_ns - now.wall_ns) / 10**9
    if wait_s <= 0:
        return replace(mind, held_ns=None, held_wall_ns=None), []
    wait_ns = round(min(wait_s, HOLD_MOST_S) * 10**9)
    return replace(mind, held_ns=now.mono_ns + wait_ns, held_wall_ns=now.wall_ns + wait_ns), []


def look(mind: Mind, now: Now) -> Turn | None:
    """A check, if one is due and nothing else is under way."""
    if mind.check_ns is None or now.mono_ns < mind.check_ns or mind.errand is not None or held(mind, now):
        return None
    if now.wall_ns < max(EARLIEST_WALL_NS, mind.device.time_floor_ns):
        detail = f"the clock says {rfc3339(max(0, now.wall_ns))}, which is in the past: it must be set (NTP) first"
        failed = CheckResult(now.wall_ns, False, Reason.CLOCK, detail)
        actions: list[Action] = []
        if mind.check.reason is not Reason.CLOCK:
            actions.append(tell("update_check_failed", "warning", "update", detail))
        return replace(mind, check=failed, check_ns=now.after(CLOCK_RETRY_S)), actions
    return replace(mind, errand=Errand.CHECK, check_ns=None, look_again=False), [Check(mind.source)]


def idle(mind: Mind, _: Tick, now: Now) -> Turn:
    pending = mind.device.pending
    due = mind.check_ns is not None and now.mono_ns >= mind.check_ns and not held(mind, now)
    if due and pending is not None and mind.settings.poll_s is None and mind.source is None:
        return fetch(mind, pending)  # from a stick, before the power went: there is nobody to ask again
    looked = look(mind, now)
    if looked is None:
        return mind, []
    mind, actions = looked
    return replace(mind, state=UpdateState.CHECKING if mind.errand is Errand.CHECK else mind.state), actions


def check_failed(mind: Mind, failed: Failed, now: Now) -> Turn:
    """What is under way goes on: expired metadata and a lost network are no reason to stop anything."""
    failures = mind.failures + 1
    result = CheckResult(now.wall_ns, False, failed.reason, failed.detail)
    actions: list[Action] = []
    if mind.check.reason is not failed.reason:
        actions.append(tell("update_check_failed", "warning", "update", failed.detail))
    retry_ns = None if mind.settings.poll_s is None else now.after(backoff_s(mind, failures))
    if mind.look_again:
        retry_ns = now.after(BELL_GAP_S)
    mind = replace(
        mind,
        errand=None,
        check=result,
        checked_ns=now.mono_ns,
        check_ns=retry_ns,
        failures=failures,
        source=mind.source if mind.look_again else None,
    )
    return mind, actions


def checking_failed(mind: Mind, failed: Failed, now: Now) -> Turn:
    mind, actions = check_failed(mind, failed, now)
    return replace(to_idle(mind, mind.check_ns), reason=failed.reason, detail=failed.detail), actions


def noted(mind: Mind, checked: Checked, now: Now) -> Turn:
    """What every good check leaves behind, before anything is made of its candidate."""
    actions: list[Action] = []
    if mind.check.ok is False:
        actions.append(tell("update_check_recovered", "info", "update", "the repository can be read again"))
    next_ns = poll_ns(mind, now)
    if checked.retry_ns is not None:
        retry_ns = now.mono_ns + max(10**9, checked.retry_ns - now.wall_ns)
        next_ns = retry_ns if next_ns is None else min(next_ns, retry_ns)
    if now.synced and now.wall_ns > mind.device.time_floor_ns + FLOOR_STEP_NS:
        mind = replace(mind, device=replace(mind.device, time_floor_ns=now.wall_ns))
    if checked.refused is not None:
        mind, told = _refused(mind, checked.refused)
        actions += told
    mind = replace(
        mind,
        errand=None,
        check=CheckResult(now.wall_ns, True, None, checked.detail),
        checked_ns=now.mono_ns,
        check_ns=now.after(BELL_GAP_S) if mind.look_again else next_ns,
        failures=0,
        paused=checked.paused,
        refusals=checked.refusals,
    )
    return mind, actions


def _refused(mind: Mind, refused: Outcome) -> Turn:
    """Told once. After that it stays the last word but for what else went wrong: a model that ran and was left must not
    be hidden by what each check finds anew, while a commit can be seen in what runs."""
    last, key = mind.device.last, _key(refused)
    known = key in mind.told or (last is not None and _key(last) == key)
    mind = replace(mind, told=mind.told | {key})
    if last is None or not known or last.state is UpdateState.COMMITTED:
        mind = replace(mind, device=replace(mind.device, last=refused))
    if known:
        return mind, []
    return mind, [tell("update_rejected", "warning", refused.model, refused.detail)]


def _key(outcome: Outcome) -> tuple[str, str, Reason | None]:
    return outcome.rollout, outcome.sha256, outcome.reason


def checked_before_trial(mind: Mind, checked: Checked, now: Now) -> Turn:
    """In checking, staged and shadow: begin, go on, or let go of what was begun."""
    mind, actions = noted(mind, checked, now)
    shadowing = mind.state is UpdateState.SHADOW
    pending, wanted = mind.device.pending, checked.candidate
    if wanted is None or _overtaken(mind.device, wanted):
        if not mind.look_again:
            mind = replace(mind, source=None)
        if pending is None:
            return replace(to_idle(mind, mind.check_ns), reason=None, detail=checked.detail), actions
        mind, more = _let_go(mind, pending, checked, now)
    elif wanted.release.sha256 == mind.current(wanted.release.name).sha256:
        mind, more = _adopt(mind, wanted, now)
    elif mind.state is not UpdateState.CHECKING and pending is not None and same(wanted, pending):
        return replace(mind, device=rollout_state.take(mind.device, wanted)), actions
    elif held(mind, now):
        mind = replace(to_idle(mind, mind.held_ns), reason=None, detail=f"{label(wanted)} waits: updates are held")
        more = []
    else:
        if pending is None or not same(wanted, pending):
            mind = replace(mind, transfers=0, tries=0)
        mind, more = fetch(mind, wanted)
    return mind, [*actions, *([Unshadow()] if shadowing else []), *more]


def fetch(mind: Mind, candidate: Candidate) -> Turn:
    mind = replace(
        to_idle(mind, mind.check_ns),
        state=UpdateState.FETCHING,
        errand=Errand.FETCH,
        device=rollout_state.take(mind.device, candidate),
        progress=0.0,
        reason=None,
        detail=f"fetches {label(candidate)}",
    )
    return mind, [Fetch(candidate)]


def withdraw(mind: Mind, candidate: Candidate, detail: str, now: Now) -> Turn:
    """It is wanted no more, before it ran. Nothing is held against it."""
    last = rollout_state.outcome(
        candidate, UpdateState.REJECTED, Reason.WITHDRAWN, detail, dict(mind.evidence), now.wall_ns
    )
    device = replace(rollout_state.drop(mind.device), last=last)
    mind = replace(mind, device=device, state=UpdateState.REJECTED)
    return mind, [tell("update_rejected", "warning", candidate.release.name, f"{label(candidate)}: {detail}")]


def over(mind: Mind, _: Tick, now: Now) -> Turn:
    """Committed or rejected: written down and told, nothing is left to do."""
    return ended(mind, now)


def cancel(mind: Mind) -> list[Action]:
    """Whatever is under way ends."""
    shadow: list[Action] = [Unshadow()] if mind.state is UpdateState.SHADOW else []
    return shadow if mind.errand is None else [Cancel(), *shadow]


def same(one: Candidate, other: Candidate) -> bool:
    return (one.release.sha256, one.rollout.id) == (other.release.sha256, other.rollout.id)


def label(candidate: Candidate) -> str:
    return f"{candidate.release.name} {candidate.release.version} (rollout {candidate.rollout.id})"


def _overtaken(device: DeviceState, wanted: Candidate) -> bool:
    """Whether something happened since that check began that rules its answer out."""
    had, key = device.models.get(wanted.release.name, Held()), (wanted.release.sha256, wanted.rollout.id)
    older = wanted.release.seq < had.floor and wanted.release.sha256 != had.current.sha256
    return had.pinned or older or any((bad.sha256, bad.rollout) == key for bad in device.bad)


def _adopt(mind: Mind, wanted: Candidate, now: Now) -> Turn:
    """A newer rollout of the bytes that run: there is nothing to try."""
    detail = "runs already"
    device = rollout_state.commit(mind.device, wanted, detail, {}, now.wall_ns)
    told = tell("update_committed", "info", wanted.release.name, f"{label(wanted)}: {detail}")
    return replace(mind, device=device, state=UpdateState.COMMITTED), [told]


def _let_go(mind: Mind, pending: Candidate, checked: Checked, now: Now) -> Turn:
    if pending.rollout.id in checked.paused:
        detail = f"{label(pending)} is paused"
        return replace(to_idle(mind, mind.check_ns), reason=None, detail=detail), []
    stopped = pending.rollout.id not in checked.live
    return withdraw(mind, pending, "stopped before it ran" if stopped else checked.detail, now)
