"""From an output that is an embedding to the few numbers that are watched of it: eight principal components, and how
far a row lies from the middle of the representative set.

Jolliffe 2002, "Principal Component Analysis", chapter 2; the distance of Mahalanobis 1936 with the diagonal of the
covariance alone, which a few thousand rows can tell for a thousand elements.
"""

from __future__ import annotations

import numpy as np

from edge_agent.errors import ConfigError
from edge_agent.monitoring import Projection
from edge_agent.records import Array

COMPONENTS = 8
ELEMENTS_MOST = 4096  # its covariance has 134 MB then, and its components half a minute
TOGETHER = 256  # rows in one matrix product
VARIANCE_FLOOR = 0.01  # of the mean variance: an element that never moved here must not drown all others there


class ProjectionFit:
    """Sums over the rows, so that none of them is kept: one pass in row order, then ``projection``."""

    def __init__(self, tensor: str, elements: int) -> None:
        """Raises ConfigError for a tensor that is no embedding to be watched."""
        if not COMPONENTS <= elements <= ELEMENTS_MOST:
            raise ConfigError(
                f"--embedding {tensor}: has {elements} elements; {COMPONENTS} to {ELEMENTS_MOST} can be watched"
            )
        self._tensor = tensor
        self._first: Array | None = None
        self._waiting: list[Array] = []
        self._rows = 0
        self._sum = np.zeros(elements)
        self._products = np.zeros((elements, elements))

    def add(self, embedding: Array) -> None:
        """(elements,) real values of one row; raises ConfigError where one is not finite."""
        values = embedding.astype(np.float64)
        if not np.isfinite(values).all():
            raise ConfigError(f"--embedding {self._tensor}: is not finite in row {self._rows + 1} of those used")
        if self._first is None:
            self._first = values  # products of differences from any row lose less than those of the values
        self._rows += 1
        self._waiting.append(values - self._first)
        if len(self._waiting) == TOGETHER:
            self._take()

    def projection(self) -> Projection:
        """Raises ConfigError where the rows say too little about it.

        All is rounded to half precision, as the model file carries it: the device and the reference must agree on
        every bin.
        """
        if self._first is None or self._rows <= COMPONENTS:
            raise ConfigError(f"--embedding {self._tensor}: {self._rows} rows; more than {COMPONENTS} are needed")
        self._take()
        moved = self._sum / self._rows
        covariance = self._products / self._rows - np.outer(moved, moved)
        variances = np.clip(np.diag(covariance), 0.0, None)
        if not variances.mean() > 0:
            raise ConfigError(f"--embedding {self._tensor}: is the same in every row")
        mean = moved + self._first
        rounded = Projection(
            tensor=self._tensor,
            mean=_half(mean),
            components=_half(_components(covariance)),
            inverse_variance=_half(1.0 / (variances + VARIANCE_FLOOR * variances.mean())),
        )
        self._require_kept(rounded, mean, np.sqrt(variances))
        return rounded

    def _take(self) -> None:
        if self._waiting:
            block = np.stack(self._waiting)
            self._waiting.clear()
            self._sum += block.sum(axis=0)
            self._products += block.T @ block

    def _require_kept(self, rounded: Projection, mean: Array, deviations: Array) -> None:
        """Half precision holds 6e-8 to 65,504 in eleven bits: enough unless an embedding is far off usual ranges."""
        weights = rounded.inverse_variance
        lost = np.abs(rounded.mean - mean) > np.maximum(deviations, 0.1 * deviations.mean())
        if not np.isfinite(weights).all() or not (weights > 0).all() or lost.any():
            raise ConfigError(
                f"--embedding {self._tensor}: its values ({mean.min():.3g} to {mean.max():.3g} on average) are beyond "
                "what half precision keeps; scale it to about 1 in the model"
            )


def _components(covariance: Array) -> Array:
    """(elements, 8): the directions of the largest variance. The sign, which is free, makes the largest element
    positive, so that the same rows give the same bytes."""
    _, vectors = np.linalg.eigh(covariance)
    leading = vectors[:, ::-1][:, :COMPONENTS]
    largest = np.take_along_axis(leading, np.abs(leading).argmax(axis=0)[None, :], axis=0)
    return leading * np.where(largest < 0, -1.0, 1.0)


def _half(values: Array) -> Array:
    with np.errstate(over="ignore"):  # an infinity is what the caller looks for
        rounded: Array = values.astype(np.float16).astype(np.float32)
    return rounded
