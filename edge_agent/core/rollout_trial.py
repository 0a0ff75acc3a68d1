"""The rules while a model runs that is not trusted yet, and of every way back."""

from __future__ import annotations

from typing import Final

from msgspec.structs import replace

from edge_agent.core import rollout_state
from edge_agent.core.boot import STARTS_MOST
from edge_agent.core.rollout_look import cancel, check_failed, label, look, noted
from edge_agent.core.rollout_mind import SECOND, Errand, Mind, Now, Turn, backoff_s, ended, tell, to_idle
from edge_agent.core.rollout_steps import (
    Ask,
    Checked,
    Done,
    Evidence,
    Failed,
    Settle,
    Sick,
    Swap,
    SwapBack,
    Tick,
)
from edge_agent.core.trial_watch import Tried
from edge_agent.rollouts import FACTORY, Held, Reason, Slot, Trial, UpdateState

WRITE_LEAST_S: Final = 60.0  # between two writings of the trial's time: a tenth of the trial, within these
WRITE_MOST_S: Final = 600.0


def ran_s(mind: Mind, trial: Trial, now: Now) -> float:
    """The trial's time, in this process and those before it."""
    return trial.ran_s + (0.0 if mind.written_ns is None else (now.mono_ns - mind.written_ns) / SECOND)


def write_every_s(trial: Trial) -> float:
    return min(max(trial.candidate.rollout.trial_s / 10, WRITE_LEAST_S), WRITE_MOST_S)


def trial_tick(mind: Mind, _: Tick, now: Now) -> Turn:
    trial = mind.device.trial
    if trial is None:
        return to_idle(mind, mind.check_ns), []
    if mind.again_ns is not None and now.mono_ns < mind.again_ns:
        return look(mind, now) or (mind, [])
    if mind.began_ns is not None:
        return _running(mind, trial, now)
    return _begin(mind, trial, now) if mind.errand is None else (mind, [])


def swapped(mind: Mind, done: Done, now: Now) -> Turn:
    """Or a late answer, once it runs."""
    if mind.errand is not Errand.SWAP:
        return mind, []
    mind = replace(mind, errand=None, began_ns=now.mono_ns, written_ns=now.mono_ns, samples=0, again_ns=None)
    mind = replace(mind, evidence={**mind.evidence, **done.evidence}, reason=None, detail="is on trial")
    trial = mind.device.trial
    model = "update" if trial is None else trial.candidate.release.name
    detail = "" if trial is None else f"{label(trial.candidate)} is on trial, start {trial.starts} with it"
    return mind, [tell("update_trial", "info", model, detail)]


def trial_failed(mind: Mind, failed: Failed, now: Now) -> Turn:
    """Of the swap, or of a check beside the trial."""
    if mind.errand is Errand.CHECK:
        return check_failed(mind, failed, now)
    trial = mind.device.trial
    if trial is None or mind.errand is not Errand.SWAP:
        return mind, []
    mind = replace(mind, errand=None)
    if failed.final or trial.starts >= STARTS_MOST:
        return roll_back(mind, failed.reason, failed.detail, failed.evidence, now)
    again_ns = now.after(backoff_s(mind, trial.starts))
    return replace(mind, again_ns=again_ns, reason=failed.reason, detail=failed.detail), []


def tried(mind: Mind, report: Tried, _: Now) -> Turn:
    if mind.began_ns is None:
        return mind, []
    return replace(mind, samples=report.samples, evidence={**mind.evidence, **report.evidence}), []


def sick(mind: Mind, happening: Sick, now: Now) -> Turn:
    return roll_back(mind, happening.reason, happening.detail, happening.evidence, now)


def checked_in_trial(mind: Mind, checked: Checked, now: Now) -> Turn:
    """A trial is left when its rollout was stopped, or when a newer one wants something else of the same model. While
    it is paused it goes on, and is not committed."""
    mind, actions = noted(mind, checked, now)
    trial, wanted = mind.device.trial, checked.candidate
    if trial is None:
        return mind, actions
    mine, detail = trial.candidate.rollout, None
    if mine.id not in checked.live and mine.id not in checked.paused:
        detail = "stopped during its trial"
    elif wanted is not None and wanted.rollout.model == mine.model and wanted.rollout.number > mine.number:
        detail = f"rollout {wanted.rollout.id} took its place"
    if detail is None:
        return mind, actions
    mind, more = roll_back(mind, Reason.WITHDRAWN, detail, {}, now)
    return mind, actions + more


def roll_back(mind: Mind, reason: Reason, detail: str, evidence: Evidence, now: Now) -> Turn:
    """Leave the trial for what ran before it."""
    trial = mind.device.trial
    if trial is None:
        return mind, []
    model, stop = trial.candidate.release.name, cancel(mind)
    whole: Evidence = {**mind.evidence, **evidence, "starts": trial.starts, "ran_s": round(ran_s(mind, trial, now), 1)}
    how = UpdateState.ROLLED_BACK
    device = rollout_state.give_up(mind.device, how, reason, detail, now.wall_ns, whole)
    to = mind.current(model)
    mind = replace(mind, device=device, state=how, errand=Errand.SWAP_BACK, detail=f"goes back to {to.version}")
    told = tell("update_rolled_back", "error", model, f"{label(trial.candidate)}: {reason.value}: {detail}")
    return mind, [*stop, SwapBack(model, to), told]


