"""Counts are whole numbers: however rows are split over calls, hours or devices, their sum is the same exactly."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_agent.core.drift.bins import FeatureSpec, binning_of
from edge_agent.core.drift.counts import (
    CHUNK_ROWS,
    Accumulator,
    add_tallies,
    empty_tally,
    fits,
    mean_and_deviation,
    probabilities,
)
from edge_agent.monitoring import Binning, Numeric, Tally
from edge_agent.records import Array
from tests.core.drift.streams import SPECS, rows_of

LEARNT = rows_of(2000, seed=0)
BINNING = binning_of(SPECS, LEARNT)


def tally_of(binning: Binning, rows: Array) -> Tally:
    counting = Accumulator(binning)
    counting.add(rows)
    return counting.tally()


def one(values: list[float], spec: FeatureSpec | None = None) -> Tally:
    rows = np.array(values, np.float64)[:, None]
    return tally_of(binning_of([spec or FeatureSpec("value", "sensor")], np.arange(20.0)[:, None]), rows)


@st.composite
def streams(draw: st.DrawFn) -> list[Array]:
    """Of some devices: rows with gaps, infinities, constants and values far outside what was learnt."""
    devices = []
    for seed in draw(st.lists(st.integers(0, 2**32 - 1), min_size=1, max_size=5)):
        random = np.random.default_rng(seed)
        rows = rows_of(int(random.integers(0, 80)), seed) * float(random.choice([1, 1, -1e9, 1e-9, 1e200]))
        rows[random.random(rows.shape) < 0.1] = random.choice([math.nan, math.inf, -math.inf])
        rows[:, random.random(rows.shape[1]) < 0.1] = 3.0
        devices.append(rows)
    return devices


@settings(max_examples=30, deadline=None)
@given(streams())
def test_the_summed_counts_of_devices_are_those_of_the_pooled_stream(devices: list[Array]) -> None:
    total = empty_tally(BINNING)
    for rows in devices:
        total = add_tallies(total, tally_of(BINNING, rows))
    pooled = tally_of(BINNING, np.concatenate(devices))
    # A repetition is one of its own device: where two streams meet there is none to be counted.
    meetings = sum(np.array(pooled.repeated) - np.array(total.repeated))
    assert 0 <= meetings <= len(SPECS) * (len(devices) - 1)
    assert (total.rows, total.bins, total.sums, total.squares) == (
        pooled.rows,
        pooled.bins,
        pooled.sums,
        pooled.squares,
    )
    assert (total.least, total.most, total.outside) == (pooled.least, pooled.most, pooled.outside)


@settings(max_examples=30, deadline=None)
@given(streams(), st.integers(1, 40))
def test_rows_may_come_one_by_one_or_together(devices: list[Array], step: int) -> None:
    rows = np.concatenate(devices)
    counting = Accumulator(BINNING)
    for start in range(0, len(rows), step):
        counting.add(rows[start : start + step])
    assert counting.tally() == tally_of(BINNING, rows)


@settings(max_examples=30, deadline=None)
@given(streams(), streams(), streams())
def test_it_does_not_matter_who_is_added_first(a: list[Array], b: list[Array], c: list[Array]) -> None:
    x, y, z = (tally_of(BINNING, np.concatenate(part)) for part in (a, b, c))
    assert add_tallies(add_tallies(x, y), z) == add_tallies(add_tallies(z, x), y)


def test_what_was_saved_goes_on_where_it_was() -> None:
    rows = rows_of(50, seed=3)
    first = Accumulator(BINNING)
    first.add(rows[:25])
    second = Accumulator(BINNING, first.tally(), first.last)
    second.add(rows[25:])
    assert second.tally() == tally_of(BINNING, rows)


def test_after_clear_a_repetition_of_the_value_before_still_counts() -> None:
    counting = Accumulator(binning_of([FeatureSpec("value", "sensor")], np.arange(20.0)[:, None]))
    counting.add(np.array([[7.0]]))
    counting.clear()
    counting.add(np.array([[7.0], [8.0]]))
    assert (counting.tally().rows, counting.tally().repeated) == (2, (1,))


def test_a_missing_value_between_two_equal_ones_is_passed_over() -> None:
    assert one([5, 5, math.nan, 5, 6, 5]).repeated == (2,)


def test_values_outside_the_range_are_counted() -> None:
    assert one([-1, 0, 10, 11, math.nan], FeatureSpec("value", "sensor", range=(0.0, 10.0))).outside == (2,)


def test_mean_and_deviation_come_back_from_whole_numbers() -> None:
    rows = np.random.default_rng(4).normal(1013, 6, (3000, 1))
    binning = binning_of([FeatureSpec("pressure", "sensor")], rows)
    feature = binning[0]
    assert isinstance(feature, Numeric)
    assert mean_and_deviation(tally_of(binning, rows), feature, 0) == pytest.approx((rows.mean(), rows.std()), rel=3e-3)
    assert mean_and_deviation(empty_tally(binning), feature, 0) is None


def test_the_least_and_the_most_value_are_kept_in_quanta() -> None:
    found = one([3.0, math.nan, -2.0, 12.0])
    quantum = 0.1  # of values 0 to 19
    assert (found.least, found.most, found.sums) == (
        (round(-2 / quantum),),
        (round(12 / quantum),),
        (round(13 / quantum),),
    )
    assert one([math.nan]).least == one([]).most == (None,)


def test_a_value_beyond_all_measure_does_not_overflow_the_sums() -> None:
    rows = np.full((CHUNK_ROWS * 3, 1), 1e300)
    found = one(rows[:, 0].tolist())
    assert found.squares == (len(rows) * 2**50,)
    assert found.sums == (len(rows) * 2**25,)


def test_a_class_has_no_sums() -> None:
    found = one([1, 1, math.nan], FeatureSpec("class", "prediction", "class"))
    assert (found.sums, found.squares, found.least, found.repeated) == ((0,), (0,), (None,), (0,))


def test_counts_of_another_binning_are_refused() -> None:
    other = binning_of(SPECS[:3], LEARNT[:, :3])
    assert not fits(empty_tally(other), BINNING)
    with pytest.raises(ValueError, match="another binning"):
        Accumulator(BINNING, empty_tally(other))
    with pytest.raises(ValueError, match="another binning"):
        Accumulator(BINNING, None, np.zeros(3))
    with pytest.raises(ValueError, match="two binnings"):
        add_tallies(empty_tally(BINNING), empty_tally(other))


def test_shares_of_counts() -> None:
    assert probabilities(np.array([[1, 3], [2, 2]])).tolist() == [[0.25, 0.75], [0.5, 0.5]]
    assert probabilities(np.array([0, 3]), prior=0.5).tolist() == [0.125, 0.875]
    assert np.isnan(probabilities(np.array([0, 0]))).all()
