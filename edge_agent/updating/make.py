"""Puts the updater together."""

from __future__ import annotations

from collections.abc import Callable

from edge_agent.core.rollout import Machine
from edge_agent.core.rollout_mind import Now, Settings
from edge_agent.core.rollout_window import Window
from edge_agent.parts import Parts
from edge_agent.rollouts import DeviceState
from edge_agent.stages.worker import Services
from edge_agent.updating.errands import Answer, Errands
from edge_agent.updating.repository import Access
from edge_agent.updating.start import UpdateStart
from edge_agent.updating.swapping import Swapping
from edge_agent.updating.worker import Updater


def make_updater(
    parts: Parts, start: UpdateStart, client_id: str, changed: Callable[[], None], services: Services
) -> Updater:
    """For the pipelines of ``parts``, which run what ``start`` said. ``changed``: see Updater."""
    config, clock = parts.config, services.clock
    update = config.update
    settings = Settings(
        device=parts.topics.device,
        poll_s=None if update.repository is None else update.poll.seconds,
        window=None if update.window is None else Window.parse(update.window),
    )
    topic = f"{parts.topics.base}/{parts.topics.device}"
    access = Access(parts.loaded, start.store, client_id, topic, clock)

    def make_errands(
        swapping: Swapping, answer: Callable[[int, Answer], None], state: Callable[[], DeviceState]
    ) -> Errands:
        return Errands(access, swapping, answer, state, services)

    def make_machine(state: DeviceState) -> Machine:
        mono_ns = clock.monotonic_ns()
        return Machine(state, settings, Now(mono_ns, clock.wall_ns(mono_ns), clock.synced()))

    return Updater(parts, make_machine, start.state, start.store, make_errands, changed, services)
