"""How far two models say the same of the same samples: their decoded outputs, sample by sample.

A candidate in shadow is compared with the live model so. 1 is the same in all that a subscriber would act on.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

Payload = Mapping[str, Any]  # of one output, as Decoder gives it

IOU_LEAST: Final = 0.5  # two boxes of one label that overlap so far are the same object (PASCAL VOC)
REGRESSION_SHARE: Final = 0.05  # of the live value, or of the range of live values so far, whichever is larger


class Agreement:
    """Sums over all samples that were added. Used by one thread."""

    def __init__(self) -> None:
        self.samples = 0
        self._sum = 0.0
        self._ranges: dict[str, tuple[float, float]] = {}  # of live values, by output

    @property
    def share(self) -> float:
        """0 to 1, the mean over samples; 1 before the first."""
        return self._sum / self.samples if self.samples else 1.0

    def add(self, live: Mapping[str, Payload], candidate: Mapping[str, Payload]) -> float:
        """The agreement of this sample: the mean over the live model's outputs."""
        scores = [self._output(name, payload, candidate.get(name)) for name, payload in live.items()]
        score = sum(scores) / len(scores) if scores else 1.0
        self.samples += 1
        self._sum += score
        return score

    def _output(self, name: str, live: Payload, candidate: Payload | None) -> float:
        if candidate is None or candidate["task"] != live["task"]:
            return 0.0
        if live["task"] == "regression":
            return self._values(name, live, candidate)
        return _COMPARE[live["task"]](live, candidate)

    def _values(self, name: str, live: Payload, candidate: Payload) -> float:
        value = float(live["value"])
        low, high = self._ranges.get(name, (value, value))
        low, high = self._ranges[name] = min(low, value), max(high, value)
        tolerance = REGRESSION_SHARE * max(abs(value), high - low)
        same = live["unit"] == candidate["unit"] and abs(float(candidate["value"]) - value) <= tolerance
        return float(same)


def _best_class(live: Payload, candidate: Payload) -> float:
    """By label: a new model may number its classes anew."""
    best, other = ([item["label"] for item in payload["classes"][:1]] for payload in (live, candidate))
    return float(best == other)


def _boxes(live: Payload, candidate: Payload) -> float:
    """Twice the matched pairs over all boxes (the F1 score of one by the other). Each box of the live model, best
    first, takes the free one of its label that overlaps most."""
    free = list(candidate["boxes"])
    total = len(live["boxes"]) + len(free)
    matched = 0
    for box in live["boxes"]:
        found = max(
            (other for other in free if other["label"] == box["label"]),
            key=lambda other: overlap(box["box"], other["box"]),
            default=None,
        )
        if found is not None and overlap(box["box"], found["box"]) >= IOU_LEAST:
            free.remove(found)
            matched += 1
    return 2 * matched / total if total else 1.0


def _anomalous(live: Payload, candidate: Payload) -> float:
    return float(live["anomalous"] == candidate["anomalous"])


def overlap(first: Sequence[float], second: Sequence[float]) -> float:
    """Intersection over union of two boxes [x0, y0, x1, y1]; 0 where neither has an area."""
    width = min(first[2], second[2]) - max(first[0], second[0])
    height = min(first[3], second[3]) - max(first[1], second[1])
    common = max(0.0, width) * max(0.0, height)
    areas = sum((box[2] - box[0]) * (box[3] - box[1]) for box in (first, second))
    return common / (areas - common) if areas > common else 0.0


_COMPARE: Final[Mapping[str, Callable[[Payload, Payload], float]]] = {
    "classification": _best_class,
    "detection": _boxes,
    "anomaly": _anomalous,
}
