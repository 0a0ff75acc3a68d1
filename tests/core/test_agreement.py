"""Two models' decoded outputs, compared as somebody who acts on them would."""

from __future__ import annotations

import pytest

from edge_agent.core.agreement import Agreement, overlap


def classes(*labels: str) -> dict:
    return {"task": "classification", "classes": [{"label": label, "index": 0, "score": 0.5} for label in labels]}


def boxes(*found: tuple[str, list[float]]) -> dict:
    return {
        "task": "detection",
        "boxes": [{"label": label, "index": 0, "score": 0.9, "box": box} for label, box in found],
    }


def value(number: float, unit: str = "mm") -> dict:
    return {"task": "regression", "value": number, "unit": unit}


def anomaly(anomalous: bool) -> dict:
    return {"task": "anomaly", "score": 0.3, "anomalous": anomalous, "threshold": 0.5}


BOX, NEAR, FAR = [0.1, 0.1, 0.3, 0.3], [0.11, 0.11, 0.3, 0.3], [0.6, 0.6, 0.9, 0.9]


@pytest.mark.parametrize(
    ("live", "candidate", "expected"),
    [
        (classes("cat", "dog"), classes("cat", "fox"), 1.0),
        (classes("cat", "dog"), classes("dog", "cat"), 0.0),
        (classes(), classes(), 1.0),
        (classes(), classes("cat"), 0.0),
        (boxes(), boxes(), 1.0),
        (boxes(("a", BOX)), boxes(("a", NEAR)), 1.0),
        (boxes(("a", BOX)), boxes(("b", NEAR)), 0.0),
        (boxes(("a", BOX)), boxes(("a", FAR)), 0.0),
        (boxes(("a", BOX), ("a", FAR)), boxes(("a", NEAR)), 2 / 3),
        (boxes(("a", BOX)), boxes(("a", NEAR), ("a", NEAR)), 2 / 3),
        (value(100.0), value(104.0), 1.0),
        (value(100.0), value(106.0), 0.0),
        (value(100.0), value(100.0, "cm"), 0.0),
        (value(0.0), value(0.1), 0.0),
        (anomaly(True), anomaly(True), 1.0),
        (anomaly(True), anomaly(False), 0.0),
        (classes("cat"), anomaly(True), 0.0),
    ],
)
def test_one_sample_agrees_as_far_as_its_output_does(live: dict, candidate: dict, expected: float) -> None:
    assert Agreement().add({"x": live}, {"x": candidate}) == pytest.approx(expected)


def test_an_output_that_the_candidate_has_not_does_not_agree_and_further_ones_do_not_count() -> None:
    agreement = Agreement()
    assert agreement.add({"x": classes("a"), "y": anomaly(True)}, {"x": classes("a"), "z": anomaly(True)}) == 0.5


def test_the_share_is_the_mean_over_samples() -> None:
    agreement = Agreement()
    assert (agreement.samples, agreement.share) == (0, 1.0)
    for label in ("a", "a", "b", "a"):
        agreement.add({"x": classes("a")}, {"x": classes(label)})
    assert (agreement.samples, agreement.share) == (4, 0.75)


def test_near_zero_a_value_may_differ_by_a_share_of_the_range_that_was_seen() -> None:
    agreement = Agreement()
    agreement.add({"x": value(-10.0)}, {"x": value(-10.0)})
    agreement.add({"x": value(10.0)}, {"x": value(10.0)})
    assert agreement.add({"x": value(0.0)}, {"x": value(0.9)}) == 1.0
    assert agreement.add({"x": value(0.0)}, {"x": value(1.1)}) == 0.0


def test_boxes_without_an_area_do_not_overlap() -> None:
    assert overlap([0.1, 0.1, 0.1, 0.1], [0.1, 0.1, 0.1, 0.1]) == 0.0
    assert overlap(BOX, BOX) == pytest.approx(1.0)
