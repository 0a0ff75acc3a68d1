"""The rules of data quality: what raises them, when, and when they are over; and the counts that are published."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from edge_agent.core.card_schema import Budgets, Feature, FeaturesInput, Golden
from edge_agent.core.data_quality import CAMERA, COLUMNS, PICTURES, CameraLook, Quality, state_of
from edge_agent.core.model_card import ResolvedCard
from edge_agent.core.preprocess import FeaturePreprocessor
from edge_agent.core.quality import FrameQuality
from edge_agent.monitoring import Level, LevelChange, Moment, Observation
from edge_agent.records import AlignedReading, Flag
from tests.core.tensors import spec

SECOND = 10**9
HALF = SECOND // 2  # observations come twice a second
WALL = 1_700_000_000 * SECOND
FEATURES = (Feature(name="temperature", mean=20, std=10, clip=3.0), Feature(name="vibration"))


def card(features: Sequence[Feature] = FEATURES) -> ResolvedCard:
    inputs = (FeaturesInput(tensor="s", features=tuple(features)),) if features else ()
    return ResolvedCard("m", "1", (), inputs, (), (), {}, Budgets(), Golden(), ())


def moment(mono_ns: int, synced: bool = True) -> Moment:
    return Moment(mono_ns, WALL + mono_ns, synced)


class Device:
    """A pipeline seen twice a second, whose quality is looked at with every observation; ``changes`` are all so far."""

    def __init__(self, fps: float | None = None, live: bool = True, features: Sequence[Feature] = FEATURES):
        self.quality = Quality(card(features), [spec("s", (1, max(1, len(features))), "float32")], fps, live)
        self.now_ns = 0
        self.rate = 30.0
        self.frames = 0.0
        self.state = "streaming"
        self.counts = {"predictions": 0, "lacking": 0}
        self.changes: list[LevelChange] = []

    def run(self, seconds: float, quality: tuple[str, ...] = (), step_ns: int = HALF, **flags: Any) -> list[str]:
        """The changes of this time, as "subject word-of-level". ``flags``: by feature."""
        found = len(self.changes)
        for _ in range(round(seconds * SECOND / step_ns)):
            self.now_ns += step_ns
            self.frames += self.rate * step_ns / SECOND
            readings = {
                name: AlignedReading(None if Flag.MISSING in said else 1.0, "", 0, said) for name, said in flags.items()
            }
            features = {feature.name: feature.mean for feature in FEATURES}
            self.quality.observe(Observation(self.now_ns, features, readings, None, {}, {}, quality))
            self.look()
        return [f"{change.feature} {change.after.value}" for change in self.changes[found:]]

    def look(self) -> None:
        look = CameraLook(self.state, int(self.frames), **self.counts)
        self.changes += self.quality.look(moment(self.now_ns), look)

    def without_frames(self, seconds: int) -> list[str]:
        found = len(self.changes)
        for _ in range(seconds):
            self.now_ns += SECOND
            self.look()
        return [f"{change.feature} {change.after.value}" for change in self.changes[found:]]

    def faults(self) -> list[str]:
        return [f"{subject} {word}" for subject, word, _ in self.quality.faults]


# --- the camera ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("word", "level"), [("black", Level.CRITICAL), ("frozen", Level.CRITICAL), ("overexposed", Level.WARNING)]
)
def test_a_word_about_the_pictures_alarms_within_two_seconds_and_is_over_as_soon(word: str, level: Level):
    device = Device()
    assert device.run(10) == []
    assert device.run(1.5, quality=(word,)) == [f"camera {level.value}"]
    assert device.quality.level is level
    assert device.faults() == [f"camera {word}"]
    assert word in device.changes[-1].why
    assert "look at" in device.changes[-1].why
    assert device.run(600, quality=(word,)) == []
    assert device.run(1.5) == ["camera ok"]
    assert device.changes[-1].before is level
    assert device.changes[-1].why == f"the camera: no longer {word}, after 602 s"
    assert device.quality.level is Level.OK


def test_one_odd_picture_is_no_fault():
    device = Device()
    for _ in range(20):
        assert device.run(1, quality=("black",)) == []
        assert device.run(0.5) == []


def test_every_word_is_a_fault_of_its_own_and_the_worst_is_the_level():
    device = Device()
    assert device.run(2, quality=("overexposed",)) == ["camera warning"]
    assert device.run(2, quality=("overexposed", "frozen")) == ["camera critical"]
    assert device.quality.level is Level.CRITICAL
    assert device.run(2, quality=("overexposed",)) == ["camera ok"]
    assert device.quality.level is Level.WARNING


def test_a_lost_camera_alarms_at_the_next_look_and_what_its_pictures_were_is_forgotten():
    device = Device()
    device.run(5, quality=("black",))
    device.state = "lost"
    assert device.without_frames(1) == ["camera ok", "camera critical"]
    assert device.faults() == ["camera disconnected"]
    assert device.without_frames(3600) == []
    device.state = "streaming"
    assert device.run(1) == ["camera ok"]


@pytest.mark.parametrize(
    ("own", "further", "state"),
    [
        ("streaming", [], "streaming"),
        ("streaming", ["opening", "lost"], "lost"),
        ("opening", ["streaming"], "opening"),
        ("streaming", ["ended"], "streaming"),  # its last picture may be all that is wanted of it
        ("lost", ["streaming"], "lost"),
    ],
)
def test_a_pipeline_whose_further_camera_is_lost_has_lost_its_pictures(own: str, further: list[str], state: str):
    assert state_of(own, further) == state


@pytest.mark.parametrize("state", ["opening", "ended"])
def test_a_camera_that_opens_or_has_come_to_its_end_is_well(state: str):
    device = Device(fps=30)
    device.state = state
    assert device.without_frames(600) == []


def test_the_words_are_those_that_the_look_at_frames_says():
    looked, black = FrameQuality(), np.zeros((64, 64, 3), np.uint8)
    said = {word for at in range(30) for word in looked.check(black, at * SECOND)}
    said |= set(FrameQuality().check(black + 255, 0))
    assert said == set(PICTURES)


# --- the frame rate -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rate", [20.0, 40.0, 0.0])
def test_a_rate_a_quarter_off_the_configured_one_warns_after_a_minute(rate: float):
    device = Device(fps=30)
    assert device.run(300) == []
    device.rate = rate
    assert device.run(125) == ["camera warning"]
    assert f"{rate:g}" in device.changes[-1].why or "frames a second instead of 30" in device.changes[-1].why
    device.rate = 30.0
    assert device.run(125) == ["camera ok"]


def test_without_a_configured_rate_it_is_learnt_in_five_minutes():
    device = Device()
    device.rate = 12.5
    assert device.run(310) == []
    report: Any = device.quality.take_report()
    assert report["fps"] == pytest.approx([12.5, 12.5], rel=0.02)
    device.rate = 6.0
    assert device.run(125) == ["camera warning"]


def test_one_frame_an_hour_is_a_rate_like_another():
    device = Device()
    device.rate = 1 / 3600
    hour = 3600 * SECOND
    assert device.run(3600 * 31 * 5, step_ns=hour) == []
    report: Any = device.quality.take_report()
    assert report["fps"] == pytest.approx([1 / 3600, 1 / 3600], rel=0.05)
    device.rate = 1 / 7200
    assert device.run(3600 * 70, step_ns=hour) == ["camera warning"]


def test_a_gap_without_the_camera_is_no_slow_rate():
    device = Device(fps=30)
    device.run(100)
    device.state = "lost"
    device.without_frames(1000)
    device.state = "streaming"
    assert device.run(200) == ["camera ok"]


def test_a_file_has_no_rate():
    device = Device(fps=30, live=False)
    device.rate = 900.0
    assert device.run(600) == []
    assert device.quality.take_report() == {}


# --- readings -----------------------------------------------------------------------------------------------------


def test_a_stuck_sensor_alarms_at_once_and_is_over_with_another_value():
    device = Device()
    device.run(60)
    assert device.run(1.5, vibration=(Flag.STUCK,)) == ["vibration critical"]
    assert device.run(1.5) == ["vibration ok"]


def test_a_stuck_sensor_that_goes_missing_is_not_known_to_be_well():
    device = Device()
    device.run(5, vibration=(Flag.STUCK,))
    device.run(10, vibration=(Flag.MISSING, Flag.STALE, Flag.FILLED))
    assert device.faults() == ["vibration stuck"]


def test_more_than_half_missing_alarms_within_a_minute_and_less_than_a_quarter_is_over():
    device = Device()
    assert device.run(120) == []
    assert device.run(60, vibration=(Flag.MISSING, Flag.FILLED)) == ["vibration critical"]
    assert "missing" in device.changes[-1].why
    assert device.run(60) == ["vibration ok"]


def test_a_sensor_that_never_came_alarms_half_a_minute_after_the_start():
    device = Device()
    assert device.run(30, vibration=(Flag.MISSING,)) == []
    assert device.run(1, vibration=(Flag.MISSING,)) == ["vibration critical"]


def test_a_sensor_that_comes_up_within_half_a_minute_is_well():
    device = Device()
    assert device.run(14, vibration=(Flag.MISSING,)) == []
    assert device.run(120) == []


def test_a_third_missing_is_published_and_no_alarm():
    device = Device()
    for _ in range(100):
        assert device.run(0.5, vibration=(Flag.MISSING,)) == []
        assert device.run(1) == []
    report: Any = device.quality.take_report()
    assert report["features"] == {"vibration": [100, 0, 0, 0, 0, 0]}


def test_a_share_about_a_half_raises_one_alarm_not_many():
    device = Device()
    rng = np.random.default_rng(3)
    for gone in rng.random(1200) < 0.5:
        device.run(0.5, vibration=(Flag.MISSING,) if gone else ())
    assert len(device.changes) <= 1


def test_more_than_half_out_of_range_warns():
    device = Device()
    device.run(60)
    assert device.run(60, temperature=(Flag.OUT_OF_RANGE,)) == ["temperature warning"]
    assert "out of range" in device.changes[-1].why


def test_at_one_observation_an_hour_a_dead_sensor_is_found_in_as_many_hours_as_make_half_of_ten():
    device = Device(live=False)
    hour = 3600 * SECOND
    assert device.run(3600 * 20, step_ns=hour) == []
    assert device.run(3600 * 10, step_ns=hour, vibration=(Flag.MISSING,)) == ["vibration critical"]


def test_frames_that_are_discarded_for_a_missing_reading_are_a_fault_of_the_pipeline():
    device = Device()
    for second in range(180):
        device.counts["predictions" if second < 60 else "lacking"] += 30
        device.now_ns += SECOND
        device.frames += 30
        device.look()
    assert device.faults() == [" missing"]
    assert device.quality.level is Level.CRITICAL


def test_a_pause_is_no_fault():
    device = Device(fps=30)
    device.run(120)
    assert device.without_frames(30) == []
    device.quality = Quality(card(), [spec("s", (1, 2), "float32")], live=False)
    device.run(60, vibration=(Flag.MISSING,))
    assert device.without_frames(600) == []
    assert device.faults() == ["vibration missing"]  # nothing has shown that it is over


# --- the report ---------------------------------------------------------------------------------------------------


def test_every_flag_is_counted_in_its_column_and_a_report_begins_anew():
    device = Device()
    device.run(2, temperature=(Flag.OUT_OF_RANGE,), vibration=(Flag.MISSING, Flag.STALE, Flag.FILLED))
    device.run(1, vibration=(Flag.MISSING, Flag.INVALID), quality=("black",))
    device.run(1, vibration=(Flag.STUCK, Flag.HELD), quality=("black", "frozen"))
    report: Any = device.quality.take_report()
    named = {name: dict(zip(COLUMNS, counts, strict=True)) for name, counts in report["features"].items()}
    assert named == {
        "temperature": dict.fromkeys(COLUMNS, 0) | {"out_of_range": 4},
        "vibration": {"missing": 6, "stale": 4, "stuck": 2, "out_of_range": 0, "invalid": 2, "clipped": 0},
    }
    assert dict(zip(PICTURES, report["pictures"], strict=True)) == {"black": 4, "overexposed": 0, "frozen": 2}
    assert set(device.quality.take_report()) == {"faults"}


@pytest.mark.parametrize("clip", [None, 3.0])
@pytest.mark.parametrize(
    ("dtype", "scale", "zero"), [("float32", 0.0, 0), ("int8", 0.01, 0), ("uint8", 0.1, 20), ("int16", 1e-3, 0)]
)
def test_a_value_that_the_model_gets_otherwise_is_clipped(dtype: str, scale: float, zero: int, clip: float | None):
    feature, tensor = Feature(name="temperature", mean=20, std=10, clip=clip), spec("s", (1, 1), dtype, scale, zero)
    quality = Quality(card([feature]), [tensor])
    preprocessor = FeaturePreprocessor(tensor, FeaturesInput(tensor="s", features=(feature,)))
    slot, clipped = preprocessor.slot(), 0
    for value in np.linspace(-60, 60, 1999).tolist():
        preprocessor.fill({"temperature": value}, slot)
        got = (float(slot[0, 0]) - zero) * (scale or 1) * 10 + 20
        clipped += abs(got - value) > scale * 10 / 2 + 1e-5
        quality.observe(Observation(0, {"temperature": value}, {}, None, {}, {}))
    report: Any = quality.take_report()
    # what lies within half a step of the clip is rounded to the same either way
    slack = scale * 10 / 0.06 if clip else 0
    assert report.get("features", {"temperature": [0]})["temperature"][-1] == pytest.approx(clipped, abs=slack)


def test_faults_are_reported_with_the_time_they_began_where_the_clock_was_set():
    for synced, since in ((True, "2023-11-14T22:13:20.000Z"), (False, None)):
        quality = Quality(card(), [spec("s", (1, 2), "float32")])
        quality.look(moment(0, synced), CameraLook("lost", 0))
        quality.look(moment(90 * SECOND, True), CameraLook("lost", 0))
        faults = [[CAMERA, "disconnected", "critical", since]]
        assert quality.take_report() == {"camera": "lost", "faults": faults}


def test_a_well_device_reports_its_frame_rate_alone():
    device = Device(fps=30, features=[Feature(name=f"feature.{place}") for place in range(27)])
    device.run(300)
    assert device.quality.take_report() == {"fps": [pytest.approx(30, rel=0.02), 30]}


# --- another model ------------------------------------------------------------------------------------------------


def test_another_model_begins_with_its_own_features_and_the_camera_goes_on():
    device = Device(fps=30)
    device.run(60, quality=("frozen",), vibration=(Flag.STUCK,))
    assert device.faults() == ["camera frozen", "vibration stuck"]
    device.quality.renew(card([Feature(name="pressure")]), [spec("s", (1, 1), "float32")])
    assert device.run(0.5, quality=("frozen",)) == ["vibration ok"]
    assert device.faults() == ["camera frozen"]


def test_a_feature_without_a_reading_is_counted_as_nothing():
    quality = Quality(card(), [spec("s", (1, 2), "float32")])
    for at in range(200):
        quality.observe(Observation(at * HALF, {}, {}, None, {}, {}))
    assert quality.look(moment(100 * SECOND), CameraLook("streaming", 3000)) == []
    assert quality.take_report() == {}
