"""The run of a model, and what its failures mean. Used by the pipeline's own thread only."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from msgspec import Struct

from edge_agent.errors import DeviceError, ModelError
from edge_agent.ports import Clock
from edge_agent.records import Array
from edge_agent.stages.engine import Engine
from edge_agent.stages.route import Route


class Run(Struct, frozen=True):
    """``delegate``: the back-end that made these outputs, which may be another one by the next run."""

    outputs: dict[str, Array]
    took_ns: int
    delegate: str


class Invoker:
    """``first`` is the model that runs first; ``failed`` is told of the first of a row of failures."""

    def __init__(self, first: Engine, clock: Clock, failed: Callable[[Exception], None]) -> None:
        self._clock = clock
        self._failed = failed
        self._failing = False
        self._last = first

    def run(self, route: Route, images: Mapping[str, Array], features: Mapping[str, float]) -> Run | None:
        """None where the model refused this input, or its device is gone and nothing stands in for it."""
        engine = route.engine
        if engine is not self._last:  # the frames before were another model's: its state is not theirs
            engine.reset()
            self._last = engine
        started_ns = self._clock.monotonic_ns()
        try:
            outputs = engine.invoke(images, features)
        except Exception as error:
            if not isinstance(error, DeviceError):  # no model's fault
                route.tally.failed(error)
            if not isinstance(error, (ModelError, DeviceError)):
                raise
            first, self._failing = not self._failing, True
            if first:  # one event for a row of failures
                self._failed(error)
            return None
        took_ns = self._clock.monotonic_ns() - started_ns
        route.tally.ran(took_ns)
        self._failing = False
        return Run(outputs, took_ns, engine.runtime.info.delegate)
