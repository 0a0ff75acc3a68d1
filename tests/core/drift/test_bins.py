"""Bins tell apart what a person would tell apart, on every machine alike."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_agent.core.drift.bins import Binner, FeatureSpec, binning_id, binning_of, width
from edge_agent.monitoring import CLASS_BINS_MOST, NUMERIC_BINS, Categorical, Numeric
from edge_agent.records import Array
from tests.core.drift.streams import SPECS, rows_of

VALUE = FeatureSpec("value", "sensor")
CLASS = FeatureSpec("class", "prediction", "class", labels=("good", "bad"))


def bins_of(learnt: list[float], values: list[float], spec: FeatureSpec = VALUE) -> list[int]:
    binner = Binner(binning_of([spec], column(learnt)))
    return binner.index(column(values))[:, 0].tolist()


def column(values: list[float]) -> Array:
    return np.array(values, np.float64)[:, None]


def test_bins_of_a_continuous_feature_hold_a_tenth_each() -> None:
    rows = np.random.default_rng(1).normal(20, 2, (1000, 1))
    binner = Binner(binning_of([VALUE], rows))
    assert binner.count(rows).tolist() == [100] * NUMERIC_BINS + [0]


@pytest.mark.parametrize("constant", [0.0, 5.0, -3.5, 1e30, 1e-30, float(np.float32(0.1))])
def test_below_a_constant_the_constant_and_above_it_are_three_bins(constant: float) -> None:
    little = max(abs(constant) * 1e-3, 1e-35)
    values = [constant - little, constant, constant + little, math.nan]
    assert bins_of([constant] * 50, values) == [0, 1, 2, 3]


def test_a_constant_is_the_same_in_float32_and_in_float64() -> None:
    assert bins_of([float(np.float32(0.1))] * 50, [0.1]) == bins_of([0.1] * 50, [float(np.float32(0.1))]) == [1]


def test_the_two_values_of_a_switch_have_a_bin_each() -> None:
    assert bins_of([0.0, 1.0] * 50, [-1, 0, 0.5, 1, 2]) == [0, 1, 2, 3, 4]


def test_the_zeros_of_a_rain_gauge_are_told_from_a_little_rain() -> None:
    learnt = [0.0] * 60 + [float(amount) for amount in range(1, 41)]
    zero, little, negative = bins_of(learnt, [0.0, 0.001, -0.001])
    assert negative < zero < little


def test_an_edge_lies_between_two_values_so_that_the_last_bit_is_free() -> None:
    learnt = [float(value) for value in range(20)] * 5
    nudged = [np.nextafter(value, -1) for value in learnt]
    assert bins_of(learnt, learnt) == bins_of(learnt, nudged)


def test_a_value_equal_to_an_edge_belongs_to_the_bin_above() -> None:
    binner = Binner((Numeric("value", "sensor", (1.0, 2.0), 0.1),))
    assert binner.index(column([0.9, 1.0, 2.0, 2.1]))[:, 0].tolist() == [0, 1, 2, 2]


def test_a_feature_never_seen_has_a_bin_for_whatever_comes_and_one_for_missing() -> None:
    assert bins_of([math.nan] * 9, [1.0, -7.0, math.nan]) == [0, 0, 1]
    assert bins_of([math.nan] * 9, [1.0, math.nan], CLASS) == [0, 1]


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("spec", [VALUE, CLASS])
def test_what_is_not_finite_is_missing(value: float, spec: FeatureSpec) -> None:
    feature = binning_of([spec], column([0.0, 1.0, 2.0]))[0]
    assert bins_of([0.0, 1.0, 2.0], [value], spec) == [width(feature) - 1]


def test_classes_are_ordered_by_how_often_they_come_and_others_share_a_bin() -> None:
    feature = binning_of([CLASS], column([1, 1, 1, 0, 0, 7]))[0]
    assert isinstance(feature, Categorical)
    assert (feature.classes, feature.labels) == ((1, 0, 7), ("bad", "good", "7"))
    assert bins_of([1, 1, 1, 0, 0, 7], [1, 0, 7, 8, 0.5, math.nan], CLASS) == [0, 1, 2, 3, 3, 4]


def test_what_is_no_whole_number_is_no_class() -> None:
    feature = binning_of([CLASS], column([1, 1, 0.5]))[0]
    assert isinstance(feature, Categorical)
    assert feature.classes == (1,)


def test_sums_of_large_values_that_hardly_differ_stay_short() -> None:
    feature = binning_of([VALUE], 1.7e9 + np.random.default_rng(2).normal(0, 1, (100, 1)))[0]
    assert isinstance(feature, Numeric)
    assert 1e5 < 1.7e9 / feature.quantum <= 1e6


def test_of_ten_thousand_classes_the_most_frequent_have_bins() -> None:
    learnt = np.concatenate([np.arange(10_000), np.repeat(np.arange(500, 530), 3)]).astype(float)
    feature = binning_of([CLASS], learnt[:, None])[0]
    assert isinstance(feature, Categorical)
    assert feature.classes == tuple(range(500, 530))
    assert width(feature) == CLASS_BINS_MOST


def test_features_lie_behind_each_other_in_one_array() -> None:
    rows = rows_of(500, seed=1)
    binner = Binner(binning_of(SPECS, rows))
    flat = binner.count(rows)
    assert binner.size == len(flat) == sum(binner.widths)
    assert [part.sum() for part in binner.split(flat)] == [500] * len(SPECS)
    assert (binner.index(rows) >= binner.offsets[:-1]).all()
    assert (binner.index(rows) < binner.offsets[1:]).all()


def test_the_id_names_what_must_be_equal_for_counts_to_add_up() -> None:
    rows = rows_of(300, seed=1)
    assert binning_id(binning_of(SPECS, rows)) == binning_id(binning_of(SPECS, rows[::-1].copy()))
    assert binning_id(binning_of(SPECS, rows)) != binning_id(binning_of(SPECS, rows * 1.001))
    assert binning_id(binning_of([VALUE], column([1.0]))) == "95d272366e19"  # a promise: collected counts bear it


def test_rows_of_another_width_are_refused() -> None:
    with pytest.raises(ValueError, match=r"\(3, 2\) for 1 features"):
        binning_of([VALUE], np.zeros((3, 2)))


@settings(max_examples=50, deadline=None)
@given(st.lists(st.floats(), min_size=1, max_size=60))
def test_whatever_was_learnt_from_edges_ascend_and_every_value_has_a_bin(values: list[float]) -> None:
    feature = binning_of([VALUE], column(values))[0]
    assert isinstance(feature, Numeric)
    assert list(feature.edges) == sorted(set(feature.edges))
    assert len(feature.edges) < NUMERIC_BINS
    assert 0 < feature.quantum < math.inf
    assert all(math.isfinite(edge) for edge in feature.edges)
    places = bins_of(values, values)
    assert [place == width(feature) - 1 for place in places] == [not math.isfinite(value) for value in values]
