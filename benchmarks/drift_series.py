"""The real series: eleven months of hourly office temperature with two labelled failures, gaps and a season.

It is numenta/NAB's ambient_temperature_system_failure.csv. The monitor has no reference; it learns on the first eight
weeks. The operator of this benchmark takes a new baseline a week after the first warning, when the season is known
for what it is, and never again; what recovers does so by itself.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import numpy as np

from edge_agent.core.drift.bins import FeatureSpec
from edge_agent.core.drift.monitor import Monitor
from edge_agent.core.drift.state import Settings
from edge_agent.monitoring import LEVELS, Level, LevelChange, Moment

LEARN = timedelta(weeks=8)
OPERATOR_WAITS = timedelta(weeks=1)
WINDOW = timedelta(days=7)  # before and after a label
SEASON = datetime(2013, 9, 20, tzinfo=timezone.utc)  # from here on the office is 5 °F warmer than in summer
FAILURES = tuple(datetime(*day, tzinfo=timezone.utc) for day in ((2013, 12, 22, 20), (2014, 4, 13, 9)))
HOUR = timedelta(hours=1)
_BAD = LEVELS.index(Level.WARNING)


@dataclass
class Watched:
    """``levels``: the pipeline's level at the end of each hour; ``rises``: what raised a feature's level, and when."""

    levels: list[tuple[datetime, Level]] = field(default_factory=list)
    rises: list[tuple[datetime, LevelChange]] = field(default_factory=list)
    learnt: list[datetime] = field(default_factory=list)
    rebaselined: datetime | None = None


def readings(path: Path) -> Iterator[tuple[datetime, float]]:
    with path.open(newline="") as file:
        for line in csv.DictReader(file):
            yield datetime.fromisoformat(line["timestamp"]).replace(tzinfo=timezone.utc), float(line["value"])


def watch(path: Path, learn: timedelta = LEARN, seed: int = 0) -> Watched:
    """The whole series, hour by hour, gaps included."""
    values = dict(readings(path))
    start, end = min(values), max(values)
    settings = Settings(900_000_000_000, int(learn.total_seconds()) * 1_000_000_000)
    monitor = Monitor((FeatureSpec("temperature", "sensor", unit="°F"),), settings, None, seed)
    seen, first_warning = Watched(), None
    monitor.close_block(_moment(start, start))
    level = Level.LEARNING
    for hour in range((end - start) // HOUR + 1):
        at, after = start + hour * HOUR, start + (hour + 1) * HOUR
        if at in values:
            monitor.update(np.array([[values[at]]]), np.array([_moment(at, start).mono_ns]))
        changes = monitor.close_block(_moment(after, start))
        if first_warning and not seen.rebaselined and after >= first_warning + OPERATOR_WAITS:
            changes += monitor.rebaseline("the heating season has begun", _moment(after, start))
            seen.rebaselined = after
        for change in changes:
            if change.feature and LEVELS.index(change.after) > max(LEVELS.index(change.before), LEVELS.index(Level.OK)):
                seen.rises.append((after, change))
            elif not change.feature:
                level = change.after
                if change.before is Level.LEARNING:
                    seen.learnt.append(after)
        seen.levels.append((after, level))
        if first_warning is None and LEVELS.index(level) >= _BAD:
            first_warning = after
    return seen


def summary(seen: Watched) -> dict[str, Any]:
    """What the issue asks: the season, both failures, and the alarms outside the labelled windows."""
    warnings = [at for at, change in seen.rises if LEVELS.index(change.after) >= _BAD]
    found: dict[str, Any] = {
        "learnt": [_text(at) for at in seen.learnt],
        "season_warned": next((_text(at) for at in warnings if at >= SEASON), None),
        "rebaselined": seen.rebaselined and _text(seen.rebaselined),
    }
    for number, failure in enumerate(FAILURES, 1):
        inside = [level for at, level in seen.levels if abs(at - failure) <= WINDOW]
        found[f"failure_{number}"] = max(inside, key=LEVELS.index).value
        found[f"failure_{number}_raised"] = [_text(at) for at in warnings if abs(at - failure) <= WINDOW]
    outside = [
        at
        for at, _ in seen.rises
        if seen.rebaselined and at > seen.rebaselined and all(abs(at - failure) > WINDOW for failure in FAILURES)
    ]
    found["outside_after_rebaseline"] = [_text(at) for at in outside]
    found["outside_at_warning_or_worse"] = [_text(at) for at in outside if at in warnings]
    return found


def show_series(path: Path, as_json: bool) -> None:
    if not path.exists():
        print(f"no real series at {path}: see --series")
        return
    seen = watch(path)
    if as_json:
        print(json.dumps({"table": "real series", **summary(seen)}))
        return
    print("real series, hourly temperature")
    for at, change in seen.rises:
        print(f"  {_text(at)} {change.before.value} -> {change.after.value}: {change.why}")
    for key, value in summary(seen).items():
        print(f"  {key}: {value}")


def _moment(at: datetime, start: datetime) -> Moment:
    return Moment(round((at - start).total_seconds()) * 1_000_000_000, round(at.timestamp()) * 1_000_000_000, True)


def _text(at: datetime) -> str:
    return at.strftime("%Y-%m-%d %H:%M")
