"""The candidate's seat beside the live model: a child that sees what it sees, and is never listened to."""

from __future__ import annotations

from collections.abc import Callable

from edge_agent.children.requirements import requirements_of
from edge_agent.children.shadow import Live, ShadowChild, live_of
from edge_agent.core.rollout_steps import Failed, Shadowed, ShadowFailed
from edge_agent.errors import UpdateError
from edge_agent.io.model_store import ModelStore
from edge_agent.parts import Parts
from edge_agent.rollouts import Candidate, Reason
from edge_agent.stages.worker import Services
from edge_agent.updating.swapping import Swapping


class ShadowSeat:
    """``report`` gets the shadow's number with Shadowed or ShadowFailed, from any thread. Used by the updater's."""

    def __init__(
        self,
        parts: Parts,
        store: ModelStore,
        swapping: Swapping,
        report: Callable[[int, Shadowed | ShadowFailed], None],
        services: Services,
    ) -> None:
        self._parts = parts
        self._store = store
        self._swapping = swapping
        self._report = report
        self._clock = services.clock
        self._child: ShadowChild | None = None
        self._number = 0  # of the shadow that is listened to
        self._model = ""

    def begin(self, candidate: Candidate) -> None:
        """A failure is reported."""
        self.end()
        release, number = candidate.release, self._number
        try:
            path = self._store.slot(release.sha256)
            live = self._swapping.live(release.name)
            if path is None or live is None:
                raise UpdateError(Reason.HASH, f"{release.version} is not on the disk as it was signed")
            self._child = ShadowChild(
                path,
                requirements_of(self._parts.loaded, release, live.engine.card),
                self._live(release.name),
                lambda said: self._say(number, said),
                self._clock,
            )
        except UpdateError as error:
            self._say(number, Failed(Reason(error.reason), str(error), error.final))
            return
        self._model = release.name
        for pipeline in self._swapping.pipelines(release.name):
            pipeline.tap = self._child.offer

    def awaits(self, number: int) -> bool:
        """Whether that shadow goes on: what one said may lie in a queue when it is ended."""
        return number == self._number

    def end(self) -> None:
        self._number += 1
        child, self._child = self._child, None
        if child is None:
            return
        for pipeline in self._swapping.pipelines(self._model):
            pipeline.tap = None
        child.stop()

    def _say(self, number: int, said: Shadowed | Failed) -> None:
        self._report(number, ShadowFailed(said) if isinstance(said, Failed) else said)

    def _live(self, model: str) -> Live:
        pipeline = self._swapping.pipelines(model)[0]
        floor_hz = pipeline.config.rate_floor
        return live_of(pipeline.engine, pipeline.config.threshold, float(floor_hz))
