import math

import numpy as np
import pytest

from edge_agent.core.drift.variance import days_differ, f_survival, group_effect, lag_one, step_up, without_means


@pytest.mark.parametrize("ratio", [0.01, 0.5, 1, 3, 20, 400])
@pytest.mark.parametrize("second", [1, 2, 7, 60, 1300])
def test_f_survival_is_exact_where_a_closed_form_exists(ratio: float, second: int) -> None:
    assert f_survival(ratio, 2, second) == pytest.approx((1 + 2 * ratio / second) ** (-second / 2), rel=1e-9)
    assert f_survival(ratio, 1, 1) == pytest.approx(1 - 2 / math.pi * math.atan(math.sqrt(ratio)), rel=1e-9)
    # X ~ F(a, b) means 1 / X ~ F(b, a).
    assert f_survival(ratio, 6, second) == pytest.approx(1 - f_survival(1 / ratio, second, 6), rel=1e-9, abs=1e-12)


def test_nothing_is_below_0() -> None:
    assert f_survival(0.0, 3, 5) == 1


def test_correlation_is_that_of_neighbours_only() -> None:
    values = np.array([[1.0], [1.0], [-1.0], [-1.0], [1.0], [-1.0]])
    assert lag_one(values, np.arange(6)).tolist() == [pytest.approx((1 - 1 + 1 - 1 - 1) / 6)]
    assert lag_one(values, np.array([0, 1, 10, 11, 20, 30])).tolist() == [pytest.approx(2 / 6)]


def test_what_does_not_vary_has_no_correlation_and_no_day_effect() -> None:
    still = without_means(np.full((40, 1), 0.1) * 3, np.zeros(40, int))
    assert lag_one(still, np.arange(40)).tolist() == [0]
    assert days_differ(still, np.arange(40) // 4, np.zeros(1)).tolist() == [1]


def test_a_mean_is_taken_off_each_group_and_what_is_missing_stays_so() -> None:
    values = np.array([[1.0], [3.0], [10.0], [np.nan]])
    assert np.nan_to_num(without_means(values, np.array([0, 0, 1, 1])), nan=-9).ravel().tolist() == [-1, 1, 0, -9]


def test_days_that_differ_are_told_from_days_that_do_not() -> None:
    rng = np.random.default_rng(1)
    days = np.arange(10 * 96) // 96
    noise = rng.normal(size=(len(days), 400))
    p = days_differ(noise, days, np.zeros(400))
    assert (p < 0.01).mean() < 0.08  # the least of eight tests
    shifted = noise + 0.3 * rng.normal(size=(10, 400))[days]
    assert (days_differ(shifted, days, np.zeros(400)) < 1e-3).mean() > 0.9


def test_a_weekend_is_found_where_no_two_days_alone_stand_out() -> None:
    rng = np.random.default_rng(2)
    days = np.arange(14 * 96) // 96
    weekend = np.isin(days % 7, (3, 4))
    values = rng.normal(size=(len(days), 200)) + 0.25 * weekend[:, None]
    both = days_differ(values, days, np.zeros(200)) < 1e-3
    alone = group_effect(values, days, np.zeros(200)) < 1e-3
    assert both.mean() > 0.8 > alone.mean()


def test_where_many_have_an_effect_less_is_asked_of_each() -> None:
    p = np.array([0.5, 0.0009, 0.0019, 0.0031, 0.2])
    assert step_up(p, 0.001).tolist() == [False, True, True, False, False]
    assert step_up(p, 0.00105).tolist() == [False, True, True, True, False]
    assert not step_up(p, 0.0001).any() and not step_up(np.zeros(0), 0.1).size


def test_correlation_makes_the_same_difference_less_of_a_surprise() -> None:
    values = np.repeat([0.0, 1.0], 50)[:, None] + np.random.default_rng(3).normal(size=(100, 1))
    groups = np.repeat([0, 1], 50)
    assert group_effect(values, groups, np.array([0.5]))[0] > group_effect(values, groups, np.array([0.0]))[0]
