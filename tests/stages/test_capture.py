"""A camera's thread among failing cameras and failing pipelines."""

from __future__ import annotations

import threading
from itertools import pairwise

import numpy as np
import pytest

from edge_agent import limits
from edge_agent.errors import DeviceError
from edge_agent.stages.capture import CameraWorker
from edge_agent.stages.further_images import FurtherConsumer
from tests.simulators.brittle import GOOD, POISON, UNREADABLE, Bench, ScriptedCamera
from tests.simulators.supervised import Site
from tests.simulators.waiting import wait_for

JOIN_S = 20.0


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "BACKOFF_FIRST_S", 0.002)
    monkeypatch.setattr(limits, "BACKOFF_LAST_S", 0.01)


def play(site: Site, camera: ScriptedCamera, consumers, *benches: Bench) -> CameraWorker:
    """Until the camera's script and all that came of it is over."""
    worker = CameraWorker("front", camera, consumers, site.services)
    for bench in benches:
        bench.pipeline.start()
    worker.start()
    worker.join(JOIN_S)
    assert not worker.is_alive()
    for bench in benches:
        wait_for(bench.ended.is_set, "the pipeline has seen the end of the source")
    site.stopping.set()
    for bench in benches:
        bench.pipeline.close()
        bench.pipeline.join(JOIN_S)
        assert not bench.pipeline.is_alive()
    return worker


def test_a_frame_that_one_pipeline_fails_on_costs_neither_the_others_nor_the_next_frame() -> None:
    site = Site()
    sound = Bench(site, name="sound")
    brittle = Bench(site, name="brittle")
    fail_on = {3, 4, 9}
    accept = brittle.pipeline.gate.accept

    def brittle_accept(frame_ns: int) -> bool:
        if brittle.frames - 1 in fail_on:
            raise ZeroDivisionError("in the rate gate")
        return accept(frame_ns)

    brittle.pipeline.gate.accept = brittle_accept  # type: ignore[method-assign]
    worker = play(site, ScriptedCamera([GOOD] * 20), [brittle.pipeline, sound.pipeline], brittle, sound)
    assert (len(sound.delivered), sound.discards) == (20, {})
    assert (len(brittle.delivered), brittle.discards) == (17, {"internal_error": 3})
    assert [(event.subject, event.detail) for event in site.said("worker_failed")] == [
        ("pipeline brittle", "ZeroDivisionError: in the rate gate; the frame was discarded")
    ]
    assert brittle.pipeline.crashes == 3
    assert worker.crashes == 0
    assert not site.deaths


@pytest.mark.parametrize("newest", [False, True])
def test_pixels_that_can_not_be_made_ready_give_their_slot_back(newest: bool) -> None:
    site = Site()
    bench = Bench(site, newest=newest)
    worker = play(site, ScriptedCamera([POISON] * 30 + [GOOD] * 3), [bench.pipeline], bench)
    assert worker.frames == bench.frames == bench.accounted() == 33
    assert bench.discards["internal_error"] == 30
    assert bench.delivered
    assert len(site.said("worker_failed")) == 1
    assert not site.deaths


def test_a_camera_whose_driver_raises_anything_is_opened_again_and_its_frames_are_accounted_for() -> None:
    site = Site()
    bench = Bench(site)
    script = [GOOD, GOOD, (RuntimeError("driver"),), GOOD, RuntimeError("decoder"), GOOD, UNREADABLE, GOOD]
    camera = ScriptedCamera(script)
    worker = play(site, camera, [bench.pipeline], bench)
    assert (len(bench.delivered), bench.discards) == (5, {"unreadable": 2})
    assert worker.report() == {"state": "ended", "frames": 7, "failures": 2, "reopened": 2}
    assert worker.crashes == 2
    assert (camera.opened, camera.closed) == (3, 3)
    assert [event.kind for event in site.events] == ["worker_failed", "camera_back", "camera_back", "camera_ended"]
    assert not site.deaths


def test_a_lost_camera_is_no_failure_of_the_program() -> None:
    site = Site()
    bench = Bench(site)
    worker = play(site, ScriptedCamera([GOOD, (DeviceError("unplugged"),), GOOD]), [bench.pipeline], bench)
    assert [event.kind for event in site.events] == ["camera_lost", "camera_back", "camera_ended"]
    assert (worker.crashes, worker.failures, worker.reopened) == (0, 1, 1)


def test_frames_of_another_size_are_told_once_for_each_change() -> None:
    site = Site()
    bench = Bench(site)
    wide = np.full((16, 32, 3), 90, np.uint8)
    script = [GOOD, GOOD, wide, wide, (DeviceError("unplugged"),), wide, GOOD]
    play(site, ScriptedCamera(script), [bench.pipeline], bench)
    assert [event.detail for event in site.said("camera_changed")] == [
        "frames are 32x16 now, 16x16 before",
        "frames are 16x16 now, 32x16 before",
    ]


