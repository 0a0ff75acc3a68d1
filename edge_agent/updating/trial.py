"""Looks at the model on trial every second: what its pipelines counted, against what its release allows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from msgspec.structs import replace

from edge_agent.assembly import LoadedModel
from edge_agent.core.rollout_steps import Done, Evidence, Failed, Sick
from edge_agent.core.trial_watch import Budget, TrialWatch, Tried
from edge_agent.io.board import memory_rss_mb
from edge_agent.parts import Parts
from edge_agent.rollouts import Candidate
from edge_agent.stages.pipeline import Pipeline
from edge_agent.updating.swapping import Swapping

LOOK_NS = 900_000_000  # between two looks, whatever else happens meanwhile: the rules count them


class TrialSeat:
    """The trial in this process, from the swap until the rules leave it. Used by the updater's thread."""

    def __init__(self, parts: Parts, swapping: Swapping) -> None:
        self._parts = parts
        self._swapping = swapping
        self._awaited: Candidate | None = None
        self._before_mb: float | None = None  # held by the process, before that swap
        self._trial: TrialLook | None = None
        self._look_ns = 0  # not before

    def awaits(self, candidate: Candidate | None) -> None:
        """Another errand begins: its swap, or None."""
        self._awaited = candidate
        self._before_mb = memory_rss_mb()

    def answered(self, answer: object) -> None:
        """Of that errand. The trial is looked at from the moment when its first frame may come."""
        if not isinstance(answer, Done | Failed) or self._awaited is None:
            return
        candidate, self._awaited = self._awaited, None
        if isinstance(answer, Done):
            users = self._swapping.pipelines(candidate.release.name)
            loaded = self._swapping.trials(candidate.release.name)
            self._trial = TrialLook(self._parts, candidate, loaded, users, self._before_mb)

    def look(self) -> Sick | Tried | None:
        """None: nothing is to be looked at now."""
        now_ns = self._parts.clock.monotonic_ns()
        if self._trial is None or now_ns < self._look_ns:
            return None
        self._look_ns = now_ns + LOOK_NS
        return self._trial.look()

    def end(self) -> None:
        self._awaited = self._trial = None


class TrialLook:
    """``loaded``: the candidate, of each pipeline; ``before_mb``: what the process held before the swap."""

    def __init__(
        self,
        parts: Parts,
        candidate: Candidate,
        loaded: Sequence[LoadedModel],
        pipelines: list[Pipeline],
        before_mb: float | None,
    ) -> None:
        self._parts = parts
        self._pipelines = pipelines
        self._before_mb = before_mb
        self._loaded = loaded
        self._delegates = self._delegates_now()  # that the budgets are meant for
        release = candidate.release
        budgets = loaded[0].engine.card.budgets if loaded else None
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
        steady = world == before and world["delegates"] == self._delegates
        evidence: Evidence = {}
        for pipeline in self._pipelines:
            counts = pipeline.trial_counts()
            if counts is None:
                continue
            name = pipeline.config.name
            found = self._watches[name].look(now_ns, replace(counts, memory_mb=grown, steady=steady))
            if isinstance(found, Sick):
                return found
            self._samples[name] = found.samples
            evidence = {**found.evidence, **evidence}
        return Tried(sum(self._samples.values()), {**evidence, "samples": sum(self._samples.values())})

    def _grown_mb(self) -> float | None:
        now_mb = memory_rss_mb()
        return None if now_mb is None or self._before_mb is None else now_mb - self._before_mb

    def _delegates_now(self) -> list[str]:
        """That the candidate runs on. The loss of a device is no fault of its, and what stands in keeps no budget."""
        return [model.engine.runtime.info.delegate for model in self._loaded]

    def _state_of_the_world(self) -> Mapping[str, object]:
        """What may cost frames and time without the model's doing; a change of it makes a second of no account."""
        return {
            "broker": self._parts.publisher.connected,
            "heat": self._parts.upkeep.report()["heat"],
            "delegates": self._delegates_now(),
            "cameras": {name: (camera.state, camera.failures) for name, camera in self._parts.cameras.items()},
        }
