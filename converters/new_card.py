"""A card from nothing: roles as a person says them, the scaling of features measured from training rows.

Roles are never guessed from shapes: who says nothing gets a template with every tensor in it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import get_args

import numpy as np
from msgspec.structs import replace

from converters.card_file import card_builtins
from converters.datasets import open_dataset
from converters.device_model import DeviceModel
from converters.records import Dataset
from converters.tflite.tensors import tensors_of
from edge_agent.core.card_schema import (
    AnomalyOutput,
    Card,
    ClassificationOutput,
    Feature,
    FeaturesInput,
    ImageInput,
    OutputCard,
    RegressionOutput,
    Task,
)
from edge_agent.core.card_text import lines_to_add
from edge_agent.errors import ConfigError
from edge_agent.records import TensorSpec

CLIP = 4.0  # standard deviations: one in 16,000 readings of a normal distribution lies beyond
DIGITS = 6  # significant digits of a measured mean or deviation
_FEATURE = re.compile(r"\s*([^\[\],=]+?)\s*(?:\[([^\]]*)\])?\s*")


def template(model: bytes) -> str:
    """TOML that names every tensor and leaves the roles to a person."""
    inputs, outputs = tensors_of(model)
    return lines_to_add("", inputs, outputs) + "\n"


def new_card(
    model: bytes,
    *,
    images: Sequence[str],
    features: Sequence[str],
    outputs: Sequence[str],
    labels: Sequence[str],
) -> Card:
    """A card from what was said on the command line. ``images``: tensors; ``features``: "TENSOR=a[unit],b[unit]";
    ``outputs``: "TENSOR=TASK"; ``labels`` of the only classification. Raises ConfigError."""
    given, found = tensors_of(model)
    inputs, results = {spec.name: spec for spec in given}, {spec.name: spec for spec in found}
    pictures = tuple(ImageInput(tensor=_known("--image", name, inputs)) for name in images)
    numbers = tuple(_features(text, inputs) for text in features)
    heads = tuple(_output(text, results, labels) for text in outputs)
    return Card(inputs=(*pictures, *numbers), outputs=heads)


def with_measured_scaling(card: Card, model: bytes, data: str) -> Card:
    """The card with mean and standard deviation of each feature over the training rows, clipped to +-4 of them."""
    plain = DeviceModel(model, card=card_builtins(card), where="the new card")
    dataset = open_dataset(data, plain.card)
    plain.close()
    columns = _columns(dataset)
    inputs = tuple(_scaled(item, columns) if isinstance(item, FeaturesInput) else item for item in card.inputs)
    return replace(card, inputs=inputs)


def _columns(dataset: Dataset) -> Mapping[str, list[float]]:
    columns: dict[str, list[float]] = {}
    for row in dataset.rows("train"):
        example = dataset.example(row)
        for name, value in example.features.items():
            if name not in example.filled:
                columns.setdefault(name, []).append(value)
    return columns


def _scaled(item: FeaturesInput, columns: Mapping[str, list[float]]) -> FeaturesInput:
    return replace(item, features=tuple(_measured(feature, columns.get(feature.name, [])) for feature in item.features))


def _measured(feature: Feature, values: Sequence[float]) -> Feature:
    if len(values) < 2:
        raise ConfigError(
            f"the feature {feature.name!r} has {len(values)} values in the training rows: can't be scaled"
        )
    mean, std = float(np.mean(values)), float(np.std(values))
    if std == 0:
        raise ConfigError(f"the feature {feature.name!r} is {values[0]:g} in every training row: leave it out")
    return replace(feature, mean=_short(mean), std=_short(std), clip=CLIP)


def _short(value: float) -> float:
    return float(f"{value:.{DIGITS}g}")


def _features(text: str, inputs: Mapping[str, TensorSpec]) -> FeaturesInput:
    tensor, separator, rest = text.partition("=")
    if not separator:
        raise ConfigError(f"--features {text}: expected TENSOR=NAME[UNIT],NAME[UNIT] in the tensor's order")
    spec = inputs[_known("--features", tensor, inputs)]
    found = [_FEATURE.fullmatch(part) for part in rest.split(",")]
    if None in found:
        raise ConfigError(f"--features {text}: expected NAME[UNIT],NAME[UNIT] after the =")
    names = tuple(Feature(name=match[1], unit=match[2] or "") for match in found if match)
    if len(names) != int(np.prod(spec.shape)):
        raise ConfigError(
            f"--features {text}: {len(names)} features for a tensor of {int(np.prod(spec.shape))} elements"
        )
    return FeaturesInput(tensor=tensor, features=names)


def _output(text: str, outputs: Mapping[str, TensorSpec], labels: Sequence[str]) -> OutputCard:
    tensor, separator, task = text.partition("=")
    name = _known("--output", tensor, outputs)
    if not separator or task not in get_args(Task):
        raise ConfigError(f"--output {text}: expected TENSOR=TASK with a task of {', '.join(get_args(Task))}")
    if task == "classification":
        return ClassificationOutput(tensor=name, name=name, labels=tuple(labels) or None)
    if task == "regression":
        return RegressionOutput(tensor=name, name=name)
    if task == "anomaly":
        return AnomalyOutput(tensor=name, name=name, threshold=0.5)
    raise ConfigError(f"--output {text}: a detection has four tensors: write them into the card (docs/models.md)")


def _known(option: str, name: str, specs: Mapping[str, TensorSpec]) -> str:
    if name not in specs:
        raise ConfigError(f"{option} {name}: the model has no such tensor; it has {', '.join(specs)}")
    return name
