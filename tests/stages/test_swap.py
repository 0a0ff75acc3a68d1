"""Another model takes over between two frames, or shares them: real interpreters, and no frame is lost by it."""

from __future__ import annotations

import threading
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_agent.config.schema import AlignConfig, PipelineConfig
from edge_agent.config.units import Duration
from edge_agent.core.align import Aligner, Wanted
from edge_agent.errors import ModelError
from edge_agent.records import Frame, Grab, Pixels, Reading
from edge_agent.stages.counters import PipelineCounters
from edge_agent.stages.engine import Engine
from edge_agent.stages.further_images import FurtherConsumer
from edge_agent.stages.inference import Inference
from edge_agent.stages.pipeline import Pipeline, Slots
from edge_agent.stages.routes import STRETCH, takes
from edge_agent.stages.watch import Watch
from tests.simulators.brittle import GAP_NS, GOOD
from tests.simulators.supervised import Site
from tests.simulators.tiny_models import tiny_engine, value_of
from tests.simulators.waiting import wait_for

JOIN_S = 20.0
LONG_S = 60.0
HOLD = AlignConfig(method="hold", max_age=Duration(10 * GAP_NS))


class Rig:
    """A pipeline whose inferences are kept. Its thread starts with ``run`` or ``finish``."""

    def __init__(
        self,
        live: Engine,
        *,
        newest: bool = False,
        wanted: Sequence[Wanted] = (),
        images: dict[str, str] | None = None,
        slots: int = 3,
    ) -> None:
        self.site = Site()
        self.delivered: list[Inference] = []
        self.ended = threading.Event()
        config = PipelineConfig(name="inspect", camera="front", model="m", images=images or {}, align=HOLD)
        self.pipeline = Pipeline(
            config,
            live,
            Aligner(wanted, HOLD),
            {},
            Slots(slots, newest),
            PipelineCounters(),
            self._deliver,
            self.site.services,
        )

    def _deliver(self, inference: Inference | None) -> None:
        if inference is None:
            self.ended.set()
        else:
            self.delivered.append(inference)

    def run(self) -> None:
        if not self.pipeline.is_alive():
            self.pipeline.start()

    def offer(self, count: int, since: int = 0) -> None:
        for seq in range(since, since + count):
            at_ns = seq * GAP_NS
            if self.pipeline.wants(Grab(at_ns, at_ns, "arrival")):
                self.pipeline.offer(frame(seq))

    def feed(self, count: int, since: int = 0) -> None:
        """Offer, and wait until all are run."""
        self.run()
        self.offer(count, since)
        frames = self.pipeline.counters.get("frames")
        wait_for(lambda: len(self.delivered) + self.lost == frames, "every frame is accounted for")

    def finish(self) -> None:
        self.run()
        self.pipeline.ended()
        wait_for(self.ended.is_set, "every frame is done")
        self.pipeline.close()
        self.pipeline.join(JOIN_S)
        assert not self.pipeline.is_alive()

    @property
    def lost(self) -> int:
        return sum(self.pipeline.counters.discards().values())

    @property
    def ran(self) -> list[tuple[int, str]]:
        """Number of the frame, version of the model."""
        return [(item.frame_seq, item.route.engine.identity.version) for item in self.delivered]

    @property
    def values(self) -> list[float]:
        return [value_of(item.outputs) for item in self.delivered]


def frame(seq: int, pixels: Pixels = GOOD, camera: str = "front") -> Frame:
    return Frame(camera, seq, seq * GAP_NS, seq * GAP_NS, "arrival", pixels)


def raising(error: Exception):
    def fail(*_: object) -> None:
        raise error

    return fail


# --- the swap --------------------------------------------------------------------------------------------------------


def test_a_frame_is_run_by_the_model_that_its_slot_was_filled_for() -> None:
    rig = Rig(tiny_engine("1", 1.0, side=8))
    rig.offer(1)
    rig.pipeline.route(tiny_engine("2", 2.0, side=12), [], 1.0)
    rig.offer(1, since=1)
    rig.pipeline.settle()
    rig.pipeline.route(tiny_engine("3", 3.0, side=16), [], 1.0)
    rig.offer(1, since=2)
    rig.finish()
    assert rig.ran == [(0, "1"), (1, "2"), (2, "3")]
    assert rig.values == [1.0, 2.0, 3.0]
    assert rig.lost == 0


