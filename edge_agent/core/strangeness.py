"""How unlike all before a row of a pipeline is, and how sure the model was: what samples are chosen by."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np

from edge_agent.core.drift.bins import FeatureSpec
from edge_agent.records import Array

WARM_UP: Final = 100  # rows until a spread is known
MEMORY: Final = 20_000  # rows, about three hours: what was strange for a day is not strange any more
CLIP: Final = 10.0  # standard deviations: one reading that is off counts no more than that
EMBEDDED: Final = "embedding.distance"


class Strangeness:
    """``features``: of the rows. Where there is an embedding its distance counts; else the mean squared deviation of
    sensors and picture, in standard deviations about their running mean (a diagonal Mahalanobis distance)."""

    def __init__(self, features: Sequence[FeatureSpec]) -> None:
        names = [feature.name for feature in features]
        self._embedded = names.index(EMBEDDED) if EMBEDDED in names else None
        self._sure = [place for place, name in enumerate(names) if name.endswith(".confidence")]
        self._plain = [place for place, feature in enumerate(features) if feature.group in ("sensor", "image")]
        self._seen: Array = np.zeros(len(self._plain))
        self._mean: Array = np.zeros(len(self._plain))
        self._variance: Array = np.zeros(len(self._plain))

    def confidence(self, row: Array) -> float | None:
        """(F,) float64. The least of all outputs; None where no output has one, or all are missing."""
        known = row[self._sure]
        known = known[~np.isnan(known)]
        return float(known.min()) if known.size else None

    def distance(self, row: Array) -> float | None:
        """The larger, the stranger; None while that is not known. Each row becomes part of what is known."""
        if self._embedded is not None:
            value = float(row[self._embedded])
            return None if np.isnan(value) else value
        values = row[self._plain]
        there = ~np.isnan(values)
        apart = np.where(there, values - self._mean, 0.0)
        spread = np.sqrt(self._variance)
        judged = there & (self._seen >= WARM_UP) & (spread > 0)
        scores = np.minimum(np.abs(apart[judged]) / spread[judged], CLIP)
        self._learn(there, apart)
        return float(np.mean(scores**2)) if scores.size else None

    def _learn(self, there: Array, apart: Array) -> None:
        """Running mean and variance that forget: T. Finch, Incremental calculation of weighted mean and variance, 2009,
        section 9."""
        self._seen += there
        weight = there / np.minimum(np.maximum(self._seen, 1), MEMORY)
        self._mean += weight * apart
        self._variance = (1 - weight) * (self._variance + weight * apart**2)
