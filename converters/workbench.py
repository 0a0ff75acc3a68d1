"""What every step works on: one trained model, its card, its data, the float model run with the device's arithmetic.

Opened once by a command; the steps take it and return values.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from converters.arrays import make_arrays
from converters.card_file import card_builtins, read_card
from converters.datasets import open_dataset
from converters.datasets.splits import spread
from converters.device_model import DeviceModel
from converters.dressing import complete_card
from converters.progress import Progress, Silent
from converters.records import Arrays, Dataset, FloatModel, Split
from converters.sources import load_source
from edge_agent.errors import ConfigError
from edge_agent.io.model_file import parse_model


@dataclass
class Workbench:
    """``card`` is the card as given, not yet resolved; ``float_model`` runs ``source.content`` with it. ``work`` is a
    folder for this run's files."""

    source: FloatModel
    card: dict[str, Any]
    float_model: DeviceModel
    dataset: Dataset | None
    work: Path
    progress: Progress = field(default_factory=Silent)

    def data(self) -> Dataset:
        """The data set. Raises ConfigError where none was given."""
        if self.dataset is None:
            raise ConfigError("this step needs samples: add --data DATASET")
        return self.dataset

    def rows(self, split: Split, limit: int | None = None) -> Sequence[int]:
        """Of a split, at most ``limit`` rows, spread evenly."""
        return spread(self.data().rows(split), limit)

    def arrays(self, split: Split, limit: int | None = None) -> Arrays:
        """A split as training arrays, prepared by the device's own arithmetic."""
        return make_arrays(self.data(), self.rows(split, limit), self.float_model, progress=self.progress)

    def device_model(self, content: bytes) -> DeviceModel:
        """A model made from the source as the device would run it: with its own card, a bare one with this card."""
        path = Path(self.source.path)
        card = None
        if parse_model(content, path).card is None:
            card = card_builtins(complete_card(self.float_model.card, inline=True))
        return DeviceModel(content, card=card, path=path, where="the card")


def said_images(card: Mapping[str, Any]) -> list[str] | None:
    """The inputs that a card, as written, calls pictures: frameworks may have their channels first. None where it does
    not speak of inputs."""
    if not card.get("inputs"):
        return None
    return [item["tensor"] for item in card.get("inputs", ()) if item.get("role") == "image"]


def open_workbench(
    model: str,
    *,
    work: Path,
    card: Path | dict[str, Any] | None = None,
    data: str | Dataset | None = None,
    preprocess: str | None = None,
    signature: str | None = None,
    progress: Progress | None = None,
) -> Workbench:
    """Bring the model to a float .tflite, read its card, open its data. ``model`` is a path, or FILE.py:FUNCTION;
    ``preprocess``: FILE.py:FUNCTION, what training did to its inputs; ``signature``: one of several of a SavedModel.

    Raises ConfigError, ModelError, EnvironmentMissingError, WorkerFailedError.
    """
    progress = progress or Silent()
    raw, where, folder = read_card(card)
    source = load_source(model, work=work / "source", signature=signature, images=said_images(raw), progress=progress)
    float_model = DeviceModel(source.content, card=raw, path=Path(source.path), where=where, folder=folder)
    dataset = (
        open_dataset(data, float_model.card, preprocess=preprocess, progress=progress)
        if isinstance(data, str)
        else data
    )
    return Workbench(source, raw, float_model, dataset, work, progress)