def test_swaps_under_a_camera_that_never_pauses_lose_no_frame_and_keep_their_order() -> None:
    rig = Rig(tiny_engine("0", 0.0))
    rig.run()
    stop = threading.Event()
    offered = 0

    def shoot() -> None:
        nonlocal offered
        while not stop.is_set():
            rig.offer(1, since=offered)
            offered += 1

    camera = threading.Thread(target=shoot, daemon=True)
    camera.start()
    for number in range(1, 21):
        rig.pipeline.route(tiny_engine(str(number), float(number), side=8 + number % 3), [], 1.0)
        wait_for(lambda at=str(number): rig.ran and rig.ran[-1][1] == at, "the new model runs")
        retired = rig.pipeline.settle()
        assert retired is not None
        assert rig.pipeline.drained(retired, LONG_S)
        retired.runtime.close()
    stop.set()
    camera.join(JOIN_S)
    rig.finish()
    assert [seq for seq, _ in rig.ran] == list(range(offered))
    assert [int(version) for _, version in rig.ran] == sorted(int(version) for _, version in rig.ran)
    assert [float(version) for _, version in rig.ran] == rig.values
    assert (rig.lost, rig.pipeline.crashes) == (0, 0)


def test_a_model_on_trial_that_is_taken_back_leaves_the_live_one_as_it_was() -> None:
    rig = Rig(tiny_engine("1"))
    trial = tiny_engine("2")
    rig.feed(2)
    rig.pipeline.route(trial, [], 1.0)
    rig.feed(2, since=2)
    assert rig.pipeline.engine.identity.version == "1"
    assert rig.pipeline.route_back() is trial
    rig.feed(2, since=4)
    assert [version for _, version in rig.ran] == ["1", "1", "2", "2", "1", "1"]
    assert rig.pipeline.route_back() is None
    assert rig.pipeline.settle() is None
    rig.finish()


def test_a_settled_model_is_the_live_one_and_can_be_followed_by_the_next() -> None:
    first, second, third = (tiny_engine(version) for version in "123")
    rig = Rig(first)
    rig.pipeline.route(second, [], 1.0)
    assert rig.pipeline.settle() is first
    assert rig.pipeline.engine is second
    rig.pipeline.route(third, [], 0.5)
    assert rig.pipeline.settle() is second
    assert rig.pipeline.engine is third
    rig.finish()


def test_there_is_one_trial_at_a_time() -> None:
    rig = Rig(tiny_engine("1"))
    rig.pipeline.route(tiny_engine("2"), [], 1.0)
    with pytest.raises(RuntimeError, match="on trial"):
        rig.pipeline.route(tiny_engine("3"), [], 1.0)
    rig.finish()


def test_an_engine_is_drained_when_its_last_waiting_frame_has_left() -> None:
    first, second = tiny_engine("1"), tiny_engine("2")
    rig = Rig(first)
    rig.offer(2)
    assert not rig.pipeline.drained(first, 0)  # it is the live one
    rig.pipeline.route(second, [], 1.0)
    rig.pipeline.settle()
    rig.offer(1, since=2)
    assert not rig.pipeline.drained(first, 0)  # two of its frames wait
    rig.run()
    assert rig.pipeline.drained(first, LONG_S)
    assert not rig.pipeline.drained(second, 0)
    rig.finish()


def test_frames_of_a_retired_model_that_newer_ones_supersede_are_no_longer_on_their_way() -> None:
    first = tiny_engine("1")
    rig = Rig(first, newest=True)
    rig.offer(3)
    rig.pipeline.route(tiny_engine("2", side=12), [], 1.0)
    rig.pipeline.settle()
    rig.offer(3, since=3)
    assert rig.pipeline.drained(first, 0)
    rig.finish()
    assert rig.ran == [(5, "2")]
    assert rig.pipeline.counters.discards() == {"superseded": 5}


