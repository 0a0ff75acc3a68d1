"""Which predictions are published, over the payload shapes of every task."""

from __future__ import annotations

import copy
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_agent.core.publish_policy import Decision, PublishPolicy
from edge_agent.records import DiscardReason

SECOND = 10**9
UNCHANGED = Decision(reason=DiscardReason.UNCHANGED)
AGGREGATED = Decision(reason=DiscardReason.AGGREGATED)


def classification(*labels):
    classes = [{"label": label, "index": at, "score": 1 / (at + 2)} for at, label in enumerate(labels)]
    return {"task": "classification", "classes": classes}


def detection(*labels):
    boxes = [{"label": label, "index": 0, "score": 0.9, "box": [0, 0, 1, 1]} for label in labels]
    return {"task": "detection", "boxes": boxes}


def regression(value):
    return {"task": "regression", "value": value, "unit": "mm"}


def anomaly(score, anomalous=False):
    return {"task": "anomaly", "score": score, "anomalous": anomalous}


outputs = st.one_of(
    st.lists(st.sampled_from("abc"), max_size=3).map(lambda labels: classification(*labels)),
    st.lists(st.sampled_from("abc"), max_size=4).map(lambda labels: detection(*labels)),
    st.integers(-5, 5).map(regression),
    st.builds(anomaly, st.integers(0, 5), st.booleans()),
).map(lambda output: {"out": output})
streams = st.lists(st.tuples(st.integers(0, 3 * SECOND), outputs), min_size=1, max_size=40)


def published(policy, stream):
    return [decision for at, out in stream if (decision := policy.offer(at * SECOND, out)).outputs is not None]


def test_every_prediction_is_published_as_it_is():
    policy = PublishPolicy("every", SECOND, 0.0)
    out = {"value": regression(1.0)}
    assert [policy.offer(at, out) for at in (0, 0, 1)] == [Decision(out)] * 3


@pytest.mark.parametrize(
    ("before", "same", "other"),
    [
        (classification("cat", "dog"), classification("cat", "fox"), classification("dog", "cat")),
        (classification("cat"), classification("cat"), classification()),
        (detection("cat", "dog", "cat"), detection("dog", "cat", "cat"), detection("dog", "cat")),
        (detection(), detection(), detection("cat")),
        (regression(1.0), regression(1.5), regression(1.75)),
        (regression(1.0), regression(0.5), regression(0.25)),
        (anomaly(1.0), anomaly(1.5), anomaly(1.75)),
        (anomaly(1.0), anomaly(1.0), anomaly(1.0, True)),
        (regression(1.0), regression(1.0), anomaly(1.0)),
    ],
)
def test_in_change_mode_only_a_difference_from_the_last_published_one_is_published(before, same, other):
    policy = PublishPolicy("change", 0, 0.5)
    steady = regression(3.0)
    assert policy.offer(0, {"a": steady, "b": before}).outputs == {"a": steady, "b": before}
    assert policy.offer(1, {"a": steady, "b": same}) == UNCHANGED
    assert policy.offer(2, {"a": steady, "b": other}).outputs == {"a": steady, "b": other}
    assert policy.offer(3, {"a": steady, "b": other}) == UNCHANGED


def test_a_slow_drift_is_published_when_it_has_left_the_deadband_not_lost_in_small_steps():
    policy = PublishPolicy("change", 0, 1.0)
    sent = published(policy, [(at, {"v": regression(at / 4)}) for at in range(20)])
    assert [decision.outputs["v"]["value"] for decision in sent] == [0, 1.25, 2.5, 3.75]


def test_with_no_deadband_any_other_value_is_a_change():
    policy = PublishPolicy("change", 0, 0.0)
    sent = published(policy, enumerate({"v": regression(value)} for value in (1.0, 1.0, 1.0000001, 1.0000001)))
    assert len(sent) == 2


def test_an_output_that_comes_or_goes_is_a_change():
    policy = PublishPolicy("change", 0, 9.0)
    policy.offer(0, {"a": regression(1.0)})
    assert policy.offer(1, {"a": regression(1.0), "b": regression(1.0)}).outputs is not None
    assert policy.offer(2, {"a": regression(1.0)}).outputs is not None


def test_an_interval_is_published_once_with_the_latest_outputs_and_what_they_hide():
    policy = PublishPolicy("interval", 2 * SECOND, 0.0)
    stream = [
        {"c": classification("a", "b"), "d": detection("x", "x"), "r": regression(4.0), "n": anomaly(0.5)},
        {"c": classification("b"), "d": detection("x", "y"), "r": regression(1.0), "n": anomaly(3.5, True)},
        {"c": classification("a"), "d": detection(), "r": regression(2.5), "n": anomaly(0.5)},
    ]
    decisions = [policy.offer(at * SECOND, out) for at, out in enumerate(stream)]
    assert decisions[:2] == [AGGREGATED, AGGREGATED]
    common = {"count": 3, "seconds": 2.0}
    assert decisions[2].reason is None
    assert decisions[2].outputs == {
        "c": {**stream[2]["c"], "aggregate": {**common, "labels": {"a": 2, "b": 1}}},
        "d": {**stream[2]["d"], "aggregate": {**common, "labels": {"x": 2, "y": 1}}},
        "r": {**stream[2]["r"], "aggregate": {**common, "min": 1.0, "max": 4.0, "mean": 2.5}},
        "n": {**stream[2]["n"], "aggregate": {**common, "min": 0.5, "max": 3.5, "mean": 1.5}},
    }


