"""One observation as a row of numbers: which features there are, where each comes from, and what is missing."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_agent.core.card_schema import (
    AnomalyOutput,
    Budgets,
    ClassificationOutput,
    DetectionOutput,
    Feature,
    FeaturesInput,
    Golden,
    ImageInput,
    OutputCard,
    RegressionOutput,
)
from edge_agent.core.decode import Decoder
from edge_agent.core.drift.bins import FeatureSpec
from edge_agent.core.drift.observe import Observer
from edge_agent.core.model_card import ResolvedCard
from edge_agent.core.picture import NAMES, NAMES_GRAY
from edge_agent.errors import ModelError
from edge_agent.monitoring import Observation, Projection
from edge_agent.records import AlignedReading, Array, Crossing, Flag, TensorSpec
from tests.core.tensors import spec

SENSORS = FeaturesInput(
    tensor="s", features=(Feature(name="temperature", unit="degC", range=(-20, 80)), Feature(name="vibration"))
)


def card(
    *outputs: OutputCard,
    images: tuple[ImageInput, ...] = (),
    features: tuple[FeaturesInput, ...] = (),
    labels: dict[str, tuple[str, ...]] | None = None,
) -> ResolvedCard:
    return ResolvedCard("m", "1", images, features, (), outputs, labels or {}, Budgets(), Golden(), ())


def observation(**said: Any) -> Observation:
    plain = {"mono_ns": 0, "features": {}, "readings": {}, "image": None, "outputs": {}, "decoded": {}}
    return Observation(**{**plain, **said})


def outputs_of(raw: dict[str, Array], observer: Observer) -> dict[str, float]:
    row = observer.row(observation(outputs=raw))
    return {item.name: float(value) for item, value in zip(observer.names, row, strict=True)}


def classified(raw: Array, tensor: TensorSpec, **said: Any) -> dict[str, float]:
    head = ClassificationOutput(tensor=tensor.name, **said)
    return outputs_of({tensor.name: raw}, Observer(card(head), [tensor]))


# --- which features -----------------------------------------------------------------------------------------------


def test_sensors_come_first_then_the_picture_then_each_output_and_the_embedding():
    heads = (
        ClassificationOutput(tensor="p", name="state"),
        DetectionOutput(boxes="b", classes="c", scores="q", count="n", name="parts"),
        RegressionOutput(tensor="r", name="wear", unit="mm"),
        AnomalyOutput(tensor="a", threshold=1.0, name="odd"),
    )
    tensors = [
        spec("p", (1, 3), "float32"),
        spec("b", (1, 5, 4), "float32"),
        spec("c", (1, 5), "float32"),
        spec("q", (1, 5), "float32"),
        spec("n", (1,), "float32"),
        spec("r", (1, 1), "float32"),
        spec("a", (1, 1), "float32"),
    ]
    labels = {"state": ("good", "bad", "none"), "parts": ("bolt", "nut")}
    whole = card(*heads, images=(ImageInput(tensor="x"),), features=(SENSORS,), labels=labels)
    projection = Projection("p", np.zeros(3, np.float32), np.zeros((3, 8), np.float32), np.ones(3, np.float32))
    names = Observer(whole, tensors, projection).names
    assert [item.name for item in names] == [
        *("temperature", "vibration"),
        *(f"image.{name}" for name in NAMES),
        *("state.confidence", "state.entropy", "state.class", "parts.count", "parts.confidence", "parts.class"),
        *("wear.value", "odd.score"),
        *(f"embedding.{part}" for part in range(8)),
        "embedding.distance",
    ]
    by_name = {item.name: item for item in names}
    assert by_name["temperature"] == FeatureSpec("temperature", "sensor", unit="degC", range=(-20, 80))
    assert by_name["state.class"] == FeatureSpec("state.class", "prediction", "class", labels=labels["state"])
    assert by_name["parts.class"].labels == labels["parts"]
    assert by_name["wear.value"].unit == "mm"
    assert [item.kind for item in names].count("class") == 2
    groups = ["sensor"] * 2 + ["image"] * 7 + ["prediction"] * 8 + ["embedding"] * 9
    assert [item.group for item in names] == groups


def test_a_grey_picture_has_no_colours():
    names = Observer(card(images=(ImageInput(tensor="x", color="gray"),)), []).names
    assert [item.name for item in names] == [f"image.{name}" for name in NAMES_GRAY]


def test_a_reading_that_two_tensors_take_is_one_feature():
    twice = FeaturesInput(tensor="t", features=(Feature(name="temperature", unit="degC"),))
    assert [item.name for item in Observer(card(features=(SENSORS, twice)), []).names] == ["temperature", "vibration"]


# --- readings and pictures ----------------------------------------------------------------------------------------


def readings(**flags: tuple[Flag, ...]) -> dict[str, AlignedReading]:
    return {name: AlignedReading(1.0, "degF", 0, said) for name, said in flags.items()}


@pytest.mark.parametrize("flag", [Flag.MISSING, Flag.FILLED, Flag.INVALID])
def test_where_there_is_no_reading_the_fill_value_is_not_taken_for_one(flag: Flag):
    observer = Observer(card(features=(SENSORS,)), [])
    values = {"temperature": 21.5, "vibration": 3.0}
    row = observer.row(observation(features=values, readings=readings(temperature=(flag,), vibration=())))
    assert np.isnan(row[0])
    assert row[1] == 3.0


@pytest.mark.parametrize("flag", sorted(set(Flag) - {Flag.MISSING, Flag.FILLED, Flag.INVALID}))
def test_a_doubtful_reading_is_taken_as_the_model_got_it(flag: Flag):
    observer = Observer(card(features=(SENSORS,)), [])
    values = {"temperature": 21.5, "vibration": 3.0}
    row = observer.row(observation(features=values, readings=readings(temperature=(flag,), vibration=())))
    assert row.tolist() == [21.5, 3.0]


def test_a_data_set_has_values_without_readings_and_may_lack_one():
    row = Observer(card(features=(SENSORS,)), []).row(observation(features={"vibration": 3.0}))
    assert row.dtype == np.float64
    assert np.isnan(row[0])
    assert row[1] == 3.0


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_what_is_not_finite_is_missing(value: float):
    row = Observer(card(features=(SENSORS,)), []).row(observation(features={"temperature": value, "vibration": 1.0}))
    assert np.isnan(row[0])


def test_the_statistics_of_the_picture_are_taken_over_and_missing_where_there_was_none():
    observer = Observer(card(images=(ImageInput(tensor="x"),), features=(SENSORS,)), [])
    image = tuple(float(value) for value in range(7))
    assert observer.row(observation(image=image))[2:].tolist() == list(image)
    assert np.isnan(observer.row(observation())).all()


# --- classification -----------------------------------------------------------------------------------------------


def test_softmax_has_the_confidence_of_the_best_class_and_the_entropy_of_all():
    found = classified(np.array([[1.0, 3.0, 2.0]], np.float32), spec("p", (1, 3), "float32"), activation="softmax")
    p = np.exp([1.0, 3.0, 2.0]) / np.exp([1.0, 3.0, 2.0]).sum()
    expected = {"class.confidence": p[1], "class.entropy": -(p * np.log(p)).sum(), "class.class": 1}
    assert found == pytest.approx(expected)


def test_scores_as_they_are_count_as_parts_of_their_sum_and_below_zero_as_nothing():
    found = classified(np.array([[0.5, 0.25, -1.0]], np.float32), spec("p", (1, 3), "float32"))
    p = np.array([2 / 3, 1 / 3])
    expected = {"class.confidence": 0.5, "class.entropy": -(p * np.log(p)).sum(), "class.class": 0}
    assert found == pytest.approx(expected)


def test_scores_that_are_all_below_zero_have_a_best_class_and_no_entropy():
    found = classified(np.array([[-4.0, -2.0]], np.float32), spec("p", (1, 2), "float32"))
    assert found == pytest.approx({"class.confidence": -2.0, "class.entropy": math.nan, "class.class": 1}, nan_ok=True)


def test_sigmoids_have_the_sum_of_their_entropies():
    reals = np.array([0.0, 2.0, -1.0])
    found = classified(reals.astype(np.float32)[None], spec("p", (1, 3), "float32"), activation="sigmoid")
    p = 1 / (1 + np.exp(-reals))
    entropy = -(p * np.log(p) + (1 - p) * np.log(1 - p)).sum()
    assert found == pytest.approx({"class.confidence": p[1], "class.entropy": entropy, "class.class": 1})


@pytest.mark.parametrize("activation", ["softmax", "sigmoid"])
@pytest.mark.parametrize("logit", [10.0, 1e3, 3e38])
def test_extreme_logits_have_no_entropy_and_overflow_nowhere(activation: str, logit: float):
    with np.errstate(all="raise", under="ignore"):
        found = classified(np.float32([[logit, -logit]]), spec("p", (1, 2), "float32"), activation=activation)
    assert 0 <= found["class.entropy"] < 0.01
    assert found["class.confidence"] == pytest.approx(1, abs=1e-3)


def test_a_single_logit_is_a_classification_too():
    found = classified(np.float32([[0.0]]), spec("p", (1, 1), "float32"), activation="sigmoid")
    assert found == pytest.approx({"class.confidence": 0.5, "class.entropy": math.log(2), "class.class": 0})


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_scores_that_are_not_finite_are_missing(value: float):
    found = classified(np.float32([[0.1, value]]), spec("p", (1, 2), "float32"), activation="softmax")
    assert all(map(math.isnan, found.values()))


QUANTISED = [
    spec("p", (1, 10_000), "uint8", 1 / 256, 0),
    spec("p", (1, 10_000), "int8", 1 / 256, -128),
    spec("p", (1, 10_000), "int8", 0.07, 20),
    spec("p", (1, 10_000), "uint8"),
]


@pytest.mark.parametrize("tensor", QUANTISED)
@pytest.mark.parametrize("activation", ["none", "softmax", "sigmoid"])
def test_ten_thousand_quantised_classes_have_the_numbers_of_their_real_values(tensor: TensorSpec, activation: str):
    limits = np.iinfo(tensor.dtype)
    raw = np.random.default_rng(1).integers(limits.min, limits.max, (1, 10_000), tensor.dtype, endpoint=True)
    reals = (raw.astype(np.float64) - tensor.zero_point) * (tensor.scale or 1)
    expected = classified(reals, spec("p", (1, 10_000), "float64"), activation=activation)
    assert classified(raw, tensor, activation=activation) == pytest.approx(expected, rel=1e-9)


@settings(max_examples=60, deadline=None)
@given(
    scores=st.lists(st.integers(-128, 127), min_size=2, max_size=400),
    activation=st.sampled_from(["none", "softmax", "sigmoid"]),
)
def test_class_and_confidence_are_those_that_are_published(scores: list[int], activation: Any):
    tensor = spec("p", (1, len(scores)), "int8", 0.03125, 3)
    raw = np.array([scores], np.int8)
    head = ClassificationOutput(tensor="p", activation=activation)
    published: Any = Decoder(card(head), [tensor]).decode({"p": raw}, Crossing())["class"]
    found = classified(raw, tensor, activation=activation)
    assert found["class.class"] == published["classes"][0]["index"]
    assert found["class.confidence"] == pytest.approx(published["classes"][0]["score"], rel=1e-6)
    if activation == "softmax":
        assert -1e-9 <= found["class.entropy"] <= math.log(len(scores)) + 1e-9


# --- other outputs ------------------------------------------------------------------------------------------------

DETECTOR = [
    spec("b", (1, 4, 4), "float32"),
    *(spec(name, (1, 4), "float32") for name in "cq"),
    spec("n", (1,), "float32"),
]


def detected(scores: list[float], classes: list[float], **said: Any) -> dict[str, float]:
    head = DetectionOutput(boxes="b", classes="c", scores="q", count="n", **said)
    boxes = np.float32([[[0.1, 0.1, 0.5, 0.5]] * 4])
    raw = {"b": boxes, "c": np.float32([classes]), "q": np.float32([scores]), "n": np.float32([4])}
    return outputs_of(raw, Observer(card(head), DETECTOR))


def test_of_boxes_the_number_the_best_score_and_its_class():
    found = detected([0.6, 0.9, 0.4, 0.1], [3, 7, 3, 3])
    assert found == pytest.approx({"objects.count": 2, "objects.confidence": 0.9, "objects.class": 7})
    assert detected([0.6, 0.9, 0.4, 0.1], [3, 7, 3, 3], threshold=0.3)["objects.count"] == 3


def test_no_box_is_none_of_any_class():
    found = detected([0.1] * 4, [1] * 4)
    assert found == pytest.approx(
        {"objects.count": 0, "objects.confidence": math.nan, "objects.class": math.nan}, nan_ok=True
    )


def test_boxes_that_can_not_be_read_are_missing():
    assert all(map(math.isnan, detected([math.nan] * 4, [1] * 4).values()))


def test_a_regression_is_in_its_own_unit_and_an_anomaly_is_its_score():
    heads = (RegressionOutput(tensor="r", element=1, scale=10, offset=2), AnomalyOutput(tensor="a", threshold=5))
    tensors = [spec("r", (1, 2), "int8", 0.5, -10), spec("a", (1, 1), "float32")]
    observer = Observer(card(*heads), tensors)
    raw = {"r": np.int8([[0, 10]]), "a": np.float32([[6.5]])}
    assert outputs_of(raw, observer) == {"value.value": 102.0, "anomaly.score": 6.5}
    raw["r"], raw["a"] = np.int8([[0, 0]]), np.float32([[math.nan]])  # one that can't be read leaves the others
    assert outputs_of(raw, observer) == pytest.approx({"value.value": 52.0, "anomaly.score": math.nan}, nan_ok=True)


# --- embedding ----------------------------------------------------------------------------------------------------


def test_an_embedding_is_projected_and_its_distance_counts_each_element_in_its_own_variance():
    rng = np.random.default_rng(0)
    mean, variance = rng.normal(size=40).astype(np.float32), rng.uniform(0.5, 2, 40).astype(np.float32)
    components = rng.normal(size=(40, 8)).astype(np.float32)
    tensor = spec("e", (1, 2, 20), "int8", 0.05, 4)
    observer = Observer(card(), [tensor], Projection("e", mean, components, 1 / variance))
    raw = rng.integers(-128, 128, (1, 2, 20)).astype(np.int8)
    away = (raw.reshape(-1).astype(float) - 4) * 0.05 - mean
    found = list(outputs_of({"e": raw}, observer).values())
    assert found[:8] == pytest.approx((away @ components).tolist(), rel=1e-5)
    assert found[8] == pytest.approx(math.sqrt((away**2 / variance).sum()), rel=1e-5)


@pytest.mark.parametrize(
    ("tensor", "components", "text"),
    [
        ("f", (4, 8), 'projects "f", but the outputs are e, p'),
        ("e", (5, 8), '"e" has 4'),
        ("e", (4, 7), "edge-convert baseline"),
    ],
)
def test_a_projection_of_another_model_is_refused(tensor: str, components: tuple[int, int], text: str):
    size = components[0]
    projection = Projection(tensor, np.zeros(size), np.zeros(components), np.ones(size))
    with pytest.raises(ModelError, match=text):
        Observer(card(), [spec("e", (1, 4), "float32"), spec("p", (1, 2), "float32")], projection)
