"""What is published while two models share the frames, and when one takes over from another."""

from __future__ import annotations

import json
from typing import Any

import numpy as np

from edge_agent.config.schema import PipelineConfig, PublishConfig, SmoothingConfig
from edge_agent.config.units import Duration
from edge_agent.core.align import Aligner
from edge_agent.core.wire import Topics
from edge_agent.outgoing import Kind, Record
from edge_agent.records import Crossing, Sample
from edge_agent.stages.counters import PipelineCounters
from edge_agent.stages.engine import Engine
from edge_agent.stages.inference import Inference
from edge_agent.stages.results import ResultStage
from edge_agent.stages.route import Route
from edge_agent.stages.routes import Routes
from edge_agent.stages.tally import Taken
from tests.simulators.supervised import Site
from tests.simulators.tiny_models import tiny_engine

SECOND = 10**9


class Desk:
    """A result stage after a live model, and one that may be tried."""

    def __init__(self, publish: PublishConfig | None = None, window: int = 1) -> None:
        self.live, self.trial = _route(tiny_engine("1")), _route(tiny_engine("2"))
        self.routes = Routes(self.live)
        self.counters = PipelineCounters()
        self.site = Site()
        config = PipelineConfig(
            name="inspect",
            camera="front",
            model="m",
            publish=publish or PublishConfig(),
            smoothing=SmoothingConfig(window=window),
        )
        self.stage = ResultStage(config, self.counters, Topics("edge-agent", "d"), "boot", 60, self.site.services)
        self._frames = 0

    def try_out(self, share: float) -> None:
        self.routes.begin(self.trial, share, Taken())

    def see(self, route: Route, value: float) -> list[tuple[str, str, float]]:
        """Feed one result; what is published: kind, version of the model (a state has none), value."""
        seq, self._frames = self._frames, self._frames + 1
        inference = Inference(
            route=route,
            frame_seq=seq,
            mono_ns=seq * SECOND,
            arrival_ns=self.site.services.clock.monotonic_ns(),
            time_source="arrival",
            sample=Sample({}, {}),
            outputs={"total": np.full((1, 1), value, np.float32)},
            delegate="xnnpack",
            crossing=Crossing(),
            quality=(),
            capture_ns=0,
            align_ns=0,
            preprocess_ns=0,
            invoke_ns=0,
        )
        return [said(record) for record in self.stage.finish(inference)]


def _route(engine: Engine) -> Route:
    return Route(engine, Aligner([], PipelineConfig(name="p", camera="c", model="m").align).own, ())


def body(record: Record) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(b"{" + record.body.lstrip(b"{"))
    return found


def said(record: Record) -> tuple[str, str, float]:
    content = body(record)
    kind = "prediction" if record.kind is Kind.PREDICTION else "state"
    return kind, content.get("model", {}).get("version", ""), content["outputs"]["value"]["value"]


def predictions(said: list[tuple[str, str, float]]) -> list[tuple[str, float]]:
    return [(version, value) for kind, version, value in said if kind == "prediction"]


def test_each_prediction_names_the_model_that_made_it() -> None:
    desk = Desk()
    desk.try_out(0.5)
    assert predictions(desk.see(desk.live, 1)) == [("1", 1)]
    assert predictions(desk.see(desk.trial, 2)) == [("2", 2)]
    assert predictions(desk.see(desk.live, 3)) == [("1", 3)]


def test_where_two_models_share_the_frames_the_retained_state_stays_the_live_one_s() -> None:
    desk = Desk()
    assert ("state", "", 1) in desk.see(desk.live, 1)
    desk.try_out(0.5)
    assert desk.see(desk.trial, 2) == [("prediction", "2", 2)]
    assert desk.see(desk.live, 1) == [("prediction", "1", 1)]
    desk.routes.settle()
    assert ("state", "", 2) in desk.see(desk.trial, 2)


def test_the_state_follows_a_model_on_trial_that_has_all_the_frames() -> None:
    desk = Desk()
    desk.see(desk.live, 1)
    desk.try_out(1.0)
    assert ("state", "", 2) in desk.see(desk.trial, 2)
    desk.routes.back()
    assert ("state", "", 1) in desk.see(desk.live, 1)


def test_smoothing_is_each_model_s_own_and_begins_anew_with_a_model_that_takes_over() -> None:
    desk = Desk(window=3)
    desk.see(desk.live, 10)
    desk.try_out(0.5)
    assert predictions(desk.see(desk.trial, 100)) == [("2", 100)]
    assert predictions(desk.see(desk.live, 20)) == [("1", 15)]
    assert predictions(desk.see(desk.trial, 200)) == [("2", 150)]
    desk.routes.settle()
    assert predictions(desk.see(desk.trial, 300)) == [("2", 200)]


def test_a_model_that_comes_back_begins_its_smoothing_anew() -> None:
    desk = Desk(window=3)
    desk.see(desk.live, 10)
    desk.try_out(1.0)
    desk.see(desk.trial, 100)
    desk.routes.back()
    assert predictions(desk.see(desk.live, 40)) == [("1", 40)]


def test_an_aggregate_is_of_one_model_and_the_one_that_is_left_open_is_published_at_the_swap() -> None:
    desk = Desk(PublishConfig(mode="interval", interval=Duration(100 * SECOND)))
    assert desk.see(desk.live, 1) == desk.see(desk.live, 3) == []
    desk.try_out(1.0)
    assert predictions(desk.see(desk.trial, 50)) == [("1", 3)]
    assert desk.see(desk.trial, 60) == []
    last, _state = desk.stage.flush()
    assert said(last) == ("prediction", "2", 60)
    assert body(last)["outputs"]["value"]["aggregate"] == {
        "count": 2,
        "seconds": 1.0,
        "min": 50.0,
        "max": 60.0,
        "mean": 55.0,
    }
    assert desk.counters.discards() == {"aggregated": 2}
    assert desk.counters.get("published") == 2


def test_where_two_models_share_the_frames_each_has_its_own_interval() -> None:
    desk = Desk(PublishConfig(mode="interval", interval=Duration(4 * SECOND)))
    desk.try_out(0.5)
    published = [predictions(desk.see(desk.trial if at % 2 else desk.live, at)) for at in range(8)]
    assert published == [[], [], [], [], [("1", 4)], [("2", 5)], [], []]


def test_a_difference_between_two_models_that_share_the_frames_is_no_change() -> None:
    desk = Desk(PublishConfig(mode="change", deadband=0.5))
    desk.try_out(0.5)
    published = [desk.see(desk.trial if at % 2 else desk.live, at % 2) for at in range(6)]
    assert [len(records) for records in published] == [2, 1, 0, 0, 0, 0]


def test_settings_reach_the_model_on_trial_too() -> None:
    desk = Desk(PublishConfig(mode="change"))
    desk.try_out(0.5)
    desk.see(desk.live, 1)
    desk.see(desk.trial, 1)
    desk.stage.set_publish(PublishConfig())
    assert predictions(desk.see(desk.live, 1)) == [("1", 1)]
    assert predictions(desk.see(desk.trial, 1)) == [("2", 1)]


def test_outputs_that_can_not_be_read_are_counted_for_their_model() -> None:
    desk = Desk()
    desk.try_out(0.5)
    assert desk.see(desk.trial, float("nan")) == []
    assert predictions(desk.see(desk.live, 1)) == [("1", 1)]
    counts = desk.routes.counts(Taken())
    assert counts is not None
    assert counts.bad_outputs == 1
    assert "finite" in counts.error
    assert desk.counters.discards() == {"decode_error": 1}
