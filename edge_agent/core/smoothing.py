"""Smoothing of results over the last predictions, so that one odd frame does not flip a label.

A moving mean over counts of predictions, not over time: the rate of the pipeline gives the length in seconds.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any, Final, Protocol

from edge_agent.core.rounding import shortest

Outputs = dict[str, dict[str, object]]
_Output = Mapping[str, Any]


class Smoother:
    """The smoothing of one pipeline's outputs. Not thread-safe."""

    def __init__(self, window: int) -> None:
        """``window`` is the number of predictions averaged; 1 is off."""
        self._window = window
        self._means: dict[tuple[str, str], _Mean] = {}  # by name and task

    def smooth(self, outputs: Outputs) -> Outputs:
        """The outputs with smoothed scores and values, as new objects; the same object where the window is 1.

        classification: each label's mean score, 0 where it was not among the classes, best first, as many as this
        prediction has. regression: the mean value. anomaly: the mean score; where the output has a ``threshold``,
        ``anomalous`` is decided anew (score >= threshold). detection: as it is, boxes of different pictures can't be
        averaged without tracking.
        """
        if self._window == 1:
            return outputs
        return {name: self._smooth_one(name, output) for name, output in outputs.items()}

    def reset(self) -> None:
        """Forget the past, for example where another model takes over."""
        self._means.clear()

    def _smooth_one(self, name: str, output: dict[str, object]) -> dict[str, object]:
        task = str(output["task"])
        if task not in _MEANS:
            return output
        if (name, task) not in self._means:
            self._means[name, task] = _MEANS[task](self._window)
        return self._means[name, task].add(output)


class _Mean(Protocol):
    def add(self, output: _Output) -> dict[str, object]:
        """Take one output in; returns the smoothed one."""


class _ClassMean:
    """Mean scores by class. Sums are kept, so that a prediction costs no more with a long window."""

    def __init__(self, window: int) -> None:
        self._window = window
        self._past: deque[list[Mapping[str, Any]]] = deque()
        self._sums: dict[tuple[int, str], float] = {}
        self._seen: dict[tuple[int, str], int] = {}

    def add(self, output: _Output) -> dict[str, object]:
        classes = list(output["classes"])
        self._past.append(classes)
        for item in classes:
            key = (item["index"], item["label"])
            self._sums[key] = self._sums.get(key, 0.0) + item["score"]
            self._seen[key] = self._seen.get(key, 0) + 1
        if len(self._past) > self._window:
            self._drop(self._past.popleft())
        best = sorted(self._sums, key=lambda key: (-self._sums[key], key[0]))[: len(classes)]
        smoothed = [
            {"label": label, "index": index, "score": shortest(self._sums[index, label] / len(self._past))}
            for index, label in best
        ]
        return {**output, "classes": smoothed}

    def _drop(self, classes: list[Mapping[str, Any]]) -> None:
        for item in classes:
            key = (item["index"], item["label"])
            self._sums[key] -= item["score"]
            self._seen[key] -= 1
            if not self._seen[key]:  # what is left of the sum is rounding
                del self._sums[key], self._seen[key]


class _NumberMean:
    """Mean of one number. Summed anew each time: running sums would keep the rounding of a large outlier."""

    def __init__(self, window: int, key: str) -> None:
        self._past: deque[float] = deque(maxlen=window)
        self._key = key

    def add(self, output: _Output) -> dict[str, object]:
        self._past.append(output[self._key])
        mean = math.fsum(self._past) / len(self._past)
        smoothed: dict[str, object] = {**output, self._key: shortest(mean)}
        if "threshold" in output and "anomalous" in output:
            smoothed["anomalous"] = mean >= output["threshold"]
        return smoothed


_MEANS: Final[dict[str, Callable[[int], _Mean]]] = {
    "classification": _ClassMean,
    "regression": lambda window: _NumberMean(window, "value"),
    "anomaly": lambda window: _NumberMean(window, "score"),
}
