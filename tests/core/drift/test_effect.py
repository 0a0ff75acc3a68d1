"""Effect sizes against values worked out by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from edge_agent.core.drift.effect import PSI_FLOOR, population_stability, total_variation


def test_alike_is_zero_whatever_the_numbers_of_rows() -> None:
    now, reference = np.array([10, 20, 30, 0]), np.array([100, 200, 300, 0])
    assert total_variation(now, reference) == pytest.approx(0)
    assert population_stability(now, reference) == pytest.approx(0)


def test_total_variation_is_the_share_that_would_have_to_move() -> None:
    assert total_variation(np.array([5, 5, 0]), np.array([5, 3, 2])) == pytest.approx(0.2)
    assert total_variation(np.array([4, 0]), np.array([0, 9])) == pytest.approx(1)


def test_psi_by_hand() -> None:
    expected = (0.5 - 0.25) * math.log(0.5 / 0.25) + (0.5 - 0.75) * math.log(0.5 / 0.75)
    assert population_stability(np.array([2, 2]), np.array([1, 3])) == pytest.approx(expected)


def test_an_empty_bin_counts_as_the_floor_and_not_as_infinite() -> None:
    expected = 2 * (1 - PSI_FLOOR) * math.log(1 / PSI_FLOOR)
    assert population_stability(np.array([4, 0]), np.array([0, 4])) == pytest.approx(expected)


def test_without_counts_there_is_nothing_to_compare() -> None:
    for effect in (total_variation, population_stability):
        assert effect(np.zeros(3), np.ones(3)) is None
        assert effect(np.ones(3), np.zeros(3)) is None


def test_two_samples_of_one_source_differ_by_what_the_docstring_says() -> None:
    random, shares = np.random.default_rng(5), np.full(10, 0.1)
    found = [total_variation(random.multinomial(2000, shares), shares) for _ in range(200)]
    assert np.mean(found) == pytest.approx(math.sqrt(10 / (2 * math.pi * 2000)), rel=0.1)
