"""The real series of ``benchmarks.drift_series``: what is promised of a year of an office's temperature."""

from __future__ import annotations

from datetime import datetime, timezone
from pathlib import Path

import pytest

from benchmarks.drift_series import FAILURES, WINDOW, Watched, summary, watch
from edge_agent.monitoring import LEVELS, Level


@pytest.fixture(scope="module")
def seen(shared: Path) -> Watched:
    return watch(shared / "sensors" / "ambient_temperature_system_failure.csv")


def test_the_season_is_reported_in_autumn_with_the_way_it_went(seen: Watched) -> None:
    autumn = [(at, change) for at, change in seen.rises if at < datetime(2013, 10, 13, tzinfo=timezone.utc)]
    assert [change.after for _, change in autumn] == [Level.INFO, Level.WARNING]
    assert autumn[0][0] >= datetime(2013, 9, 15, tzinfo=timezone.utc)
    assert "values are higher" in autumn[1][1].why


def test_nothing_is_reported_of_the_summer_that_was_learnt_and_its_end(seen: Watched) -> None:
    assert seen.learnt[0] < datetime(2013, 9, 1, tzinfo=timezone.utc)
    assert all(at > datetime(2013, 9, 15, tzinfo=timezone.utc) for at, _ in seen.rises)


@pytest.mark.parametrize("failure", FAILURES, ids=str)
def test_a_labelled_failure_is_at_warning_or_above(seen: Watched, failure: datetime) -> None:
    inside = [level for at, level in seen.levels if abs(at - failure) <= WINDOW]
    assert max(LEVELS.index(level) for level in inside) >= LEVELS.index(Level.WARNING)


def test_after_the_new_baseline_few_alarms_lie_outside_the_labelled_windows(seen: Watched) -> None:
    assert seen.rebaselined
    found = summary(seen)
    assert len(found["outside_after_rebaseline"]) <= 4
