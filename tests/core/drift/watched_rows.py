"""Rows for a monitor, and the clock that goes with them."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import numpy as np

from edge_agent.core.drift.bins import FeatureSpec
from edge_agent.core.drift.monitor import Monitor
from edge_agent.core.drift.reference import make_reference
from edge_agent.core.drift.state import Settings
from edge_agent.monitoring import Level, LevelChange, Moment

SECOND = 1_000_000_000
BLOCK = 900 * SECOND
DAY = 96 * BLOCK
WALL = 1_735_689_600 * SECOND  # 2025-01-01 00:00 UTC
SETTINGS = Settings(BLOCK, 3 * DAY)
EACH = 60 * SECOND  # between two rows, unless said otherwise

SPECS = (
    FeatureSpec("oven.temperature", "sensor", unit="degC"),
    FeatureSpec("oven.pressure", "sensor", unit="hPa"),
    FeatureSpec("image.brightness", "image"),
    FeatureSpec("part.confidence", "prediction"),
    FeatureSpec("part.class", "prediction", "class", labels=("good", "scratch", "dent")),
)


def ordinary(days: float, seed: int = 0, each: int = EACH) -> np.ndarray:
    """Independent rows of SPECS."""
    random = np.random.default_rng(seed)
    n = int(days * DAY // each)
    return np.column_stack(
        [random.normal(200, 3, n), random.normal(1013, 5, n), random.normal(0, 1, n), random.beta(8, 2, n),
         random.choice([0.0, 1.0, 2.0], n, p=[0.7, 0.2, 0.1])]
    )  # fmt: skip


class Line:
    """A monitor and its time. ``mono_ns`` and ``wall_ns`` move apart where a test wants it."""

    def __init__(self, monitor: Monitor, synced: bool = True, mono_ns: int = 5 * SECOND, wall_ns: int = WALL) -> None:
        self.monitor = monitor
        self.mono_ns = mono_ns
        self.wall_ns = wall_ns
        self.synced = synced
        self.changes: list[LevelChange] = []
        self.look()

    @property
    def now(self) -> Moment:
        return Moment(self.mono_ns, self.wall_ns, self.synced)

    def look(self) -> None:
        self.changes += self.monitor.close_block(self.now)

    def wait(self, time_ns: int) -> None:
        self.mono_ns += time_ns
        self.wall_ns += time_ns

    def see(self, rows: np.ndarray, each: int = EACH, after: Callable[[], None] = lambda: None) -> list[LevelChange]:
        """All rows, with a look at the clock every few; returns what changed."""
        first, step = len(self.changes), max(1, BLOCK // each)
        for begin in range(0, len(rows), step):
            part = rows[begin : begin + step]
            self.monitor.update(part, self.mono_ns + each * np.arange(len(part)))
            self.wait(each * len(part))
            self.look()
            after()
        return self.changes[first:]


@cache
def _learnt(reference: bool) -> tuple[bytes, int, int]:
    given = make_reference(SPECS, ordinary(2000 * EACH / DAY, 100)) if reference else None
    line = Line(Monitor(SPECS, SETTINGS, given, 1))
    line.see(ordinary(3.02, 1))
    return line.monitor.save(), line.mono_ns, line.wall_ns


def learnt(reference: bool = False) -> Line:
    """Three days of ordinary rows were its commissioning."""
    saved, mono_ns, wall_ns = _learnt(reference)
    line = Line(Monitor.restore(saved), mono_ns=mono_ns, wall_ns=wall_ns)
    assert line.monitor.view().level is Level.OK
    return line


def shifted(rows: np.ndarray, column: int, by: float) -> np.ndarray:
    moved: np.ndarray = rows.copy()
    moved[:, column] += by
    return moved
