"""Output tensors into the payload objects of docs/mqtt.md, as the model's card says.

Only what is published is converted: the best few of a thousand classes are found on the quantised values.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from edge_agent.core.card_schema import (
    AnomalyOutput,
    ClassificationOutput,
    DetectionOutput,
    OutputCard,
    RegressionOutput,
)
from edge_agent.core.model_card import ResolvedCard
from edge_agent.core.rounding import shortest
from edge_agent.errors import EdgeAgentError
from edge_agent.records import Array, Crossing, TensorSpec

Payload = dict[str, object]


class DecodeError(EdgeAgentError):
    """One prediction's outputs can't be read as the card says. Counted as ``decode_error``."""


class Decoder:
    """Immutable: any thread may use it."""

    def __init__(self, card: ResolvedCard, outputs: Sequence[TensorSpec]) -> None:
        self._outputs = card.outputs
        self._labels = card.labels
        self._specs = {spec.name: spec for spec in outputs}
        # a threshold from outside is meant for scores in 0..1; where there are none it is the anomaly's
        self._scored = any(isinstance(head, ClassificationOutput | DetectionOutput) for head in card.outputs)

    def decode(
        self, tensors: Mapping[str, Array], crossing: Crossing, threshold: float | None = None
    ) -> dict[str, Payload]:
        """The payload object of each output, by the output's name. ``tensors`` are the raw outputs by name.

        ``threshold`` goes before the card's: for classifications and detections, or for the anomalies of a model that
        has neither. Raises DecodeError when a value is not finite.
        """
        return {head.name: self._payload(head, tensors, crossing, threshold) for head in self._outputs}

    def _payload(
        self, head: OutputCard, tensors: Mapping[str, Array], crossing: Crossing, threshold: float | None
    ) -> Payload:
        if isinstance(head, ClassificationOutput):
            return self._classes(head, tensors, head.threshold if threshold is None else threshold)
        if isinstance(head, DetectionOutput):
            return self._boxes(head, tensors, crossing, head.threshold if threshold is None else threshold)
        if isinstance(head, RegressionOutput):
            return self._value(head, tensors)
        return self._anomaly(head, tensors, head.threshold if threshold is None or self._scored else threshold)

    def _classes(self, head: ClassificationOutput, tensors: Mapping[str, Array], threshold: float | None) -> Payload:
        raw = tensors[head.tensor].reshape(-1)
        if raw.dtype.kind == "f" and not np.isfinite(raw).all():
            raise _not_finite(head, head.tensor)
        # softmax and sigmoid keep the order, and so does a scale: the best are found before any arithmetic
        best = _best(raw, head.top_k)
        spec = self._specs[head.tensor]
        reals = _real(raw[best], spec)
        if head.activation == "softmax":
            scores = np.exp(reals - reals[0]) / np.exp(_real(raw, spec) - reals[0]).sum()
        elif head.activation == "sigmoid":
            scores = np.exp(-np.logaddexp(0, -reals))  # the logistic function without its overflow
        else:
            scores = reals
        classes = [
            {"label": self._label(head.name, index), "index": index, "score": shortest(score)}
            for index, score in zip(best.tolist(), scores.tolist(), strict=True)
            if threshold is None or score >= threshold
        ]
        return {"task": "classification", "classes": classes}

    def _boxes(
        self, head: DetectionOutput, tensors: Mapping[str, Array], crossing: Crossing, threshold: float
    ) -> Payload:
        (found,) = self._reals(head, head.count, tensors, 1).tolist()
        count = max(0, min(int(found), self._specs[head.scores].shape[1]))
        # rows behind the count are whatever was in memory
        scores = self._reals(head, head.scores, tensors, count)
        indices = self._reals(head, head.classes, tensors, count)
        corners = self._reals(head, head.boxes, tensors, 4 * count).reshape(-1, 4)
        boxes = []
        for row in np.argsort(-scores, kind="stable").tolist():
            if scores[row] < threshold:
                break
            box = _in_frame(corners[row].tolist(), crossing)
            if box is not None:
                index = int(indices[row])
                label = self._label(head.name, index)
                boxes.append({"label": label, "index": index, "score": shortest(float(scores[row])), "box": box})
        return {"task": "detection", "boxes": boxes}

    def _value(self, head: RegressionOutput, tensors: Mapping[str, Array]) -> Payload:
        element = tensors[head.tensor].reshape(-1)[head.element : head.element + 1]
        value = float(_real(element, self._specs[head.tensor])[0]) * head.scale + head.offset
        if not math.isfinite(value):
            raise _not_finite(head, head.tensor)
        return {"task": "regression", "value": shortest(value), "unit": head.unit}

    def _anomaly(self, head: AnomalyOutput, tensors: Mapping[str, Array], threshold: float) -> Payload:
        (score,) = self._reals(head, head.tensor, tensors, 1).tolist()
        return {
            "task": "anomaly",
            "score": shortest(score),
            "anomalous": score >= threshold,
            "threshold": shortest(threshold),
        }

    def _reals(self, head: OutputCard, tensor: str, tensors: Mapping[str, Array], count: int) -> Array:
        """The first ``count`` elements as finite float64."""
        reals = _real(tensors[tensor].reshape(-1)[:count], self._specs[tensor])
        if not np.isfinite(reals).all():
            raise _not_finite(head, tensor)
        return reals

    def _label(self, output: str, index: int) -> str:
        labels = self._labels.get(output, ())
        return labels[index] if 0 <= index < len(labels) else str(index)


def _best(raw: Array, count: int) -> Array:
    """Indices of the largest ``count`` values, best first; of equal values the lower index first."""
    if count >= raw.size:
        return np.argsort(-raw.astype(np.float64), kind="stable")
    least = np.partition(raw, raw.size - count)[raw.size - count]
    above = np.flatnonzero(raw > least)
    # not -raw: the negative of an unsigned value wraps
    above = above[np.argsort(-raw[above].astype(np.float64), kind="stable")]
    return np.concatenate([above, np.flatnonzero(raw == least)[: count - above.size]])


def _real(raw: Array, spec: TensorSpec) -> Array:
    """float64; a tensor without a scale holds the real value itself."""
    if spec.scale == 0:
        return raw.astype(np.float64)
    return (raw.astype(np.float64) - spec.zero_point) * spec.scale


def _in_frame(corners: list[float], crossing: Crossing) -> list[float] | None:
    """[x0, y0, x1, y1] in 0..1 of the frame from (y0, x0, y1, x1) of the model's picture; None when nothing is left."""
    y0, x0, y1, x1 = corners
    left, right = (min(1.0, max(0.0, x * crossing.scale_x + crossing.offset_x)) for x in (x0, x1))
    top, bottom = (min(1.0, max(0.0, y * crossing.scale_y + crossing.offset_y)) for y in (y0, y1))
    if left >= right or top >= bottom:
        return None
    return [shortest(left), shortest(top), shortest(right), shortest(bottom)]


def _not_finite(head: OutputCard, tensor: str) -> DecodeError:
    return DecodeError(f'output "{head.name}": tensor "{tensor}" is not finite')
