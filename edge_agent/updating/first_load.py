"""The models of a process's start, built: what came over the air and does not load gives way to what ran before it."""

from __future__ import annotations

from edge_agent.assembly import LoadedModel, finish
from edge_agent.errors import ModelError
from edge_agent.loading import Loading
from edge_agent.rollouts import FACTORY, Reason
from edge_agent.updating.start import UpdateStart


class FirstLoad:
    """One for all pipelines: two that share a model run the same."""

    def __init__(self, start: UpdateStart) -> None:
        self._start = start
        self._fell_back: set[str] = set()  # models that are not what their loading was begun for

    def finish(self, name: str, loading: Loading) -> LoadedModel:
        """Warm, and ready to run. Raises ModelError, DeviceError or ConfigError: the factory's own."""
        if name in self._fell_back:
            loading = self._start.begin(name)
        while True:
            try:
                model = finish(loading)
                model.engine.warm_up()
                return model
            except ModelError as error:
                if self._start.slot(name).sha256 == FACTORY:
                    raise
                self._start.fall_back(name, Reason.LOAD, str(error))
                self._fell_back.add(name)
                loading = self._start.begin(name)
