import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_agent.core.drift.edetector import EDetector

ALL = np.array([0])


def stepped(shares: np.ndarray, expected: np.ndarray, tolerance: float, times: int) -> EDetector:
    detector = EDetector.empty(1, len(expected))
    for _ in range(times):
        detector.step(shares[None], expected[None], np.array([tolerance]), ALL)
    return detector


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.floats(0.01, 1), min_size=4, max_size=4),
    st.lists(st.lists(st.floats(0.01, 1), min_size=4, max_size=4), min_size=1, max_size=6),
    st.floats(0, 0.3),
)
def test_no_bet_gains_on_shares_within_the_tolerance_whatever_came_before(
    expected: list[float], past: list[list[float]], tolerance: float
) -> None:
    pi = np.array(expected) / np.sum(expected)
    detector = EDetector.empty(1, 4)
    for shares in past:
        detector.step(np.array([shares]) / np.sum(shares), pi[None], np.array([tolerance]), ALL)
    for low in range(4):
        moved = min(tolerance, pi[low])
        for high in range(4):
            # A corner of all shares within the tolerance: gains are linear in them, so no other gains more.
            shares = pi.copy()
            shares[low] -= moved
            shares[high] += moved
            copy = EDetector(detector.log.copy(), detector.deviation.copy(), detector.weight.copy())
            copy.step(shares[None], pi[None], np.array([tolerance]), ALL)
            assert (copy.log <= np.logaddexp(detector.log, 0) + 1e-9).all()


def test_a_change_beyond_the_tolerance_is_bet_on_with_success() -> None:
    expected = np.full(10, 0.1)
    moved = np.r_[np.full(5, 0.04), np.full(5, 0.16)]  # 0.3 of total variation
    assert stepped(moved, expected, 0.1, 96).evidence()[0] > np.log(96 * 365)
    assert stepped(moved, expected, 0.31, 96).evidence()[0] < np.log(96)


def test_bins_that_a_feature_does_not_have_change_nothing() -> None:
    narrow = stepped(np.array([0.5, 0.3, 0.2]), np.array([0.2, 0.3, 0.5]), 0.05, 9)
    wide = stepped(np.array([0.5, 0.3, 0, 0.2]), np.array([0.2, 0.3, 0, 0.5]), 0.05, 9)
    assert wide.evidence() == pytest.approx(narrow.evidence())


def test_the_deviation_shown_is_without_bias_from_the_first_block_on() -> None:
    detector = EDetector.empty(2, 2)
    assert np.isnan(detector.shown()).all()
    detector.step(np.array([[0.25, 0.75]]), np.array([[0.5, 0.5]]), np.array([0.1]), np.array([1]))
    assert detector.shown()[1] == pytest.approx([-0.25, 0.25])
    assert np.isnan(detector.shown()[0]).all()


def test_bets_or_all_of_it_begin_again_for_the_features_that_are_named() -> None:
    detector = EDetector.empty(2, 2)
    both = np.arange(2)
    for _ in range(5):
        detector.step(np.array([[0.1, 0.9]] * 2), np.array([[0.5, 0.5]] * 2), np.full(2, 0.1), both)
    detector.forget_bets(np.array([0]))
    assert detector.evidence()[0] == -np.inf and detector.evidence()[1] > 0
    assert np.isfinite(detector.shown()[0]).all()
    detector.begin_again(np.array([1]))
    assert detector.evidence()[1] == -np.inf and np.isnan(detector.shown()[1]).all()
