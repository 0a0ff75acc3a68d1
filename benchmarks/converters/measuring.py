"""One converted model against the float model that it was made from, on the same rows, timed in turns."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from converters.evaluation.cost import measure_cost
from converters.steps import Judged, judged
from converters.workbench import Workbench

HEAD = "code"  # the network's only output


class Line(NamedTuple):
    """``lost``: float's accuracy minus this one's. ``compressed`` bytes: about what a download takes. ``p50_ms`` of a
    run on this machine."""

    accuracy: float
    lost: float
    agreement: float
    probability_error: float
    bytes: int
    compressed: int
    p50_ms: float


class Against(NamedTuple):
    """The float model, judged once."""

    bench: Workbench
    rows: Sequence[int]
    reference: Judged

    @property
    def accuracy(self) -> float:
        return self.reference.score_of(HEAD)

    def measure(self, content: bytes) -> tuple[Line, float]:
        """(what ``content`` does, the float model's p50 in the same rounds)."""
        return self.measure_in(self.bench, content)

    def measure_in(self, bench: Workbench, content: bytes) -> tuple[Line, float]:
        """The same for a model that needs the card of another workbench on the same rows."""
        found = judged(bench, content, self.rows, reference=self.reference.recorded)
        agreement = found.evaluation.outputs[HEAD].agreement
        if agreement is None or agreement.mean_error is None:
            raise ValueError("two models of the same world have no probabilities in common")
        models = {"float": self.bench.float_model, "this": bench.device_model(content)}
        costs = measure_cost(models, bench.data().example(self.rows[0]))
        cost, accuracy = costs["this"], found.score_of(HEAD)
        line = Line(
            accuracy,
            self.accuracy - accuracy,
            agreement.agreement,
            agreement.mean_error,
            cost.model_bytes,
            cost.deflated_bytes,
            cost.p50_ms,
        )
        return line, costs["float"].p50_ms


def against_float(bench: Workbench, limit: int | None) -> Against:
    """Judge the float model on the test rows."""
    rows = bench.rows("test", limit)
    return Against(bench, rows, judged(bench, bench.source.content, rows))
