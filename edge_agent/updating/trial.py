"""Looks at the model on trial every second: what its pipelines counted, against what its release allows."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from msgspec.structs import replace

from edge_agent.assembly import LoadedModel
from edge_agent.core.rollout_steps import Evidence, Sick
from edge_agent.core.trial_watch import Budget, TrialWatch, Tried
from edge_agent.parts import Parts
from edge_agent.rollouts import Candidate
from edge_agent.stages.pipeline import Pipeline


class TrialLook:
    """From the swap until the trial ends. ``model``: the candidate, loaded; ``memory_mb`` gives what the process holds
    now, ``before_mb`` is what it held before the swap."""

    def __init__(
        self,
        parts: Parts,
        candidate: Candidate,
        model: LoadedModel | None,
        pipelines: list[Pipeline],
        memory_mb: Callable[[], float | None],
        before_mb: float | None,
    ) -> None:
        self._parts = parts
        self._pipelines = pipelines
        self._memory_mb = memory_mb
        self._before_mb = before_mb
        release = candidate.release
        budgets = model.engine.card.budgets if model else None
        now_ns = parts.clock.monotonic_ns()
        self._watches = {
            pipeline.config.name: TrialWatch(
                Budget(
                    p95_ms=release.p95_ms or (budgets.p95_ms if budgets else None),
                    memory_mb=release.memory_mb or (budgets.memory_mb if budgets else None),
                    lost=pipeline.lost_share(),
                ),
                now_ns,
            )
            for pipeline in pipelines
        }
        self._samples = dict.fromkeys(self._watches, 0)
        self._world = self._state_of_the_world()

    def look(self) -> Sick | Tried:
        """Call every second or so."""
        now_ns = self._parts.clock.monotonic_ns()
        world, before = self._state_of_the_world(), self._world
        self._world = world
        grown = self._grown_mb()
        evidence: Evidence = {}
        for pipeline in self._pipelines:
            counts = pipeline.trial_counts()
            if counts is None:
                continue
            name = pipeline.config.name
            found = self._watches[name].look(now_ns, replace(counts, memory_mb=grown, steady=world == before))
            if isinstance(found, Sick):
                return found
            self._samples[name] = found.samples
            evidence = {**found.evidence, **evidence}
        return Tried(sum(self._samples.values()), {**evidence, "samples": sum(self._samples.values())})

    def _grown_mb(self) -> float | None:
        now_mb = self._memory_mb()
        return None if now_mb is None or self._before_mb is None else now_mb - self._before_mb

    def _state_of_the_world(self) -> Mapping[str, object]:
        """What may cost frames and time without the model's doing; a change of it makes a second of no account."""
        return {
            "broker": self._parts.publisher.connected,
            "heat": self._parts.upkeep.report()["heat"],
            "cameras": {name: (camera.state, camera.failures) for name, camera in self._parts.cameras.items()},
        }
