"""When the machine of core/rollout.py wants to be asked again though nothing has happened."""

from __future__ import annotations

from edge_agent.core.rollout_mind import SECOND, Mind
from edge_agent.core.rollout_trial import write_every_s
from edge_agent.rollouts import UpdateState


def deadline(mind: Mind, now_ns: int) -> int | None:
    """The first of its times after ``now_ns``, monotonic. What was due by then has been looked at: it waits for an
    answer, a sample, or another of these times."""
    times = [mind.check_ns, mind.held_ns, mind.gate_ns, mind.again_ns, *_ends_ns(mind)]
    return min((time for time in times if time is not None and time > now_ns), default=None)


def _ends_ns(mind: Mind) -> list[int]:
    """Of the shadow, of the trial, of what the disk knows of the trial."""
    pending, trial = mind.device.pending, mind.device.trial
    if mind.state is UpdateState.SHADOW and pending is not None and mind.began_ns is not None:
        return [mind.began_ns + round(pending.rollout.shadow_s * SECOND)]
    if mind.state is UpdateState.TRIAL and trial is not None and mind.written_ns is not None:
        left_s = trial.candidate.rollout.trial_s - trial.ran_s
        return [mind.written_ns + round(wait_s * SECOND) for wait_s in (left_s, write_every_s(trial))]
    return []
