"""The latency histogram against the exact quantile of the same numbers."""

from __future__ import annotations

from math import ceil

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_agent.core.latency import Quantiles

latencies = st.lists(st.integers(1_000, 10**12), min_size=1, max_size=200)
shares = st.floats(0, 1)


def counted(values):
    quantiles = Quantiles()
    for value in values:
        quantiles.add(value)
    return quantiles


def exact(values, share):
    return sorted(values)[max(1, ceil(share * len(values))) - 1]


@given(latencies, shares)
def test_a_quantile_is_within_five_per_cent_of_the_exact_one(values, share):
    quantiles = counted(values)
    assert quantiles.count == len(values)
    assert quantiles.quantile(share) == pytest.approx(exact(values, share), rel=0.05)


@given(latencies, latencies, shares)
def test_merging_is_as_if_all_had_been_added_to_one(some, others, share):
    merged = counted(some)
    merged.merge(counted(others))
    together = counted(some + others)
    assert (merged.count, merged.quantile(share)) == (together.count, together.quantile(share))


@given(st.integers(-(10**6), 10**20), shares)
def test_latencies_outside_the_range_are_held_at_its_bounds(value, share):
    assert counted([value]).quantile(share) == pytest.approx(min(max(value, 1_000), 10**12), rel=0.05)


def test_taking_gives_the_window_and_begins_a_new_one():
    quantiles = counted([5_000] * 10)
    taken = quantiles.take()
    quantiles.add(9_000_000)
    assert (taken.count, taken.quantile(1.0)) == (10, pytest.approx(5_000, rel=0.05))
    assert (quantiles.count, quantiles.quantile(0.0)) == (1, pytest.approx(9_000_000, rel=0.05))


def test_nothing_counted_has_no_latency():
    assert Quantiles().quantile(0.5) == 0
