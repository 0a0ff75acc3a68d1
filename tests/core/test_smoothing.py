"""Smoothed outputs against means computed from the whole window."""

from __future__ import annotations

import copy

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_agent.core.smoothing import Smoother


def classification(**scores):
    classes = [{"label": label, "index": ord(label), "score": score} for label, score in scores.items()]
    return {"out": {"task": "classification", "classes": classes}}


def scores(outputs):
    return {item["label"]: item["score"] for item in outputs["out"]["classes"]}


predictions = st.lists(
    st.dictionaries(st.sampled_from("abcde"), st.floats(0, 1), max_size=4).map(lambda them: classification(**them)),
    max_size=30,
)
numbers = st.floats(-1e6, 1e6)


@given(predictions, st.integers(2, 8))
def test_a_label_has_the_mean_of_its_scores_over_the_window_with_zero_where_it_was_absent(stream, window):
    smoother = Smoother(window)
    for at, outputs in enumerate(stream):
        before = copy.deepcopy(outputs)
        smoothed = smoother.smooth(outputs)
        assert outputs == before
        past = [scores(outputs) for outputs in stream[max(0, at + 1 - window) : at + 1]]
        means = {label: sum(one.get(label, 0.0) for one in past) / len(past) for one in past for label in one}
        got = [item["score"] for item in smoothed["out"]["classes"]]
        assert got == pytest.approx(sorted(means.values(), reverse=True)[: len(scores(outputs))], rel=1e-6, abs=1e-9)
        assert got == sorted(got, reverse=True)
        assert scores(smoothed) == pytest.approx(
            {label: means[label] for label in scores(smoothed)}, rel=1e-6, abs=1e-9
        )
        assert all(item["index"] == ord(item["label"]) for item in smoothed["out"]["classes"])


@given(st.lists(numbers, min_size=1, max_size=30), st.integers(2, 8))
def test_a_value_and_a_score_are_the_mean_of_the_window(values, window):
    smoother = Smoother(window)
    for at, value in enumerate(values):
        smoothed = smoother.smooth(
            {
                "r": {"task": "regression", "value": value, "unit": "mm"},
                "n": {"task": "anomaly", "score": value, "anomalous": value >= 3.0, "threshold": 3.0},
            }
        )
        past = values[max(0, at + 1 - window) : at + 1]
        mean = pytest.approx(sum(past) / len(past), rel=1e-6, abs=1e-6)
        assert smoothed["r"] == {"task": "regression", "value": mean, "unit": "mm"}
        assert smoothed["n"]["score"] == mean
        assert smoothed["n"]["anomalous"] == (smoothed["n"]["score"] >= 3.0)
        assert smoothed["n"]["threshold"] == 3.0


def test_one_odd_frame_does_not_flip_the_label():
    smoother = Smoother(3)
    stream = [classification(a=0.9, b=0.1), classification(a=0.8, b=0.2), classification(b=0.7, a=0.3)]
    assert next(iter(scores([smoother.smooth(outputs) for outputs in stream][-1]))) == "a"


def test_a_label_that_has_left_the_window_never_takes_the_place_of_one_that_is_in_it():
    smoother = Smoother(2)
    stream = [classification(a=0.5), classification(b=0.0), classification(b=0.0)]
    assert scores([smoother.smooth(outputs) for outputs in stream][-1]) == {"b": 0.0}


def test_equal_means_are_ordered_by_index():
    assert list(scores(Smoother(2).smooth(classification(c=0.5, a=0.5)))) == ["a", "c"]


def test_a_huge_outlier_leaves_nothing_behind_once_it_has_left_the_window():
    smoother = Smoother(2)
    for value in (1e300, 0.1, 0.3):
        smoothed = smoother.smooth({"r": {"task": "regression", "value": value, "unit": ""}})
    assert smoothed["r"]["value"] == pytest.approx(0.2)


def test_without_a_threshold_the_verdict_stays_as_it_was():
    smoother = Smoother(2)
    smoother.smooth({"n": {"task": "anomaly", "score": 0.0, "anomalous": False}})
    smoothed = smoother.smooth({"n": {"task": "anomaly", "score": 8.0, "anomalous": True}})
    assert smoothed == {"n": {"task": "anomaly", "score": 4.0, "anomalous": True}}


def test_detections_and_a_window_of_one_are_left_untouched():
    boxes = {"d": {"task": "detection", "boxes": [{"label": "a", "index": 0, "score": 0.5, "box": [0, 0, 1, 1]}]}}
    assert Smoother(5).smooth(boxes)["d"] is boxes["d"]
    outputs = classification(a=1.0)
    assert Smoother(1).smooth(outputs) is outputs


def test_after_a_reset_the_past_has_no_say():
    smoother = Smoother(5)
    smoother.smooth(classification(a=1.0))
    smoother.reset()
    assert scores(smoother.smooth(classification(b=0.5))) == {"b": 0.5}
