"""Which predictions are published: every one, those that bring a change, or one for each interval with an aggregate.

``outputs`` are the payload objects by output name (docs/mqtt.md); they are read, never written to.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any, Final, Literal, Protocol

from msgspec import Struct

from edge_agent.core.rounding import shortest
from edge_agent.records import DiscardReason

Mode = Literal["every", "change", "interval"]
Outputs = dict[str, dict[str, object]]
_Output = Mapping[str, Any]


class Decision(Struct, frozen=True):
    """``outputs`` to publish, or the ``reason`` why this prediction is not published; the other is None."""

    outputs: Outputs | None = None
    reason: DiscardReason | None = None


class PublishPolicy:
    """The decision for one pipeline, prediction by prediction, in the order of their time. Not thread-safe."""

    def __init__(self, mode: Mode, interval_ns: int, deadband: float) -> None:
        self._published: Outputs | None = None
        self._interval: _Interval | None = None
        self.configure(mode, interval_ns, deadband)

    def configure(self, mode: Mode, interval_ns: int, deadband: float) -> None:
        """Change the settings from the next prediction on.

        Where the mode is no longer ``interval``, that prediction ends the open interval and carries its aggregate.
        """
        self._mode, self._interval_ns, self._deadband = mode, interval_ns, deadband

    def offer(self, mono_ns: int, outputs: Outputs) -> Decision:
        """Decide on one prediction.

        ``change``: published when any output differs from the one last published: another first label, other labels
        or another number of one (detection), a value or score further away than the deadband, another ``anomalous``.

        ``interval``: the first prediction at or after the end of the interval is published, and each of its outputs
        has an ``aggregate`` of all predictions since the one published before, itself included. Intervals follow each
        other on a grid from the first prediction on; one that comes a whole interval late starts a new grid.
        """
        if self._mode == "interval":
            self._interval = self._interval or _Interval(mono_ns)
            self._interval.fold(outputs)
            if not self._interval.over(mono_ns, self._interval_ns):
                return Decision(reason=DiscardReason.AGGREGATED)
            return self._publish(self._interval.close(mono_ns, outputs))
        left_open, self._interval = self._interval, None
        if left_open is not None and left_open.count:
            left_open.fold(outputs)
            return self._publish(left_open.close(mono_ns, outputs))
        if self._mode == "change" and not self._changed(outputs):
            return Decision(reason=DiscardReason.UNCHANGED)
        return self._publish(outputs)

    def flush(self, mono_ns: int, outputs: Outputs) -> Decision | None:
        """At the end of a source or of the process: what the open interval holds, None where it holds nothing.

        ``outputs`` and ``mono_ns`` are those of the last prediction offered.
        """
        if self._interval is None or not self._interval.count:
            return None
        return self._publish(self._interval.close(mono_ns, outputs))

    def _publish(self, outputs: Outputs) -> Decision:
        self._published = outputs
        return Decision(outputs)

    def _changed(self, outputs: Outputs) -> bool:
        before = self._published
        if before is None or before.keys() != outputs.keys():
            return True
        return any(_changed(before[name], output, self._deadband) for name, output in outputs.items())


class _Interval:
    """The predictions folded together since the last one published."""

    def __init__(self, start_ns: int) -> None:
        self._start_ns = self._since_ns = start_ns
        self._folds: dict[tuple[str, str], _Fold] = {}  # by name and task: another model may take over
        self.count = 0

    def fold(self, outputs: Outputs) -> None:
        self.count += 1
        for name, output in outputs.items():
            task = str(output["task"])
            if (name, task) not in self._folds:
                self._folds[name, task] = _FOLDS[task]()
            self._folds[name, task].add(output)

    def over(self, mono_ns: int, length_ns: int) -> bool:
        """Whether the interval has ended; then the next one begins at its end, or now if that one is over too."""
        end_ns = self._start_ns + length_ns
        if mono_ns < end_ns:
            return False
        self._start_ns = end_ns if mono_ns < end_ns + length_ns else mono_ns
        return True

    def close(self, mono_ns: int, outputs: Outputs) -> Outputs:
        """The outputs with their aggregates: ``count`` predictions over ``seconds`` since the last one published."""
        common = {"count": self.count, "seconds": round((mono_ns - self._since_ns) / 1e9, 3)}
        closed: Outputs = {
            name: {**output, "aggregate": {**common, **self._folds[name, str(output["task"])].result()}}
            for name, output in outputs.items()
        }
        self._since_ns, self._folds, self.count = mono_ns, {}, 0
        return closed


class _Fold(Protocol):
    """What becomes of one output over an interval."""

    def add(self, output: _Output) -> None: ...

    def result(self) -> dict[str, object]: ...


class _FirstLabels:
    """Classification: how often each label came first."""

    def __init__(self) -> None:
        self._labels: Counter[str] = Counter()

    def add(self, output: _Output) -> None:
        first = _first_label(output)
        if first is not None:
            self._labels[first] += 1

    def result(self) -> dict[str, object]:
        return {"labels": dict(self._labels)}


class _MostBoxes:
    """Detection: the most boxes of each label in one picture."""

    def __init__(self) -> None:
        self._labels: Counter[str] = Counter()

    def add(self, output: _Output) -> None:
        self._labels |= _box_labels(output)

    def result(self) -> dict[str, object]:
        return {"labels": dict(self._labels)}


class _Numbers:
    """Regression and anomaly: the bounds and the mean of the one number."""

    def __init__(self, key: str) -> None:
        self._key = key
        self._count, self._sum = 0, 0.0
        self._min, self._max = float("inf"), float("-inf")

    def add(self, output: _Output) -> None:
        number = float(output[self._key])
        self._count += 1
        self._sum += number
        self._min, self._max = min(self._min, number), max(self._max, number)

    def result(self) -> dict[str, object]:
        return {"min": self._min, "max": self._max, "mean": shortest(self._sum / self._count)}


_FOLDS: Final[dict[str, Callable[[], _Fold]]] = {
    "classification": _FirstLabels,
    "detection": _MostBoxes,
    "regression": lambda: _Numbers("value"),
    "anomaly": lambda: _Numbers("score"),
}

_CHANGES: Final[dict[str, Callable[[_Output, _Output, float], bool]]] = {
    "classification": lambda old, new, deadband: _first_label(old) != _first_label(new),
    "detection": lambda old, new, deadband: _box_labels(old) != _box_labels(new),
    "regression": lambda old, new, deadband: abs(new["value"] - old["value"]) > deadband,
    "anomaly": lambda old, new, deadband: (
        old["anomalous"] != new["anomalous"] or abs(new["score"] - old["score"]) > deadband
    ),
}


def _changed(old: _Output, new: _Output, deadband: float) -> bool:
    return old["task"] != new["task"] or _CHANGES[new["task"]](old, new, deadband)


def _first_label(output: _Output) -> str | None:
    return str(output["classes"][0]["label"]) if output["classes"] else None


def _box_labels(output: _Output) -> Counter[str]:
    return Counter(str(box["label"]) for box in output["boxes"])
