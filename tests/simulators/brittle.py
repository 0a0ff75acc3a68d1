"""A pipeline's real parts around a model and a camera that fail as told."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping

import numpy as np

from edge_agent.config.schema import AlignConfig, PipelineConfig
from edge_agent.core.align import Aligner
from edge_agent.core.model_card import resolve
from edge_agent.errors import FrameError
from edge_agent.records import Array, Grab, ModelFile, ModelIdentity, Pixels, RuntimeInfo, TensorSpec
from edge_agent.stages.counters import PipelineCounters
from edge_agent.stages.engine import Engine
from edge_agent.stages.inference import Inference
from edge_agent.stages.pipeline import Pipeline, Slots
from tests.simulators.supervised import Site

GOOD: Pixels = np.full((16, 16, 3), 90, np.uint8)
POISON: Pixels = np.zeros((0, 0, 3), np.uint8)  # OpenCV refuses to resize it
GAP_NS = 10_000_000


class BrittleRuntime:
    """``ports.Runtime`` that names the mean of its picture; ``before`` runs first and may raise or wait."""

    def __init__(self, before: Callable[[int], None], images: Iterable[str] = ("image",)) -> None:
        self.inputs = [TensorSpec(name, 0, (1, 8, 8, 3), np.dtype("uint8"), 1.0, 0) for name in images]
        self.outputs = [TensorSpec("scores", 1, (1, 2), np.dtype("float32"))]
        self.info = RuntimeInfo("cpu", "brittle", 1, False)
        self.runs = 0
        self._before = before

    def invoke(self, tensors: Mapping[str, Array]) -> dict[str, Array]:
        run, self.runs = self.runs, self.runs + 1
        self._before(run)
        return {"scores": np.full((1, 2), tensors["image"].mean() / 255, np.float32)}

    def close(self) -> None:
        """Nothing is held."""


def engine(runtime: BrittleRuntime) -> Engine:
    file = ModelFile("brittle.tflite", b"", "0" * 64, None, None, {})
    inputs = [{"role": "image", "tensor": spec.name} for spec in runtime.inputs]
    said = {"inputs": inputs, "outputs": [{"task": "classification", "tensor": "scores"}]}
    card = resolve(file, runtime.inputs, runtime.outputs, said, where="here", read_text=lambda _: "")
    return Engine(ModelIdentity("brittle", "1", "0" * 64), card, runtime)


class Bench:
    """A pipeline whose inferences are kept instead of published."""

    def __init__(
        self,
        site: Site,
        before: Callable[[int], None] = lambda _: None,
        *,
        newest: bool = False,
        name: str = "inspect",
        images: Mapping[str, str] | None = None,
        deliver: Callable[[Inference], None] = lambda _: None,
    ) -> None:
        self.delivered: list[Inference] = []
        self.ended = threading.Event()
        self._before_delivery = deliver
        self.runtime = BrittleRuntime(before, ("image", *(images or {})))
        config = PipelineConfig(name=name, camera="front", model="m", images=dict(images or {}))
        self.pipeline = Pipeline(
            config,
            engine(self.runtime),
            Aligner([], AlignConfig()),
            {},
            Slots(3, newest),
            PipelineCounters(),
            self._deliver,
            site.services,
        )

    def _deliver(self, inference: Inference | None) -> None:
        if inference is None:
            self.ended.set()
            return
        self._before_delivery(inference)
        self.delivered.append(inference)

    @property
    def frames(self) -> int:
        return self.pipeline.counters.get("frames")

    @property
    def discards(self) -> dict[str, int]:
        return self.pipeline.counters.discards()

    def accounted(self) -> int:
        """What left: it must be as many as came."""
        return len(self.delivered) + sum(self.discards.values())


class ScriptedCamera:
    """``ports.Camera``: each of ``script`` is pixels, or an exception to raise from ``retrieve``, or a pair whose
    first is raised from ``grab``. What raised is not repeated."""

    live = True

    def __init__(self, script: Iterable[Pixels | BaseException | tuple[BaseException]]) -> None:
        self.opened = self.closed = 0
        self._script = iter(script)
        self._now: Pixels | BaseException = GOOD
        self._at = 0

    def open(self) -> None:
        self.opened += 1

    def grab(self) -> Grab | None:
        item = next(self._script, None)
        if item is None:
            return None
        if isinstance(item, tuple):
            raise item[0]
        self._now = item
        self._at += 1
        return Grab(self._at * GAP_NS, self._at * GAP_NS, "arrival")

    def retrieve(self) -> Pixels:
        if isinstance(self._now, BaseException):
            raise self._now
        return self._now

    def close(self) -> None:
        self.closed += 1


UNREADABLE = FrameError("half a frame")
