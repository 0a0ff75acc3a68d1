"""Streams of monitored rows whose truth is known: a world of pictures and sensors, a regime (how the rows hang together
in time) and a scenario (what changes, and when). Each is a function of its seed alone.

A row stands for 6 seconds, so a day is 14,400 rows. The features are those of a device with eight sensors, a camera, a
classifier and an embedding; ``benchmarks/drift_worlds.py`` makes the world from scikit-learn's data sets.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

ROW_S = 6
DAY_ROWS = 86_400 // ROW_S
HOUR_ROWS = 3600 // ROW_S
LIGHTS = 10  # levels of light over a day
CHUNK = 240  # rows of the recursion that are computed as one product

Rows = NDArray[np.float64]
Random = np.random.Generator


@dataclass(frozen=True)
class World:
    """``tables``: condition -> (pictures, draws, picture features), of which the last is the class. Conditions: clean,
    blur, noise, dark and light0 ... light9. ``sorted_values``: (m, sensors), each column ascending. ``mixing``:
    (sensors, sensors), the Cholesky factor of the sensors' correlation. ``truth``: (pictures,) the true classes.
    ``names``: of the sensors, then of the picture features."""

    names: tuple[str, ...]
    tables: Mapping[str, NDArray[np.float32]]
    sorted_values: Rows
    mixing: Rows
    truth: NDArray[np.int64]

    @property
    def sensors(self) -> int:
        return self.sorted_values.shape[1]


@dataclass(frozen=True)
class Regime:
    """``scene_rows``: mean length of a scene; ``memory_rows``: time constant of a sensor; ``cycle``: amplitude of the
    day's sine in standard deviations of the first three sensors (the light follows it); ``day_sd``: standard deviation
    of the days' own level of these sensors; ``weekend``: their shift on Saturday and Sunday, when the small classes are
    twice as frequent too."""

    name: str
    scene_rows: float = 10
    memory_rows: float = 20
    cycle: float = 0.0
    day_sd: float = 0.0
    weekend: float = 0.0


REGIMES = (
    Regime("independent", scene_rows=1, memory_rows=0),
    Regime("mod"),
    Regime("strong", scene_rows=50, memory_rows=100),
    Regime("daily cycle", cycle=1.0),
    Regime("day levels 0.2", day_sd=0.2),
    Regime("day levels 0.5", day_sd=0.5),
    Regime("weekly cycle", weekend=-1.0),
)
SCENARIOS = ("mean", "ramp", "variance", "class prior", "blur", "noise", "dark", "stuck", "missing")
"""From the onset on, in the first sensor: +0.5 standard deviations; up to +1 within two days; 1.5 times the deviations;
classes 0 to 4 twice as frequent; three that change the picture; one value for ever; 5 % missing."""

_PICTURES = {"blur", "noise", "dark"}
_TOUCHED = 3  # the sensors that a day, a season or a weekend touches


class Stream:
    """The rows of one device, in order, from midnight of a Monday. ``onset``: the row at which the scenario begins."""

    def __init__(self, world: World, regime: Regime, seed: int, scenario: str = "", onset: int = 0) -> None:
        if scenario and scenario not in SCENARIOS:
            raise ValueError(f"{scenario} is no scenario, they are {', '.join(SCENARIOS)}")
        self.world, self.regime, self.scenario, self.onset = world, regime, scenario, onset
        self.position = 0
        self._seed = seed
        self._random = np.random.default_rng(seed)
        self._memory = self._random.standard_normal(world.sensors) @ world.mixing.T
        self._picture = -1
        self._held = float("nan")
        pictures = len(world.truth)
        self._even = np.arange(1, pictures + 1) / pictures
        small = np.cumsum(np.where(world.truth < 5, 2.0, 1.0))
        self._tilted = small / small[-1]
        self._normal = np.array(
            [NormalDist().inv_cdf((i + 0.5) / len(world.sorted_values)) for i in range(len(world.sorted_values))]
        )

    def rows(self, count: int) -> Rows:
        """(count, features) float64, NaN where a reading is missing."""
        at = np.arange(self.position, self.position + count)
        self.position += count
        return self.at(at)

    def at(self, at: NDArray[np.int64]) -> Rows:
        """The rows at these places; what hangs together in time takes each place for the next."""
        return np.hstack([self._sensors(at), self._pictures(at)])

    def _changed(self, at: NDArray[np.int64], scenario: str) -> NDArray[np.bool_]:
        return at >= self.onset if self.scenario == scenario else np.zeros(len(at), bool)

    def _sensors(self, at: NDArray[np.int64]) -> Rows:
        world, regime = self.world, self.regime
        z = self._correlated(len(at))
        touched = z[:, :_TOUCHED]
        touched += regime.cycle * np.sin(2 * np.pi * at / DAY_ROWS)[:, None]
        if regime.day_sd:
            days, inverse = np.unique(at // DAY_ROWS, return_inverse=True)
            levels = [np.random.default_rng([self._seed, 1, day]).standard_normal(_TOUCHED) for day in days]
            touched += regime.day_sd * np.array(levels)[inverse]
        touched += regime.weekend * _weekend(at)[:, None]
        z[self._changed(at, "mean"), 0] += 0.5
        if self.scenario == "ramp":
            z[:, 0] += np.clip((at - self.onset) / (2 * DAY_ROWS), 0, 1)
        z[self._changed(at, "variance"), 0] *= 1.5
        values = np.column_stack(
            [np.interp(z[:, j], self._normal, world.sorted_values[:, j]) for j in range(world.sensors)]
        )
        stuck = self._changed(at, "stuck")
        if stuck.any():
            if np.isnan(self._held):
                self._held = float(values[stuck, 0][0])
            values[stuck, 0] = self._held
        values[self._changed(at, "missing") & (self._random.random(len(at)) < 0.05), 0] = np.nan
        return values

    def _correlated(self, count: int) -> Rows:
        """First-order autoregressive, unit variance, correlated over the sensors."""
        noise = self._random.standard_normal((count, self.world.sensors)) @ self.world.mixing.T
        if not self.regime.memory_rows:
            return noise
        keep = np.exp(-1 / self.regime.memory_rows)
        noise *= np.sqrt(1 - keep**2)
        powers = keep ** np.arange(CHUNK + 1)
        lag = np.subtract.outer(np.arange(CHUNK), np.arange(CHUNK))
        kernel = np.where(lag >= 0, powers[np.abs(lag)], 0.0)
        for start in range(0, count, CHUNK):
            part = noise[start : start + CHUNK]
            size = len(part)
            part[:] = kernel[:size, :size] @ part + powers[1 : size + 1, None] * self._memory
            self._memory = part[-1].copy()
        return noise

    def _pictures(self, at: NDArray[np.int64]) -> Rows:
        random, tables = self._random, self.world.tables
        fresh = random.random(len(at)) < 1 / self.regime.scene_rows
        fresh[0] |= self._picture < 0
        chance = random.random(len(at))
        tilted = self._changed(at, "class prior")
        if self.regime.weekend:
            tilted |= _weekend(at)
        drawn = np.where(tilted, np.searchsorted(self._tilted, chance), np.searchsorted(self._even, chance))
        scene = np.cumsum(fresh)
        shown = np.concatenate([[self._picture], drawn[fresh]])[scene]
        self._picture = int(shown[-1])
        draw = random.integers(0, tables["clean"].shape[1], len(at))
        if self.regime.cycle:
            light = np.rint((np.sin(2 * np.pi * at / DAY_ROWS) + 1) / 2 * (LIGHTS - 1)).astype(int)
            rows = np.stack([tables[f"light{level}"] for level in range(LIGHTS)])[light, shown, draw]
        else:
            rows = tables["clean"][shown, draw]
        if self.scenario in _PICTURES:
            changed = self._changed(at, self.scenario)
            rows[changed] = tables[self.scenario][shown[changed], draw[changed]]
        return rows.astype(np.float64)


def _weekend(at: NDArray[np.int64]) -> NDArray[np.bool_]:
    return at // DAY_ROWS % 7 >= 5


def representative(world: World, regime: Regime, count: int, seed: int) -> Rows:
    """(count, features): independent draws from what the regime shows over eight weeks, as a good data set is."""
    alone = Stream(world, replace(regime, scene_rows=1, memory_rows=0), seed)
    chosen = np.random.default_rng([seed, 2]).choice(56 * DAY_ROWS, count, replace=False)
    return alone.at(np.sort(chosen))
