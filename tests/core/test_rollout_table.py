"""The machine of an update as a whole: any happening and any death in any state, and what is done in which order."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from edge_agent.core import rollout_table
from edge_agent.core.rollout_mind import Now
from edge_agent.core.rollout_steps import (
    Ask,
    Check,
    Checked,
    Collect,
    Done,
    Failed,
    Fetch,
    Happening,
    Hold,
    Progress,
    Report,
    Save,
    Settle,
    Shadowed,
    ShadowFailed,
    Sick,
    Tell,
    Tick,
    Wake,
)
from edge_agent.core.rollout_table import TRANSITIONS, Row
from edge_agent.core.trial_watch import Tried
from edge_agent.rollouts import Reason, UpdateState
from tests.simulators.update_states import BELL, kinds, on_trial, world_in
from tests.simulators.update_world import NOON_NS, SECOND, Nature, World, slot_of

# One of each, as good as it gets: what a late answer may look like.
ANYTHING: list[Happening | Tried] = [
    BELL,
    Wake("operator", "/media/usb"),
    Checked(None, "nothing"),
    Progress(1, 2),
    Done(),
    Failed(Reason.UNREACHABLE, "nobody answers"),
    Failed(Reason.GOLDEN, "another output", final=True),
    Shadowed(20, 0.99, 3.0, 40.0),
    ShadowFailed(Failed(Reason.CRASHED, "it died", final=True)),
    Sick(Reason.INVOKE, "no such op"),
    Tried(20, {}),
    Hold(NOON_NS + 3600 * SECOND),
    Hold(None),
    Ask("pin", "hall"),
    Ask("unpin", "hall"),
    Ask("rollback", "hall"),
    Tick(),
]
LASTING = [state for state in UpdateState if state not in (UpdateState.COMMITTED, UpdateState.REJECTED)]


def test_the_table_has_every_state_and_every_state_can_be_reached_and_left() -> None:
    assert set(TRANSITIONS) == set(UpdateState)
    led_to = {state for rows in TRANSITIONS.values() for row in rows.values() for state in row.to}
    assert led_to == set(UpdateState)
    for state, rows in TRANSITIONS.items():
        assert any(row.to - {state} for row in rows.values())


@pytest.mark.parametrize("happening", ANYTHING, ids=lambda one: type(one).__name__)
@pytest.mark.parametrize("state", LASTING, ids=lambda state: state.value)
def test_anything_may_happen_in_any_state_and_the_update_still_ends(state: UpdateState, happening: Happening) -> None:
    world = world_in(state)
    if isinstance(happening, Done | Failed) or (isinstance(happening, Checked) and isinstance(world.errand, Check)):
        world.errand = None  # that was its answer
    world.happen(happening)
    world.crash()
    world.settle(days=3)
    assert world.machine.status().state in (UpdateState.IDLE, UpdateState.CHECKING)
    assert world.running.get("hall", "") == slot_of(world, "hall").sha256


@pytest.mark.parametrize("state", LASTING, ids=lambda state: state.value)
def test_killed_in_any_state_the_update_is_taken_up_and_ends(state: UpdateState) -> None:
    world = world_in(state)
    assert world.machine.status().state is state
    world.crash()
    world.settle(days=3)
    assert world.disk.last is not None
    assert world.disk.last.state is (
        UpdateState.ROLLED_BACK if state is UpdateState.ROLLED_BACK else UpdateState.COMMITTED
    )


def test_a_loop_in_the_table_is_broken_and_told(monkeypatch: pytest.MonkeyPatch) -> None:
    world = world_in(UpdateState.FETCHING)
    both = frozenset({UpdateState.STAGED, UpdateState.VERIFYING})
    to_and_fro = {
        UpdateState.STAGED: {Tick: Row(lambda mind, _, __: (replace(mind, state=UpdateState.VERIFYING), []), both)},
        UpdateState.VERIFYING: {Tick: Row(lambda mind, _, __: (replace(mind, state=UpdateState.STAGED), []), both)},
    }
    monkeypatch.setattr(rollout_table, "TRANSITIONS", {**TRANSITIONS, **to_and_fro})
    world.answer()
    assert kinds(world)[-1] == "update_loop"
    assert world.machine.status().state is UpdateState.IDLE
    assert world.disk.pending is not None, "it is tried again, later"


# --- what is done, in order ------------------------------------------------------------------------------------------


def test_the_state_comes_first_then_room_is_made_and_then_bytes_are_fetched() -> None:
    world = World()
    world.publish("hall")
    world.happen(BELL)
    world.errand, answer = None, world._check()
    actions = world.machine.handle(answer, world.now)
    assert [type(action) for action in actions] == [Save, Collect, Fetch, Report]


def test_a_commit_is_written_before_what_ran_before_is_unloaded() -> None:
    world = on_trial()
    world.live()
    later = Now(world.mono_ns + 60 * SECOND, world.wall_ns + 60 * SECOND, synced=True)
    actions = world.machine.handle(Tick(), later)
    assert [type(action) for action in actions] == [Save, Settle, Tell, Report]


def test_a_deadly_model_gets_four_starts_and_no_more() -> None:
    world = World()
    world.publish("hall", Nature.DEADLY)
    world.settle(days=1, quiet_h=2)
    assert world.loads[("hall-1", "r1")] == 4
    assert world.disk.last is not None and world.disk.last.reason is Reason.STARTS
