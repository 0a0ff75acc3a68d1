"""The second journey decided: what happens to an update, and what is to be done about it. No clock, thread or file.

The shell (updating.py) does the actions in order, the state on the disk before anything that follows it, and brings
the answers back. The rules are in the table of core/rollout_table.py.
"""

from __future__ import annotations

from typing import Final

from msgspec import Struct
from msgspec.structs import replace

from edge_agent.core import boot, rollout_state, rollout_trial
from edge_agent.core.rollout_mind import Errand, Mind, Now, Settings, backoff_s, jitter, tell, to_idle, unheld
from edge_agent.core.rollout_steps import (
    Action,
    Ask,
    Cancel,
    Checked,
    Collect,
    Done,
    Failed,
    Fetch,
    Happening,
    Report,
    Save,
    ShadowFailed,
    Tick,
    Unshadow,
)
from edge_agent.core.rollout_table import CHECKING, FETCHING, IDLE, ROLLED_BACK, SHADOW, TRIAL, VERIFYING, step
from edge_agent.core.rollout_wait import deadline
from edge_agent.core.trial_watch import Tried
from edge_agent.core.update_status import UpdateStatus
from edge_agent.rollouts import DeviceState

STEPS_MOST: Final = 8
"""Changes of state that one happening may bring about; more are a loop."""
FIRST_CHECK_S: Final = 30.0
"""The first look comes within that time: after a power cut the devices of a hall do not all ask at once."""


class _Last(Struct, frozen=True):
    """What the last happening did, in case its Save fails."""

    happening: Happening | Tried | None
    before: Mind
    saved: DeviceState
    actions: list[Action]


