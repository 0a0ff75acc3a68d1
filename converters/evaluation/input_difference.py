"""How far the inputs that the device prepares are from those that training fed."""

from __future__ import annotations

import numpy as np
from msgspec import Struct

from converters.device_model import real_values
from converters.records import Example
from edge_agent.errors import ConfigError
from edge_agent.records import Array, TensorSpec

DIFFERS_FROM = 0.02  # of the training inputs' own spread: rounding a resized picture to bytes is below


class InputDifference(Struct, frozen=True):
    """An input tensor as the device prepares it against what the training code fed: mean and largest absolute
    difference and the standard deviation of the training's values, all in the tensor's real values."""

    tensor: str
    mean: float
    max: float
    spread: float

    @property
    def differs(self) -> bool:
        """Whether it is more than rounding."""
        return self.mean > DIFFERS_FROM * max(self.spread, 1e-12)


class Difference:
    """Gathers an InputDifference row by row."""

    def __init__(self, spec: TensorSpec) -> None:
        self._spec = spec
        self._sum = self._most = self._values = self._squares = 0.0
        self._count = 0

    def add(self, example: Example, prepared: Array) -> None:
        """``prepared`` in the tensor's own dtype. Raises ConfigError where the training's inputs have another shape."""
        trained = trained_input(example, self._spec)
        away = np.abs(real_values(prepared, self._spec).reshape(-1) - trained.reshape(-1))
        self._sum += float(away.sum())
        self._most = max(self._most, float(away.max()))
        self._values += float(trained.sum(dtype=np.float64))
        self._squares += float((trained.astype(np.float64) ** 2).sum())
        self._count += trained.size

    def finished(self) -> InputDifference:
        count = max(1, self._count)
        variance = self._squares / count - (self._values / count) ** 2
        return InputDifference(self._spec.name, self._sum / count, self._most, float(np.sqrt(max(0.0, variance))))


def trained_input(example: Example, spec: TensorSpec) -> Array:
    """(shape of the tensor without its batch axis) float32: what the training code fed. Raises ConfigError."""
    array = np.asarray((example.trained or {})[spec.name], np.float32)
    if array.shape != spec.shape[1:]:
        raise ConfigError(
            f"{example.id}: the training's input for {spec.name!r} has shape {list(array.shape)}, the model takes "
            f"{list(spec.shape[1:])} without the batch axis"
        )
    return array
