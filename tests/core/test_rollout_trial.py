"""The trial: when it ends well, when badly, and what it outlives."""

from __future__ import annotations

import pytest

from edge_agent.core.rollout_steps import Check, Failed, Sick, Swap, SwapBack
from edge_agent.rollouts import DeviceState, Held, Reason, Slot, UpdateState
from tests.simulators.update_states import BELL, HOUR, kinds, on_trial, reach
from tests.simulators.update_world import World, slot_of


def test_a_good_model_is_committed_after_its_time_and_what_ran_before_it_is_kept() -> None:
    world = on_trial()
    assert isinstance(world.machine.status().candidate.release.version, str)
    world.live()
    world.pass_time(59.0)
    assert world.machine.status().state is UpdateState.TRIAL
    world.pass_time(1.0)
    assert world.disk.models["hall"] == Held(
        current=Slot(sha256="hall-2", version="2.0", seq=2, rollout="r2"),
        previous=Slot(sha256="hall-1", version="1.0", seq=1, rollout="r1"),
        floor=2,
    )
    assert world.running["hall"] == "hall-2" and world.slots == {"", "hall-1", "hall-2"}


def test_the_third_model_ends_the_first_ones_days_on_the_disk() -> None:
    world = World()
    for _ in range(3):
        world.publish("hall")
        world.settle(days=1, quiet_h=2)
    assert world.slots == {"", "hall-2", "hall-3"}


def test_a_trial_without_a_single_sample_is_not_committed() -> None:
    world = on_trial()
    world.pass_time(10 * HOUR)
    assert world.machine.status().state is UpdateState.TRIAL
    world.answer()
    world.live()
    assert slot_of(world, "hall").sha256 == "hall-2"


def test_the_trials_time_outlives_restarts_and_is_not_written_each_second() -> None:
    world = on_trial(trial_s=3600.0)
    world.live()
    saves: list[DeviceState] = []
    world._save, plain = lambda state: saves.append(state) or plain(state), world._save
    world.pass_time(3000.0)
    world.answer()
    assert 5 <= len(saves) <= 12
    world.crash()
    world.answer()
    assert world.disk.trial is not None and 2600 <= world.disk.trial.ran_s <= 3000 and world.disk.trial.starts == 2
    world.live()
    world.pass_time(1000.0)
    world.answer()
    assert slot_of(world, "hall").sha256 == "hall-2"


def test_orderly_restarts_do_not_count_as_starts_of_the_trial() -> None:
    world = on_trial(trial_s=3600.0)
    for _ in range(10):
        world.pass_time(10.0)
        world.restart()
        world.answer()
    assert world.disk.trial is not None and world.disk.trial.starts == 1 and world.disk.unhealthy == 1
    assert world.disk.trial.ran_s >= 100.0


def test_expired_metadata_and_a_lost_network_never_end_a_trial() -> None:
    world = on_trial(trial_s=10 * HOUR)
    world.live()
    for reason in (Reason.METADATA_EXPIRED, Reason.UNREACHABLE):
        world.pass_time(2 * HOUR)
        assert isinstance(world.errand, Check)
        world.errand = None
        world.happen(Failed(reason, "so it is"))
        assert world.machine.status().state is UpdateState.TRIAL and world.machine.status().check.reason is reason
    world.network_works = False
    for _ in range(200):
        world.answer()
        world.pass_time(600.0)
    assert slot_of(world, "hall").sha256 == "hall-2"


