"""The watch over errors: how rarely it is wrong, how soon it is right, and that it ends when the change does."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest

from edge_agent.core.performance_watch import (
    CRITICAL_BLOCKS,
    INFO_BLOCKS,
    RECOVERY_BLOCKS,
    SLOT_S,
    Blocks,
    ErrorWatch,
    WatchState,
    tolerated,
)
from edge_agent.monitoring import Level

MONTHS = 4
MONTHLY_MOST = 8  # alarms where 4 are promised in the mean: a Poisson number is larger twice in a hundred


def losses(rate: float, blocks: int, seed: int, labels: int = 10) -> list[float]:
    """Means of blocks of ``labels`` independent labels."""
    found: list[float] = (np.random.default_rng(seed).binomial(labels, rate, blocks) / labels).tolist()
    return found


def alarms(rate: float, means: list[float], level: Level) -> list[int]:
    """After how many blocks each alarm came; a new watch after each."""
    found, watch = [], ErrorWatch(rate)
    for number, mean in enumerate(means, 1):
        watch.block(mean, 0)
        if watch.level in (level, Level.CRITICAL):
            found.append(number)
            watch = ErrorWatch(rate)
    return found


@pytest.mark.parametrize("rate", [0.03, 0.1, 0.4])
def test_false_alarms_are_as_rare_as_promised_at_the_very_rate(rate: float) -> None:
    means = losses(rate, MONTHS * INFO_BLOCKS, seed=round(100 * rate))
    assert len(alarms(rate, means, Level.INFO)) <= MONTHLY_MOST
    assert len(alarms(rate, means, Level.CRITICAL)) <= 2


def test_blocks_that_follow_each_other_closely_raise_no_more_alarms() -> None:
    """A quarter of an hour is all right or all wrong, with the mean at the rate."""
    means = losses(0.1, MONTHS * INFO_BLOCKS, seed=5, labels=1)
    assert len(alarms(0.1, means, Level.INFO)) <= MONTHLY_MOST


@pytest.mark.parametrize(("rate", "now", "within"), [(0.05, 0.2, 20), (0.1, 0.3, 20), (0.1, 0.5, 10), (0.3, 0.5, 30)])
def test_a_model_that_got_worse_is_found_soon(rate: float, now: float, within: int) -> None:
    """In the mean over 8 runs, in blocks of ten labels."""
    first = [alarms(rate, losses(now, 400, seed=seed), Level.CRITICAL)[0] for seed in range(8)]
    assert sum(first) / len(first) <= within


def test_the_level_stays_until_the_errors_are_rare_again() -> None:
    watch = ErrorWatch(0.1)
    number = 0
    while watch.level is not Level.CRITICAL:
        number += 1
        assert not watch.block(0.5, number) or watch.since_wall_ns == number
    for _ in range(RECOVERY_BLOCKS // 2):
        assert not watch.block(0.05, 900)
    changed = [watch.block(0.05, 1000) for _ in range(RECOVERY_BLOCKS)]
    assert (changed.count(True), watch.level, watch.since_wall_ns) == (1, Level.OK, 1000)
    assert watch.log10 < 2


def test_info_comes_before_critical_and_never_after() -> None:
    watch, seen = ErrorWatch(0.1), [Level.OK]
    for _ in range(60):
        if watch.block(0.25, 0):
            seen.append(watch.level)
    assert seen == [Level.OK, Level.INFO, Level.CRITICAL]


def test_a_state_is_taken_up_again_bit_by_bit() -> None:
    one = ErrorWatch(0.1)
    again = ErrorWatch.load(msgspec.msgpack.decode(msgspec.msgpack.encode(one.dump()), type=WatchState))
    assert again.dump() == one.dump()  # nothing seen yet: minus infinity
    for mean in losses(0.15, 200, seed=1):
        one.block(mean, 0)
        again = ErrorWatch.load(msgspec.msgpack.decode(msgspec.msgpack.encode(again.dump()), type=WatchState))
        again.block(mean, 0)
        assert again.dump() == one.dump()


def test_a_rate_of_nought_and_one_of_all_are_watched_without_an_error() -> None:
    for rate in (0.0, 1.0):
        watch = ErrorWatch(rate)
        for mean in (0.0, 1.0) * 50:
            watch.block(mean, 0)
        assert np.isfinite(watch.log10)


def test_the_thresholds_are_a_month_and_a_year_of_quarters_of_an_hour() -> None:
    assert (INFO_BLOCKS * SLOT_S, CRITICAL_BLOCKS * SLOT_S) == (30 * 86400, 365 * 86400)


def test_a_block_takes_enough_labels_and_a_quarter_of_an_hour_of_its_own() -> None:
    blocks = Blocks(3)
    assert [blocks.add(loss, 10, 0) for loss in (0, 1, 0.5)] == [None, None, 0.5]
    assert [blocks.add(1, 20, 0) for _ in range(10)] == [None] * 10  # that quarter is charged
    assert blocks.add(0, SLOT_S + 1, 0) == 10 / 11
    # labels of a week that come at once make a block for each of its quarters at most
    many = [Blocks(3)] * 50
    found = [many[0].add(0, at_s, 0) for at_s in range(0, 50 * SLOT_S, 10)]
    assert sum(mean is not None for mean in found) == 50


def test_only_quarters_that_can_still_be_labelled_are_kept_in_mind() -> None:
    blocks = Blocks(1)
    for slot in range(1000):
        blocks.add(0, slot * SLOT_S, (slot - 20) * SLOT_S)
    assert len(blocks.dump()["charged"]) <= 21
    assert Blocks(1, **blocks.dump()).dump() == blocks.dump()


def test_the_rate_that_is_put_up_with_covers_what_chance_does_to_the_reference() -> None:
    random = np.random.default_rng(4)
    covered = [tolerated(int(wrong), 300, 0.0) >= 0.08 for wrong in random.binomial(300, 0.08, 2000)]
    assert 0.98 <= np.mean(covered) <= 1
    assert tolerated(0, 50, 0.02) > 0.02
    assert tolerated(50, 50, 0.02) >= 1