def test_a_process_that_stops_during_a_trial_has_counted_every_frame() -> None:
    rig = Rig(tiny_engine("1"))
    rig.offer(1)
    rig.pipeline.route(tiny_engine("2", side=12), [], 0.5)
    rig.offer(2, since=1)
    rig.pipeline.close()
    rig.offer(1, since=3)
    rig.run()
    rig.pipeline.join(JOIN_S)
    assert rig.pipeline.counters.get("frames") == 4
    assert rig.pipeline.counters.discards() == {"shutdown": 4}


# --- a share ---------------------------------------------------------------------------------------------------------


def test_a_share_of_the_frames_goes_to_the_model_on_trial_and_the_others_to_the_live_one() -> None:
    rig = Rig(tiny_engine("1"))
    rig.pipeline.route(tiny_engine("2", side=12), [], 0.3)
    rig.feed(200)
    assert rig.ran == [(seq, "2" if takes(seq, 0.3) else "1") for seq in range(200)]
    assert {version for _, version in rig.ran} == {"1", "2"}
    rig.pipeline.settle()
    rig.feed(20, since=200)
    assert {version for _, version in rig.ran[200:]} == {"2"}
    rig.finish()
    assert rig.lost == 0


@pytest.mark.parametrize("share", [0.01, 0.1, 0.2, 0.5, 0.9])
def test_the_share_is_met(share: float) -> None:
    count = sum(takes(number, share) for number in range(20_000))
    assert count / 20_000 == pytest.approx(share, abs=0.011)


@given(st.integers(0, 10**12), st.floats(0.001, 1), st.floats(0.001, 1))
def test_a_larger_share_takes_what_the_smaller_one_took(number: int, share: float, other: float) -> None:
    smaller, larger = sorted((share, other))
    assert takes(number, larger) or not takes(number, smaller)
    assert takes(number, 1.0)


# --- what belongs to a model -----------------------------------------------------------------------------------------


def test_a_model_with_a_state_begins_anew_where_another_had_the_frames_before() -> None:
    rig = Rig(tiny_engine("1", stateful=True))
    rig.feed(3)
    rig.pipeline.route(tiny_engine("2", stateful=True), [], 1.0)
    rig.feed(2, since=3)
    rig.pipeline.route_back()
    rig.feed(2, since=5)
    assert rig.values == [1, 2, 3, 1, 2, 1, 2]
    rig.finish()


