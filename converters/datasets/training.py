"""What training did to its inputs, as a function of the user's: to compare "as trained" with "as deployed"."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from converters.datasets.rows import shown
from converters.datasets.user_code import UserFunction
from edge_agent.core.card_rules import nearest
from edge_agent.core.model_card import ResolvedCard
from edge_agent.errors import ConfigError
from edge_agent.records import Array, Pixels


class TrainingPreprocessing:
    """``spec`` is FILE.py:FUNCTION. It is called for each row with the pictures by input tensor, (height, width, 3)
    uint8 **RGB**, and the features by name in the card's units (what is missing is filled), and returns what the float
    model was fed: numbers by input tensor, without a batch axis. Raises ConfigError."""

    def __init__(self, spec: str, card: ResolvedCard) -> None:
        self._function = UserFunction(spec, "the training's preprocessing (--preprocess)")
        self._tensors = input_tensors(card)
        self.sha256 = self._function.sha256

    def apply(self, images: Mapping[str, Pixels], features: Mapping[str, float], where: str) -> dict[str, Array]:
        """float32 by input tensor. Raises ConfigError for what the function did wrong, with the row."""
        rgb = {tensor: np.ascontiguousarray(pixels[..., ::-1]) for tensor, pixels in images.items()}
        result = self._function(rgb, dict(features))
        if not isinstance(result, Mapping) or set(result) != set(self._tensors):
            found = f"arrays for {', '.join(map(repr, result))}" if isinstance(result, Mapping) else shown(result)
            wanted = ", ".join(map(repr, self._tensors))
            raise ConfigError(
                f"{self._function.spec}: {where}: returned {found}; one array for each of {wanted} is needed"
            )
        return trained_arrays(result, self._tensors, f"{self._function.spec}: {where}")


def input_tensors(card: ResolvedCard) -> tuple[str, ...]:
    """The inputs that a row fills: pictures and features, no states."""
    return (*(item.tensor for item in card.image_inputs), *(item.tensor for item in card.feature_inputs))


def trained_arrays(found: Mapping[str, object], tensors: tuple[str, ...], where: str) -> dict[str, Array]:
    """As float32. Raises ConfigError for an unknown tensor and for what is not finite numbers."""
    arrays = {}
    for tensor, values in found.items():
        if tensor not in tensors:
            raise ConfigError(
                f"{where}: trained input {tensor!r}{nearest(str(tensor), tensors)}: the model's inputs are "
                f"{', '.join(map(repr, tensors))}"
            )
        try:
            array = np.asarray(values, np.float32)
        except (TypeError, ValueError) as error:
            raise ConfigError(f"{where}: trained input {tensor!r} is no array of numbers: {error}") from None
        if not np.isfinite(array).all():
            raise ConfigError(f"{where}: trained input {tensor!r} has values that are not finite")
        arrays[tensor] = array
    return arrays
