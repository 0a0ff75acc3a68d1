"""Into which bin a value falls, for every feature at once: what all counts of drift stand on.

Edges are quantiles of rows seen before. A value that is two or more of their quantiles (zeros of a rain gauge, a
switch, a constant) gets a narrow bin of its own, so that rows below, at and above it are told apart.
"""

from __future__ import annotations

import hashlib
import math
from collections import Counter
from collections.abc import Sequence
from typing import Final, Literal

import msgspec
import numpy as np
from msgspec import Struct

from edge_agent.monitoring import CLASS_BINS_MOST, NUMERIC_BINS, Binning, Categorical, Feature, Group, Numeric
from edge_agent.records import Array

ID_DIGITS: Final = 12  # 48 bits: a fleet holds a few hundred binnings, not millions
QUANTA_IN_SPREAD: Final = 20  # at least, between the 1st and the 99th percentile: rounding adds 0.2 % to a deviation
QUANTA_OF_VALUE: Final = 1e6  # at most, for the largest value seen: sums stay short in a payload
FLOAT32_STEP: Final = 2.0**-23  # of a value: what float32, which models compute in, can tell apart
FLOAT32_LEAST: Final = 2.0**-149  # the same beside 0
QUANTA_MOST: Final = 2**25  # beyond it a value counts as this many: its square times 4096 rows still fits in int64


class FeatureSpec(Struct, frozen=True):
    """What is known of a feature before a row was seen. ``labels``: of the class numbers 0, 1, ..., where known."""

    name: str
    group: Group
    kind: Literal["numeric", "class"] = "numeric"
    unit: str = ""
    range: tuple[float, float] | None = None
    labels: tuple[str, ...] = ()


class Binner:
    """Bins of rows under one binning. All features lie behind each other in one flat array of ``size`` counts: those of
    feature ``f`` at ``offsets[f]`` to ``offsets[f + 1]``, the missing ones last. ``widths``: (F,) bins of each."""

    def __init__(self, binning: Binning) -> None:
        self.binning = binning
        self.widths: Array = np.array([width(feature) for feature in binning], np.int64)
        self.offsets: Array = np.concatenate([np.zeros(1, np.int64), np.cumsum(self.widths)])
        self.size = int(self.offsets[-1])
        edges = [feature.edges if isinstance(feature, Numeric) else () for feature in binning]
        self._edges: Array = np.full((max(map(len, edges), default=0), len(binning)), np.inf)
        for column, found in enumerate(edges):
            self._edges[: len(found), column] = found
        self._classes = [
            (column, _ClassTable(feature)) for column, feature in enumerate(binning) if isinstance(feature, Categorical)
        ]

    def index(self, rows: Array) -> Array:
        """(n, F) float64 -> (n, F) int64 places in the flat array; what is not finite is missing."""
        local = np.zeros(rows.shape, np.int64)
        for edges in self._edges:  # at most nine passes over all rows: faster than a search for each feature
            local += rows >= edges
        for column, table in self._classes:
            local[:, column] = table.index(rows[:, column])
        return self.offsets[:-1] + np.where(np.isfinite(rows), local, self.widths - 1)

    def count(self, rows: Array) -> Array:
        """(n, F) float64 -> (size,) int64: how many rows fell into each bin."""
        return np.bincount(self.index(rows).ravel(), minlength=self.size)

    def split(self, flat: Array) -> tuple[Array, ...]:
        """A flat array (size,), by feature."""
        return tuple(np.split(flat, self.offsets[1:-1])) if len(self.binning) else ()


class _ClassTable:
    """From class numbers, as floats, to bins."""

    def __init__(self, feature: Categorical) -> None:
        classes = np.array(feature.classes, np.float64)
        self._order: Array = np.argsort(classes)
        self._sorted: Array = classes[self._order]

    def index(self, values: Array) -> Array:
        """(n,) float64 -> (n,) int64; ``len(classes)`` is the bin of all other classes."""
        if not len(self._sorted):
            return np.zeros(len(values), np.int64)
        place = np.minimum(np.searchsorted(self._sorted, values), len(self._sorted) - 1)
        return np.where(self._sorted[place] == values, self._order[place], len(self._sorted))


def width(feature: Feature) -> int:
    """Bins of a feature: those between and around edges, or a class each and one for others; and one for missing."""
    return len(feature.edges) + 2 if isinstance(feature, Numeric) else len(feature.classes) + 2


def binning_of(specs: Sequence[FeatureSpec], rows: Array) -> Binning:
    """A binning from rows (n, F) float64, NaN where missing. A feature without a single value has one bin and the one
    for missing: that values come at all is then the change. Raises ValueError where rows have another width."""
    if rows.ndim != 2 or rows.shape[1] != len(specs):
        raise ValueError(f"rows of shape {rows.shape} for {len(specs)} features")
    return tuple(_feature(spec, rows[:, column]) for column, spec in enumerate(specs))


def binning_id(binning: Binning) -> str:
    """12 hex digits: two binnings with the same one count alike, and their counts may be added."""
    return hashlib.sha256(msgspec.json.encode(binning)).hexdigest()[:ID_DIGITS]


def _feature(spec: FeatureSpec, column: Array) -> Feature:
    values = np.sort(column[np.isfinite(column)])
    if spec.kind == "class":
        counted = Counter(int(value) for value in values if abs(value) < 2**53 and value == int(value))
        # Two places are taken: by all other classes and by missing. Ties in the order of the class number.
        most = sorted(counted, key=lambda number: (-counted[number], number))[: CLASS_BINS_MOST - 2]
        labels = tuple(spec.labels[number] if 0 <= number < len(spec.labels) else str(number) for number in most)
        return Categorical(spec.name, spec.group, tuple(most), labels if spec.labels else ())
    return Numeric(spec.name, spec.group, _edges(values), _quantum(values, spec.range), spec.unit, spec.range)


def _edges(values: Array) -> tuple[float, ...]:
    """``values`` sorted. Ascending; at most nine, for a value between two edges stands at two quantiles or more."""
    places = sorted({len(values) * part // NUMERIC_BINS for part in range(1, NUMERIC_BINS)}) if len(values) else []
    cuts: set[float] = set()
    for value, times in Counter(float(values[place]) for place in places).items():
        below = int(np.searchsorted(values, value))
        if times > 1 or values[0] == values[-1]:
            step = max(abs(value) * FLOAT32_STEP, FLOAT32_LEAST)
            cuts |= {value - step, value + step}
        elif below:
            # Half-way to the next smaller value: a last bit that differs between machines does not change the bin.
            cuts.add(value / 2 + float(values[below - 1]) / 2)
    return tuple(sorted(filter(math.isfinite, cuts)))


def _quantum(values: Array, reach: tuple[float, float] | None) -> float:
    """A power of ten, a twentieth of the values' spread or less, unless the values are large beside it."""
    low, high = (float(edge) for edge in np.quantile(values, (0.01, 0.99))) if len(values) else (0.0, 0.0)
    largest = float(np.abs(values).max()) if len(values) else 0.0
    spread = (high - low) or (reach[1] - reach[0] if reach else 0.0) or largest or 1.0
    fine = math.floor(_log10(spread / QUANTA_IN_SPREAD))
    coarse = math.ceil(_log10(largest / QUANTA_OF_VALUE))
    return float(f"1e{max(fine, coarse)}")


def _log10(value: float) -> float:
    """Of a value as far as a power of ten can be told from 0 and from infinity."""
    return math.log10(min(max(value, 1e-300), 1e300))