def test_models_with_a_state_share_the_frames_in_long_stretches() -> None:
    rig = Rig(tiny_engine("1", stateful=True))
    rig.pipeline.route(tiny_engine("2"), [], 0.5)
    rig.feed(4 * STRETCH)
    wanted = [(seq, "2" if takes(seq // STRETCH, 0.5) else "1") for seq in range(4 * STRETCH)]
    assert rig.ran == wanted
    assert {version for _, version in wanted} == {"1", "2"}
    rig.finish()


def test_readings_that_came_before_the_swap_are_there_for_the_new_model_in_its_own_scale() -> None:
    first = Wanted("heat", "oven.heat", "degC", feature=True, fill=0.0)
    fahrenheit = Wanted("heat", "oven.heat", "degC", feature=True, fill=50.0, to_card=(1.8, 32.0))
    rig = Rig(tiny_engine("1", features={"heat": {}}), wanted=[first])
    rig.pipeline.add_reading(Reading("oven.heat", 0, 100.0, "degC"), 0)
    rig.feed(2)
    rig.pipeline.route(tiny_engine("2", features={"heat": {"mean": 12.0}}), [fahrenheit], 1.0)
    rig.feed(2, since=2)
    rig.pipeline.route_back()
    rig.feed(1, since=4)
    assert rig.values == [100, 100, 200, 200, 100]
    assert [item.sample.quality for item in rig.delivered] == [()] * 5
    rig.finish()


def test_a_feature_that_could_never_be_filled_is_refused_and_nothing_changes() -> None:
    rig = Rig(tiny_engine("1"))
    with pytest.raises(ValueError, match="heat"):
        rig.pipeline.route(
            tiny_engine("2", features={"heat": {}}), [Wanted("heat", "oven.heat", "degC", feature=True)], 1.0
        )
    rig.feed(1)
    assert rig.ran == [(0, "1")]
    rig.finish()


def test_a_model_gets_no_frame_before_each_further_camera_has_delivered_a_picture_to_it() -> None:
    names = ("image", "side")
    rig = Rig(tiny_engine("1", images=names), images={"side": "other"})
    side = FurtherConsumer(rig.pipeline.further, "side")
    side.offer(frame(0, camera="other"))
    rig.feed(1)
    rig.pipeline.route(tiny_engine("2", images=names, side=12), [], 1.0)
    rig.feed(1, since=1)
    side.offer(frame(1, camera="other"))
    rig.feed(1, since=2)
    rig.pipeline.route_back()
    rig.feed(1, since=3)
    assert rig.ran == [(0, "1"), (1, "1"), (2, "2"), (3, "1")]
    rig.finish()
    assert rig.lost == 0


def test_the_picture_that_is_watched_is_the_models_first_whichever_camera_it_is_from() -> None:
    rig = Rig(tiny_engine("1", images=("image", "side")), images={"image": "other"})
    rig.pipeline.watch = Watch(keep_pixels=False)
    bright = np.full((8, 8, 3), 200, np.uint8)
    FurtherConsumer(rig.pipeline.further, "image").offer(frame(0, bright, camera="other"))
    rig.feed(1)
    rig.finish()
    look = rig.delivered[0].look
    assert look is not None
    assert look.picture is not None
    assert look.picture[0] == pytest.approx(200, abs=1)


# --- failures of the model on trial ----------------------------------------------------------------------------------


def test_a_frame_that_the_model_on_trial_can_not_prepare_goes_to_the_live_one(monkeypatch: pytest.MonkeyPatch) -> None:
    trial = tiny_engine("2", side=12)
    monkeypatch.setattr(trial, "prepare", raising(RuntimeError("resize")))
    rig = Rig(tiny_engine("1"))
    rig.pipeline.route(trial, [], 1.0)
    rig.feed(3)
    counts = rig.pipeline.trial_counts()
    assert rig.ran == [(0, "1"), (1, "1"), (2, "1")]
    assert counts is not None
    assert (counts.offered, counts.invoked, counts.invoke_errors) == (1, 0, 1)
    assert counts.error == "RuntimeError: resize"
    assert rig.lost == rig.pipeline.crashes == 0
    rig.pipeline.route_back()
    assert rig.pipeline.drained(trial, 0)
    rig.finish()


def test_a_picture_that_the_model_on_trial_can_not_prepare_still_reaches_the_live_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    names = ("image", "side")
    trial = tiny_engine("2", images=names)
    monkeypatch.setattr(trial, "prepare", raising(RuntimeError("resize")))
    rig = Rig(tiny_engine("1", images=names), images={"side": "other"})
    rig.pipeline.route(trial, [], 1.0)
    FurtherConsumer(rig.pipeline.further, "side").offer(frame(0, camera="other"))
    rig.feed(2)
    counts = rig.pipeline.trial_counts()
    assert [version for _, version in rig.ran] == ["1", "1"]
    assert counts is not None
    assert counts.invoke_errors == 1
    assert not rig.site.events
    rig.finish()


def test_runs_that_fail_are_counted_for_the_model_on_trial_which_gets_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    trial = tiny_engine("2")
    rig = Rig(tiny_engine("1"))
    rig.pipeline.route(trial, [], 0.5)
    monkeypatch.setattr(trial.runtime, "invoke", raising(ModelError("node 3")))
    rig.feed(100)
    counts = rig.pipeline.trial_counts()
    share = [seq for seq in range(100) if takes(seq, 0.5)]
    assert counts is not None
    assert 1 <= counts.offered == counts.invoke_errors < len(share)  # those that were under way already
    assert counts.error == "ModelError: node 3"
    assert rig.pipeline.counters.discards() == {"invoke_error": counts.offered}
    assert rig.ran == [(seq, "1") for seq in range(100) if seq not in share[: counts.offered]]
    rig.finish()


def test_an_unexpected_error_in_the_model_on_trial_is_counted_too(monkeypatch: pytest.MonkeyPatch) -> None:
    trial = tiny_engine("2")
    rig = Rig(tiny_engine("1"))
    rig.pipeline.route(trial, [], 1.0)
    monkeypatch.setattr(trial.runtime, "invoke", raising(IndexError("tensor")))
    rig.feed(1)
    counts = rig.pipeline.trial_counts()
    assert counts is not None
    assert (counts.invoke_errors, counts.error) == (1, "IndexError: tensor")
    rig.pipeline.route_back()
    rig.feed(1, since=1)
    assert rig.ran == [(1, "1")]
    rig.finish()


def test_counts_of_a_trial_are_those_since_the_last_look_and_lost_frames_are_the_whole_pipeline_s() -> None:
    rig = Rig(tiny_engine("1"), newest=True)
    assert rig.pipeline.trial_counts() is None
    rig.offer(5)  # four are superseded while nothing runs
    rig.feed(1, since=5)
    rig.pipeline.paused = True
    rig.offer(4, since=6)
    rig.pipeline.paused = False
    lost_before = rig.pipeline.counters.discards()["superseded"]
    assert rig.pipeline.lost_share() == lost_before / 6
    rig.pipeline.route(tiny_engine("2"), [], 1.0)
    for seq in range(10, 13):
        rig.feed(1, since=seq)
    counts = rig.pipeline.trial_counts()
    assert counts is not None
    assert (counts.offered, counts.invoked, counts.latency.count) == (3, 3, 3)
    assert (counts.frames, counts.lost, counts.invoke_errors, counts.error) == (3, 0, 0, "")
    again = rig.pipeline.trial_counts()
    assert again is not None
    assert (again.offered, again.invoked, again.frames) == (0, 0, 0)
    rig.finish()


# --- the shadow's tap ------------------------------------------------------------------------------------------------


def test_a_tap_sees_each_run_of_the_live_model_and_none_of_the_one_on_trial() -> None:
    rig = Rig(tiny_engine("1", 1.0, features={"heat": {}}), wanted=[Wanted("heat", "o.h", "", feature=True, fill=4.0)])
    seen: list[tuple[list[str], dict[str, float], float]] = []
    rig.pipeline.tap = lambda tensors, features, outputs: seen.append(
        (list(tensors), dict(features), value_of(outputs))
    )
    rig.pipeline.route(tiny_engine("2"), [], 0.5)
    rig.feed(20)
    assert seen == [(["image"], {"heat": 4.0}, 5.0)] * sum(not takes(seq, 0.5) for seq in range(20))
    rig.finish()


def test_a_tap_that_fails_is_removed_and_costs_no_frame() -> None:
    rig = Rig(tiny_engine("1"))
    rig.pipeline.tap = raising(OSError("pipe"))
    rig.feed(3)
    assert rig.ran == [(0, "1"), (1, "1"), (2, "1")]
    assert rig.pipeline.tap is None
    assert rig.lost == 0
    assert [event.kind for event in rig.site.events] == ["worker_failed"]
    rig.finish()


def test_buffers_are_used_again_whichever_model_a_frame_goes_to() -> None:
    rig = Rig(tiny_engine("1"), slots=2)
    seen: set[int] = set()
    rig.pipeline.tap = lambda tensors, _features, _outputs: seen.add(id(tensors["image"]))
    rig.pipeline.route(tiny_engine("2", side=12), [], 0.5)
    rig.feed(50)
    assert 1 <= len(seen) <= 2
    rig.finish()


def test_pixels_reach_the_model_on_trial_in_its_own_size() -> None:
    rig = Rig(tiny_engine("1", side=8))
    rig.pipeline.tap = lambda tensors, _features, _outputs: shapes.append(tensors["image"].shape)
    shapes: list[tuple[int, ...]] = []
    rig.feed(1)
    rig.pipeline.route(tiny_engine("2", side=20), [], 1.0)
    rig.pipeline.settle()
    rig.feed(1, since=1)
    assert shapes == [(1, 8, 8, 3), (1, 20, 20, 3)]
    assert np.all(GOOD == 90)  # the camera's own memory is nobody's to write to
    rig.finish()
