"""What to run when the process starts, whatever ended the one before. Pure: the state on the disk in, the state to be
written before anything is loaded out. A model on trial is not loaded here: ``Machine.start`` takes it up beside the
live one, and counts the start before it does."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from msgspec import Struct
from msgspec.structs import replace

from edge_agent.core.rollout_state import give_up, left, new_bad
from edge_agent.rollouts import FACTORY, DeviceState, Held, Outcome, Reason, Slot, UpdateState

STARTS_MOST: Final = 4
"""Starts with a trial, and starts in a row that do not become healthy: two are too few where power cuts come in pairs
(measured: notes of the second journey)."""

_DISKS_FAULT: Final = frozenset({Reason.HASH, Reason.DISK_FAILED, Reason.DISK_FULL})


class Boot(Struct, frozen=True, kw_only=True):
    """``state``: save it before loading (where that fails go on all the same: ``run`` is what is safe). ``run``: a slot
    for each model name that the state knows, others run the factory model. ``outcome``: a rollback to be told
    (``state.last`` has it too). ``wait_s``: before going on, so that a process that dies at once does not spin."""

    state: DeviceState
    run: Mapping[str, Slot]
    outcome: Outcome | None = None
    wait_s: float = 0.0


def begin(state: DeviceState, wall_ns: int) -> Boot:
    """Counts this start as unhealthy until ``healthy``. After STARTS_MOST unhealthy ones in a row the newest suspect
    goes: the model on trial or the one being prepared is given up; where there is neither, every committed model gives
    way to the factory's. Whoever runs then gets starts of its own. With the factory's alone nothing is left to change,
    and the count, and so the wait and the state, stay as they are."""
    wait_s = 0.0 if state.unhealthy < 2 else 2.0 ** (min(state.unhealthy, STARTS_MOST) - 2)
    outcome = None
    if state.unhealthy >= STARTS_MOST:
        detail = f"{STARTS_MOST} starts in a row did not become healthy"
        if state.trial is not None or state.pending is not None:
            how = UpdateState.REJECTED if state.trial is None else UpdateState.ROLLED_BACK
            state = give_up(state, how, Reason.STARTS, detail, wall_ns)
            outcome = state.last
        else:
            state, outcome = _factory(state, detail, wall_ns)
        state = replace(state, unhealthy=0 if outcome is not None else STARTS_MOST - 1)
    return _boot(replace(state, unhealthy=state.unhealthy + 1), outcome, wait_s)


def fall_back(state: DeviceState, model: str, reason: Reason, detail: str, wall_ns: int) -> Boot:
    """The slot of ``model`` is gone, damaged or does not load: the previous one, or the factory's. Call it again for
    that one, until a slot loads. The rollout may bring the same model again where the disk was at fault (HASH,
    DISK_FAILED, DISK_FULL); else not."""
    held = state.models.get(model, Held())
    if held.current.sha256 == FACTORY:  # there is nothing behind it: the caller's to say
        return _boot(state, None, 0.0)
    outcome = left(model, held.current, reason, detail, wall_ns)
    bad = state.bad if reason in _DISKS_FAULT else new_bad(state, held.current.sha256, held.current.rollout, reason)
    after = replace(held, current=held.previous or Slot(), previous=None)
    return _boot(replace(state, models={**state.models, model: after}, bad=bad, last=outcome), outcome, 0.0)


def healthy(state: DeviceState) -> DeviceState:
    """The state once this start has proved itself."""
    return replace(state, unhealthy=0)


def _factory(state: DeviceState, detail: str, wall_ns: int) -> tuple[DeviceState, Outcome | None]:
    """A committed model has proved itself once, and the starts may have died of a loose plug: nothing is held against
    it. It stays on the disk, and where a rollout still names it a trial shows whether it was to blame."""
    outcome = None
    for name, held in sorted(state.models.items()):
        if held.current.sha256 == FACTORY:
            continue
        outcome = left(name, held.current, Reason.STARTS, f"{detail}: the factory model runs", wall_ns)
        models = {**state.models, name: replace(held, current=Slot(), previous=held.current)}
        state = replace(state, models=models, last=outcome)
    return state, outcome


def _boot(state: DeviceState, outcome: Outcome | None, wait_s: float) -> Boot:
    run = {name: held.current for name, held in state.models.items()}
    return Boot(state=state, run=run, outcome=outcome, wait_s=wait_s)
