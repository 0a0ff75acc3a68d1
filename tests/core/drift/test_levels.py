import numpy as np
import pytest

from edge_agent.core.drift.blocks import BINS
from edge_agent.core.drift.levels import BASELINE, OK, REFERENCE, SHAPE, Levels
from edge_agent.core.drift.parameters import CRITICAL_DAYS, INFO_DAYS, WARNING_DAYS
from edge_agent.monitoring import LEVELS, Level
from tests.core.drift.watched_rows import BLOCK, DAY

INFO, WARNING, CRITICAL = (LEVELS.index(level) for level in (Level.INFO, Level.WARNING, Level.CRITICAL))
BOTH = np.arange(2)


def raised(tier: int, *days: float, both: bool = False) -> Levels:
    levels = Levels.empty(len(days))
    levels.raise_where(tier, np.log(np.array(days)), both)
    return levels


@pytest.mark.parametrize(
    ("tier", "both", "days", "level"),
    [
        (SHAPE, False, INFO_DAYS - 1, OK),
        (SHAPE, False, INFO_DAYS + 1, INFO),
        (SHAPE, True, WARNING_DAYS + 1, WARNING),
        (BASELINE, False, CRITICAL_DAYS + 1, CRITICAL),
        (BASELINE, True, CRITICAL_DAYS + 1, OK),
        (REFERENCE, True, 2 * CRITICAL_DAYS + 1, CRITICAL),
    ],
)
def test_what_has_been_bet_must_pass_the_threshold_of_its_tier(tier: int, both: bool, days: float, level: int) -> None:
    assert raised(tier, days, both=both).worst().tolist() == [level]


def test_the_threshold_is_for_the_mean_of_all_features() -> None:
    assert raised(SHAPE, INFO_DAYS * 1.5, 1e-9).worst().tolist() == [OK, OK]
    assert raised(SHAPE, INFO_DAYS * 2.5, 1e-9).worst().tolist() == [INFO, OK]
    assert raised(SHAPE, INFO_DAYS * 2.5, INFO_DAYS * 1.1).worst().tolist() == [INFO, INFO]


def test_a_feature_that_is_raised_already_carries_no_other() -> None:
    levels = raised(SHAPE, 1e6, 1e-9)
    levels.raise_where(SHAPE, np.log([1e9, INFO_DAYS * 1.5]), False)
    assert levels.worst().tolist() == [WARNING, OK]
    levels.raise_where(SHAPE, np.log([1e9, INFO_DAYS * 2.5]), False)
    assert levels.worst().tolist() == [WARNING, INFO]


def test_the_tier_that_is_told_is_the_worst_and_only_the_reference_lets_learning_go_on() -> None:
    levels = raised(SHAPE, INFO_DAYS * 9, 1e-9, 1e-9)
    assert [levels.tier(column) for column in range(3)] == ["shape", "", ""]
    levels.raise_where(REFERENCE, np.log([1e9, 1e9, 1e-9]), True)
    assert [levels.tier(column) for column in range(3)] == ["reference", "reference", ""]
    assert levels.learnable().tolist() == [False, True, True]


def watched(levels: Levels, times: int, p: float, apart: float) -> None:
    difference = np.zeros((2, BINS))
    difference[:, :2] = apart, -apart
    for _ in range(times):
        levels.watch(BOTH, np.full((3, 2), p), (difference, difference))


def back(levels: Levels, block_ns: int = BLOCK) -> np.ndarray:
    return levels.recover(BOTH, np.full(2, block_ns), np.full((2, 2), 0.1))


def test_a_level_ends_after_a_day_of_blocks_as_before_and_not_sooner() -> None:
    levels = raised(SHAPE, 1e6, 1e-9)
    watched(levels, 95, 0.5, 0.0)
    assert not back(levels).any() and levels.worst()[0] == WARNING
    watched(levels, 1, 0.5, 0.0)
    assert back(levels)[:, 0].tolist() == [True, False, False]
    assert levels.worst()[0] == OK


def test_long_blocks_need_eight() -> None:
    levels = raised(SHAPE, 1e6, 1e-9)
    watched(levels, 7, 0.5, 0.0)
    assert not back(levels, DAY).any()
    watched(levels, 1, 0.5, 0.0)
    assert back(levels, DAY)[SHAPE, 0]


def test_a_day_that_is_not_as_before_is_followed_by_another() -> None:
    levels = raised(SHAPE, 1e6, 1e-9)
    watched(levels, 96, 0.8, 0.0)
    assert not back(levels).any()
    watched(levels, 95, 0.5, 0.0)
    assert not back(levels).any(), "the day begins anew"


@pytest.mark.parametrize("tier", [REFERENCE, BASELINE])
def test_the_material_tiers_look_at_the_distance(tier: int) -> None:
    levels = raised(tier, 1e6, 1e-9)
    watched(levels, 96, 0.99, 0.2)
    assert not back(levels).any()
    watched(levels, 96, 0.99, 0.05)
    assert back(levels)[tier, 0]
