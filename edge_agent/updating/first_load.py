"""The models of a process's start, built: what came over the air and does not load gives way to what ran before it."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from edge_agent import limits
from edge_agent.assembly import LoadedModel, finish, wanted_of
from edge_agent.errors import ConfigError, EdgeAgentError, ModelError
from edge_agent.loading import Loading, begin, model_request
from edge_agent.rollouts import FACTORY, Reason
from edge_agent.updating.start import UpdateStart


class FirstLoad:
    """One for all pipelines: two that share a model run the same. ``step`` is told what is begun, and within how many
    seconds it is done."""

    def __init__(self, start: UpdateStart, step: Callable[[str, float], None]) -> None:
        self._start = start
        self._step = step
        self._fell_back: set[str] = set()  # models that are not what their loading was begun for

    def finish(self, name: str, loading: Loading) -> LoadedModel:
        """Warm, and ready to run. Raises ModelError, DeviceError or ConfigError: the factory's own."""
        if name in self._fell_back:
            loading = self._start.begin(name)
        while True:
            try:
                model = finish(loading, partial(self._trying, name))
                self._step(f"loading model {name}: warming up", limits.START_STEP_S)
                model.engine.warm_up()
                if self._start.slot(name).sha256 != FACTORY:
                    self._fit(name, model)
                return model
            except (ModelError, ConfigError) as error:
                if self._start.slot(name).sha256 == FACTORY:
                    raise
                reason = Reason.LOAD if isinstance(error, ModelError) else Reason.INCOMPATIBLE
                if reason is Reason.INCOMPATIBLE and not self._factory_fits(name):
                    raise  # a mistake in the configuration is no model's fault, and costs none
                self._start.fall_back(name, reason, str(error))
                self._fell_back.add(name)
                loading = self._start.begin(name)

    def _trying(self, name: str, backend: str, trial_s: float) -> None:
        """It is tried, and then built here."""
        self._step(f"loading model {name}: trying {backend}", max(limits.START_STEP_S, 2 * trial_s))

    def _fit(self, name: str, model: LoadedModel) -> None:
        """The configuration may be another one than when the model was committed. Raises ConfigError."""
        config = self._start.loaded.config
        for pipeline in config.pipeline:
            if pipeline.model == name:
                wanted_of(pipeline, config, model.engine)

    def _factory_fits(self, name: str) -> bool:
        try:
            model = finish(begin(model_request(self._start.loaded, name)))
            self._fit(name, model)
        except EdgeAgentError:
            return False
        model.engine.runtime.close()
        return True
