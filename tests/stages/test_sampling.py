"""Samples of a pipeline on their way into the folder, and the labels that come back to them."""

from __future__ import annotations

from pathlib import Path

import cv2
import msgspec
import numpy as np

from edge_agent.core.drift.bins import FeatureSpec
from edge_agent.core.drift.chance import Chance
from edge_agent.core.feedback import Answer, parse_feedback
from edge_agent.core.sample_choice import SPACING_NS, SampleChoice
from edge_agent.core.wire import Identity
from edge_agent.io.sample_store import SampleFolder, look
from edge_agent.monitoring import Moment, Observation
from edge_agent.records import AlignedReading, Flag, Latency, ModelIdentity, Prediction
from edge_agent.stages.sampling import Choices, Sampling
from edge_agent.stages.watch import Seen
from tests.simulators.kept_samples import BOOT, FIRST_WALL_NS, name_of, picture
from tests.simulators.tiny_models import tiny_engine

ENGINE = tiny_engine("1", features={"warmth": {"unit": "degC"}, "load": {"unit": "N"}})
FEATURES = (FeatureSpec("warmth", "sensor"), FeatureSpec("embedding.distance", "embedding"))
DULL = np.array([20.5, np.nan])
ROOM = 2**20


def moment(seconds: float) -> Moment:
    return Moment(round(seconds * 1e9), FIRST_WALL_NS + round(seconds * 1e9), True)


def seen(number: int, *, published: bool = True) -> Seen:
    latency = Latency(0, 0, 0, 0, 0, 0)
    outputs: dict[str, dict[str, object]] = {"value": {"task": "regression", "value": 0.5, "unit": ""}}
    readings = {
        "warmth": AlignedReading(20.5, "degC", 0),
        "load": AlignedReading(None, "N", None, (Flag.MISSING, Flag.FILLED)),
    }
    prediction = Prediction(
        "inspect", number, number, "arrival", ModelIdentity("tiny", "1", "1"), "cpu", latency, outputs, readings
    )
    observation = Observation(number, {"warmth": 20.5, "load": 0.0}, readings, None, {}, outputs)
    return Seen(ENGINE, observation, prediction, Identity("d", BOOT, number) if published else None, picture(number))


def sampling(store: SampleFolder, pipeline: str = "inspect", choices: Choices | None = None) -> Sampling:
    shared = {} if choices is None else choices
    made = Sampling(pipeline, BOOT, store, shared, SampleChoice(Chance(len(shared))))
    made.begin(FEATURES)
    made.store(moment(0))
    return made


def answer(number: int, wrong: bool, result: str = "counted") -> Answer:
    return Answer(name_of(number), result, wrong=wrong)  # type: ignore[arg-type]


def test_the_best_of_a_minute_is_written_with_all_that_belongs_to_it(tmp_path: Path) -> None:
    stage = sampling(SampleFolder(tmp_path, ROOM))
    stage.offer(seen(1), DULL, moment(1))
    stage.store(moment(59))
    assert look(tmp_path).samples == []
    stage.store(moment(61))
    (sample,) = look(tmp_path).samples
    assert (sample.held.id, sample.held.wall_ns, sample.pipeline) == (name_of(1), moment(1).wall_ns, "inspect")
    assert sample.features == {"warmth": 20.5, "load": None}
    assert sample.units == {"warmth": "degC", "load": "N"}
    assert sample.tensors == ("image",)
    assert (tmp_path / sample.picture).is_file()
    assert msgspec.json.decode(sample.prediction)["id"] == name_of(1)
    assert (stage.kept, stage.lost) == (1, 0)


def test_the_strangest_row_of_a_minute_is_kept_as_that(tmp_path: Path) -> None:
    stage = sampling(SampleFolder(tmp_path, ROOM))
    for number in range(20):
        stage.offer(seen(number), np.array([20.5, 9.0 if number == 13 else 1.0]), moment(number))
    stage.store(moment(61))
    reasons = {sample.held.reason: sample.held.id for sample in look(tmp_path).samples}
    assert reasons["unusual"] == name_of(13)
    assert set(reasons) == {"random", "unusual"}


