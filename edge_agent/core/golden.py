"""Golden samples: what a model made of ready tensors on the workstation, against what it makes of them here.

The converters choose the samples, a device runs them all before it trusts a model; both compare with this.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from msgspec import Struct

from edge_agent.core.card_schema import ClassificationOutput, DetectionOutput, OutputCard
from edge_agent.core.model_card import ResolvedCard
from edge_agent.errors import ModelError
from edge_agent.records import Array, TensorSpec

Tensors = Mapping[str, Array]

FLOAT_STEP = 1 / 256  # what counts as a step of an output that is not quantised
WORST = 2**31  # steps, where there is no comparing: another shape, not finite


class GoldenResult(Struct, frozen=True):
    """The largest difference found, in steps, and the number of samples whose best class changed."""

    samples: int
    worst_lsb: int
    changed: int
    ok: bool


def run_golden(
    inputs: Tensors,
    outputs: Tensors,
    invoke: Callable[[Tensors], Tensors],
    card: ResolvedCard,
    specs: Sequence[TensorSpec],
) -> GoldenResult:
    """Run every sample. ``inputs`` and ``outputs``: by tensor, a row for each sample; ``specs``: of the outputs.

    Raises ModelError where the samples are not of this model, and what ``invoke`` raises.
    """
    by_name = {spec.name: spec for spec in specs}
    _require_all(outputs, card, by_name)
    classes = class_tensors(card)
    count = len(next(iter(outputs.values())))
    worst = changed = 0
    for index in range(count):
        expected = {name: rows[index] for name, rows in outputs.items()}
        got = invoke({name: rows[index] for name, rows in inputs.items()})
        worst = max(worst, worst_steps(expected, got, by_name))
        changed += any(expected[name].argmax() != got[name].argmax() for name in classes)
    ok = worst <= card.golden.tolerance_lsb and not (card.golden.argmax and changed)
    return GoldenResult(count, worst, changed, ok)


def worst_steps(expected: Tensors, got: Tensors, specs: Mapping[str, TensorSpec]) -> int:
    """The largest difference in steps of each output's quantisation, or of FLOAT_STEP."""
    worst = 0
    for name, array in expected.items():
        other = got[name]
        if array.shape != other.shape:
            return WORST
        with np.errstate(invalid="ignore"):  # infinity less infinity
            difference = np.abs(array.astype(np.float64) - other.astype(np.float64))
        if not np.isfinite(difference).all():
            return WORST
        if specs[name].dtype.kind == "f":
            difference = difference / FLOAT_STEP
        if difference.size:
            worst = max(worst, int(min(np.ceil(difference.max()), WORST)))
    return worst


def class_tensors(card: ResolvedCard) -> list[str]:
    """The outputs whose best element is a class."""
    return [head.tensor for head in card.outputs if isinstance(head, ClassificationOutput)]


def _require_all(outputs: Tensors, card: ResolvedCard, specs: Mapping[str, TensorSpec]) -> None:
    """Samples that leave out an output would prove nothing about it."""
    for name in outputs.keys() - specs.keys():
        raise ModelError(f'the golden samples have an output "{name}" that the model has not')
    for head in card.outputs:
        for tensor in tensors_of(head):
            if tensor not in outputs:
                raise ModelError(f'the golden samples say nothing of output "{tensor}"')


def tensors_of(head: OutputCard) -> tuple[str, ...]:
    """The output tensors that one output of the card is read from."""
    if isinstance(head, DetectionOutput):
        return (head.boxes, head.classes, head.scores, head.count)
    return (head.tensor,)
