"""What runs when the process starts, whatever ended the one before."""

from __future__ import annotations

import pytest

from edge_agent.core import boot
from edge_agent.rollouts import (
    Audience,
    Candidate,
    DeviceState,
    Held,
    Reason,
    Release,
    Rollout,
    Slot,
    Trial,
    UpdateState,
)

WALL_NS = 1_800_014_400 * 10**9
FACTORY = Slot()


def slot(number: int) -> Slot:
    return Slot(sha256=f"h{number}", version=f"{number}.0", seq=number, rollout=f"r{number}")


def candidate(number: int) -> Candidate:
    target = f"models/hall/{number}.0.tflite"
    release = Release(name="hall", version=f"{number}.0", target=target, length=8, sha256=f"h{number}", seq=number)
    rollout = Rollout(id=f"r{number}", number=number, model="hall", target=target, sha256=f"h{number}", to=Audience())
    return Candidate(release, rollout)


HELD = Held(current=slot(2), previous=slot(1), floor=2)


def start_often(state: DeviceState, times: int) -> boot.Boot:
    for _ in range(times):
        started = boot.begin(state, WALL_NS)
        state = started.state
    return started


def test_a_device_without_a_state_runs_its_factory_models() -> None:
    started = boot.begin(DeviceState(), WALL_NS)
    assert (started.run, started.outcome, started.wait_s) == ({}, None, 0.0)
    assert started.state.unhealthy == 1


def test_what_was_committed_runs_and_not_what_is_on_trial() -> None:
    state = DeviceState(models={"hall": HELD}, trial=Trial(candidate=candidate(3), starts=2))
    started = boot.begin(state, WALL_NS)
    assert started.run == {"hall": slot(2)}
    assert started.state.trial == state.trial, "the machine counts its starts, as it takes it up"


def test_four_starts_that_do_not_become_healthy_lead_to_the_factory_model() -> None:
    assert start_often(DeviceState(models={"hall": HELD}), 4).run == {"hall": slot(2)}
    started = start_often(DeviceState(models={"hall": HELD}), 5)
    assert started.run == {"hall": FACTORY}
    assert started.outcome is not None and started.outcome == started.state.last
    assert (started.outcome.state, started.outcome.reason) == (UpdateState.ROLLED_BACK, Reason.STARTS)
    assert started.state.models["hall"] == Held(current=FACTORY, previous=slot(2), floor=2), "it stays on the disk"
    assert started.state.bad == (), "its rollout may bring it again"


def test_the_factory_model_gets_starts_of_its_own_and_where_it_dies_too_nothing_changes_any_more() -> None:
    started = start_often(DeviceState(models={"hall": HELD}), 5)
    waits = [start_often(started.state, times).wait_s for times in (1, 2, 3, 4, 5, 60)]
    assert waits == [0.0, 1.0, 2.0, 4.0, 4.0, 4.0]
    last = start_often(started.state, 60)
    assert boot.begin(last.state, WALL_NS).state == last.state, "the disk need not be written"
    assert last.outcome is None


def test_a_start_that_became_healthy_ends_the_count() -> None:
    state = boot.healthy(start_often(DeviceState(models={"hall": HELD}), 4).state)
    assert start_often(state, 4).run == {"hall": slot(2)}


@pytest.mark.parametrize("under_way", ["trial", "pending"])
def test_the_newest_suspect_goes_first_and_what_runs_gets_starts_of_its_own(under_way: str) -> None:
    newest = {"trial": Trial(candidate=candidate(3))} if under_way == "trial" else {"pending": candidate(3)}
    started = start_often(DeviceState(models={"hall": HELD}, **newest), 5)
    assert started.run == {"hall": slot(2)}
    assert (started.state.trial, started.state.pending) == (None, None)
    assert started.outcome is not None and started.outcome.sha256 == "h3"
    assert started.outcome.state is (UpdateState.ROLLED_BACK if under_way == "trial" else UpdateState.REJECTED)
    assert start_often(started.state, 3).run == {"hall": slot(2)}
    assert start_often(started.state, 4).run == {"hall": FACTORY}


def test_a_process_that_dies_at_once_starts_slower_and_slower_up_to_four_seconds() -> None:
    waits = [start_often(DeviceState(), times).wait_s for times in (1, 2, 3, 4, 5, 60)]
    assert waits == [0.0, 0.0, 1.0, 2.0, 4.0, 4.0]


def test_a_slot_that_the_disk_lost_gives_way_to_the_one_before_it_and_then_to_the_factory() -> None:
    first = boot.fall_back(DeviceState(models={"hall": HELD}), "hall", Reason.HASH, "other bytes", WALL_NS)
    assert first.run == {"hall": slot(1)} and first.state.bad == (), "the disk's fault: it may be fetched again"
    second = boot.fall_back(first.state, "hall", Reason.LOAD, "does not load", WALL_NS)
    assert second.run == {"hall": FACTORY}
    assert [(bad.sha256, bad.reason) for bad in second.state.bad] == [("h1", Reason.LOAD)]
    assert second.state.models["hall"].floor == 2
    assert boot.fall_back(second.state, "hall", Reason.LOAD, "nor this", WALL_NS).state == second.state
