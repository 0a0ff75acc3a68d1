"""The monitor from rows to levels: what it learns, what it finds, what it leaves alone."""

import numpy as np
import pytest

from edge_agent.core.drift.bins import FeatureSpec
from edge_agent.core.drift.monitor import Monitor
from edge_agent.core.drift.reference import make_reference
from edge_agent.core.drift.state import Settings
from edge_agent.monitoring import Level
from tests.core.drift.watched_rows import BLOCK, DAY, EACH, SECOND, SETTINGS, SPECS, Line, learnt, ordinary, shifted

HOUR = 3600 * SECOND


def cycling(rows: np.ndarray) -> np.ndarray:
    """The temperature goes up and down by two deviations every day."""
    hours = np.arange(len(rows)) * EACH / HOUR
    return rows + 6 * np.sin(hours / 12 * np.pi)[:, None] * [1, 0, 0, 0, 0]


def test_the_baseline_is_learnt_in_its_time_and_said_once() -> None:
    line = Line(Monitor(SPECS, SETTINGS, None, 1))
    line.see(ordinary(1.5))
    half = line.monitor.view()
    assert half.level is Level.LEARNING
    assert half.learning.days == pytest.approx(1.5, abs=0.02) and not half.learning.done
    assert half.features[0].tv_baseline is None
    changes = line.see(ordinary(1.6, 2))
    assert [(change.feature, change.before, change.after) for change in changes] == [("", Level.LEARNING, Level.OK)]
    learning = line.monitor.view().learning
    assert learning.done and learning.contexts == 8 and learning.block_s == 900 and learning.daily == ()
    assert learning.correlation is not None and learning.correlation < 0.2


@pytest.mark.parametrize("reference", [False, True], ids=["alone", "with a reference"])
def test_rows_as_before_change_no_level(reference: bool) -> None:
    line = learnt(reference)
    assert line.see(ordinary(4, 33)) == []
    view = line.monitor.view()
    assert view.level is Level.OK and view.evidence < view.threshold[0] < view.threshold[1]
    assert all((state.tv_reference is not None) == reference for state in view.features)
    assert all(state.tv_baseline is not None and state.tv_baseline < 0.2 for state in view.features)


@pytest.mark.parametrize(
    ("column", "change", "said"),
    [
        (0, lambda rows: shifted(rows, 0, 2), "values are higher"),
        (1, lambda rows: shifted(rows, 1, -4), "values are lower"),
        (0, lambda rows: np.where([1, 0, 0, 0, 0], 200 + 2.5 * (rows - 200), rows), "values spread more"),
        (2, lambda rows: np.where(np.arange(len(rows))[:, None] % 5 < [0, 0, 1, 0, 0], np.nan, rows), "are missing"),
        (4, lambda rows: np.where([0, 0, 0, 0, 1], 2.0 - rows, rows), "samples with these predictions"),
    ],
    ids=["higher", "lower", "wider", "missing", "classes"],
)
def test_a_change_is_found_within_a_day_and_named(column: int, change, said: str) -> None:
    line = learnt()
    changes = line.see(change(ordinary(1, 6)))
    named = [it for it in changes if it.feature]
    assert {it.feature for it in named} == {SPECS[column].name}
    assert named[-1].after in (Level.WARNING, Level.CRITICAL) and said in named[0].why
    view = line.monitor.view()
    state = view.features[column]
    assert view.level is state.level and state.tier in ("shape", "baseline")
    assert view.since_wall_ns is not None and state.since_wall_ns is not None
    assert state.evidence > view.threshold[1] and state.tv_baseline is not None and state.tv_baseline > 0.1


def test_a_reference_that_does_not_fit_here_at_all_is_told_before_the_baseline_is_there() -> None:
    reference = make_reference(SPECS, ordinary(2000 * EACH / DAY))
    line = Line(Monitor(SPECS, SETTINGS, reference))
    changes = line.see(shifted(ordinary(1, 1), 2, 50.0))
    assert [(it.feature, it.after) for it in changes] == [("image.brightness", Level.CRITICAL), ("", Level.CRITICAL)]
    assert line.monitor.view().features[2].tier == "reference"


