"""What looks wrong before anything is quantised: features that the card does not scale, a model that guesses.

Warnings for a person: a conversion goes on, since only the owner knows.
"""

from __future__ import annotations

from collections import Counter

import numpy as np

from converters.evaluation.regression import AnomalyResult, RegressionResult
from converters.records import Arrays
from converters.steps import Judged
from edge_agent.core.card_schema import FeaturesInput
from edge_agent.core.model_card import ResolvedCard
from edge_agent.records import Array

FAR = 8.0  # scaled values beyond it are no z-scores: one in 10^15 of a normal distribution
OFF_CENTRE = 3.0  # deviations by which a scaled feature's mean may be off
CLIPPED_MOST = 0.05
SPREAD_MOST = 50.0  # of the widest feature against the narrowest in one tensor
NARROW = 0.05  # of a deviation
CHANCE_MARGIN = 0.02
AUC_OF_CHANCE = 0.55


def feature_warnings(card: ResolvedCard, arrays: Arrays) -> tuple[str, ...]:
    """Of the calibration rows as the card scales them."""
    return tuple(
        warning
        for item in card.feature_inputs
        if item.tensor in arrays.features
        for warning in _of_input(item, arrays.features[item.tensor])
    )


def guess_warnings(reference: Judged) -> tuple[str, ...]:
    """Where the float model itself is no better than a guess: then a small drop says nothing."""
    warnings = []
    for name, head in reference.evaluation.outputs.items():
        result = head.result
        if isinstance(result, RegressionResult) and result.r2 is not None and result.r2 <= 0:
            warnings.append(_guess(name, "the mean of the labels would be as good"))
        elif isinstance(result, AnomalyResult) and result.auc is not None and result.auc <= AUC_OF_CHANCE:
            warnings.append(_guess(name, "its scores don't tell normal from anomalous"))
        elif head.task == "classification" and result is not None and head.score is not None:
            truth = Counter(label for label in reference.recorded.labels[name] if label is not None)
            common = max(truth.values()) / sum(truth.values())
            if len(truth) > 1 and head.score <= common + CHANCE_MARGIN:
                warnings.append(_guess(name, f"always the most frequent class would reach {common:.4f}"))
        if head.score is None:
            warnings.append(
                f"warning: {name}: its {head.score_name} is not defined on these rows (are all labels equal?): it is "
                "judged by its agreement with float"
            )
    return tuple(warnings)


def _of_input(item: FeaturesInput, values: Array) -> list[str]:
    columns = np.asarray(values, np.float64).reshape(len(values), -1)
    warnings = []
    spreads = columns.std(axis=0)
    for feature, column, spread in zip(item.features, columns.T, spreads, strict=True):
        worst = float(np.abs(column).max())
        clipped = float(np.mean(np.abs(column) >= feature.clip - 1e-6)) if feature.clip else 0.0
        if clipped > CLIPPED_MOST:
            warnings.append(_feature(feature.name, f"the card's clip cuts {clipped:.0%} of the calibration rows"))
        elif worst > FAR:
            warnings.append(_feature(feature.name, f"scaled by the card it still reaches {worst:.4g}"))
        elif abs(float(column.mean())) > OFF_CENTRE or 0 < spread < NARROW:
            found = f"scaled by the card it has mean {column.mean():.3g} and deviation {spread:.3g}"
            warnings.append(_feature(feature.name, found))
    moving = spreads[spreads > 0]
    if not warnings and moving.size > 1 and moving.max() / moving.min() > SPREAD_MOST:
        warnings.append(
            f"warning: features of {item.tensor!r} differ {moving.max() / moving.min():.0f} times in range and share "
            "one int8 scale: the narrow ones are lost; give each mean and std in the card"
        )
    return warnings


def _feature(name: str, found: str) -> str:
    return (
        f"warning: feature {name!r}: {found}: do mean and std in the card belong to these readings, and is it what the "
        "model was trained on?"
    )


def _guess(name: str, why: str) -> str:
    return f"warning: {name}: the float model is no better than a guess on these rows ({why}): check card and data"
