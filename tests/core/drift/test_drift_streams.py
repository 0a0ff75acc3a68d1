"""The streams of benchmarks/drift_streams.py are what they say, and so is a rule beside ours."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.drift_peers import Bins, Windows, stability_index
from benchmarks.drift_streams import DAY_ROWS, HOUR_ROWS, REGIMES, SCENARIOS, Regime, Rows, Stream, representative
from tests.core.drift.small_world import NAMES, small_world

WORLD = small_world()
MOD = REGIMES[1]
TOUCHED = {"class prior", "blur", "noise", "dark"}  # the picture, the others the first sensor


def rows_of(regime: Regime, scenario: str = "", onset: int = 0) -> Rows:
    return Stream(WORLD, regime, 5, scenario, onset).rows(DAY_ROWS)


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_a_scenario_changes_what_it_names_and_only_from_its_onset_on(scenario: str) -> None:
    onset = 6 * HOUR_ROWS
    before, after = rows_of(MOD), rows_of(MOD, scenario, onset)
    moved = ~np.isclose(before, after, equal_nan=True)
    assert not moved[:onset].any()
    expected = np.arange(len(NAMES)) >= WORLD.sensors if scenario in TOUCHED else np.arange(len(NAMES)) == 0
    found = moved[onset:].any(axis=0)
    assert found.any() and not (found & ~expected).any()


@pytest.mark.parametrize(
    ("regime", "least", "most"), [("independent", -0.03, 0.03), ("mod", 0.9, 0.97), ("strong", 0.98, 1)]
)
def test_rows_hang_together_as_the_regime_says(regime: str, least: float, most: float) -> None:
    sensor = rows_of(next(one for one in REGIMES if one.name == regime))[:, 0]
    assert least < np.corrcoef(sensor[1:], sensor[:-1])[0, 1] < most


def test_a_seed_gives_the_same_rows_again_and_another_one_others() -> None:
    assert np.array_equal(Stream(WORLD, MOD, 7).rows(480), Stream(WORLD, MOD, 7).rows(480))
    assert not np.isclose(Stream(WORLD, MOD, 7).rows(480), Stream(WORLD, MOD, 8).rows(480)).all(0).any()


def test_representative_rows_are_spread_as_the_stream_is() -> None:
    rows = representative(WORLD, MOD, 2000, 1)
    long = np.concatenate([rows_of(REGIMES[0]), Stream(WORLD, REGIMES[0], 6).rows(DAY_ROWS)])
    numeric = [column for column, name in enumerate(NAMES) if name != "digit.class"]
    assert np.abs(rows.mean(0) - long.mean(0))[numeric].max() < 0.1 * long.std(0)[numeric].max()


def test_an_hourly_psi_alarms_every_hour_on_correlated_rows_and_never_on_independent_ones() -> None:
    classes = [name == "digit.class" for name in NAMES]
    rule = Windows(stability_index(Bins(representative(WORLD, MOD, 2000, 2), classes)), HOUR_ROWS)
    assert len(rule.feed(rows_of(REGIMES[2]))) == 24
    assert rule.feed(rows_of(REGIMES[0])) == []
