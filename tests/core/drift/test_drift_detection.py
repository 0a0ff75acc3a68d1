"""Small versions of benchmarks/drift.py: drift of every kind is found within hours and named, and no drift is not."""

from __future__ import annotations

from copy import deepcopy

import pytest

from benchmarks.drift_streams import DAY_ROWS, HOUR_ROWS, REGIMES, Regime, Stream, representative
from benchmarks.drift_watch import Alarm, Device, reference_of
from edge_agent.monitoring import Level
from tests.core.drift.small_world import NAMES, small_world

WORLD = small_world()
BY_NAME = {regime.name: regime for regime in REGIMES}
MOD = BY_NAME["mod"]
LEARN_DAYS = 3

FOUND_WITHIN = {
    "mean": (14, {"temperature"}),
    "ramp": (32, {"temperature"}),
    "variance": (10, {"temperature"}),
    "class prior": (16, {"digit.class"}),
    "blur": (3, {"image.contrast", "image.sharpness"}),
    "noise": (6, {"image.sharpness", "digit.confidence"}),
    "dark": (6, {"image.brightness", "image.contrast"}),
    "stuck": (4, {"temperature"}),
    "missing": (4, {"temperature"}),
}
"""Scenario: hours to a warning, and the features of which at least one is named then."""


def device_of(regime: Regime, days: float, seed: int) -> Device:
    return Device(NAMES, reference_of(NAMES, representative(WORLD, regime, 2000, 100 + seed)), days, seed)


def watch(device: Device, stream: Stream, hours: int) -> list[Alarm]:
    """Up to the first warning."""
    alarms: list[Alarm] = []
    for _ in range(hours):
        alarms += device.see(stream.rows(HOUR_ROWS))
        if any(alarm.warning for alarm in alarms):
            break
    return alarms


@pytest.fixture(scope="module")
def learnt() -> tuple[Device, Stream]:
    """A device at the end of its learning, and its stream."""
    device, stream = device_of(MOD, LEARN_DAYS, 3), Stream(WORLD, MOD, 3)
    device.learn(stream)
    return device, stream


@pytest.mark.parametrize("scenario", FOUND_WITHIN)
def test_a_change_is_a_warning_within_hours_and_names_its_feature(learnt: tuple[Device, Stream], scenario: str) -> None:
    device, stream = deepcopy(learnt)
    stream.scenario, stream.onset = scenario, stream.position
    most_hours, features = FOUND_WITHIN[scenario]
    alarms = watch(device, stream, most_hours)
    named = {name for alarm in alarms for name in alarm.features}
    assert alarms and alarms[-1].warning, f"{scenario} is no warning after {most_hours} hours: {alarms}"
    assert named & features, named


def test_a_level_stays_while_the_change_does_and_falls_when_it_is_over(learnt: tuple[Device, Stream]) -> None:
    device, stream = deepcopy(learnt)
    stream.scenario, stream.onset = "dark", stream.position
    watch(device, stream, 12)
    device.see(stream.rows(DAY_ROWS))
    assert device.monitor.view().level in (Level.WARNING, Level.CRITICAL)
    stream.scenario = ""
    for _ in range(3):
        device.see(stream.rows(DAY_ROWS))
    assert device.monitor.view().level in (Level.OK, Level.INFO)


@pytest.mark.parametrize("regime", ["mod", "daily cycle"])
def test_a_stream_without_drift_raises_no_warning(regime: str) -> None:
    device, stream = device_of(BY_NAME[regime], LEARN_DAYS, 1), Stream(WORLD, BY_NAME[regime], 1)
    device.learn(stream)
    alarms = [alarm for _ in range(3) for alarm in device.see(stream.rows(DAY_ROWS))]
    assert len(alarms) <= 1 and not any(alarm.warning for alarm in alarms), alarms


def test_features_whose_days_differ_are_found_and_judged_by_days() -> None:
    regime = BY_NAME["day levels 0.5"]
    device, stream = device_of(regime, 7, 2), Stream(WORLD, regime, 2)
    device.learn(stream)
    daily = device.monitor.view().learning.daily
    assert {"temperature", "pressure", "humidity"} <= set(daily)
    assert "image.sharpness" not in daily
    alarms = [alarm for _ in range(3) for alarm in device.see(stream.rows(DAY_ROWS))]
    assert len(alarms) <= 1 and not any(alarm.warning for alarm in alarms), alarms


@pytest.mark.soak
@pytest.mark.parametrize("regime", BY_NAME)
def test_false_alarms_are_as_rare_as_promised(regime: str) -> None:
    """80 device-days after two weeks: one info alarm in 30 days, one warning in a year, with room for chance."""
    alarms: list[Alarm] = []
    for seed in range(4):
        device, stream = device_of(BY_NAME[regime], 14, seed), Stream(WORLD, BY_NAME[regime], seed)
        device.learn(stream)
        alarms += [alarm for _ in range(20) for alarm in device.see(stream.rows(DAY_ROWS))]
    assert len(alarms) <= 6 and sum(alarm.warning for alarm in alarms) <= 2, alarms