@given(streams, st.integers(0, 4 * SECOND))
def test_every_prediction_is_part_of_exactly_one_published_aggregate_or_of_the_open_interval(stream, interval):
    policy = PublishPolicy("interval", interval, 0.0)
    now, folded, last, start = 0, 0, None, None
    for gap, out in stream:
        now += gap
        start, last = (now, now) if start is None else (start, last)
        folded += 1
        before = copy.deepcopy(out)
        decision = policy.offer(now, out)
        assert out == before
        if now < start + interval:
            assert decision == AGGREGATED
            continue
        aggregate = decision.outputs["out"]["aggregate"]
        assert (aggregate["count"], aggregate["seconds"]) == (folded, pytest.approx((now - last) / SECOND, abs=0.001))
        start = start + interval if now < start + 2 * interval else now
        folded, last = 0, now


@given(streams)
def test_in_change_mode_neighbours_on_the_wire_always_differ(stream):
    policy = PublishPolicy("change", 0, 1.0)
    sent = [decision.outputs for _, out in stream if (decision := policy.offer(0, out)).outputs is not None]
    for before, after in pairwise(sent):
        fresh = PublishPolicy("change", 0, 1.0)
        fresh.offer(0, before)
        assert fresh.offer(0, after) != UNCHANGED


def test_a_model_with_another_task_may_take_over_within_an_interval():
    policy = PublishPolicy("interval", SECOND, 0.0)
    policy.offer(0, {"out": regression(1.0)})
    sent = policy.offer(SECOND, {"out": detection("x")}).outputs
    assert sent["out"]["aggregate"] == {"count": 2, "seconds": 1.0, "labels": {"x": 1}}


def test_leaving_interval_mode_closes_the_open_interval_with_the_next_prediction():
    policy = PublishPolicy("interval", 60 * SECOND, 0.0)
    policy.offer(0, {"r": regression(1.0)})
    policy.offer(SECOND, {"r": regression(2.0)})
    policy.configure("change", 60 * SECOND, 0.0)
    closed = policy.offer(2 * SECOND, {"r": regression(3.0)}).outputs
    assert closed["r"]["aggregate"] == {"count": 3, "seconds": 2.0, "min": 1.0, "max": 3.0, "mean": 2.0}
    assert policy.offer(3 * SECOND, {"r": regression(3.0)}) == UNCHANGED
    assert policy.offer(4 * SECOND, {"r": regression(4.0)}) == Decision({"r": regression(4.0)})


def test_leaving_interval_mode_right_after_a_publication_adds_no_aggregate():
    policy = PublishPolicy("interval", 0, 0.0)
    policy.offer(0, {"r": regression(1.0)})
    policy.configure("every", 0, 0.0)
    assert policy.offer(1, {"r": regression(1.0)}) == Decision({"r": regression(1.0)})


def test_coming_back_to_interval_mode_begins_a_new_interval():
    policy = PublishPolicy("interval", SECOND, 0.0)
    assert [policy.offer(at, {"r": regression(1.0)}).reason for at in (0, SECOND)] == [DiscardReason.AGGREGATED, None]
    policy.configure("every", SECOND, 0.0)
    policy.offer(2 * SECOND, {"r": regression(1.0)})
    policy.configure("interval", SECOND, 0.0)
    assert policy.offer(60 * SECOND, {"r": regression(1.0)}) == AGGREGATED
    assert policy.offer(61 * SECOND, {"r": regression(1.0)}).outputs["r"]["aggregate"]["seconds"] == 1.0


def test_a_shorter_interval_ends_the_open_one_sooner():
    policy = PublishPolicy("interval", 60 * SECOND, 0.0)
    assert policy.offer(0, {"r": regression(1.0)}) == AGGREGATED
    policy.configure("interval", SECOND, 0.0)
    assert policy.offer(SECOND, {"r": regression(1.0)}).outputs["r"]["aggregate"]["count"] == 2


def test_a_change_of_mode_compares_with_what_was_published_before_it():
    policy = PublishPolicy("every", 0, 0.0)
    policy.offer(0, {"r": regression(1.0)})
    policy.configure("change", 0, 0.5)
    assert policy.offer(1, {"r": regression(1.25)}) == UNCHANGED
    policy.configure("change", 0, 0.1)
    assert policy.offer(2, {"r": regression(1.25)}).reason is None
