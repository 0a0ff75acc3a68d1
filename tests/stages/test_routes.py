"""Frames and changes of the model in any order: each frame stays with its model, and a model is free when they left."""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from edge_agent.config.schema import AlignConfig
from edge_agent.core.align import Aligner
from edge_agent.records import Frame
from edge_agent.stages.engine import Engine
from edge_agent.stages.ring import Slot
from edge_agent.stages.route import Route
from edge_agent.stages.routes import Routes, takes
from edge_agent.stages.tally import Taken
from tests.simulators.brittle import GOOD
from tests.simulators.tiny_models import tiny_engine

ENGINES = [tiny_engine(str(side), side=side) for side in range(4, 10)]
SLOTS = 4


class FramesAndModels(RuleBasedStateMachine):
    @initialize()
    def start(self) -> None:
        self.engines = list(ENGINES)
        self.live = self.engines.pop()
        self.trial: Engine | None = None
        self.share = 0.0
        self.retired: list[Engine] = []
        self.routes = Routes(self._route(self.live))
        self.idle = [Slot({}) for _ in range(SLOTS)]
        self.busy: list[tuple[Slot, Engine]] = []
        self.frames = 0

    def _route(self, engine: Engine) -> Route:
        return Route(engine, Aligner([], AlignConfig()).own, ())

    @precondition(lambda self: self.idle)
    @rule()
    def fill(self) -> None:
        slot = self.idle.pop()
        seq, self.frames = self.frames, self.frames + 1
        self.routes.fill(slot, Frame("front", seq, 0, 0, "arrival", GOOD))
        self.busy.append((slot, self._expected(seq)))

    @precondition(lambda self: self.busy)
    @rule(at=st.integers(0, SLOTS - 1))
    def supersede(self, at: int) -> None:
        slot, _ = self.busy.pop(at % len(self.busy))
        seq, self.frames = self.frames, self.frames + 1
        self.routes.fill(slot, Frame("front", seq, 0, 0, "arrival", GOOD))
        self.busy.append((slot, self._expected(seq)))

    @precondition(lambda self: self.busy)
    @rule(at=st.integers(0, SLOTS - 1))
    def leave(self, at: int) -> None:
        slot, _ = self.busy.pop(at % len(self.busy))
        self.routes.leave(slot)
        self.idle.append(slot)

    @precondition(lambda self: self.trial is None and self.engines)
    @rule(share=st.sampled_from([0.3, 1.0]))
    def begin(self, share: float) -> None:
        self.trial, self.share = self.engines.pop(), share
        self.routes.begin(self._route(self.trial), share, Taken())

    @rule()
    def settle(self) -> None:
        retired = self.routes.settle()
        assert retired is (self.live if self.trial else None)
        if self.trial:
            self.retired.append(self.live)
            self.live, self.trial = self.trial, None

    @rule()
    def back(self) -> None:
        retired = self.routes.back()
        assert retired is self.trial
        if self.trial:
            self.retired.append(self.trial)
            self.trial = None

    @invariant()
    def each_frame_has_the_buffers_of_its_own_model(self) -> None:
        for slot, engine in getattr(self, "busy", []):
            assert slot.route is not None
            assert slot.route.engine is engine
            assert slot.tensors["image"].shape == engine.images["image"].slot().shape
        buffers = [id(slot.tensors["image"]) for slot, _ in getattr(self, "busy", [])]
        assert len(set(buffers)) == len(buffers)

    @invariant()
    def a_retired_model_is_free_when_its_last_frame_has_left(self) -> None:
        for engine in getattr(self, "retired", []):
            in_use = any(used is engine for _, used in self.busy)
            assert self.routes.drained(engine, 0) is not in_use

    @invariant()
    def exactly_one_model_leads(self) -> None:
        if hasattr(self, "routes"):
            assert sum(route.leading for route in self.routes.open()) == 1
            assert any(route.taking for route in self.routes.open())

    def _expected(self, seq: int) -> Engine:
        return self.trial if self.trial and takes(seq, self.share) else self.live


TestFramesAndModels = FramesAndModels.TestCase
TestFramesAndModels.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