def test_what_was_not_published_is_kept_under_a_name_of_its_own(tmp_path: Path) -> None:
    stage = sampling(SampleFolder(tmp_path, ROOM))
    stage.offer(seen(7, published=False), DULL, moment(1))
    stage.store(moment(61))
    (sample,) = look(tmp_path).samples
    assert sample.held.id == f"{BOOT}-inspect-frame7"
    assert msgspec.json.decode(sample.prediction)["id"] is None


def test_a_label_is_put_to_its_sample_and_a_wrong_one_changes_its_reason(tmp_path: Path) -> None:
    stage = sampling(SampleFolder(tmp_path, ROOM))
    for number in (1, 2):
        stage.offer(seen(number), DULL, moment(60 * number))
        stage.store(moment(60 * number + 61))
    for number, wrong in ((1, False), (2, True), (3, True)):
        payload = msgspec.json.encode({"id": name_of(number), "label": 1.5})
        stage.answered(parse_feedback(payload), answer(number, wrong), ["value"], moment(300))
    samples = {sample.held.id: sample for sample in look(tmp_path).samples}
    assert [samples[name_of(number)].labels for number in (1, 2)] == [{"value": 1.5}] * 2
    assert [samples[name_of(number)].held.reason for number in (1, 2)] == ["random", "mislabelled"]
    again = sampling(SampleFolder(tmp_path, ROOM))
    again.offer(seen(2), DULL, moment(400))
    again.store(moment(500))
    assert len(look(tmp_path).samples) == 2  # it is known to be there


def test_a_label_that_was_not_taken_changes_nothing(tmp_path: Path) -> None:
    stage = sampling(SampleFolder(tmp_path, ROOM))
    stage.offer(seen(1), DULL, moment(1))
    stage.store(moment(61))
    payload = msgspec.json.encode({"id": name_of(1), "label": 1.5})
    stage.answered(parse_feedback(payload), answer(1, True, "late"), ["value"], moment(70))
    assert look(tmp_path).samples[0].labels == {}


def test_a_disk_that_fails_loses_samples_and_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "samples").write_text("no folder")
    stage = sampling(SampleFolder(tmp_path / "samples", ROOM))
    stage.offer(seen(1), DULL, moment(1))
    stage.store(moment(61))
    assert (stage.kept, stage.lost) == (0, 1)
    assert "samples" in stage.failure()
    assert stage.failure() == ""  # told once
    (tmp_path / "samples").unlink()
    stage.offer(seen(2), DULL, moment(62))
    stage.store(moment(122))
    assert (stage.kept, stage.lost, stage.failure()) == (1, 1, "")


def test_damaged_samples_are_told_once(tmp_path: Path) -> None:
    (tmp_path / "bad.json").write_text("{")
    store, choices = SampleFolder(tmp_path, ROOM), Choices()
    assert [sampling(store, name, choices).failure() for name in ("a", "b")] == ["1 damaged samples were set aside", ""]


def test_pipelines_that_share_the_room_hear_what_had_to_go(tmp_path: Path) -> None:
    choices: Choices = {}
    store = SampleFolder(tmp_path, 6_000)
    one, other = (sampling(store, name, choices) for name in ("a", "b"))
    for number in range(20):
        for stage in (one, other):
            stage.offer(seen(number), DULL, Moment(number * SPACING_NS, number, True))
            stage.store(Moment((number + 1) * SPACING_NS, number, True))
    kept = {held.id for name in ("a", "b") for held in store.held(name)}
    assert 0 < len(kept) < 20
    assert {name for choice in choices.values() for name in choice.known()} == kept


def test_a_picture_is_kept_as_the_camera_took_it(tmp_path: Path) -> None:
    stage = sampling(SampleFolder(tmp_path, ROOM))
    stage.offer(seen(5), DULL, moment(1))
    stage.store(moment(61))
    stored = cv2.imread(str(tmp_path / look(tmp_path).samples[0].picture))
    assert stored is not None
    assert np.abs(stored.astype(int) - picture(5)).mean() < 2
