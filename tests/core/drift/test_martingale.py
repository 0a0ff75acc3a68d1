import numpy as np
import pytest

from edge_agent.core.drift.martingale import Martingale, ranks_of, scores, weights_of
from edge_agent.core.drift.parameters import INFO_DAYS
from edge_agent.monitoring import Categorical, Numeric

ALL = np.array([0])
NOWHERE = np.array([0])  # the only context


def run(values: np.ndarray, rng: np.random.Generator, learnt: int) -> tuple[Martingale, list[np.ndarray]]:
    """``values`` (m, 3) of one feature: the first ``learnt`` are history, the others bet on and learnt."""
    martingale, found = Martingale.empty(1), []
    for number, value in enumerate(values[:, :, None]):
        if number >= learnt:
            found.append(martingale.p_values(value, ALL, NOWHERE, rng.random((3, 1))))
            martingale.bet(found[-1], ALL)
        martingale.learn(value, ALL, NOWHERE)
    return martingale, found


def test_ranks_are_the_middles_of_the_bins_among_what_is_not_missing() -> None:
    counts = np.array([[1, 2, 1, 0, 96], [0, 0, 0, 0, 5]])
    assert ranks_of(counts).tolist() == [[0.125, 0.5, 0.875, 1.0], [0.5] * 4]


def test_scores_are_mean_and_dispersion_of_ranks_and_the_root_of_the_missing_share() -> None:
    weights = weights_of(np.array([[50, 50, 0]]), (Numeric("x", "sensor", (0.0,), 1.0),))
    assert scores(np.array([[0.0, 0.75, 0.25]]), weights).ravel().tolist() == [0.75, 0.5, 0.5]
    nothing = scores(np.array([[0.0, 0.0, 1.0]]), weights).ravel()
    assert np.isnan(nothing[:2]).all() and nothing[2] == 1


def test_a_class_is_ranked_by_its_number_and_by_how_frequent_it_was() -> None:
    binning = (Categorical("c", "prediction", (7, 2, 4)),)
    weights = weights_of(np.array([[40, 30, 20, 10, 5]]), binning)  # of 7, 2, 4, others, missing
    assert weights[1, 0].tolist() == pytest.approx([0.2, 0.55, 0.8, 0.95])
    assert weights[0, 0].tolist() == pytest.approx([0.7, 0.15, 0.4, 0.95])


@pytest.mark.parametrize("kind", ["continuous", "ties", "constant"])
def test_p_values_of_exchangeable_blocks_are_uniform(kind: str) -> None:
    rng = np.random.default_rng(4)
    drawn = {
        "continuous": rng.beta(8, 8, (700, 3)),
        "ties": rng.integers(0, 3, (700, 3)) / 2,
        "constant": np.full((700, 3), 0.7),
    }[kind]
    _, p = run(drawn, rng, 50)
    ordered = np.sort(np.array(p).ravel())
    assert np.abs(ordered - (np.arange(len(ordered)) + 0.5) / len(ordered)).max() < 0.045  # Kolmogorov: p of 1e-3


def test_the_mean_value_of_the_bets_is_at_most_the_number_of_blocks() -> None:
    rng = np.random.default_rng(5)
    blocks, features = 12, 2000
    martingale, columns = Martingale.empty(features), np.arange(features)
    context = np.zeros(features, np.int64)
    for number in range(30 + blocks):
        values = rng.beta(8, 8, (3, features))
        if number >= 30:
            martingale.bet(martingale.p_values(values, columns, context, rng.random((3, features))), columns)
        martingale.learn(values, columns, context)
    assert np.exp(martingale.evidence()).mean() == pytest.approx(blocks, rel=0.15)  # the mean of a heavy tail


def test_blocks_that_are_others_are_bet_on_with_success() -> None:
    rng = np.random.default_rng(6)
    values = rng.normal(0.5, 0.05, (160, 3))
    values[100:] += 0.1
    martingale, _ = run(values, rng, 80)
    assert martingale.evidence()[0] > np.log(96 * INFO_DAYS)


def test_what_is_missing_is_neither_bet_on_nor_learnt() -> None:
    martingale, _ = run(np.full((10, 3), 0.5), np.random.default_rng(7), 5)
    before = martingale.log.copy(), martingale.history.copy()
    value = np.array([[np.nan], [np.nan], [0.5]])
    p = martingale.p_values(value, ALL, NOWHERE, np.full((3, 1), 0.5))
    assert np.isnan(p[:2]).all() and np.isfinite(p[2])
    martingale.bet(p, ALL)
    martingale.learn(value, ALL, NOWHERE)
    assert np.array_equal(martingale.log[:, :2], before[0][:, :2])
    assert np.array_equal(martingale.history[:, :2], before[1][:, :2])
    assert martingale.history[0, 2].sum() == before[1][0, 2].sum() + 1


def test_years_of_a_drift_overflow_nothing() -> None:
    martingale = Martingale.empty(1)
    for _ in range(2000):
        martingale.bet(np.full((3, 1), 1e-9), ALL)
    assert 1000 < martingale.evidence()[0] < np.inf


def test_contexts_have_histories_of_their_own() -> None:
    martingale = Martingale.empty(1)
    for _ in range(50):
        martingale.learn(np.full((3, 1), 0.2), ALL, np.array([1]))
        martingale.learn(np.full((3, 1), 0.8), ALL, np.array([2]))
    half = np.full((3, 1), 0.5)
    assert martingale.p_values(np.full((3, 1), 0.8), ALL, np.array([1]), half).min() > 0.98
    assert martingale.p_values(np.full((3, 1), 0.8), ALL, np.array([2]), half).ravel().tolist() == [0.5] * 3
