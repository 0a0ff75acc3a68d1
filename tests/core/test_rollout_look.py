"""Looking for something new: when a device asks, and what is made of the answer."""

from __future__ import annotations

from itertools import pairwise

import pytest
from msgspec.structs import replace

from edge_agent.core.rollout import Machine
from edge_agent.core.rollout_mind import Now, Settings
from edge_agent.core.rollout_steps import Ask, Check, Checked, Fetch, Sick, Tick, Wake
from edge_agent.rollouts import DeviceState, Reason, UpdateState
from tests.simulators.update_states import BELL, HOUR, kinds, on_trial, world_in
from tests.simulators.update_world import NOON_NS, SECOND, World, slot_of


def test_the_poll_comes_by_itself_and_devices_do_not_come_in_step() -> None:
    def looks(device: str) -> list[int]:
        now, times = Now(0, NOON_NS), []
        machine = Machine(DeviceState(), Settings(device=device, poll_s=6 * HOUR), now)
        machine.start(now)
        for _ in range(4):
            deadline_ns = machine.next_deadline()
            assert deadline_ns is not None
            now = Now(deadline_ns, NOON_NS + deadline_ns)
            assert Check(None) in machine.handle(Tick(), now)
            times.append(deadline_ns)
            machine.handle(Checked(None), now)
        return times

    first, other = looks("cam1"), looks("cam2")
    assert first[0] <= 30 * SECOND
    assert all(4.5 * HOUR <= (b - a) / SECOND <= 7.5 * HOUR for a, b in pairwise(first))
    assert first != other


def test_a_bell_brings_a_check_at_once_and_a_flood_of_bells_one_in_two_seconds() -> None:
    world = World()
    world.pass_time(60.0)
    world.answer()
    checks = 0
    for _ in range(100):
        world.pass_time(0.1)
        world.happen(BELL)
        checks += isinstance(world.errand, Check)
        world.answer()
    assert 4 <= checks <= 6


def test_a_bell_during_a_check_brings_another_one() -> None:
    """That check may have read what was there before."""
    world = world_in(UpdateState.CHECKING)
    world.happen(BELL)
    world.happen(Checked(None))
    world.errand = None
    world.pass_time(2.0)
    assert isinstance(world.errand, Check)


@pytest.mark.parametrize("wall_ns", [0, NOON_NS - 100 * 24 * 3600 * SECOND])
def test_a_clock_before_any_time_that_was_known_waits_for_it_to_be_set(wall_ns: int) -> None:
    world = World()
    world.publish("hall")
    world.settle(days=2, quiet_h=2)
    assert world.disk.time_floor_ns > NOON_NS - 1
    world.publish("hall")
    good_ns, world.wall_ns = world.wall_ns, wall_ns
    world.crash()
    world.pass_time(60.0)
    status = world.machine.status()
    assert (status.state, status.check.ok, status.check.reason) == (UpdateState.IDLE, False, Reason.CLOCK)
    assert kinds(world).count("update_check_failed") == 1
    world.wall_ns = good_ns
    world.pass_time(30.0)
    assert isinstance(world.errand, Check)


def test_a_clock_that_nobody_vouches_for_does_not_raise_the_floor() -> None:
    now = Now(60 * SECOND, NOON_NS, synced=False)
    machine = Machine(DeviceState(), Settings(device="cam", poll_s=HOUR), now)
    machine.start(now)
    machine.handle(BELL, now)
    machine.handle(Checked(None), now)
    assert machine.status().device.time_floor_ns == 0


def test_failing_checks_come_less_and_less_often_and_are_told_once() -> None:
    world = World(poll_s=24 * HOUR)
    world.network_works = False
    times = []
    for _ in range(12):
        deadline_ns = world.machine.next_deadline()
        assert deadline_ns is not None
        world.pass_time((deadline_ns - world.mono_ns) / SECOND)
        times.append(world.mono_ns / SECOND)
        world.answer()
    gaps = [b - a for a, b in pairwise(times)]
    assert gaps[0] <= 10.0 and 1800.0 <= gaps[-1] <= 3600.0
    assert kinds(world) == ["update_check_failed"]
    world.network_works = True
    world.settle(days=1, quiet_h=2)
    assert kinds(world) == ["update_check_failed", "update_check_recovered"]


def test_what_may_not_run_here_is_told_once() -> None:
    world = World()
    rollout = world.publish("hall")
    world.releases[rollout.target] = replace(world.releases[rollout.target], profiles=("jetson",))
    world.settle(days=1, quiet_h=3)
    assert world.disk.last is not None and world.disk.last.reason is Reason.PROFILE
    assert kinds(world) == ["update_rejected"]


def refuse_beside_a_trial() -> World:
    """Another model is refused while one is on trial."""
    world = on_trial()
    rollout = world.publish("gate")
    world.releases[rollout.target] = replace(world.releases[rollout.target], profiles=("jetson",))
    world.pass_time(5.0)
    world.happen(BELL)
    world.answer()
    assert last(world) == ("r3", Reason.PROFILE)
    return world


def last(world: World) -> tuple[str, Reason | None]:
    assert world.disk.last is not None
    return world.disk.last.rollout, world.disk.last.reason


def test_what_was_refused_beside_a_trial_is_the_last_word_again_after_the_commit_and_told_once() -> None:
    world = refuse_beside_a_trial()
    world.settle(days=1, quiet_h=2)
    assert slot_of(world, "hall").rollout == "r2"
    assert last(world) == ("r3", Reason.PROFILE)
    assert kinds(world).count("update_rejected") == 1


def test_what_was_refused_before_hides_no_model_that_was_left() -> None:
    for left in (Sick(Reason.OUTPUT, "not a number"), Ask("rollback", "hall")):
        world = refuse_beside_a_trial()
        world.happen(left)
        world.settle(days=1, quiet_h=3)
        why = Reason.OUTPUT if isinstance(left, Sick) else Reason.OPERATOR
        assert last(world) == ("r2", why)
        assert world.machine.status().refusals == {"r2": why, "r3": Reason.PROFILE}


def test_without_a_repository_a_bell_is_nothing_and_a_folder_is_looked_into() -> None:
    world = World(poll_s=None)
    world.publish("hall")
    world.happen(BELL)
    assert world.machine.next_deadline() is None and world.errand is None
    world.happen(Wake("operator", "/media/usb"))
    assert world.errand == Check("/media/usb")


def test_an_install_that_a_power_cut_ended_goes_on_without_the_stick() -> None:
    world = World(poll_s=None)
    world.publish("hall")
    world.happen(Wake("operator", "/media/usb"))
    world.answer()
    assert isinstance(world.errand, Fetch)
    world.crash()
    assert isinstance(world.errand, Fetch)


def test_what_is_pending_without_a_repository_goes_on_after_another_models_way_back() -> None:
    world = World(poll_s=None)
    world.publish("hall")
    world.happen(Wake("operator", "/media/usb"))
    for _ in range(8):
        world.answer()
        world.live()
        world.pass_time(60.0)
    world.publish("gate")
    world.happen(Wake("operator", "/media/usb"))
    world.answer()
    world.crash()
    assert isinstance(world.errand, Fetch)
    world.happen(Ask("rollback", "hall"))
    world.answer()
    world.pass_time(2.0)
    assert isinstance(world.errand, Fetch) and world.errand.candidate.release.name == "gate"
