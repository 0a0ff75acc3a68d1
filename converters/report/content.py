"""What a report is made from: the values that the steps of a conversion return. Every part but the model is optional;
what is absent has no section."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from msgspec import Struct

from converters.device_model import DeviceModel
from converters.evaluation.agreement import Disagreement
from converters.evaluation.as_trained import AsTrained
from converters.evaluation.cost import Cost
from converters.inspection import Inspection
from converters.quantization.rungs import Ladder
from converters.quantization.sensitivity import LayerError
from converters.records import Box, Dataset, Label
from converters.steps import Judged
from edge_agent.records import Pixels

SHOTS_MOST = 12


class ShownSample(Struct, frozen=True):
    """A row on which the float model and the deployed one differ. ``output`` is the head's name; ``images`` by input
    tensor, BGR; ``features`` by name in the card's unit, ``filled`` those that were missing."""

    output: str
    answers: Disagreement
    images: Mapping[str, Pixels]
    features: Mapping[str, float]
    filled: tuple[str, ...] = ()
    label: Label | None = None


@dataclass(frozen=True)
class ReportContent:
    """``model`` is the file that the report is about; ``file_name`` is what to call it, where not as it was read.
    ``deployed`` and ``reference`` (the float model) answered the same rows of ``data``. ``bound``: by how much the main
    score might fall. ``float_bytes`` of the float .tflite. ``layers``: instead of the ladder's."""

    model: DeviceModel
    deployed: Judged | None = None
    reference: Judged | None = None
    bound: float | None = None
    as_trained: AsTrained | None = None
    samples: tuple[ShownSample, ...] = ()
    data: str = ""
    float_bytes: int = 0
    inspection: Inspection | None = None
    ladder: Ladder | None = None
    layers: tuple[LayerError, ...] = ()
    file_name: str = ""

    @property
    def worst_output(self) -> str | None:
        """The output that lost most against the float model; without one the first; None where nothing was judged."""
        if self.deployed is None:
            return None
        names = list(self.deployed.evaluation.outputs)
        if self.reference is None:
            return names[0]
        return max(names, key=lambda name: self.loss_of(name) or 0.0)

    @property
    def loss(self) -> float | None:
        """By how much the score of that output fell; None without a float model, or without a score."""
        return None if self.worst_output is None else self.loss_of(self.worst_output)

    def loss_of(self, output: str) -> float | None:
        """Float's score minus this file's. Without labels there is nothing to lose: then it is the agreement's."""
        if self.deployed is None or self.reference is None:
            return None
        before, after = (side.evaluation.outputs.get(output) for side in (self.reference, self.deployed))
        if before is None or after is None or after.score is None:
            return None
        if not after.labelled:
            return 1.0 - after.score
        return None if before.score is None else before.score - after.score

    @property
    def reference_cost(self) -> Cost | None:
        """Of the float model."""
        return self.reference.evaluation.cost if self.reference else None


def worst_samples(dataset: Dataset, rows: Sequence[int], deployed: Judged) -> tuple[ShownSample, ...]:
    """The rows of its disagreements with the reference, read again from the data set, at most twelve of each output.

    ``rows`` are those that ``deployed`` was judged on, in that order.
    """
    shown = []
    for name, head in deployed.evaluation.outputs.items():
        for answers in (head.agreement.worst if head.agreement else ())[:SHOTS_MOST]:
            example = dataset.example(rows[answers.place])
            label = example.labels.get(name)
            shown.append(ShownSample(name, answers, example.images, example.features, example.filled, label))
    return tuple(shown)


def true_boxes(sample: ShownSample) -> tuple[Box, ...]:
    """The boxes of a detection's truth."""
    return sample.label if isinstance(sample.label, tuple) else ()
