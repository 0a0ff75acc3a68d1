"""A simulated device: rows go through the product's monitor as the daemon's worker hands them over."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from benchmarks.drift_streams import DAY_ROWS, ROW_S, Rows, Stream
from edge_agent.core.drift.bins import FeatureSpec
from edge_agent.core.drift.monitor import Monitor
from edge_agent.core.drift.reference import make_reference
from edge_agent.core.drift.state import Settings
from edge_agent.monitoring import LEVELS, Group, Level, LevelChange, Moment, Reference

DAY_HOURS = 24
STEP_ROWS = 150  # between two looks at the clock: 15 minutes
SECOND_NS = 1_000_000_000
MONDAY_NS = 1_735_516_800 * SECOND_NS  # 2024-12-30 00:00 UTC
BLOCK_NS = 900 * SECOND_NS
_GROUPS: dict[str, Group] = {"image": "image", "embedding": "embedding", "digit": "prediction"}


@dataclass(frozen=True)
class Alarm:
    """Levels that rose at one moment. ``features``: those that reached ``level``, the worst. ``fresh``: one of them was
    ok before; else a level that was known of became worse."""

    hours: float  # since the baseline was there
    level: Level
    features: tuple[str, ...]
    fresh: bool

    @property
    def warning(self) -> bool:
        return LEVELS.index(self.level) >= LEVELS.index(Level.WARNING)


def specs_of(names: Sequence[str]) -> tuple[FeatureSpec, ...]:
    """A name without a dot is a sensor's; ``digit.class`` holds class numbers."""
    return tuple(
        FeatureSpec(
            name,
            _GROUPS[name.split(".")[0]] if "." in name else "sensor",
            "class" if name[-6:] == ".class" else "numeric",
        )
        for name in names
    )


def reference_of(names: Sequence[str], rows: Rows) -> Reference:
    return make_reference(specs_of(names), rows)


class Device:
    """Its clock is synchronised and starts on a Monday at midnight."""

    def __init__(self, names: Sequence[str], reference: Reference | None, learn_days: float, seed: int) -> None:
        settings = Settings(BLOCK_NS, round(learn_days * 86_400 * SECOND_NS))
        self.monitor = Monitor(specs_of(names), settings, reference, seed)
        self._row = self._start = 0
        self.early: list[LevelChange] = []
        self._look()

    def learn(self, stream: Stream) -> None:
        """Whole days, until the baseline is there. Raises RuntimeError where it never comes."""
        for _ in range(100):
            self.early += [
                change for rows in [stream.rows(DAY_ROWS)] for _, found in self._pass(rows) for change in found
            ]
            if self.monitor.view().learning.done:
                self._start = self._row
                return
        raise RuntimeError("the baseline was not learnt in 100 days")

    def see(self, rows: Rows) -> list[Alarm]:
        """The alarms that these rows raise; what recovers is none."""
        alarms = []
        for row, changes in self._pass(rows):
            rose = [it for it in changes if it.feature and LEVELS.index(it.after) > LEVELS.index(it.before)]
            bad = [it for it in rose if it.after not in (Level.LEARNING, Level.OK)]
            if bad:
                worst = max((it.after for it in bad), key=LEVELS.index)
                names = tuple(it.feature for it in bad if it.after is worst)
                fresh = any(it.before in (Level.LEARNING, Level.OK) for it in bad)
                alarms.append(Alarm((row - self._start) * ROW_S / 3600, worst, names, fresh))
        return alarms

    def _pass(self, rows: Rows) -> list[tuple[int, list[LevelChange]]]:
        found: list[tuple[int, list[LevelChange]]] = []
        for first in range(0, len(rows), STEP_ROWS):
            part = rows[first : first + STEP_ROWS]
            times = (self._row + np.arange(len(part))) * ROW_S * SECOND_NS
            self._row += len(part)
            self.monitor.update(part, times)
            if changes := self._look():
                found.append((self._row, changes))
        return found

    def _look(self) -> list[LevelChange]:
        now_ns = self._row * ROW_S * SECOND_NS
        return self.monitor.close_block(Moment(now_ns, MONDAY_NS + now_ns, True))


def learnt(device: Device) -> dict[str, Any]:
    """What the commissioning found, for a person."""
    learning = device.monitor.view().learning
    return {"block_min": learning.block_s / 60, "contexts": learning.contexts, "daily": list(learning.daily)}
