"""One model ready to run: its card, its interpreter and the arithmetic around it. Used by one thread at a time.

The same object serves the daemon, ``edge-agent predict`` and ``edge-agent bench``: what is tried is what runs.
"""

from __future__ import annotations

from collections.abc import Mapping

from edge_agent.core.decode import Decoder
from edge_agent.core.drift.carried import Carried
from edge_agent.core.model_card import ResolvedCard
from edge_agent.core.preprocess import FeaturePreprocessor, ImagePreprocessor, initial_state
from edge_agent.ports import Runtime
from edge_agent.records import Array, Crossing, ModelIdentity, Pixels

NOTHING_CARRIED = Carried()


class Engine:
    """``images`` and ``features`` are the preprocessors by input tensor name; ``drift`` is what the file brings to
    measure drift from."""

    def __init__(
        self, identity: ModelIdentity, card: ResolvedCard, runtime: Runtime, drift: Carried = NOTHING_CARRIED
    ) -> None:
        specs = {spec.name: spec for spec in runtime.inputs}
        self.identity = identity
        self.card = card
        self.runtime = runtime
        self.drift = drift
        self.images = {item.tensor: ImagePreprocessor(specs[item.tensor], item) for item in card.image_inputs}
        self.features = {item.tensor: FeaturePreprocessor(specs[item.tensor], item) for item in card.feature_inputs}
        self._feature_tensors = {name: stage.slot() for name, stage in self.features.items()}
        self._sources = {item.tensor: item.source for item in card.state_inputs}
        self._states = {tensor: initial_state(specs[tensor]) for tensor in self._sources}
        self._initial_states = dict(self._states)
        self._decoder = Decoder(card, runtime.outputs)

    @property
    def stateful(self) -> bool:
        """Whether a run depends on the ones before it."""
        return bool(self._states)

    @property
    def feature_names(self) -> tuple[str, ...]:
        """Every feature that the model wants, in the card's order."""
        return tuple(feature.name for item in self.card.feature_inputs for feature in item.features)

    def image_slot(self) -> dict[str, Array]:
        """New buffers for the image inputs, by tensor name."""
        return {name: stage.slot() for name, stage in self.images.items()}

    def prepare(self, pixels: Pixels, tensors: Mapping[str, Array]) -> Crossing:
        """Fill those image inputs that ``tensors`` names; returns the way back to the frame's coordinates."""
        crossing = Crossing()
        for name, tensor in tensors.items():
            crossing = self.images[name].fill(pixels, tensor)
        return crossing

    def invoke(self, images: Mapping[str, Array], features: Mapping[str, float]) -> dict[str, Array]:
        """Run once. ``features`` has every name of ``feature_names``, in the card's units. Raises ModelError."""
        for name, stage in self.features.items():
            stage.fill(features, self._feature_tensors[name])
        outputs = self.runtime.invoke({**images, **self._feature_tensors, **self._states})
        for tensor, source in self._sources.items():
            self._states[tensor] = outputs[source]
        return outputs

    def reset(self) -> None:
        """Forget the state of a stateful model."""
        self._states = dict(self._initial_states)

    def decode(
        self, outputs: Mapping[str, Array], crossing: Crossing, threshold: float | None
    ) -> dict[str, dict[str, object]]:
        """The payload object of each output by name. Raises DecodeError."""
        return self._decoder.decode(outputs, crossing, threshold)

    def warm_up(self) -> None:
        """One run on empty inputs, so that the first frame does not pay for lazy set-up. Raises ModelError."""
        neutral = {feature.name: feature.mean for item in self.card.feature_inputs for feature in item.features}
        self.invoke(self.image_slot(), neutral)
        self.reset()
