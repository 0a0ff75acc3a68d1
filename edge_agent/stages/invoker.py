"""The run of a model, and what its failures mean. Used by the pipeline's own thread only."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from edge_agent.errors import ModelError
from edge_agent.ports import Clock
from edge_agent.records import Array
from edge_agent.stages.engine import Engine
from edge_agent.stages.route import Route


class Invoker:
    """``first`` is the model that runs first; ``failed`` is told of the first of a row of failures."""

    def __init__(self, first: Engine, clock: Clock, failed: Callable[[ModelError], None]) -> None:
        self._clock = clock
        self._failed = failed
        self._failing = False
        self._last = first

    def run(
        self, route: Route, images: Mapping[str, Array], features: Mapping[str, float]
    ) -> tuple[dict[str, Array], int] | None:
        """The outputs, and the nanoseconds that the run took. None where the model refused this input."""
        engine = route.engine
        if engine is not self._last:  # the frames before were another model's: its state is not theirs
            engine.reset()
            self._last = engine
        started_ns = self._clock.monotonic_ns()
        try:
            outputs = engine.invoke(images, features)
        except Exception as error:
            route.tally.failed(error)
            if not isinstance(error, ModelError):
                raise
            first, self._failing = not self._failing, True
            if first:  # one event for a row of failures
                self._failed(error)
            return None
        took_ns = self._clock.monotonic_ns() - started_ns
        route.tally.ran(took_ns)
        self._failing = False
        return outputs, took_ns
