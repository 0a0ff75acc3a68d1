"""The world of update_world.py brought to a state: what the tests of the rules begin with."""

from __future__ import annotations

from edge_agent.core.rollout_steps import Sick, Wake
from edge_agent.core.rollout_window import Window
from edge_agent.rollouts import Reason, UpdateState
from tests.simulators.update_world import World

HOUR = 3600.0
BELL = Wake("bell")


def kinds(world: World) -> list[str]:
    """Of the events that were told."""
    return [action.event.kind for action in world.told]


def reach(world: World, state: UpdateState) -> None:
    """Answer and wait until the update under way is in that state, with its errand open."""
    world.happen(BELL)
    for _ in range(20):
        if world.machine.status().state is state:
            return
        world.answer()
        world.pass_time(1.0)
        if world.machine.status().state is not state:
            world.live()
    raise AssertionError(f"{state.value} was not reached, but {world.machine.status()}")


def world_in(state: UpdateState) -> World:
    """The first update of a device, in that state; in staged it waits for a window."""
    world = World()
    world.publish("hall", shadow_s=2.0)
    if state is UpdateState.STAGED:
        world = World(window=Window.parse("22:00-04:00"))
        world.publish("hall")
    if state is UpdateState.IDLE:
        return world
    if state is UpdateState.ROLLED_BACK:
        reach(world, UpdateState.TRIAL)
        world.answer()
        world.happen(Sick(Reason.OUTPUT, "not a number"))
        return world
    reach(world, state)
    return world


def on_trial(**fields: object) -> World:
    """The second update, on trial. ``fields``: of its rollout."""
    world = World()
    world.publish("hall")
    world.settle(days=1, quiet_h=2)
    world.publish("hall", **fields)
    reach(world, UpdateState.TRIAL)
    world.answer()
    return world
