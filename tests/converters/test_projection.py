"""What is watched of an embedding: the same numbers as the textbook's, in the precision that a model file keeps."""

from __future__ import annotations

import numpy as np
import pytest

from converters.projection import COMPONENTS, ELEMENTS_MOST, VARIANCE_FLOOR, ProjectionFit
from edge_agent.errors import ConfigError
from edge_agent.monitoring import Projection
from edge_agent.records import Array

ELEMENTS = 20


def rows_of(count: int = 700, *, scale: float = 1.0, shift: float = 3.0) -> Array:
    """Correlated, each direction twice as wide as the next."""
    rng = np.random.default_rng(7)
    wide = 2.0 ** -np.arange(ELEMENTS)
    turned, _ = np.linalg.qr(rng.normal(size=(ELEMENTS, ELEMENTS)))
    return scale * (rng.normal(size=(count, ELEMENTS)) * wide @ turned.T + shift)


def fitted(rows: Array) -> Projection:
    fit = ProjectionFit("both", rows.shape[1])
    for row in rows:
        fit.add(row)
    return fit.projection()


def test_components_mean_and_variances_are_those_of_the_rows() -> None:
    rows = rows_of()
    found = fitted(rows)
    _, _, right = np.linalg.svd(rows - rows.mean(axis=0), full_matrices=False)
    overlap = np.abs(np.sum(found.components * right[:COMPONENTS].T, axis=0))
    assert overlap == pytest.approx(1, abs=2e-3)
    assert found.mean == pytest.approx(rows.mean(axis=0), rel=1e-3)
    variances = rows.var(axis=0)
    assert found.inverse_variance == pytest.approx(1 / (variances + VARIANCE_FLOOR * variances.mean()), rel=1e-3)


def test_every_number_is_kept_by_half_precision_and_the_same_rows_give_the_same() -> None:
    found, again = fitted(rows_of()), fitted(rows_of())
    for name in ("mean", "components", "inverse_variance"):
        values = getattr(found, name)
        assert values.dtype == np.float32
        assert np.array_equal(values, values.astype(np.float16).astype(np.float32))
        assert np.array_equal(values, getattr(again, name))


def test_an_element_that_never_moved_does_not_drown_the_others() -> None:
    rows = rows_of()
    rows[:, 4] = 0.25
    weights = fitted(rows).inverse_variance
    assert np.isfinite(weights).all()
    assert weights[4] * rows.var(axis=0).mean() == pytest.approx(1 / VARIANCE_FLOOR, rel=0.01)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (rows_of(COMPONENTS), "more than 8 are needed"),
        (np.full((50, ELEMENTS), 2.5), "the same in every row"),
        (np.vstack([rows_of(20), np.full((1, ELEMENTS), np.nan)]), "not finite in row 21"),
        (rows_of(scale=1e6), "half precision"),
        (rows_of(scale=1e-7), "half precision"),
        (rows_of(shift=3101.7, scale=0.2), "half precision"),  # the mean's own rounding is as wide as the rows
    ],
)
def test_an_embedding_that_cannot_be_watched_is_refused_with_its_reason(rows: Array, message: str) -> None:
    with pytest.raises(ConfigError, match=rf"--embedding both: .*{message}"):
        fitted(rows)


@pytest.mark.parametrize("elements", [1, COMPONENTS - 1, ELEMENTS_MOST + 1])
def test_a_tensor_of_another_size_is_no_embedding(elements: int) -> None:
    with pytest.raises(ConfigError, match=f"has {elements} elements"):
        ProjectionFit("both", elements)
