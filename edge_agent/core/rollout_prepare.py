"""The rules from the first byte to the trial's hour: a model that has not run yet."""

from __future__ import annotations

from typing import Final

from msgspec.structs import replace

from edge_agent.core import rollout_state
from edge_agent.core.rollout_look import cancel, label, look
from edge_agent.core.rollout_mind import SECOND, Errand, Mind, Now, Turn, backoff_s, held, tell, to_idle
from edge_agent.core.rollout_steps import (
    Done,
    Evidence,
    Failed,
    Progress,
    Shadow,
    Shadowed,
    ShadowFailed,
    Tick,
    Unshadow,
    Verify,
)
from edge_agent.core.rollout_window import Window, opens_ns
from edge_agent.rollouts import Candidate, Reason, UpdateState

TRIES_MOST: Final = 3  # of verifying and shadowing, where the world was at fault and not the model
SHADOW_SAMPLES_LEAST: Final = 10  # compared, before an agreement means anything
GATE_MOST_S: Final = 900.0  # a closed window is looked at again: the clock may have been set


def progress(mind: Mind, happening: Progress, _: Now) -> Turn:
    return replace(mind, progress=min(1.0, happening.done / max(1, happening.of))), []


def fetched(mind: Mind, _: Done, __: Now) -> Turn:
    return replace(mind, state=UpdateState.STAGED, errand=None, progress=None, transfers=0, detail="fetched"), []


def fetch_failed(mind: Mind, failed: Failed, now: Now) -> Turn:
    """The part stays; the next try begins with a check, since the repository may have changed."""
    if failed.final:
        return reject(mind, failed.reason, failed.detail, failed.evidence, now)
    failures = mind.transfers + 1
    mind = replace(mind, transfers=failures, reason=failed.reason, detail=failed.detail)
    event = tell("update_fetch_failed", "warning", _model(mind), failed.detail)
    return to_idle(mind, now.after(backoff_s(mind, failures))), [event] if failures == 1 else []


def staged(mind: Mind, _: Tick, now: Now) -> Turn:
    """Verify, and once that and the shadow are behind it, begin the trial as soon as it may."""
    candidate = mind.device.pending
    if candidate is None:
        return to_idle(mind, mind.check_ns), []
    if not mind.ready and mind.errand is None:
        mind = replace(mind, state=UpdateState.VERIFYING, errand=Errand.VERIFY, reason=None, detail="is verified")
        return mind, [Verify(candidate)]
    mind = gated(mind, candidate, now)
    due = mind.again_ns is None or now.mono_ns >= mind.again_ns
    if mind.gate_ns is None and mind.errand is None and due and not held(mind, now):
        device = rollout_state.on_trial(mind.device, candidate, starts=0, ran_s=0.0)
        return replace(mind, device=device, state=UpdateState.TRIAL, samples=0, progress=0.0), []
    return look(mind, now) or (mind, [])


def gated(mind: Mind, candidate: Candidate, now: Now) -> Mind:
    """With ``gate_ns`` None where the trial may begin now, as far as windows go."""
    rollout = candidate.rollout
    windows = [Window.parse(rollout.window)] if rollout.window is not None else []
    windows += [mind.settings.window] if mind.settings.window is not None else []
    open_ns = opens_ns(windows, now.wall_ns)
    if open_ns == now.wall_ns:
        return replace(mind, gate_ns=None, detail="updates are held" if held(mind, now) else "may begin its trial")
    names = " and ".join(str(window) for window in windows)
    if open_ns is None:
        return replace(mind, gate_ns=now.after(GATE_MOST_S), detail=f"waits for ever: never is it {names} at once")
    wait_s = min((open_ns - now.wall_ns) / SECOND, GATE_MOST_S)
    return replace(mind, gate_ns=now.after(wait_s), detail=f"waits for {names}")


def verified(mind: Mind, done: Done, now: Now) -> Turn:
    candidate = mind.device.pending
    mind = replace(mind, errand=None, evidence={**mind.evidence, **done.evidence})
    if candidate is None or candidate.rollout.shadow_s <= 0:
        return replace(mind, state=UpdateState.STAGED, ready=True), []
    mind = replace(mind, state=UpdateState.SHADOW, began_ns=now.mono_ns, samples=0, progress=0.0, detail="runs beside")
    return mind, [Shadow(candidate)]


def verify_failed(mind: Mind, failed: Failed, now: Now) -> Turn:
    mind = replace(mind, errand=None, tries=mind.tries + 1)
    if failed.final or mind.tries >= TRIES_MOST:
        return reject(mind, failed.reason, failed.detail, failed.evidence, now)
    mind = replace(mind, reason=failed.reason, detail=failed.detail)
    return to_idle(mind, now.after(backoff_s(mind, mind.tries))), []


def shadow_tick(mind: Mind, _: Tick, now: Now) -> Turn:
    mind = _advanced(mind, now)
    return _shadow_over(mind, now) or look(mind, now) or (mind, [])


def shadowed(mind: Mind, report: Shadowed, now: Now) -> Turn:
    evidence: Evidence = {
        "shadow_samples": report.samples,
        "agreement": round(report.agreement, 4),
        "shadow_p95_ms": round(report.p95_ms, 3),
        "shadow_memory_mb": round(report.memory_mb, 1),
    }
    mind = replace(mind, samples=report.samples, evidence={**mind.evidence, **evidence})
    mind = _advanced(mind, now)
    return _shadow_over(mind, now) or (mind, [])


def _advanced(mind: Mind, now: Now) -> Mind:
    candidate = mind.device.pending
    if candidate is None or mind.began_ns is None or candidate.rollout.shadow_s <= 0:
        return mind
    return replace(mind, progress=min(1.0, (now.mono_ns - mind.began_ns) / SECOND / candidate.rollout.shadow_s))


def shadow_failed(mind: Mind, happening: ShadowFailed, now: Now) -> Turn:
    stop = cancel(mind)
    mind, actions = verify_failed(mind, happening.failed, now)
    return mind, stop + actions


def reject(mind: Mind, reason: Reason, detail: str, evidence: Evidence, now: Now) -> Turn:
    """The model is at fault: this rollout does not bring it again."""
    model = _model(mind)
    whole = {**mind.evidence, **evidence}
    device = rollout_state.give_up(mind.device, UpdateState.REJECTED, reason, detail, now.wall_ns, whole)
    mind = replace(mind, device=device, state=UpdateState.REJECTED)
    return mind, [tell("update_rejected", "warning", model, f"{reason.value}: {detail}")]


def _shadow_over(mind: Mind, now: Now) -> Turn | None:
    """None while it goes on: for its time, and until enough was seen (the camera may be away)."""
    candidate = mind.device.pending
    if candidate is None or mind.began_ns is None:
        return to_idle(mind, mind.check_ns), [Unshadow()]
    rollout, ran_s = candidate.rollout, (now.mono_ns - mind.began_ns) / SECOND
    if ran_s < rollout.shadow_s or mind.samples < SHADOW_SAMPLES_LEAST:
        return None
    agreement = float(mind.evidence.get("agreement", 1.0))
    if rollout.agreement is not None and agreement < rollout.agreement:
        detail = f"agrees with the live model in {agreement:.1%} of samples, {rollout.agreement:.1%} are wanted"
        stop = cancel(mind)
        mind, actions = reject(mind, Reason.AGREEMENT, detail, {}, now)
        return mind, stop + actions
    return replace(mind, state=UpdateState.STAGED, ready=True, began_ns=None, progress=None), [Unshadow()]


def _model(mind: Mind) -> str:
    candidate = mind.candidate
    return "update" if candidate is None else label(candidate)
