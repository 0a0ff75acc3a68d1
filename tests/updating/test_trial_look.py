"""The trial's seconds: what a lost device costs is nothing against the model."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from edge_agent.core.latency import Quantiles
from edge_agent.core.rollout_steps import Sick
from edge_agent.core.trial_watch import LATENCIES_LEAST, TrialCounts, Tried
from edge_agent.io.clock import SystemClock
from edge_agent.updating.trial import TrialLook

BUDGET_MS = 5.0


class World:
    """One pipeline with a model on trial, which is as slow as it is told."""

    def __init__(self) -> None:
        self.info = SimpleNamespace(delegate="edgetpu")
        self.run_ms = 1.0
        pipeline: Any = SimpleNamespace(
            config=SimpleNamespace(name="parts"), lost_share=lambda: 0.0, trial_counts=self._counts
        )
        parts: Any = SimpleNamespace(
            clock=SystemClock(),
            publisher=SimpleNamespace(connected=True),
            upkeep=SimpleNamespace(report=lambda: {"heat": None}),
            cameras={},
        )
        engine = SimpleNamespace(
            runtime=SimpleNamespace(info=self.info),
            card=SimpleNamespace(budgets=SimpleNamespace(p95_ms=None, memory_mb=None)),
        )
        release = SimpleNamespace(p95_ms=BUDGET_MS, memory_mb=None)
        candidate: Any = SimpleNamespace(release=release)
        loaded: Any = SimpleNamespace(engine=engine)
        self.look = TrialLook(parts, candidate, [loaded], [pipeline], None).look

    def _counts(self) -> TrialCounts:
        latency = Quantiles()
        for _ in range(LATENCIES_LEAST):
            latency.add(round(self.run_ms * 1e6))
        return TrialCounts(offered=LATENCIES_LEAST, invoked=LATENCIES_LEAST, latency=latency)


@pytest.mark.parametrize("delegate", ["edgetpu", "xnnpack"])
def test_only_the_back_end_that_a_budget_is_meant_for_must_keep_it(delegate: str) -> None:
    world = World()
    assert isinstance(world.look(), Tried)
    world.info.delegate, world.run_ms = delegate, 10 * BUDGET_MS
    for _ in range(2):  # the second in which it changes, and those after
        found = world.look()
        assert isinstance(found, Sick if delegate == "edgetpu" else Tried)
