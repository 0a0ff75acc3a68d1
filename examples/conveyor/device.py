"""The example's model as the device runs it: the agent's own reading of the card, arithmetic and interpreter.

Used to measure, to choose golden inputs and in the tests. Without TensorFlow.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from drawing import Pixels
from parts import SENSORS
from world import draw_sample

from edge_agent.core.model_card import ResolvedCard, resolve
from edge_agent.core.preprocess import FeaturePreprocessor, ImagePreprocessor
from edge_agent.io.model_file import read_model
from edge_agent.io.runtimes.litert import LiteRtRuntime

Tensor = npt.NDArray[np.int8]

MODEL = Path(__file__).parent / "model" / "conveyor.tflite"


@dataclass(frozen=True, slots=True)
class Inputs:
    """Tensors that are ready to run, a row for each sample: ``image`` (n, 1, 96, 96, 3) and ``sensors`` (n, 1, 3),
    int8; ``labels`` (n,)."""

    image: Tensor
    sensors: Tensor
    labels: npt.NDArray[np.int64]


class DeviceModel:
    """One loaded model. ``default_delegates=False`` runs the reference kernels instead of XNNPACK."""

    card: ResolvedCard

    def __init__(self, path: Path = MODEL, *, default_delegates: bool = True) -> None:
        """Raises ModelError when the file can't be used."""
        file = read_model(path)
        self.members = file.members
        self._runtime = LiteRtRuntime(file.content, default_delegates=default_delegates)
        inputs, outputs = self._runtime.inputs, self._runtime.outputs
        self.card = resolve(file, inputs, outputs, None, where="[model.conveyor.card]", read_text=_no_file)
        specs = {spec.name: spec for spec in inputs}
        (image,), (sensors,), (output,) = self.card.image_inputs, self.card.feature_inputs, self.card.outputs
        self._output = output.tensor
        self._image = ImagePreprocessor(specs[image.tensor], image)
        self._sensors = FeaturePreprocessor(specs[sensors.tensor], sensors)
        self._names = image.tensor, sensors.tensor
        self.labels = self.card.labels[output.name]

    def prepare(self, pixels: Pixels, readings: npt.NDArray[np.float64]) -> tuple[Tensor, Tensor]:
        """(h, w, 3) uint8 BGR and (3,) in real units -> the two input tensors, as new arrays."""
        image, sensors = self._image.slot(), self._sensors.slot()
        self._image.fill(pixels, image)
        self._sensors.fill(dict(zip(SENSORS, readings.tolist(), strict=True)), sensors)
        return image, sensors

    def run(self, image: Tensor, sensors: Tensor) -> Tensor:
        """(5,) int8: the quantised probabilities of one sample."""
        result = self._runtime.invoke(dict(zip(self._names, (image, sensors), strict=True)))
        return np.asarray(result[self._output][0])

    def draw(self, seed: int, count: int) -> Inputs:
        """The first ``count`` samples of the set ``seed`` as tensors."""
        samples = (draw_sample(seed, number) for number in range(count))
        rows = [(*self.prepare(sample.pixels, sample.readings), sample.part.label) for sample in samples]
        images, sensors, labels = zip(*rows, strict=True)
        return Inputs(np.stack(images), np.stack(sensors), np.array(labels))

    def classify(self, image: Tensor, sensors: Tensor) -> npt.NDArray[np.int64]:
        """Indices of the best class of each row. ``image`` and ``sensors`` as in Inputs."""
        return np.array([self.run(*pair).argmax() for pair in zip(image, sensors, strict=True)])


def _no_file(name: str) -> str:
    raise FileNotFoundError(name)
