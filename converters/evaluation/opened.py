"""A model from the command line, ready to be measured: what a device runs as it is, anything else brought to float
first."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
from msgspec.structs import replace

from converters.card_file import read_card
from converters.datasets import open_dataset
from converters.datasets.splits import spread
from converters.device_model import DeviceModel
from converters.evaluation.card_search import normalisation
from converters.evaluation.recorded import Recorded
from converters.progress import Progress
from converters.records import Dataset, Split
from converters.workbench import open_workbench
from edge_agent.core.card_schema import ClassificationOutput, DetectionOutput
from edge_agent.errors import ConfigError
from edge_agent.io.model_file import read_model
from edge_agent.io.onnx_file import looks_like_onnx

TFLITE_IDENTIFIER = b"TFL3"  # bytes 4 to 8 of every .tflite


@dataclass(frozen=True)
class Opened:
    """``trained``: the model came from a framework, so it can also be run there."""

    model: DeviceModel
    dataset: Dataset
    trained: bool

    def rows(self, split: Split, limit: int | None) -> Sequence[int]:
        """Of a split, at most ``limit`` rows, spread evenly."""
        return spread(self.dataset.rows(split), limit)


def open_model(
    name: str,
    *,
    data: str,
    card: Path | None,
    delegate: str,
    work: Path,
    progress: Progress,
    card_of: DeviceModel | None = None,
    preprocess: str | None = None,
) -> Opened:
    """The model and its data set. ``card_of``: whose card serves where none is given and the model has none of its own;
    ``preprocess``: FILE.py:FUNCTION, what training did to its inputs.

    Raises ConfigError, ModelError, EnvironmentMissingError, WorkerFailedError.
    """
    trained = not is_device_file(name)
    given: Path | dict[str, Any] | None = card
    if card is None and card_of and (trained or read_model(Path(name)).card is None):
        given = plain_card(card_of)
    raw, where, folder = read_card(given)
    path = Path(name)
    if trained:
        bench = open_workbench(name, work=work, card=given, progress=progress)
        content, path = bench.source.content, Path(bench.source.path)
    else:
        content = read_model(path).content
    labels = folder if card else None  # without a card file, they lie beside the model
    model = DeviceModel(content, card=raw, path=path, where=where, folder=labels, delegate=delegate)
    dataset = open_dataset(data, model.card, preprocess=preprocess, progress=progress)
    for note in dataset.notes if card_of is None else ():  # the second model's rows are the same
        progress.say(f"note: {note}")
    return Opened(model, dataset, trained)


def require_same_rows(first: Recorded, second: Recorded, data: str) -> None:
    """Raises ConfigError where a data set gives the two models different rows."""
    if first.ids != second.ids:
        raise ConfigError(
            f"{data}: gives {first.model.name} and {second.model.name} different rows, because their cards differ: "
            "give both one --card"
        )


def is_device_file(name: str) -> bool:
    """Whether it is what a device runs, by its content: a .tflite, or an .onnx with a card inside (without one it is
    what somebody trained). Raises ConfigError for a file that can't be read, ModelError for a damaged card."""
    path = Path(name)
    if not path.is_file():
        return path.suffix == ".tflite"
    try:
        with path.open("rb") as stream:
            head = stream.read(8)
    except OSError as error:
        raise ConfigError(f"{path}: can't be read: {error.strerror}") from None
    if head[4:] == TFLITE_IDENTIFIER:
        return True
    return looks_like_onnx(head) and path.suffix == ".onnx" and read_model(path).card is not None


def plain_card(model: DeviceModel) -> dict[str, Any]:
    """The card of a model as one that fits the same model before it was quantised: labels are listed, and what pixels
    become is written out."""
    card = model.card
    specs = {spec.name: spec for spec in model.inputs}
    images = []
    for item in card.image_inputs:
        mean, std = normalisation(item, specs[item.tensor])
        images.append(replace(item, mean=tuple(mean.tolist()), std=tuple(std.tolist())))
    heads = [
        replace(head, labels=card.labels.get(head.name))
        if isinstance(head, ClassificationOutput | DetectionOutput)
        else head
        for head in card.outputs
    ]
    plain: dict[str, Any] = msgspec.to_builtins(
        {"inputs": [*images, *card.feature_inputs, *card.state_inputs], "outputs": heads}
    )
    return plain
