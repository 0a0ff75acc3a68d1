"""Rows unlike all before stand out, whatever their features are measured in; and how sure the model was."""

from __future__ import annotations

import numpy as np
import pytest

from edge_agent.core.drift.bins import FeatureSpec
from edge_agent.core.strangeness import MEMORY, WARM_UP, Strangeness

SENSORS = (FeatureSpec("weight", "sensor"), FeatureSpec("image.brightness", "image"))
SURE = (FeatureSpec("a.confidence", "prediction"), FeatureSpec("b.confidence", "prediction"))
EMBEDDED = FeatureSpec("embedding.distance", "embedding")


def learnt(rows: int = 1000) -> Strangeness:
    """Of weights about 1000 +- 10 and brightnesses about 0.5 +- 0.1."""
    made = Strangeness(SENSORS)
    for row in np.random.default_rng(1).normal((1000, 0.5), (10, 0.1), (rows, 2)):
        made.distance(row)
    return made


def test_a_row_unlike_all_before_is_stranger_than_any_of_them() -> None:
    made = learnt()
    usual = [made.distance(row) or 0 for row in np.random.default_rng(2).normal((1000, 0.5), (10, 0.1), (200, 2))]
    assert np.mean(usual) == pytest.approx(1, abs=0.2)
    for strange in ((1060, 0.5), (1000, 1.1)):
        assert (made.distance(np.array(strange)) or 0) > max(usual)


def test_one_reading_that_is_far_off_does_not_outdo_a_strange_picture_for_ever() -> None:
    made = learnt()
    assert made.distance(np.array([1e12, 0.5])) == pytest.approx(50, abs=2)


def test_nothing_is_said_before_the_spread_is_known_and_of_what_is_missing() -> None:
    made = Strangeness(SENSORS)
    rows = np.random.default_rng(1).normal(0, 1, (WARM_UP, 2))
    assert {made.distance(row) for row in rows} == {None}
    assert made.distance(np.array([0.0, 0.0])) is not None
    assert made.distance(np.array([np.nan, np.nan])) is None
    assert made.distance(np.array([np.nan, 9.0])) is not None


def test_a_constant_feature_says_nothing() -> None:
    made = Strangeness(SENSORS[:1])
    assert {made.distance(np.array([5.0])) for _ in range(2 * WARM_UP)} == {None}


def test_what_lasts_becomes_usual() -> None:
    made = learnt()
    first = made.distance(np.array([1060.0, 0.5])) or 0
    for row in np.random.default_rng(3).normal((1060, 0.5), (10, 0.1), (3 * MEMORY // 4, 2)):
        made.distance(row)
    assert (made.distance(np.array([1060.0, 0.5])) or 0) < first / 10


def test_the_distance_of_an_embedding_goes_before() -> None:
    made = Strangeness([*SENSORS, EMBEDDED])
    assert made.distance(np.array([1.0, 2.0, 3.5])) == 3.5
    assert made.distance(np.array([1.0, 2.0, np.nan])) is None


def test_the_least_sure_output_counts() -> None:
    made = Strangeness([*SENSORS, *SURE])
    assert made.confidence(np.array([1, 1, 0.9, 0.4])) == 0.4
    assert made.confidence(np.array([1, 1, 0.9, np.nan])) == 0.9
    assert made.confidence(np.array([1, 1, np.nan, np.nan])) is None
    assert Strangeness(SENSORS).confidence(np.array([1.0, 1.0])) is None