class Machine:
    """One device's updates, one at a time. Used by one thread.

    At most one errand (Check, Fetch, Verify, Swap, SwapBack) is under way; its Checked, Done or Failed is the answer.
    Shadow is none: its Shadowed and ShadowFailed may come beside a Check.
    """

    def __init__(self, state: DeviceState, settings: Settings, now: Now) -> None:
        """``state``: as ``boot.begin`` gave it."""
        self._mind = Mind(settings=settings, device=state)
        self._saved = state
        self._last: _Last | None = None
        self._now = now
        self._reported = self._outward()

    def start(self, now: Now) -> list[Action]:
        """Once, when the pipelines run on ``Boot.run``: takes up a trial again (Save with one start more, then Swap)
        or a fetch, and sets the first check."""
        mind = self._mind
        first_ns = None if mind.settings.poll_s is None else self._first_check_ns(now)
        if first_ns is None and mind.device.pending is not None:
            first_ns = now.mono_ns
        state = IDLE if mind.device.trial is None else TRIAL
        self._mind = replace(mind, check_ns=first_ns, state=state)
        return [*self.handle(Tick(), now), Report()]

    def handle(self, happening: Happening | Tried, now: Now) -> list[Action]:
        """What is to be done now, in this order. At most one of the actions is a Save, and it is the first."""
        before = self._settled(now)
        mind = before
        actions: list[Action] = []
        if not isinstance(happening, Tick):
            mind, actions = step(mind, happening, now)
        for _ in range(STEPS_MOST):
            state = mind.state
            mind, more = step(mind, Tick(), now)
            actions += more
            if mind.state is state:
                return self._done(happening, before, mind, actions)
        mind = replace(_undone(before, happening, now, 3600.0), detail="stopped: it went round in a loop")
        return self._done(
            happening, before, mind, [tell("update_loop", "error", "update", f"from {before.state.value}")]
        )

    def unsaved(self, failed: Failed, now: Now) -> list[Action]:
        """Instead of ``handle``, when the Save of the last actions failed (DISK_FULL, DISK_FAILED) and nothing that
        followed it was done. A model that does harm is left all the same; the rest waits for the disk."""
        last, after = self._last, self._mind
        if last is None:
            return []
        self._last, self._saved, self._now = None, last.saved, now
        failures = last.before.disk_failures + 1
        wait_s = backoff_s(after, failures)
        actions: list[Action] = []
        if last.happening is None or after.state is ROLLED_BACK:
            mind = replace(after, again_ns=now.after(wait_s))
            actions = [action for action in last.actions if not isinstance(action, Save | Collect | Report)]
        else:
            mind = _undone(last.before, last.happening, now, wait_s)
            if last.before.state is SHADOW and mind.state is not SHADOW:
                actions = [Cancel(), Unshadow()] if last.before.errand is not None else [Unshadow()]
            mind = replace(mind, reason=failed.reason, detail=failed.detail)
        self._mind = replace(mind, disk_failures=failures)
        if failures == 1:
            actions.append(tell("update_state_unwritable", "error", "update", failed.detail))
        return [*actions, *self._report()]

    def healthy(self, now: Now) -> list[Action]:
        """The process has run well for long enough (the shell's to say): its starts no longer count as unhealthy."""
        before = self._settled(now)
        return self._done(None, before, replace(before, device=boot.healthy(before.device)), [])

    def stop(self, now: Now) -> list[Action]:
        """The process ends in an orderly way: the trial's time is kept, and this start counts neither against the trial
        nor as unhealthy."""
        before = self._settled(now)
        device = replace(before.device, unhealthy=max(0, before.device.unhealthy - 1))
        trial = device.trial
        if trial is not None and (before.errand is Errand.SWAP or before.began_ns is not None):
            ran_s = rollout_trial.ran_s(before, trial, now)
            device = replace(device, trial=replace(trial, starts=max(0, trial.starts - 1), ran_s=ran_s))
        self._mind = replace(before, device=device)
        return [] if device == self._saved else [Save(device)]

    def objection(self, ask: Ask) -> str | None:
        """Why the operator's wish can't be done now, as a sentence; None: hand it to ``handle``."""
        return rollout_trial.objection(self._mind, ask)

    def next_deadline(self) -> int | None:
        """Monotonic nanoseconds at which a Tick is due; None: none until something happens. Ask after every call."""
        return deadline(self._mind, self._now.mono_ns)

    def status(self) -> UpdateStatus:
        """For ``update_status.status_body``. A Report among the actions says that it has changed."""
        mind = self._mind
        return UpdateStatus(
            state=mind.state,
            device=mind.device,
            candidate=mind.candidate,
            progress=mind.progress,
            reason=mind.reason,
            detail=mind.detail,
            evidence=mind.evidence,
            check=mind.check,
            refusals=mind.refusals,
            held_until_ns=mind.held_wall_ns,
        )

    def _first_check_ns(self, now: Now) -> int:
        poll_s = self._mind.settings.poll_s or 0.0
        return now.after(min(poll_s, FIRST_CHECK_S) * jitter(self._mind, now.mono_ns))

    def _settled(self, now: Now) -> Mind:
        """What is known as this happening comes: the last Save, if there was one, went well."""
        if self._last is not None:
            self._mind = replace(self._mind, disk_failures=0)
        self._last, self._now = None, now
        return unheld(self._mind, now)

    def _done(
        self, happening: Happening | Tried | None, before: Mind, mind: Mind, actions: list[Action]
    ) -> list[Action]:
        """The state first, if it changed or the disk still lacks it; then what may be deleted since; a fetch last, so
        that there is room for it."""
        owed = self._saved != before.device and (before.again_ns is None or self._now.mono_ns >= before.again_ns)
        if owed or mind.device != before.device:
            keep = rollout_state.keep(mind.device)
            collect = [Collect(keep)] if keep != rollout_state.keep(self._saved) else []
            fetches = [action for action in actions if isinstance(action, Fetch)]
            others = [action for action in actions if not isinstance(action, Fetch)]
            actions = [Save(mind.device), *others, *collect, *fetches]
            self._last = _Last(happening, before, self._saved, actions)
            self._saved = mind.device
        self._mind = mind
        return [*actions, *self._report()]

    def _report(self) -> list[Action]:
        outward = self._outward()
        if outward == self._reported:
            return []
        self._reported = outward
        return [Report()]

    def _outward(self) -> UpdateStatus:
        """What is worth a message when it changes: not each sample, and the progress by twentieths."""
        status = self.status()
        twentieths = None if status.progress is None else int(status.progress * 20)
        device = replace(status.device, trial=None, pending=None, bad=(), unhealthy=0, time_floor_ns=0)
        return replace(status, progress=twentieths, evidence={}, device=device)


def _undone(before: Mind, happening: Happening | Tried | None, now: Now, wait_s: float) -> Mind:
    """As it was before this happening, which has been heard all the same; tried again later."""
    again_ns = now.after(wait_s)
    answered = isinstance(happening, Checked | Done | Failed)
    shadow_ended = before.state is SHADOW and isinstance(happening, ShadowFailed)
    if not answered and not shadow_ended:
        return replace(before, again_ns=again_ns)
    if shadow_ended or before.state in (CHECKING, FETCHING, VERIFYING):
        return replace(to_idle(before, again_ns), again_ns=again_ns)
    return replace(before, errand=None, check_ns=again_ns, again_ns=again_ns)