def test_a_reference_of_few_rows_is_not_believed_beyond_its_own_error() -> None:
    each = 10 * SECOND
    line = Line(Monitor(SPECS, SETTINGS, make_reference(SPECS, ordinary(3, 700)[:100]), 0))
    changes = line.see(ordinary(6, 40, each), each)
    assert [change.why for change in changes if change.after is Level.CRITICAL] == []
    found = line.see(shifted(ordinary(1, 41, each), 0, 4), each)
    assert ("oven.temperature", Level.CRITICAL) in [(change.feature, change.after) for change in found]


@pytest.mark.parametrize("share", [0.3, 1.0])
def test_values_that_go_missing_are_not_said_to_move(share: float) -> None:
    line = learnt()
    rows = ordinary(1, 34)
    rows[np.random.default_rng(35).random(len(rows)) < share, 0] = np.nan
    said = " ".join(change.why for change in line.see(rows) if change.feature == "oven.temperature")
    assert "more are missing" in said
    assert "values" not in said


def test_one_drift_does_not_make_the_other_features_easier_to_suspect() -> None:
    line = learnt()
    changes = line.see(shifted(ordinary(4, 8), 0, 30.0))
    assert {it.feature for it in changes} == {"oven.temperature", ""}


def test_a_level_holds_while_the_change_does_and_ends_after_a_day_as_before() -> None:
    line = learnt()
    line.see(shifted(ordinary(1, 10), 0, 6.0))
    assert line.monitor.view().features[0].level is Level.CRITICAL
    changes = line.see(ordinary(2.5, 11))
    assert [it.after for it in changes if it.feature][-1] is Level.OK
    assert line.monitor.view().level is Level.OK
    again = line.see(shifted(ordinary(1, 12), 0, 6.0))
    assert again and again[0].feature == "oven.temperature", "what was learnt was not forgotten"


def test_a_new_baseline_is_learnt_only_because_somebody_said_so() -> None:
    line = learnt(reference=True)
    line.see(shifted(ordinary(1, 14), 0, 6.0))
    assert line.monitor.view().level is Level.CRITICAL
    changes = line.monitor.rebaseline("another oven", line.now)
    assert [(it.before, it.after) for it in changes] == [(Level.CRITICAL, Level.LEARNING)]
    assert "another oven" in changes[0].why and line.monitor.reason == "another oven"
    later = line.see(shifted(ordinary(4, 15), 0, 6.0))
    assert [(it.feature, it.after) for it in later] == [("", Level.OK)], "the distance from R0 was accepted"


def test_hours_that_differ_are_compared_with_the_same_hours() -> None:
    line = Line(Monitor(SPECS, SETTINGS, make_reference(SPECS, cycling(ordinary(3, 53))), 1))
    changes = line.see(cycling(ordinary(9, 54)))
    assert [it.feature for it in changes] == [""]
    assert line.monitor.view().learning.daily == ()


def test_without_wall_time_hours_are_not_told_apart_and_a_cycle_is_judged_by_whole_days() -> None:
    line = Line(Monitor(SPECS, Settings(BLOCK, 5 * DAY)), synced=False)
    changes = line.see(cycling(ordinary(9, 17)))
    assert [(it.feature, it.after) for it in changes] == [("", Level.OK)]
    learning = line.monitor.view().learning
    assert learning.contexts == 1 and learning.daily == ("oven.temperature",)
    assert "oven.temperature" in changes[0].why
    assert line.monitor.view().since_wall_ns is None


def test_blocks_without_wall_time_are_passed_over_where_hours_differ() -> None:
    line = learnt()
    line.synced = False
    before = line.monitor.view().evidence
    assert line.see(shifted(ordinary(1, 20), 0, 30.0)) == []
    assert line.monitor.view().evidence == before
    line.synced = True
    assert line.see(shifted(ordinary(1, 21), 0, 30.0)) != []


def test_a_step_of_the_wall_clock_loses_nothing() -> None:
    line = learnt()
    line.wall_ns += 40 * DAY
    assert line.see(ordinary(1, 24)) == []
    line.wall_ns -= 90 * DAY
    assert line.see(ordinary(1, 25)) == []
    assert line.see(shifted(ordinary(1, 26), 0, 6.0)) != []


