"""Every state of an update, what may happen in it, what is done about that, and where that may lead.

This is the only place from which a state is left. A state that one enters gets a Tick at once: what needs nothing to
happen any more goes on by that. A happening that is not in a state's rows has nothing to say there: a late answer, a
report of what has ended. docs/ota.md draws it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from msgspec import Struct

from edge_agent.core import rollout_look, rollout_prepare, rollout_trial
from edge_agent.core.rollout_mind import Errand, Mind, Now, Turn
from edge_agent.core.rollout_steps import (
    Ask,
    Checked,
    Done,
    Failed,
    Happening,
    Hold,
    Progress,
    Shadowed,
    ShadowFailed,
    Sick,
    Tick,
    Wake,
)
from edge_agent.core.trial_watch import Tried
from edge_agent.rollouts import UpdateState

IDLE, CHECKING, FETCHING, STAGED, VERIFYING, SHADOW, TRIAL, COMMITTED, REJECTED, ROLLED_BACK = UpdateState

Rule = Callable[[Mind, Any, Now], Turn]


class Row(Struct, frozen=True):
    """What is done about a happening, and where that may lead."""

    rule: Rule
    to: frozenset[UpdateState]


def _row(rule: Rule, *to: UpdateState) -> Row:
    return Row(rule, frozenset(to))


TRANSITIONS: Final[Mapping[UpdateState, Mapping[type, Row]]] = {
    IDLE: {
        Tick: _row(rollout_look.idle, IDLE, CHECKING, FETCHING),
        Wake: _row(rollout_look.wake, IDLE),
        Hold: _row(rollout_look.hold, IDLE),
        Ask: _row(rollout_trial.ask, IDLE, ROLLED_BACK),
    },
    CHECKING: {
        Checked: _row(rollout_look.checked_before_trial, IDLE, FETCHING, REJECTED, COMMITTED),
        Failed: _row(rollout_look.checking_failed, IDLE),
        Wake: _row(rollout_look.wake, CHECKING),
        Hold: _row(rollout_look.hold, CHECKING),
        Ask: _row(rollout_trial.ask, CHECKING, IDLE, ROLLED_BACK),
    },
    FETCHING: {
        Progress: _row(rollout_prepare.progress, FETCHING),
        Done: _row(rollout_prepare.fetched, STAGED),
        Failed: _row(rollout_prepare.fetch_failed, IDLE, REJECTED),
        Wake: _row(rollout_look.wake, FETCHING),
        Hold: _row(rollout_look.hold, FETCHING),
        Ask: _row(rollout_trial.ask, FETCHING, IDLE, ROLLED_BACK),
    },
    STAGED: {
        Tick: _row(rollout_prepare.staged, STAGED, VERIFYING, TRIAL, IDLE),
        Checked: _row(rollout_look.checked_before_trial, STAGED, IDLE, FETCHING, REJECTED, COMMITTED),
        Failed: _row(rollout_look.check_failed, STAGED),
        Wake: _row(rollout_look.wake, STAGED),
        Hold: _row(rollout_look.hold, STAGED),
        Ask: _row(rollout_trial.ask, STAGED, IDLE, ROLLED_BACK),
    },
    VERIFYING: {
        Done: _row(rollout_prepare.verified, STAGED, SHADOW),
        Failed: _row(rollout_prepare.verify_failed, IDLE, REJECTED),
        Wake: _row(rollout_look.wake, VERIFYING),
        Hold: _row(rollout_look.hold, VERIFYING),
        Ask: _row(rollout_trial.ask, VERIFYING, IDLE, ROLLED_BACK),
    },
    SHADOW: {
        Tick: _row(rollout_prepare.shadow_tick, SHADOW, STAGED, REJECTED, IDLE),
        Shadowed: _row(rollout_prepare.shadowed, SHADOW, STAGED, REJECTED, IDLE),
        ShadowFailed: _row(rollout_prepare.shadow_failed, IDLE, REJECTED),
        Failed: _row(rollout_look.check_failed, SHADOW),
        Checked: _row(rollout_look.checked_before_trial, SHADOW, IDLE, FETCHING, REJECTED, COMMITTED),
        Wake: _row(rollout_look.wake, SHADOW),
        Hold: _row(rollout_look.hold, SHADOW),
        Ask: _row(rollout_trial.ask, SHADOW, IDLE, ROLLED_BACK),
    },
    TRIAL: {
        Tick: _row(rollout_trial.trial_tick, TRIAL, COMMITTED, ROLLED_BACK, IDLE),
        Done: _row(rollout_trial.swapped, TRIAL),
        Failed: _row(rollout_trial.trial_failed, TRIAL, ROLLED_BACK),
        Tried: _row(rollout_trial.tried, TRIAL),
        Sick: _row(rollout_trial.sick, ROLLED_BACK),
        Checked: _row(rollout_trial.checked_in_trial, TRIAL, ROLLED_BACK),
        Wake: _row(rollout_look.wake, TRIAL),
        Hold: _row(rollout_look.hold, TRIAL),
        Ask: _row(rollout_trial.ask, TRIAL, ROLLED_BACK),
    },
    COMMITTED: {Tick: _row(rollout_look.over, IDLE)},
    REJECTED: {Tick: _row(rollout_look.over, IDLE)},
    ROLLED_BACK: {
        Done: _row(rollout_trial.went_back, IDLE),
        Failed: _row(rollout_trial.back_failed, ROLLED_BACK, IDLE),
        Wake: _row(rollout_look.wake, ROLLED_BACK),
        Hold: _row(rollout_look.hold, ROLLED_BACK),
    },
}


def step(mind: Mind, happening: Happening | Tried, now: Now) -> Turn:
    row = TRANSITIONS[mind.state].get(type(happening))
    if row is None or (isinstance(happening, Checked) and mind.errand is not Errand.CHECK):
        return mind, []
    mind, actions = row.rule(mind, happening, now)
    assert mind.state in row.to, f"{type(happening).__name__} leads to {mind.state.value}, which is not in the table"
    return mind, actions
