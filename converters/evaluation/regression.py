"""How good a regression or an anomaly score is. Pure functions on arrays."""

from __future__ import annotations

import numpy as np
from msgspec import Struct

from converters.evaluation.ranking import area_under_curve
from edge_agent.records import Array


class RegressionResult(Struct, frozen=True, tag_field="task", tag="regression"):
    """All but ``r2`` in ``unit``. ``bias`` is above 0 where the model answers too much; ``r2`` is None where all truths
    are the same."""

    unit: str
    mae: float
    rmse: float
    r2: float | None
    max_error: float
    bias: float


class AnomalyResult(Struct, frozen=True, tag_field="task", tag="anomaly"):
    """``precision``, ``recall`` and ``f1`` at ``threshold``, the card's; None where they are not defined."""

    threshold: float
    auc: float | None
    accuracy: float
    precision: float | None
    recall: float | None
    f1: float | None
    anomalies: int
    flagged: int


def regression_result(values: Array, truth: Array, unit: str = "") -> RegressionResult:
    """``values`` and ``truth`` (n,) float64 in ``unit``. R2 is 1 - sum (truth - value)^2 / sum (truth - mean)^2."""
    errors = values - truth
    return RegressionResult(
        unit=unit,
        mae=float(np.abs(errors).mean()),
        rmse=float(np.sqrt((errors**2).mean())),
        r2=determination(values, truth),
        max_error=float(np.abs(errors).max()),
        bias=float(errors.mean()),
    )


def determination(values: Array, truth: Array) -> float | None:
    """R2, the coefficient of determination; None where all truths are the same."""
    if np.ptp(truth) == 0:  # their spread would be rounding alone
        return None
    return 1.0 - float(((values - truth) ** 2).sum()) / float(((truth - truth.mean()) ** 2).sum())


def anomaly_result(scores: Array, truth: Array, threshold: float) -> AnomalyResult:
    """``scores`` (n,) float64, ``truth`` (n,) bool; a row is flagged from ``threshold`` on, as on the device."""
    flagged = scores >= threshold
    hits, anomalies, flags = int((flagged & truth).sum()), int(truth.sum()), int(flagged.sum())
    return AnomalyResult(
        threshold=threshold,
        auc=area_under_curve(scores, truth),
        accuracy=float(np.mean(flagged == truth)),
        precision=hits / flags if flags else None,
        recall=hits / anomalies if anomalies else None,
        f1=2 * hits / (anomalies + flags) if anomalies + flags else None,
        anomalies=anomalies,
        flagged=flags,
    )
