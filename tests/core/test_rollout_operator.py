"""The operator at the device, and the ways back."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from edge_agent.core.boot import STARTS_MOST
from edge_agent.core.rollout_steps import Ask, Failed, Sick, SwapBack
from edge_agent.rollouts import Reason, Slot, UpdateState
from tests.simulators.update_states import kinds, on_trial, reach, world_in
from tests.simulators.update_world import World, slot_of


def test_the_operator_takes_a_committed_model_back_and_it_does_not_return() -> None:
    world = World()
    for _ in range(2):
        world.publish("hall")
        world.settle(days=1, quiet_h=2)
    world.happen(Ask("rollback", "hall"))
    world.settle(days=1, quiet_h=2)
    assert world.running["hall"] == slot_of(world, "hall").sha256 == "hall-1"
    assert world.disk.last is not None and world.disk.last.reason is Reason.OPERATOR
    world.happen(Ask("rollback", "hall"))
    world.settle(days=1, quiet_h=2)
    assert world.running["hall"] == ""
    assert "nothing before it" in str(world.machine.objection(Ask("rollback", "hall")))


@pytest.mark.parametrize("state", [UpdateState.FETCHING, UpdateState.VERIFYING, UpdateState.SHADOW, UpdateState.STAGED])
def test_a_pin_ends_what_was_being_prepared(state: UpdateState) -> None:
    world = world_in(state)
    world.happen(Ask("pin", "hall"))
    assert (world.errand, world.shadow, world.disk.pending) == (None, None, None)
    world.settle(days=1, quiet_h=3)
    assert slot_of(world, "hall").sha256 == ""
    world.happen(Ask("unpin", "hall"))
    world.settle(days=3)
    assert slot_of(world, "hall").sha256 == "hall-1"


def test_a_pin_counts_also_for_a_check_that_was_under_way() -> None:
    world = world_in(UpdateState.CHECKING)
    answer, world.errand = world._check(), None
    world.happen(Ask("pin", "hall"))
    world.happen(answer)
    assert world.machine.status().state is UpdateState.IDLE and world.disk.pending is None


def test_the_floor_stays_when_bytes_below_it_run_on_under_another_rollout() -> None:
    world = World()
    for _ in range(2):
        world.publish("hall")
        world.settle(days=1, quiet_h=2)
    world.happen(Ask("rollback", "hall"))
    world.answer()
    first = world.rollouts[0]
    world.rollouts.append(replace(first, id="r3", number=3))
    world.settle(days=1, quiet_h=2)
    assert slot_of(world, "hall").rollout == "r3"
    assert world.disk.models["hall"].floor == 2


def test_what_the_operator_can_not_have_now_is_said_in_a_sentence() -> None:
    world = on_trial()
    assert "on trial" in str(world.machine.objection(Ask("pin", "hall")))
    assert "on trial" in str(world.machine.objection(Ask("rollback", "gate")))
    assert world.machine.objection(Ask("rollback", "hall")) is None
    world.happen(Ask("rollback", "hall"))
    assert "just being left" in str(world.machine.objection(Ask("rollback", "hall")))


def test_a_wish_that_can_not_be_written_down_is_not_half_done() -> None:
    world = on_trial()
    world.disk_works = False
    world.happen(Ask("pin", "gate"))
    assert "gate" not in world.machine.status().device.models
    assert world.machine.status().state is UpdateState.TRIAL


def test_a_model_committed_long_ago_that_gave_way_to_deaths_of_the_process_comes_back_by_a_trial() -> None:
    world = World()
    world.publish("hall")
    world.settle(days=30)
    for _ in range(STARTS_MOST + 1):
        assert world.running["hall"] == "hall-1"
        world.crash()
    assert world.running["hall"] == "" and "hall-1" in world.slots
    reach(world, UpdateState.TRIAL)
    world.settle(days=1, quiet_h=2)
    assert world.running["hall"] == slot_of(world, "hall").sha256 == "hall-1"


def test_where_the_model_before_does_not_load_either_the_factory_model_runs() -> None:
    world = on_trial()
    world.happen(Sick(Reason.OUTPUT, "not a number"))
    world.errand = None
    world.happen(Failed(Reason.LOAD, "damaged"))
    assert world.errand == SwapBack("hall", Slot())
    world.errand = None
    world.happen(Failed(Reason.LOAD, "this too"))
    assert kinds(world)[-2:] == ["update_factory", "update_no_way_back"]
    assert world.machine.status().state is UpdateState.IDLE