@pytest.mark.parametrize("while_loading", [True, False])
def test_a_sick_model_is_left_with_evidence(while_loading: bool) -> None:
    world = on_trial()
    if while_loading:
        world.crash()  # it is being loaded again
        assert isinstance(world.errand, Swap)
    world.happen(Sick(Reason.LATENCY, "slow", {"p95_ms": 90.0}))
    assert world.errand == SwapBack("hall", Slot(sha256="hall-1", version="1.0", seq=1, rollout="r1"))
    assert world.machine.status().state is UpdateState.ROLLED_BACK
    last = world.disk.last
    assert last is not None and (last.state, last.reason, last.detail) == (
        UpdateState.ROLLED_BACK,
        Reason.LATENCY,
        "slow",
    )
    assert last.evidence["p95_ms"] == 90.0 and last.evidence["starts"] in (1, 2)
    world.settle(days=1, quiet_h=2)
    assert world.running["hall"] == "hall-1" and slot_of(world, "hall").sha256 == "hall-1"


def test_a_sick_model_is_left_though_the_disk_takes_nothing_and_that_is_written_later() -> None:
    world = on_trial()
    world.disk_works = False
    world.happen(Sick(Reason.OUTPUT, "not a number"))
    assert isinstance(world.errand, SwapBack) and "hall-2" in world.slots
    world.answer()
    assert world.running["hall"] == "hall-1" and world.disk.trial is not None
    world.pass_time(HOUR)
    assert kinds(world).count("update_state_unwritable") == 1
    world.disk_works = True
    world.settle(days=1, quiet_h=2)
    assert world.disk.trial is None and world.disk.last is not None and world.disk.last.reason is Reason.OUTPUT
    assert "hall-2" not in world.slots


def test_a_model_that_does_not_load_in_the_daemon_is_left() -> None:
    world = on_trial()
    world.crash()
    world.errand = None
    world.happen(Failed(Reason.LOAD, "no such op", final=True))
    assert world.disk.last is not None and world.disk.last.reason is Reason.LOAD


def test_a_swap_that_the_world_spoils_is_tried_again_and_counted() -> None:
    world = on_trial()
    world.crash()
    for _ in range(3):
        assert isinstance(world.errand, Swap)
        world.errand = None
        world.happen(Failed(Reason.DISK_FAILED, "can't be read"))
        world.pass_time(120.0)
        if isinstance(world.errand, Check):
            world.answer()
    assert world.disk.trial is None and world.disk.last is not None
    assert (world.disk.last.reason, world.disk.last.evidence["starts"]) == (Reason.DISK_FAILED, 4)


def test_a_paused_trial_goes_on_and_is_committed_only_when_it_may() -> None:
    world = on_trial()
    world.turn(world.rollouts[-1], "paused")
    world.pass_time(5.0)
    world.happen(BELL)
    world.answer()
    world.live()
    world.pass_time(HOUR / 2)
    assert world.machine.status().state is UpdateState.TRIAL and "paused" in world.machine.status().detail
    world.turn(world.rollouts[-1], "active")
    world.happen(BELL)
    world.answer()
    assert slot_of(world, "hall").sha256 == "hall-2"


def test_a_trial_whose_rollout_is_stopped_goes_back() -> None:
    world = on_trial()
    world.turn(world.rollouts[-1], "stopped")
    world.pass_time(5.0)
    world.happen(BELL)
    world.answer()
    assert world.disk.last is not None
    assert (world.disk.last.state, world.disk.last.reason) == (UpdateState.ROLLED_BACK, Reason.WITHDRAWN)


def test_old_bytes_signed_again_end_the_trial_of_the_new_ones_and_are_at_once_committed() -> None:
    world = on_trial()
    world.publish("hall", sha256="hall-1")
    world.settle(days=1, quiet_h=2)
    assert slot_of(world, "hall") == Slot(sha256="hall-1", version="3.0", seq=3, rollout="r3")
    assert world.disk.models["hall"].floor == 3
    assert world.loads[("hall-1", "r3")] == 0, "they ran all the time"


def test_the_next_models_turn_comes_right_after() -> None:
    world = World()
    world.publish("hall")
    world.publish("gate")
    reach(world, UpdateState.TRIAL)
    world.answer()
    world.live()
    world.pass_time(62.0)
    world.answer()
    status = world.machine.status()
    assert status.candidate is not None and status.candidate.release.name == "gate"
