"""The process dies before each single action of an update, and again during the recovery; and the disk fails at each
Save. The world of tests/simulators/update_world.py asserts what must never happen; here: it converges."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from edge_agent.core.rollout_steps import Action, Save
from edge_agent.rollouts import Reason, UpdateState
from tests.simulators.update_world import GoneError, Nature, World, slot_of

ENDS = {
    Nature.GOOD: (UpdateState.COMMITTED, None),
    Nature.WRONG_BYTES: (UpdateState.REJECTED, Reason.HASH),
    Nature.NO_MODEL: (UpdateState.REJECTED, Reason.GOLDEN),
    Nature.DISAGREES: (UpdateState.REJECTED, Reason.AGREEMENT),
    Nature.SICK: (UpdateState.ROLLED_BACK, Reason.OUTPUT),
    Nature.DEADLY: (UpdateState.ROLLED_BACK, Reason.STARTS),
}


class CutWorld(World):
    """Dies before the actions with these numbers, counted over its whole life; its disk fails at these Saves."""

    def __init__(self, cuts: tuple[int, ...] = (), bad_saves: frozenset[int] = frozenset()) -> None:
        self.cuts, self.bad_saves = cuts, bad_saves
        self.done = self.saves = 0
        super().__init__()

    def _perform(self, actions: list[Action]) -> None:
        if any(isinstance(action, Save) for action in actions):
            self.disk_works = self.saves not in self.bad_saves
            self.saves += 1
        for count in range(len(actions)):
            if self.done + count in self.cuts:
                self.cut = count
                self.done += 1  # this cut is behind us
                break
        self.done += len(actions) if self.cut is None else self.cut
        super()._perform(actions)
        self.disk_works = True


def update(nature: Nature, **fields: object) -> Callable[[World], None]:
    """A good model is committed, then one of that nature is rolled out."""

    def run(world: World) -> None:
        world.publish("hall")
        world.settle(days=1, quiet_h=2)
        world.publish("hall", nature, shadow_s=600.0)
        world.settle(days=2, quiet_h=3)

    return run


def check_end(world: World, nature: Nature) -> None:
    last = world.disk.last
    assert last is not None and (last.state, last.reason) == ENDS[nature]
    assert slot_of(world, "hall").sha256 == ("hall-2" if nature is Nature.GOOD else "hall-1") == world.running["hall"]
    assert world.machine.status().state in (UpdateState.IDLE, UpdateState.CHECKING)
    assert (world.disk.pending, world.disk.trial) == (None, None)


@pytest.mark.parametrize("nature", Nature)
def test_an_update_ends_as_it_should(nature: Nature) -> None:
    world = CutWorld()
    update(nature)(world)
    check_end(world, nature)


@pytest.mark.parametrize("nature", Nature)
def test_a_death_before_any_action_changes_nothing_about_the_end(nature: Nature) -> None:
    whole = CutWorld()
    update(nature)(whole)
    for cut in range(whole.done):
        world = CutWorld((cut,))
        update(nature)(world)
        check_end(world, nature)


@pytest.mark.parametrize("nature", [Nature.GOOD, Nature.SICK])
def test_deaths_in_pairs_change_nothing_about_the_end(nature: Nature) -> None:
    whole = CutWorld()
    update(nature)(whole)
    for cut in range(whole.done):
        for later in range(1, 9):
            world = CutWorld((cut, cut + later))
            update(nature)(world)
            check_end(world, nature)


@pytest.mark.parametrize("nature", Nature)
def test_a_disk_that_fails_at_any_save_changes_nothing_about_the_end(nature: Nature) -> None:
    whole = CutWorld()
    update(nature)(whole)
    for save in range(whole.saves):
        world = CutWorld(bad_saves=frozenset({save, save + 1}))
        update(nature)(world)
        check_end(world, nature)


def test_the_world_dies_where_it_is_told_to() -> None:
    world = World()
    world.cut = 0
    with pytest.raises(GoneError):
        world._perform([Save(world.disk)])
