"""From a file to a running model and back, in every pipeline that uses it, between two frames.

All of them are built, warm and tried before the first is routed: either each pipeline has the new model, or none.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path

from edge_agent import limits
from edge_agent.assembly import LoadedModel, finish, wanted_of
from edge_agent.children.golden import require_golden
from edge_agent.core.rollout_steps import Evidence
from edge_agent.errors import DeviceError, EdgeAgentError, UpdateError
from edge_agent.io.model_store import ModelStore
from edge_agent.loading import begin, model_request
from edge_agent.parts import Parts
from edge_agent.rollouts import FACTORY, Candidate, Reason, Slot
from edge_agent.stages.engine import Engine
from edge_agent.stages.pipeline import Pipeline

log = logging.getLogger("edge_agent")


class Swapping:
    """Used by one thread at a time. ``parts.models`` follows what is live."""

    def __init__(self, parts: Parts, store: ModelStore) -> None:
        self._parts = parts
        self._store = store
        self._trial: dict[str, LoadedModel] = {}  # by pipeline, until it is settled

    def swap(self, candidate: Candidate, share: float) -> Evidence:
        """Give the candidate its share of the samples. Raises UpdateError."""
        release = candidate.release
        if not self._users(release.name):  # the configuration changed during its trial: no sample would ever come
            raise UpdateError(Reason.INCOMPATIBLE, f"no pipeline uses [model.{release.name}]", final=True)
        path = self._store.slot(release.sha256)
        if path is None:
            raise UpdateError(Reason.HASH, f"{release.version} is not on the disk as it was signed")
        before_ns = self._parts.clock.monotonic_ns()
        self._route(release.name, path, release.version, share)
        return {"swap_ms": round((self._parts.clock.monotonic_ns() - before_ns) / 1e6, 1)}

    def settle(self, model: str) -> None:
        """The trial was good: the model before it is unloaded."""
        for pipeline in self._users(model):
            self._retire(pipeline, pipeline.settle())
            if (loaded := self._trial.pop(pipeline.config.name, None)) is not None:
                self._parts.models[pipeline.config.name] = loaded

    def back(self, model: str, to: Slot) -> None:
        """All samples to that model again. Raises UpdateError where it has to be loaded and can't be."""
        for pipeline in self._users(model):
            self._trial.pop(pipeline.config.name, None)
            self._retire(pipeline, pipeline.route_back())
        if all(self._runs(pipeline, to) for pipeline in self._users(model)):
            return
        path = None if to.sha256 == FACTORY else self._store.slot(to.sha256)
        if path is None and to.sha256 != FACTORY:
            raise UpdateError(Reason.HASH, f"{to.version} is not on the disk as it was signed")
        self._route(model, path, None if path is None else to.version, 1.0)
        self.settle(model)

    def restore(self, slots: Mapping[str, Slot]) -> None:
        """Wherever an update was broken off: each model runs what ``slots`` names, the factory's where it names none.
        Raises UpdateError where that has to be loaded and can't be."""
        for model in sorted({pipeline.config.model for pipeline in self._parts.pipelines.values()}):
            slot, tried = slots.get(model, Slot()), self.trial(model)
            if tried is not None and tried.file.sha256 == slot.sha256:
                self.settle(model)
            self.back(model, slot)

    def live(self, model: str) -> LoadedModel | None:
        """What runs now; None: no pipeline uses it."""
        return next((self._parts.models[pipeline.config.name] for pipeline in self._users(model)), None)

    def trial(self, model: str) -> LoadedModel | None:
        """What is on trial; None: nothing."""
        return next((self._trial.get(pipeline.config.name) for pipeline in self._users(model)), None)

    def trials(self, model: str) -> list[LoadedModel]:
        """What is on trial, of each pipeline."""
        names = [pipeline.config.name for pipeline in self._users(model)]
        return [self._trial[name] for name in names if name in self._trial]

    def pipelines(self, model: str) -> list[Pipeline]:
        return self._users(model)

    def _route(self, model: str, path: Path | None, version: str | None, share: float) -> None:
        built: list[tuple[Pipeline, LoadedModel]] = []
        try:
            for pipeline in self._users(model):
                built.append((pipeline, self._build(model, path, version)))
            wanted = [wanted_of(pipeline.config, self._parts.config, new.engine) for pipeline, new in built]
            for pipeline, new in built:  # not before all can take it: what is said of its back-end is then true
                self._parts.follow(pipeline.config.name, new)
            for (pipeline, new), wants in zip(built, wanted, strict=True):
                pipeline.route(new.engine, wants, share)
                self._trial[pipeline.config.name] = new
        except (EdgeAgentError, ValueError, RuntimeError) as error:
            for pipeline, new in built:
                if self._trial.pop(pipeline.config.name, None) is not None:
                    self._retire(pipeline, pipeline.route_back())
                else:
                    new.engine.runtime.close()
            if isinstance(error, UpdateError):
                raise
            raise UpdateError(Reason.LOAD, str(error), final=not isinstance(error, DeviceError)) from error

    def _build(self, model: str, path: Path | None, version: str | None) -> LoadedModel:
        """``path`` None: the factory's."""
        loaded = finish(begin(model_request(self._parts.loaded, model, path=path, version=version, behind=True)))
        loaded.engine.warm_up()
        if path is not None:  # the factory's may be anybody's, without golden samples
            # on the very interpreter that will run: the child that verified the file had another, and no Edge TPU
            require_golden(loaded)
            loaded.engine.reset()
        return loaded

    def _users(self, model: str) -> list[Pipeline]:
        return [pipeline for pipeline in self._parts.pipelines.values() if pipeline.config.model == model]

    def _runs(self, pipeline: Pipeline, slot: Slot) -> bool:
        file = self._parts.models[pipeline.config.name].file
        if slot.sha256 == FACTORY:
            config = self._parts.config.model[pipeline.config.model]
            return Path(file.path) == self._parts.loaded.folder / config.path
        return file.sha256 == slot.sha256

    def _retire(self, pipeline: Pipeline, engine: Engine | None) -> None:
        if engine is None:
            return
        if pipeline.drained(engine, limits.SWAP_DRAIN_S):
            engine.runtime.close()
        else:  # a run that hangs: its memory is the price
            log.warning("%s: a frame is still with the model before; it is not unloaded", pipeline.name)
