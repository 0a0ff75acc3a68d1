"""A model file as the device runs it: the agent's own reading of the card, its arithmetic, its interpreter.

What is measured through this is what the device will do.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from converters.card_file import labels_text
from converters.records import Example, Tensors
from edge_agent.core.model_card import ResolvedCard, resolve
from edge_agent.errors import ConfigError, ModelError
from edge_agent.io.model_file import parse_model
from edge_agent.io.runtimes import create
from edge_agent.records import Array, Crossing, ModelFile, ModelIdentity, TensorSpec
from edge_agent.stages.engine import Engine

ONNX_DELEGATE = "onnx-cpu"


class DeviceModel:
    """One loaded model with its card. Used by one thread at a time.

    ``content``: the whole file. ``card``: what the file itself does not say, as in [model.NAME.card]; ``where`` names
    it in messages. ``path`` names the model in messages, and the folder where a card's file of labels lies.
    ``delegate``: "xnnpack", or "cpu" for the reference kernels; an .onnx runs by ONNX Runtime on the processor. Raises
    ModelError or ConfigError.
    """

    def __init__(
        self,
        content: bytes,
        *,
        card: Mapping[str, Any] | None = None,
        path: Path = Path("model.tflite"),
        where: str = "the card",
        folder: Path | None = None,
        delegate: str = "xnnpack",
        threads: int = 1,
    ) -> None:
        self.file: ModelFile = parse_model(content, path)
        if self.file.form == "edgetpu":
            raise ModelError(f"{path}: compiled for the Edge TPU, this machine can't run it; name the build before it")
        if self.file.form == "onnx":
            delegate = ONNX_DELEGATE
        self._runtime = create(content, delegate, threads=threads, external={})
        self.card: ResolvedCard = resolve(
            self.file,
            self._runtime.inputs,
            self._runtime.outputs,
            card,
            where=where,
            read_text=lambda name: labels_text((folder or path.parent) / name),
        )
        identity = ModelIdentity(self.card.name or path.stem, self.card.version or "unversioned", self.file.sha256)
        self.engine = Engine(identity, self.card, self._runtime)
        self._outputs = {spec.name: spec for spec in self._runtime.outputs}

    @property
    def inputs(self) -> tuple[TensorSpec, ...]:
        return tuple(self._runtime.inputs)

    @property
    def outputs(self) -> tuple[TensorSpec, ...]:
        return tuple(self._runtime.outputs)

    def prepare(self, example: Example) -> Tensors:
        """The input tensors of one example, new arrays in the tensors' own shapes and dtypes; states not included."""
        tensors = self.engine.image_slot()
        for name, slot in tensors.items():
            self.engine.prepare(_picture(example, name), {name: slot})
        for name, stage in self.engine.features.items():
            tensors[name] = stage.slot()
            stage.fill(example.features, tensors[name])
        return tensors

    def run(self, example: Example) -> Tensors:
        """The raw outputs of one example by tensor name; a stateful model goes on from the run before."""
        images = self.engine.image_slot()
        for name, slot in images.items():
            self.engine.prepare(_picture(example, name), {name: slot})
        return self.engine.invoke(images, example.features)

    def predict(self, example: Example, threshold: float | None = None) -> dict[str, dict[str, Any]]:
        """The payload of each output, as the device would publish it."""
        images = self.engine.image_slot()
        crossing = Crossing()
        for name, slot in images.items():
            crossing = self.engine.prepare(_picture(example, name), {name: slot})
        return self.engine.decode(self.engine.invoke(images, example.features), crossing, threshold)

    def invoke(self, tensors: Mapping[str, Array]) -> Tensors:
        """The raw outputs for input tensors that are ready."""
        return self._runtime.invoke(tensors)

    def real(self, outputs: Mapping[str, Array]) -> Tensors:
        """Output tensors as float64 real values, of the same shapes."""
        return {name: real_values(array, self._outputs[name]) for name, array in outputs.items()}

    def reset(self) -> None:
        """Forget the state of a stateful model."""
        self.engine.reset()

    def close(self) -> None:
        self._runtime.close()


def load_device_model(path: Path, *, card: Mapping[str, Any] | None = None, delegate: str = "xnnpack") -> DeviceModel:
    """The model in the file ``path``. Raises ModelError or ConfigError."""
    from edge_agent.io.model_file import read_model

    return DeviceModel(read_model(path).content, card=card, path=path, delegate=delegate)


def real_values(array: Array, spec: TensorSpec) -> Array:
    """float64: (q - zero_point) * scale; a tensor without a scale holds the values themselves."""
    if spec.dtype.kind == "f" or not spec.scale:
        return array.astype(np.float64)
    return (array.astype(np.float64) - spec.zero_point) * spec.scale


def _picture(example: Example, tensor: str) -> Any:
    try:
        return example.images[tensor]
    except KeyError:
        known = ", ".join(example.images) or "none"
        raise ConfigError(
            f"{example.id}: the model takes a picture for {tensor!r}, this row has pictures for: {known}"
        ) from None
