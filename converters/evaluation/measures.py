"""The figures of a result by name, as text."""

from __future__ import annotations

from converters.evaluation.classification import ClassificationResult
from converters.evaluation.detection import DetectionResult
from converters.evaluation.regression import RegressionResult
from converters.evaluation.results import Result

NOTHING = "-"


def number(value: float | None) -> str:
    """Four digits after the point: a difference of one row in ten thousand shows."""
    return NOTHING if value is None else f"{value:.4f}"


def small(value: float | None) -> str:
    """Four significant digits: for values in units of their own."""
    return NOTHING if value is None else f"{value:.4g}"


def main_lines(result: Result) -> list[tuple[str, str]]:
    """(measure, value) of everything that is one number."""
    if isinstance(result, ClassificationResult):
        pairs = [
            ("accuracy", result.accuracy),
            ("  at least, with 95 %", result.interval[0]),
            ("  at most, with 95 %", result.interval[1]),
            ("top-5", result.top5),
            ("macro F1", result.macro_f1),
            ("AUC, one against the rest", result.auc),
            ("calibration error", result.calibration_error),
            ("log loss, nats", result.log_loss),
        ]
        return [(name, number(value)) for name, value in pairs if name != "top-5" or value is not None]
    if isinstance(result, DetectionResult):
        return [
            ("mAP@[.5:.95]", number(result.map)),
            ("mAP@0.5", number(result.map50)),
            ("mAP@0.75", number(result.map75)),
            *_at_threshold(result.threshold, result.precision, result.recall, result.f1),
        ]
    if isinstance(result, RegressionResult):
        unit = f", {result.unit}" if result.unit else ""
        values = [("MAE", result.mae), ("RMSE", result.rmse), ("largest error", result.max_error)]
        return [
            ("R2", number(result.r2)),
            *((name + unit, small(value)) for name, value in values),
            ("bias" + unit, small(result.bias)),
        ]
    return [("AUC", number(result.auc)), *_at_threshold(result.threshold, result.precision, result.recall, result.f1)]


def _at_threshold(
    threshold: float, precision: float | None, recall: float | None, f1: float | None
) -> list[tuple[str, str]]:
    return [
        (f"precision from {threshold:g} on", number(precision)),
        (f"recall from {threshold:g} on", number(recall)),
        (f"F1 from {threshold:g} on", number(f1)),
    ]
