"""The machine of an update, one behaviour after the other; what must hold in any order is in test_rollout_any_order."""

from __future__ import annotations

from itertools import pairwise

import pytest
from msgspec.structs import replace

from edge_agent.core import rollout_table
from edge_agent.core.rollout import Machine
from edge_agent.core.rollout_mind import Now, Settings
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
    Sick,
    Swap,
    SwapBack,
    Tell,
    Tick,
    Wake,
)
from edge_agent.core.rollout_table import TRANSITIONS, Row
from edge_agent.core.rollout_window import Window
from edge_agent.core.trial_watch import Tried
from edge_agent.rollouts import DeviceState, Held, Reason, Slot, UpdateState
from tests.simulators.update_world import NOON_NS, SECOND, Nature, World, slot_of

HOUR = 3600.0
BELL = Wake("bell")
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


def kinds(world: World) -> list[str]:
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
    world = World()
    world.publish("hall", shadow_s=2.0)
    if state is UpdateState.STAGED:  # waits there for its window
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
    world = World()
    world.publish("hall")
    world.settle(days=1, quiet_h=2)
    world.publish("hall", **fields)
    reach(world, UpdateState.TRIAL)
    world.answer()
    return world


# --- the table -------------------------------------------------------------------------------------------------------


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


# --- looking for something new ---------------------------------------------------------------------------------------


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


# --- before the trial ------------------------------------------------------------------------------------------------


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
def test_a_shadow_that_dies_ends_a_check_beside_it_and_a_check_that_fails_leaves_the_shadow(final: bool) -> None:
    world = world_in(UpdateState.SHADOW)
    world.pass_time(1.0)
    for failed, goes_on in [(Reason.UNREACHABLE, True), (Reason.CRASHED, False)]:
        world.happen(Wake("operator"))
        assert isinstance(world.errand, Check)
        world.errand = None if goes_on else world.errand
        world.happen(Failed(failed, "so it is", final=final and not goes_on))
        assert world.errand is None
        assert (world.shadow is not None) is goes_on
    assert world.machine.status().state is UpdateState.IDLE
    assert (world.disk.pending is None) is final


# --- the trial -------------------------------------------------------------------------------------------------------


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


# --- the operator at the device, and ways back ------------------------------------------------------------------------


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
