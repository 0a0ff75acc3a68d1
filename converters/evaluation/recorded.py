"""What a model answered on the rows of a data set: real values, without a judgement."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from converters.records import Label, Tensors
from edge_agent.core.card_schema import (
    AnomalyOutput,
    ClassificationOutput,
    DetectionOutput,
    OutputCard,
    RegressionOutput,
)
from edge_agent.records import Array, ModelIdentity

SINGLE_THRESHOLD = 0.5  # of a single logit whose card names none
FLOAT_FLOOR = float(np.finfo(np.float32).eps)  # a smaller float32 probability is as good as zero


@dataclass(frozen=True)
class Boxes:
    """The objects found in one picture, best first: ``indices`` (k,) int64 classes, ``scores`` (k,) float64,
    ``corners`` (k, 4) float64, (x0, y0, x1, y1) in 0..1 of the picture as the camera took it."""

    indices: Array
    scores: Array
    corners: Array


@dataclass(frozen=True)
class Recorded:
    """One pass of a model over n rows.

    ``outputs``: (n, elements) float64 real values by output tensor, before softmax or sigmoid; ``boxes``: by name of a
    detection, one entry for each row, every score; ``labels``: by output name, None for a row without one; ``classes``:
    class names by output name, where the card has them; ``steps``: of one quantisation step by tensor, 0 for float;
    ``filled``: in how many rows each feature was missing and the card's fill value stood in.
    """

    model: ModelIdentity
    heads: tuple[OutputCard, ...]
    ids: tuple[str, ...]
    outputs: Tensors
    boxes: dict[str, tuple[Boxes, ...]]
    labels: dict[str, tuple[Label | None, ...]]
    classes: dict[str, tuple[str, ...]] = field(default_factory=dict)
    steps: dict[str, float] = field(default_factory=dict)
    filled: dict[str, int] = field(default_factory=dict)
    filled_rows: int = 0
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.ids)

    def reals(self, head: ClassificationOutput | RegressionOutput | AnomalyOutput) -> Array:
        """(n, elements) float64 as the tensor holds them."""
        return self.outputs[head.tensor]

    def scores(self, head: ClassificationOutput) -> Array:
        """(n, classes) float64 as the device publishes them, the card's activation applied; a single logit gives two
        columns: not so, and so."""
        scores = activated(self.reals(head), head.activation)
        return np.hstack([1.0 - scores, scores]) if scores.shape[1] == 1 else scores

    def best(self, head: ClassificationOutput) -> Array:
        """(n,) int64 indices of the best class; of equal values the lower index, as ``core.decode`` breaks ties.

        Taken before the activation, which keeps the order but may round two large logits to the same 1.0.
        """
        reals = self.reals(head)
        if reals.shape[1] == 1:
            threshold = SINGLE_THRESHOLD if head.threshold is None else head.threshold
            certain: Array = activated(reals, head.activation)[:, 0] >= threshold
            return certain.astype(np.int64)
        best: Array = reals.argmax(axis=1)
        return best

    def values(self, head: RegressionOutput) -> Array:
        """(n,) float64 in the card's unit."""
        values: Array = self.reals(head)[:, head.element] * head.scale + head.offset
        return values

    def truth(self, head: OutputCard) -> tuple[Array, Array]:
        """(positions of the rows that have a label, their labels as float64); for anything but a detection."""
        labels = self.labels[head.name]
        rows = np.flatnonzero([label is not None for label in labels])
        return rows, np.array([labels[row] for row in rows.tolist()], np.float64)

    def class_names(self, head: ClassificationOutput | DetectionOutput, count: int) -> tuple[str, ...]:
        """``count`` names: the card's, else the numbers."""
        names = self.classes.get(head.name, ())
        if isinstance(head, ClassificationOutput) and count == 2 and len(names) == 1:
            return (f"not {names[0]}", names[0])
        return names[:count] + tuple(str(index) for index in range(len(names), count))

    def floor(self, head: ClassificationOutput) -> float:
        """The least probability that this output can tell from none: half a step of its quantisation, where no
        activation comes after it."""
        step = self.steps.get(head.tensor, 0.0)
        return max(step / 2, FLOAT_FLOOR) if head.activation == "none" else FLOAT_FLOOR


def activated(reals: Array, activation: str) -> Array:
    """float64 of the same shape (rows, classes): "softmax" over the classes, "sigmoid", or the values themselves for
    "none"; the arithmetic of ``core.decode``."""
    if activation == "softmax":
        powers = np.exp(reals - reals.max(axis=1, keepdims=True))
        shares: Array = powers / powers.sum(axis=1, keepdims=True)
        return shares
    if activation == "sigmoid":
        logistic: Array = np.exp(-np.logaddexp(0, -reals))  # without the overflow of 1 / (1 + exp(-x))
        return logistic
    return reals


def head_named(recorded: Recorded, name: str) -> OutputCard:
    return next(head for head in recorded.heads if head.name == name)