def test_what_the_source_gives_instead_of_a_wish_is_told_once() -> None:
    site = Site()
    camera = ScriptedCamera([GOOD, (DeviceError("unplugged"),), GOOD])
    camera.note = "the driver gives 16x16 instead of 32x16"
    play(site, camera, [Bench(site).pipeline])
    assert [event.detail for event in site.said("camera_changed")] == [camera.note]


def test_a_camera_that_comes_for_a_frame_and_goes_again_is_tried_less_and_less_often(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(limits, "BACKOFF_FIRST_S", 0.001)
    monkeypatch.setattr(limits, "BACKOFF_LAST_S", 1000.0)
    site = Site()
    bench = Bench(site)
    waits: list[float] = []
    monkeypatch.setattr(CameraWorker, "pause", lambda _self, seconds: waits.append(seconds))
    play(site, ScriptedCamera([GOOD, (DeviceError("unplugged"),)] * 8 + [GOOD]), [bench.pipeline], bench)
    assert all(later > 0.9 * earlier for earlier, later in pairwise(waits)), waits
    assert waits[-1] > 16 * waits[0]


def test_one_camera_that_fails_for_ever_does_not_touch_another() -> None:
    site = Site()
    bench = Bench(site)

    def always():
        while True:
            yield (RuntimeError("driver"),)

    failing = CameraWorker("side", ScriptedCamera(always()), [], site.services)
    failing.start()
    wait_for(lambda: failing.crashes > 3, "the other camera fails again and again")
    play(site, ScriptedCamera([GOOD] * 50), [bench.pipeline], bench)
    failing.join(JOIN_S)
    assert not failing.is_alive()
    assert len(bench.delivered) == 50
    assert [event.subject for event in site.said("worker_failed")] == ["camera side"]
    assert not site.deaths


def test_out_of_memory_in_a_pipeline_s_part_of_the_camera_s_thread_ends_the_process() -> None:
    site = Site()
    bench = Bench(site)

    def exhausted(_frame_ns: int) -> bool:
        raise MemoryError

    bench.pipeline.gate.accept = exhausted  # type: ignore[method-assign]
    worker = CameraWorker("front", ScriptedCamera([GOOD]), [bench.pipeline], site.services)
    worker.start()
    worker.join(JOIN_S)
    assert [name for name, _ in site.deaths] == ["camera front"]


def test_a_further_camera_s_bad_picture_leaves_the_one_before_it_and_loses_no_frame() -> None:
    site = Site()
    bench = Bench(site, images={"side": "other"})
    consumer = FurtherConsumer(bench.pipeline.further, "side")
    other = CameraWorker("other", ScriptedCamera([GOOD, POISON, POISON]), [consumer], site.services)
    other.start()
    other.join(JOIN_S)
    worker = play(site, ScriptedCamera([GOOD] * 4), [bench.pipeline], bench)
    assert (len(bench.delivered), bench.discards) == (4, {})
    assert worker.crashes == other.crashes == 0
    assert [(event.subject, event.detail.rpartition("; ")[2]) for event in site.said("worker_failed")] == [
        ("pipeline inspect", "the picture of the further camera was left out")
    ]


@pytest.mark.parametrize("seed", range(6))
def test_frames_are_predictions_and_discards_whatever_fails(seed: int) -> None:
    """Driver, decoder, preprocessing, model and delivery fail at random; two pipelines, one of them lossless."""
    site = Site()
    random = np.random.default_rng(seed)

    def sometimes(error: Exception, share: float):
        draws = np.random.default_rng([seed, round(share * 1000)])
        lock = threading.Lock()

        def act(_: object) -> None:
            with lock:
                if draws.random() < share:
                    raise error

        return act

    benches = [
        Bench(
            site,
            sometimes(RuntimeError("interpreter"), 0.02),
            newest=newest,
            name=f"p{at}",
            deliver=sometimes(KeyError("delivery"), 0.015),
        )
        for at, newest in enumerate((False, True))
    ]
    kinds = [GOOD, POISON, UNREADABLE, RuntimeError("decoder"), (RuntimeError("driver"),), (DeviceError("lost"),)]
    picks = random.choice(len(kinds), 400, p=[0.88, 0.04, 0.03, 0.02, 0.02, 0.01])
    worker = play(site, ScriptedCamera(kinds[at] for at in picks), [bench.pipeline for bench in benches], *benches)
    grabbed = sum(not isinstance(kinds[at], tuple) for at in picks)
    assert not site.deaths
    assert worker.frames == grabbed
    for bench in benches:
        assert bench.frames == bench.accounted() == grabbed
        assert bench.pipeline.crashes > 0
    assert benches[0].discards["internal_error"] == benches[0].pipeline.crashes
