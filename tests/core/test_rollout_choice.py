"""Which rollout means this device, and why one may not run here."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from edge_agent.core.rollout_choice import Device, choose, in_cohort, means, wanted
from edge_agent.core.rollout_steps import Checked
from edge_agent.rollouts import (
    Audience,
    Bad,
    Candidate,
    Channel,
    DeviceState,
    Held,
    Reason,
    Release,
    Rollout,
    Slot,
    UpdateState,
)

NOON_NS = 1_800_014_400 * 10**9  # 2027-01-15 12:00 UTC
CAM = Device(id="cam", groups=frozenset({"line"}), models=frozenset({"hall"}), profile="pi5", agent="1.2.0")
EVERYONE = Audience(everyone=True)


def rollout(number: int = 1, **fields) -> Rollout:
    target = f"models/hall/{number}.0.tflite"
    plain = {"model": "hall", "target": target, "sha256": f"h{number}", "to": EVERYONE}
    return Rollout(id=f"r{number}", number=number, **(plain | fields))


def release(number: int = 1, **fields) -> Release:
    target = f"models/hall/{number}.0.tflite"
    plain = {"name": "hall", "version": f"{number}.0", "target": target, "length": 8, "sha256": f"h{number}"}
    return Release(**(plain | {"seq": number} | fields))


def at(number: int, floor: int | None = None, **fields) -> Held:
    slot = Slot(sha256=f"h{number}", version=f"{number}.0", seq=number, rollout=f"r{number}")
    return Held(current=slot, floor=number if floor is None else floor, **fields)


def decide(rollouts, releases=None, held=None, state=None, device=CAM, wall_ns=NOON_NS) -> Checked:
    channel = Channel(schema="edge-agent/rollouts/1", channel="main", rollouts=tuple(rollouts))
    state = state or DeviceState(models={} if held is None else {"hall": held})
    releases = [release(one.number) for one in rollouts] if releases is None else releases
    return choose(channel, {one.target: one for one in releases}, device, state, wall_ns)


@pytest.mark.parametrize(
    ("to", "meant"),
    [
        (Audience(), False),
        (EVERYONE, True),
        (Audience(devices=("cam", "other")), True),
        (Audience(devices=("other",)), False),
        (Audience(groups=("line",)), True),
        (Audience(groups=("roof",)), False),
        (Audience(devices=("other",), groups=("line",)), True),
    ],
)
def test_the_audience_decides_who_is_meant(to: Audience, meant: bool) -> None:
    assert means(rollout(to=to), "cam", frozenset({"line"})) is meant
    assert (decide([rollout(to=to)]).candidate is not None) is meant


def test_a_device_that_is_named_is_in_whatever_the_percentage() -> None:
    assert means(rollout(to=Audience(devices=("cam",)), percent=0.0), "cam", frozenset())
    assert not means(rollout(percent=0.0), "cam", frozenset())


@given(salt=st.text(max_size=8), small=st.floats(0, 100), more=st.floats(0, 100))
def test_a_higher_percentage_keeps_every_device_that_was_in(salt: str, small: float, more: float) -> None:
    low, high = sorted((small, more))
    for number in range(20):
        device = f"cam{number}"
        if in_cohort(rollout(salt=salt, percent=low), device):
            assert in_cohort(rollout(salt=salt, percent=high), device)


def test_ten_percent_is_about_a_tenth_of_a_fleet_and_another_salt_draws_others() -> None:
    fleet = [f"cam{number}" for number in range(2000)]
    first = {device for device in fleet if in_cohort(rollout(salt="a", percent=10.0), device)}
    second = {device for device in fleet if in_cohort(rollout(salt="b", percent=10.0), device)}
    assert 140 < len(first) < 260
    assert len(first & second) < len(first) / 2


def test_of_two_rollouts_at_once_the_higher_number_counts_in_whatever_order_they_stand() -> None:
    for order in ([1, 2, 3], [3, 1, 2]):
        candidate = decide([rollout(number) for number in order]).candidate
        assert candidate == Candidate(release(3), rollout(3))


def test_a_newer_rollout_for_others_does_not_count() -> None:
    chosen = decide([rollout(1), rollout(2, to=Audience(devices=("other",)))]).candidate
    assert chosen is not None and chosen.rollout.id == "r1"


def test_a_stopped_rollout_is_as_if_it_had_not_been() -> None:
    chosen = decide([rollout(1), rollout(2, state="stopped")]).candidate
    assert chosen is not None and chosen.rollout.id == "r1"


def test_a_paused_rollout_holds_back_those_below_it() -> None:
    checked = decide([rollout(1), rollout(2, state="paused")])
    assert checked.candidate is None and "r2: paused" in checked.detail
    assert (checked.live, checked.paused) == (frozenset({"r1"}), frozenset({"r2"}))


def test_a_device_that_was_away_does_the_newest_thing_once() -> None:
    month = [rollout(number) for number in range(1, 31)]
    chosen = decide(month, held=at(1)).candidate
    assert chosen is not None and chosen.rollout.id == "r30"
    done = decide(month, held=at(30))
    assert done.candidate is None and "done, runs 30.0" in done.detail


def test_what_is_older_than_what_runs_is_history_and_no_refusal() -> None:
    checked = decide([rollout(1), rollout(2, state="stopped")], held=at(2))
    assert checked.candidate is None and checked.refused is None


def test_a_newer_rollout_of_the_bytes_that_run_is_taken() -> None:
    again = rollout(3, sha256="h1", target=release(1).target)
    signed_again = release(1, seq=3)
    chosen = decide([rollout(1), again], [signed_again], held=at(1, floor=2)).candidate
    assert chosen == Candidate(signed_again, again)


def test_a_rollout_that_was_given_up_here_is_not_tried_again_and_no_older_one_steps_in() -> None:
    state = DeviceState(bad=(Bad("h2", "r2", Reason.OUTPUT),))
    checked = decide([rollout(1), rollout(2)], state=state)
    assert checked.candidate is None and "given up on this device (output)" in checked.detail


def test_the_same_bytes_under_another_rollout_may_be_tried_again() -> None:
    state = DeviceState(bad=(Bad("h1", "r1", Reason.OUTPUT),))
    again = rollout(2, sha256="h1", target=release(1).target)
    assert decide([rollout(1), again], [release(1)], state=state).candidate == Candidate(release(1), again)


def test_a_pinned_model_is_left_alone() -> None:
    checked = decide([rollout(2)], held=at(1, pinned=True))
    assert checked.candidate is None and checked.refused is None and "pinned" in checked.detail


def test_nothing_begins_before_its_time_and_the_time_is_told() -> None:
    checked = decide([rollout(not_before="2027-01-15T13:00:00Z")])
    assert checked.candidate is None
    assert checked.retry_ns == NOON_NS + 3600 * 10**9
    assert decide([rollout(not_before="2027-01-15T13:00:00+02:00")]).candidate is not None


@pytest.mark.parametrize(
    ("signed", "reason"),
    [
        ({"seq": 4}, Reason.SEQUENCE),
        ({"profiles": ("jetson", "pi4")}, Reason.PROFILE),
        ({"agent": "1.3"}, Reason.AGENT),
        ({"sha256": "other"}, Reason.ROLLOUT_REFUSED),
        ({"name": "gate"}, Reason.ROLLOUT_REFUSED),
        ({"target": "models/hall/other.tflite"}, Reason.ROLLOUT_REFUSED),
    ],
)
def test_a_release_that_may_not_run_here_is_refused_under_its_reason(signed: dict, reason: Reason) -> None:
    checked = decide([rollout(9)], [release(9, **signed)], held=at(1, floor=5))
    assert checked.candidate is None and checked.refused is not None
    assert (checked.refused.state, checked.refused.reason) == (UpdateState.REJECTED, reason)
    assert (checked.refused.model, checked.refused.rollout, checked.refused.sha256) == ("hall", "r9", "h9")
    assert checked.detail == checked.refused.detail and checked.refused.wall_ns == NOON_NS


@pytest.mark.parametrize(
    "fields", [{"not_before": "tomorrow"}, {"not_before": "2027-01-15T13:00:00"}, {"window": "2-5"}]
)
def test_a_rollout_that_says_nonsense_is_refused(fields: dict) -> None:
    refused = decide([rollout(1, **fields)]).refused
    assert refused is not None and refused.reason is Reason.ROLLOUT_REFUSED


@pytest.mark.parametrize(
    ("wants", "fits"), [("", True), ("1", True), ("1.2", True), ("1.2.0", True), ("1.2.1", False), ("1.10", False)]
)
def test_the_least_version_of_the_agent_is_compared_as_numbers(wants: str, fits: bool) -> None:
    assert (decide([rollout()], [release(agent=wants)]).candidate is not None) is fits


def test_the_sequence_number_that_the_floor_came_from_may_be_fetched_again() -> None:
    """The disk lost the slot, and the device fell back below it."""
    assert decide([rollout(5)], held=at(4, floor=5)).candidate is not None


def test_a_device_that_is_named_for_a_model_that_it_lacks_says_so_and_others_stay_silent() -> None:
    named = rollout(1, model="gate", to=Audience(devices=("cam",)))
    refused = decide([named], [release(1, name="gate")]).refused
    assert refused is not None and refused.reason is Reason.INCOMPATIBLE and "hall" in refused.detail
    assert decide([replace(named, to=EVERYONE)]).refused is None


def test_each_model_has_its_own_newest_rollout_and_the_older_one_comes_first() -> None:
    device = replace(CAM, models=frozenset({"hall", "gate"}))
    gate = rollout(2, model="gate")
    channel = Channel(schema="edge-agent/rollouts/1", channel="main", rollouts=(rollout(3), gate, rollout(1)))
    assert [one.id for one in wanted(channel, device)] == ["r2", "r3"]
    chosen = decide(channel.rollouts, [release(2, name="gate"), release(3)], device=device).candidate
    assert chosen is not None and chosen.rollout == gate


def test_nothing_for_this_device_is_said_as_that() -> None:
    assert decide([]).detail == "no rollout means this device"
