"""One model as its pipeline uses it."""

from __future__ import annotations

from collections.abc import Sequence

from edge_agent.core.align import View
from edge_agent.records import Array
from edge_agent.stages.engine import Engine
from edge_agent.stages.further_images import Pictures
from edge_agent.stages.tally import Tally


class Route:
    """An engine with its view of the readings, its pictures of the further cameras, and buffers for ready tensors, of
    which each frame on its way has one set. ``lend`` and ``take_back`` are under the lock of ``Routes``."""

    def __init__(self, engine: Engine, view: View, further: Sequence[str]) -> None:
        """``further``: the image inputs that other cameras fill."""
        self.engine = engine
        self.view = view
        self.pictures = Pictures(engine, further)
        self.tally = Tally()
        self.taking = True  # frames may still come; else what is open of it is to be closed
        self.leading = True  # its results are the pipeline's state
        self.lent = 0
        self._own = [name for name in engine.images if name not in further]
        self._spare: list[dict[str, Array]] = []

    def lend(self) -> dict[str, Array]:
        """Buffers for the pipeline's own camera, by tensor name."""
        self.lent += 1
        return self._spare.pop() if self._spare else {name: self.engine.images[name].slot() for name in self._own}

    def take_back(self, tensors: dict[str, Array]) -> None:
        self.lent -= 1
        self._spare.append(tensors)
