import numpy as np
import pytest

from edge_agent.core.drift.baseline import baseline_of
from edge_agent.core.drift.blocks import BINS
from edge_agent.core.drift.chance import Chance
from edge_agent.core.drift.commissioning import Commissioning, Reservoir, Scores
from edge_agent.core.drift.parameters import BLOCKS_KEPT, CONTEXTS, EDGE_ROWS, SCORE_STEP
from tests.core.drift.watched_rows import BLOCK, DAY

LENGTHS = (BLOCK, 2 * BLOCK, 4 * BLOCK, 8 * BLOCK, DAY)
DAYS = 14


def test_a_reservoir_holds_early_and_late_rows_alike() -> None:
    chance, kept = Chance(1), []
    for _ in range(40):
        reservoir = Reservoir(np.zeros((0, 1)))
        for first in range(0, 5000, 97):
            reservoir.add(np.arange(first, min(first + 97, 5000), dtype=float)[:, None], chance)
        assert reservoir.seen == 5000 and len(np.unique(reservoir.rows)) == EDGE_ROWS
        kept.append(reservoir.rows)
    shares = np.histogram(np.concatenate(kept), 10, (0, 5000))[0] / (40 * EDGE_ROWS)
    assert np.abs(shares - 0.1).max() < 0.01


def test_a_reservoir_does_not_depend_on_how_the_rows_came() -> None:
    rows = np.arange(1500, dtype=float)[:, None]
    one, other, chance = Reservoir(np.zeros((0, 1))), Reservoir(np.zeros((0, 1))), Chance(2)
    one.add(rows, Chance(2))
    for first in range(0, 1500, 100):
        other.add(rows[first : first + 100], chance)
    assert np.array_equal(one.rows, other.rows)


def test_scores_of_the_latest_blocks_are_kept_as_they_were() -> None:
    scores = Scores.empty(2)
    values = np.rint(np.random.default_rng(3).random((BLOCKS_KEPT + 700, 3, 2)) / SCORE_STEP) * SCORE_STEP
    values[5:, 1, 1] = np.nan
    for number, value in enumerate(values):
        scores.add(number, number % CONTEXTS, 100, value)
        assert scores.size <= BLOCKS_KEPT
    kept = scores.size
    assert kept > BLOCKS_KEPT / 2
    assert np.array_equal(scores.values(), values[-kept:], equal_nan=True)
    assert scores.numbers[:kept].tolist() == list(range(len(values) - kept, len(values)))


def begun_with(values: np.ndarray, context: bool = True) -> Commissioning:
    """``values`` (m,) in every quarter of an hour: the first score of a feature; longer blocks have the mean."""
    begun = Commissioning.begin(np.array([0]), np.array([True]), DAYS * DAY, len(LENGTHS))
    for place, length in enumerate(LENGTHS):
        times = length // BLOCK
        for number, value in enumerate(values.reshape(-1, times).mean(1)):
            part = number * 8 * times // 96 % 8 if context else -1
            begun.scores[place].add(number, part, 100 * times, np.full((3, 1), value))
            shares = np.zeros((1, BINS))
            shares[0, :2] = value, 1 - value
            if place == 0:
                begun.pass_time(number * BLOCK, (number + 1) * BLOCK)
                begun.add_shares(shares, np.array([True]), 100, part, None)
            if length == DAY:
                begun.add_day(shares, np.array([True]))
    return begun


def found(values: np.ndarray, context: bool = True) -> tuple[int, bool, int]:
    used = np.arange(BINS)[None] < 2
    baseline = baseline_of(begun_with(values, context), LENGTHS, used)
    return int(baseline.lengths[0]), bool(baseline.daily[0]), baseline.contexts


def noise(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(0.5, 0.05, DAYS * 96)


def test_blocks_are_as_long_as_neighbours_depend_on_each_other() -> None:
    assert found(noise(1)) == (0, False, CONTEXTS)
    runs = np.repeat(np.random.default_rng(2).normal(0.5, 0.05, DAYS * 24), 4)  # an hour each
    length, daily, _ = found(runs)
    assert length == 2 and not daily
    wandering = 0.5 + np.cumsum(np.random.default_rng(3).normal(0, 0.002, DAYS * 96))
    assert found(wandering)[1], "by whole days"


def test_days_that_differ_lead_to_whole_days() -> None:
    days = np.repeat(np.random.default_rng(4).normal(0, 0.03, DAYS), 96)
    assert found(noise(5) + days) == (4, True, CONTEXTS)


def test_a_cycle_of_the_day_needs_contexts_or_whole_days() -> None:
    cycle = 0.1 * np.repeat(np.tile(np.random.default_rng(6).normal(0, 1, 8), DAYS), 12)
    assert found(noise(7) + cycle) == (0, False, CONTEXTS)
    assert found(noise(7) + cycle, context=False) == (4, True, 1)


def test_a_score_that_never_varies_is_no_reason_for_longer_blocks() -> None:
    assert found(np.full(DAYS * 96, 0.7)) == (0, False, CONTEXTS)


def test_shares_are_of_each_part_of_the_day_and_what_is_allowed_says_how_well_they_are_known() -> None:
    cycle = np.repeat(np.tile(np.linspace(-0.2, 0.2, 8), DAYS), 12)
    baseline = baseline_of(begun_with(noise(8) + cycle), LENGTHS, np.arange(BINS)[None] < 2)
    assert baseline.shares[:, 0, 0] == pytest.approx(0.5 + np.linspace(-0.2, 0.2, 8), abs=0.02)
    assert baseline.shares.sum(-1) == pytest.approx(1)
    assert np.all((baseline.tolerance > 0.1) & (baseline.tolerance < 0.12))
    assert baseline.referred_tolerance[[0, 3, 7], 0] == pytest.approx([0.25, 0.08, 0.25], abs=0.02)


def test_only_days_with_rows_count() -> None:
    begun = Commissioning.begin(np.array([0]), np.array([True]), 3 * DAY, 1)
    begun.pass_time(DAY // 2, DAY // 2 + BLOCK)
    begun.pass_time(DAY - BLOCK, DAY)
    assert begun.done_ns == DAY // 2
    begun.pass_time(9 * DAY, 9 * DAY + BLOCK)
    assert begun.done_ns == DAY // 2 + BLOCK