def went_back(mind: Mind, _: Done, now: Now) -> Turn:
    return ended(mind, now)


def back_failed(mind: Mind, failed: Failed, now: Now) -> Turn:
    """What ran before does not load any more: the factory model, and if not even that, a person must come."""
    last = mind.device.last
    model = "" if last is None else last.model
    if mind.current(model).sha256 == FACTORY:
        mind, actions = ended(mind, now)
        return mind, [*actions, tell("update_no_way_back", "error", model, f"the factory model: {failed.detail}")]
    current = mind.current(model)
    had = mind.device.models.get(model, Held())
    after = replace(had, current=Slot(), previous=None)
    mind = replace(mind, device=replace(mind.device, models={**mind.device.models, model: after}))
    told = tell("update_factory", "error", model, f"{current.version} does not load: {failed.detail}")
    return mind, [SwapBack(model, Slot()), told]


def ask(mind: Mind, happening: Ask, now: Now) -> Turn:
    if objection(mind, happening) is not None:
        return mind, []
    model, pending = happening.model, mind.device.pending
    if happening.what == "rollback":
        return _operator_back(mind, model, now)
    mind = replace(mind, device=rollout_state.pin(mind.device, model, happening.what == "pin"))
    if happening.what == "unpin":
        soon_ns = None if mind.settings.poll_s is None else now.mono_ns
        return replace(mind, check_ns=soon_ns, look_again=mind.errand is Errand.CHECK), []
    if pending is None or pending.release.name != model:
        return mind, []
    stop = cancel(mind)
    mind = replace(to_idle(mind, now.after(1.0)), device=rollout_state.drop(mind.device))
    return mind, stop


def objection(mind: Mind, happening: Ask) -> str | None:
    """Why that can't be done now, as a sentence."""
    trial = mind.device.trial
    on_trial = None if trial is None else trial.candidate.release.name
    if mind.state is UpdateState.ROLLED_BACK:
        return "a model is just being left: try again in a moment"
    if happening.what == "pin" and on_trial == happening.model:
        return f"{happening.model} is on trial: let it end, or roll it back first"
    if happening.what != "rollback" or on_trial == happening.model:
        return None
    if on_trial is not None:
        return f"{on_trial} is on trial: let it end, or roll that back first"
    if mind.current(happening.model).sha256 == FACTORY:
        return f"{happening.model} runs its factory model: there is nothing before it"
    return None


def _begin(mind: Mind, trial: Trial, now: Now) -> Turn:
    """The start is counted, and written down, before the model is loaded."""
    if trial.starts >= STARTS_MOST:
        detail = f"the process ended {trial.starts} times with it"
        return roll_back(mind, Reason.STARTS, detail, {}, now)
    trial = replace(trial, starts=trial.starts + 1)
    mind = replace(
        mind, device=replace(mind.device, trial=trial), errand=Errand.SWAP, again_ns=None, detail="is loaded"
    )
    return mind, [Swap(trial.candidate, trial.candidate.rollout.share)]


def _running(mind: Mind, trial: Trial, now: Now) -> Turn:
    rollout = trial.candidate.rollout
    ran = ran_s(mind, trial, now)
    mind = replace(mind, progress=1.0 if rollout.trial_s <= 0 else min(1.0, ran / rollout.trial_s))
    looked = look(mind, now)
    if looked is not None:  # an answer is worth having before the model is trusted
        return looked
    if ran >= rollout.trial_s:
        return _commit(mind, trial, now)
    if mind.written_ns is not None and now.mono_ns - mind.written_ns >= write_every_s(trial) * SECOND:
        written = replace(mind.device, trial=replace(trial, ran_s=ran))
        return replace(mind, device=written, written_ns=now.mono_ns), []
    return mind, []


def _commit(mind: Mind, trial: Trial, now: Now) -> Turn:
    candidate = trial.candidate
    if mind.errand is not None or mind.samples < 1:
        return mind, []  # a camera that was away all the time has proved nothing
    if candidate.rollout.id in mind.paused:
        return replace(mind, detail="is through with its trial, and paused"), []
    evidence: Evidence = {**mind.evidence, "ran_s": round(ran_s(mind, trial, now), 1)}
    device = rollout_state.commit(mind.device, candidate, "", evidence, now.wall_ns)
    mind = replace(mind, device=device, state=UpdateState.COMMITTED)
    told = tell("update_committed", "info", candidate.release.name, label(candidate))
    return mind, [Settle(candidate.release.name), told]


def _operator_back(mind: Mind, model: str, now: Now) -> Turn:
    trial = mind.device.trial
    if trial is not None:
        return roll_back(mind, Reason.OPERATOR, "by the operator at the device", {}, now)
    slot, stop = mind.current(model), cancel(mind)
    told = rollout_state.left(model, slot, Reason.OPERATOR, "by the operator at the device", now.wall_ns)
    device = rollout_state.go_back(mind.device, model, told)
    mind = to_idle(mind, mind.check_ns)
    mind = replace(mind, device=device, state=UpdateState.ROLLED_BACK, errand=Errand.SWAP_BACK)
    to = mind.current(model)
    event = tell("update_rolled_back", "warning", model, f"{slot.version}: by the operator, back to {to.version}")
    return mind, [*stop, SwapBack(model, to), event]