def test_a_week_without_rows_only_leaves_blocks_out() -> None:
    line = Line(Monitor(SPECS, SETTINGS))
    line.see(ordinary(1.5, 27))
    line.wait(7 * DAY)
    line.look()
    assert line.monitor.view().learning.days == pytest.approx(1.5, abs=0.05)
    line.see(ordinary(2, 28))
    assert line.monitor.view().learning.done
    blocks = line.monitor.view().blocks
    line.wait(7 * DAY)
    line.look()
    assert line.see(ordinary(1, 29)) == []
    assert 94 <= line.monitor.view().blocks - blocks <= 98


def test_far_fewer_rows_are_no_drift_and_a_drift_among_them_is_still_material() -> None:
    line = learnt()
    assert line.see(ordinary(3, 36, 10 * EACH), 10 * EACH) == []
    changes = line.see(shifted(ordinary(2, 37, 10 * EACH), 0, 9.0), 10 * EACH)
    assert {it.feature for it in changes} == {"oven.temperature", ""}
    assert line.monitor.view().features[0].tier == "baseline"


def test_one_row_an_hour_is_judged_by_whole_days() -> None:
    line = Line(Monitor(SPECS, Settings(BLOCK, 14 * DAY)))
    line.see(ordinary(15, 30, HOUR), HOUR)
    learning = line.monitor.view().learning
    assert learning.done and learning.block_s == 86_400 and set(learning.daily) == {spec.name for spec in SPECS}
    assert Level.WARNING not in {it.after for it in line.see(ordinary(20, 31, HOUR), HOUR)}
    changes = line.see(shifted(ordinary(10, 32, HOUR), 0, 9.0), HOUR)
    assert "oven.temperature" in {it.feature for it in changes if it.after is Level.WARNING}


def test_many_rows_a_second_are_all_counted() -> None:
    reference = make_reference(SPECS, ordinary(1))
    line = Line(Monitor(SPECS, Settings(60 * SECOND, 1200 * SECOND), reference))
    line.see(ordinary(1500 / 86_400, 33, SECOND // 200), SECOND // 200)
    assert line.monitor.view().learning.done
    assert line.monitor.take_tally().rows == 1500 * 200


def test_odd_features_are_defined() -> None:
    specs = (
        *(FeatureSpec(name, "sensor") for name in ("constant", "never", "infinite")),
        FeatureSpec("label.class", "prediction", "class"),
    )
    random = np.random.default_rng(34)

    def odd(days: float) -> np.ndarray:
        n = int(days * DAY // EACH)
        half = random.random(n) < 0.5
        return np.column_stack(
            [np.full(n, 0.1), np.full(n, np.nan), np.where(half, np.inf, 1.0), random.integers(0, 10_000, n)]
        )

    line = Line(Monitor(specs, SETTINGS))
    assert [it.after for it in line.see(odd(7))] == [Level.OK], "missing at random, and a constant, are no drift"
    changed = odd(1)
    changed[:, 0], changed[:, 1] = 0.1001, 5.0
    names = {it.feature for it in line.see(changed)}
    assert names == {"constant", "never", ""}
    assert line.monitor.take_tally().bins[3][-2] > 0, "classes beyond the bins are counted together"


def test_a_pipeline_without_features_has_nothing_to_say() -> None:
    line = Line(Monitor((), SETTINGS))
    assert line.see(np.zeros((2000, 0))) == []
    assert line.monitor.view().level is Level.LEARNING


def test_rows_of_another_width_are_refused() -> None:
    monitor = Monitor(SPECS, SETTINGS)
    with pytest.raises(ValueError, match="5 features"):
        monitor.update(np.zeros((3, 4)), np.zeros(3, np.int64))
    with pytest.raises(ValueError, match="another order"):
        Monitor(SPECS[::-1], SETTINGS, make_reference(SPECS, ordinary(0.1)))


def test_tallies_are_of_the_rows_since_the_last_and_of_the_references_bins() -> None:
    reference = make_reference(SPECS, ordinary(1))
    line = Line(Monitor(SPECS, SETTINGS, reference))
    assert line.monitor.binning == reference.binning
    line.see(ordinary(0.5, 35))
    tally = line.monitor.take_tally()
    assert tally.rows == 720 and sum(tally.bins[0]) == 720
    assert line.monitor.take_tally().rows == 0
