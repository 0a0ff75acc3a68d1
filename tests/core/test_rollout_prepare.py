"""From the first byte to the trial's hour: transfer, verification, shadow, windows and holds."""

from __future__ import annotations

import pytest

from edge_agent.core.rollout_steps import (
    Check,
    Failed,
    Fetch,
    Hold,
    Progress,
    Report,
    Shadowed,
    ShadowFailed,
    Swap,
    Wake,
)
from edge_agent.core.rollout_window import Window
from edge_agent.rollouts import Reason, UpdateState
from tests.simulators.update_states import BELL, HOUR, kinds, reach, world_in
from tests.simulators.update_world import NOON_NS, SECOND, World, slot_of


def test_the_transfer_is_reported_by_twentieths() -> None:
    world = world_in(UpdateState.FETCHING)
    reports = [world.machine.handle(Progress(done, 1000), world.now) for done in range(0, 1001, 10)]
    assert sum(Report() in actions for actions in reports) == 20
    assert world.machine.status().progress == 1.0


def test_a_transfer_that_fails_is_tried_again_less_and_less_often() -> None:
    world = world_in(UpdateState.FETCHING)
    gaps = []
    for _ in range(9):
        world.errand = None
        world.happen(Failed(Reason.SLOW, "too few bytes"))
        failed_ns = world.mono_ns
        assert (world.machine.status().state, world.machine.status().reason) == (UpdateState.IDLE, Reason.SLOW)
        while not isinstance(world.errand, Fetch):
            world.answer()
            world.pass_time(5.0)
        gaps.append((world.mono_ns - failed_ns) / SECOND)
    assert gaps[0] <= 15.0 and gaps[-1] >= 1280.0
    assert kinds(world).count("update_fetch_failed") == 1


def test_a_verification_that_the_world_spoils_is_tried_three_times() -> None:
    world = world_in(UpdateState.VERIFYING)
    for attempt in range(3):
        world.errand = None
        world.happen(Failed(Reason.TIMEOUT, "took too long"))
        if attempt < 2:
            assert world.machine.status().state is UpdateState.IDLE
            world.pass_time(60.0)
            reach(world, UpdateState.VERIFYING)
    assert world.disk.last is not None and world.disk.last.reason is Reason.TIMEOUT
    assert [bad.sha256 for bad in world.disk.bad] == ["hall-1"]


def test_the_trial_waits_for_its_window_and_the_transfer_does_not() -> None:
    world = world_in(UpdateState.STAGED)
    assert "waits for 22:00-04:00 UTC" in world.machine.status().detail
    world.pass_time(9 * HOUR)
    assert world.machine.status().state is UpdateState.STAGED
    world.answer()
    world.pass_time(1.5 * HOUR)
    world.answer()
    assert isinstance(world.errand, Swap) and world.machine.status().state is UpdateState.TRIAL


def test_windows_that_never_meet_are_said_to_be_so() -> None:
    world = World(window=Window.parse("01:00-02:00"))
    world.publish("hall", window="03:00-04:00")
    reach(world, UpdateState.STAGED)
    assert "never" in world.machine.status().detail


def test_a_hold_lets_nothing_begin_and_ends_within_a_day_whatever_it_says() -> None:
    world = World()
    world.publish("hall")
    world.happen(Hold(world.wall_ns + 1000 * 24 * 3600 * SECOND))
    world.happen(BELL)
    world.pass_time(23 * HOUR)
    assert world.errand is None and world.machine.status().held_until_ns == NOON_NS + 24 * 3600 * SECOND
    world.pass_time(1.1 * HOUR)
    assert isinstance(world.errand, Check) and world.machine.status().held_until_ns is None


def test_a_hold_that_comes_before_the_trial_puts_it_off() -> None:
    world = world_in(UpdateState.VERIFYING)
    world.happen(Hold(world.wall_ns + 600 * SECOND))
    reach(world, UpdateState.SHADOW)
    world.pass_time(3.0)
    world.live()
    assert world.machine.status().state is UpdateState.STAGED and "held" in world.machine.status().detail
    world.pass_time(600.0)
    assert isinstance(world.errand, Swap)


def test_a_hold_can_be_ended_and_the_operator_at_the_device_is_above_it() -> None:
    for ending in (Hold(None), Wake("operator")):
        world = World()
        world.happen(Hold(world.wall_ns + 3600 * SECOND))
        world.happen(BELL)
        assert world.errand is None
        world.happen(ending)
        assert isinstance(world.errand, Check)


@pytest.mark.parametrize("state", [UpdateState.STAGED, UpdateState.SHADOW], ids=lambda state: state.value)
def test_what_is_stopped_before_it_ran_is_withdrawn_and_not_held_against_it(state: UpdateState) -> None:
    world = world_in(state)
    world.turn(world.rollouts[0], "stopped")
    world.happen(BELL)
    world.answer()
    assert world.disk.last is not None and world.disk.pending is None
    assert (world.disk.last.state, world.disk.last.reason) == (UpdateState.REJECTED, Reason.WITHDRAWN)
    assert world.disk.bad == () and world.shadow is None


def test_what_is_paused_before_it_ran_waits_and_goes_on() -> None:
    world = world_in(UpdateState.STAGED)
    world.turn(world.rollouts[0], "paused")
    world.settle(days=3)
    assert world.disk.pending is not None and "paused" in world.machine.status().detail
    world.turn(world.rollouts[0], "active")
    world.settle(days=3)
    assert slot_of(world, "hall").sha256 == "hall-1"


def test_a_shadow_without_enough_samples_goes_on_beyond_its_time() -> None:
    world = world_in(UpdateState.SHADOW)
    world.pass_time(100.0)
    world.happen(Shadowed(3, 0.0, 1.0, 1.0))
    assert world.machine.status().state is UpdateState.SHADOW
    world.happen(Shadowed(10, 0.95, 1.0, 1.0))
    assert isinstance(world.errand, Swap)


@pytest.mark.parametrize("final", [True, False])
def test_a_check_that_fails_leaves_the_shadow_and_a_shadow_that_dies_ends_a_check_beside_it(final: bool) -> None:
    world = world_in(UpdateState.SHADOW)
    world.pass_time(1.0)
    world.happen(Wake("operator"))
    assert isinstance(world.errand, Check)
    world.errand = None
    world.happen(Failed(Reason.TOO_LARGE, "metadata without an end", final=final))
    assert world.shadow is not None
    assert world.machine.status().check.reason is Reason.TOO_LARGE
    world.happen(Wake("operator"))
    assert isinstance(world.errand, Check)
    world.happen(ShadowFailed(Failed(Reason.CRASHED, "it died", final=final)))
    assert (world.errand, world.shadow) == (None, None)
    assert world.machine.status().state is UpdateState.IDLE
    assert (world.disk.pending is None) is final
