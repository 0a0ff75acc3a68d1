"""Golden samples against what a model gives: steps, classes, and outputs that can't be compared at all."""

from __future__ import annotations

import numpy as np
import pytest

from edge_agent.core.card_schema import Budgets, ClassificationOutput, Golden, RegressionOutput
from edge_agent.core.golden import WORST, run_golden, worst_steps
from edge_agent.core.model_card import ResolvedCard
from edge_agent.errors import ModelError
from edge_agent.records import TensorSpec

INT8 = TensorSpec("class", 0, (1, 3), np.dtype(np.int8), 1 / 256, -128)
FLOAT = TensorSpec("value", 1, (1, 1), np.dtype(np.float32))
INPUTS = {"x": np.zeros((2, 1, 4), np.float32)}
OUTPUTS = {
    "class": np.array([[[10, 0, 0]], [[0, 20, 0]]], np.int8),
    "value": np.array([[[1.0]], [[2.0]]], np.float32),
}


def card(rule: Golden) -> ResolvedCard:
    heads = (ClassificationOutput(tensor="class"), RegressionOutput(tensor="value"))
    return ResolvedCard("m", "1", (), (), (), heads, {}, Budgets(), rule, ())


def giving(*rows: dict[str, np.ndarray]):
    left = iter(rows)
    return lambda tensors: next(left)


def row(index: int, **other: np.ndarray) -> dict[str, np.ndarray]:
    return {**{name: rows[index] for name, rows in OUTPUTS.items()}, **other}


def test_the_same_outputs_are_zero_steps_off() -> None:
    found = run_golden(INPUTS, OUTPUTS, giving(row(0), row(1)), card(Golden(tolerance_lsb=0)), [INT8, FLOAT])
    assert (found.samples, found.worst_lsb, found.changed, found.ok) == (2, 0, 0, True)


def test_another_best_class_fails_whatever_the_tolerance() -> None:
    other = row(1, **{"class": np.array([[21, 20, 0]], np.int8)})
    found = run_golden(INPUTS, OUTPUTS, giving(row(0), other), card(Golden(tolerance_lsb=99)), [INT8, FLOAT])
    assert (found.worst_lsb, found.changed, found.ok) == (21, 1, False)
    lax = Golden(tolerance_lsb=99, argmax=False)
    assert run_golden(INPUTS, OUTPUTS, giving(row(0), other), card(lax), [INT8, FLOAT]).ok


@pytest.mark.parametrize("got", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_is_never_within_tolerance(got: float) -> None:
    other = {"value": np.array([[got]], np.float32)}
    assert worst_steps({"value": np.array([[1.0]], np.float32)}, other, {"value": FLOAT}) == WORST


def test_another_shape_is_never_within_tolerance() -> None:
    assert worst_steps({"value": np.zeros((1, 1))}, {"value": np.zeros((1, 2))}, {"value": FLOAT}) == WORST


def test_a_float_output_counts_in_steps_of_a_256th_up_to_a_bound() -> None:
    one = {"value": np.array([[1.0]], np.float64)}
    assert worst_steps(one, {"value": np.array([[1.0 + 2 / 256]])}, {"value": FLOAT}) == 2
    assert worst_steps(one, {"value": np.array([[1e300]])}, {"value": FLOAT}) == WORST


@pytest.mark.parametrize(
    ("outputs", "text"),
    [
        ({"class": OUTPUTS["class"]}, 'say nothing of output "value"'),
        ({**OUTPUTS, "spare": OUTPUTS["value"]}, '"spare" that the model has not'),
    ],
)
def test_samples_of_another_model_are_refused(outputs: dict, text: str) -> None:
    with pytest.raises(ModelError, match=text):
        run_golden(INPUTS, outputs, giving(row(0), row(1)), card(Golden()), [INT8, FLOAT])
