"""A pipeline's own thread: failures of the model, the slowdown, and the count that adds up."""

from __future__ import annotations

import threading

import pytest

from edge_agent import limits
from edge_agent.core.overload import Load
from edge_agent.errors import ModelError
from edge_agent.records import Frame, Grab
from tests.simulators.brittle import GAP_NS, GOOD, Bench
from tests.simulators.supervised import Site
from tests.simulators.waiting import wait_for

JOIN_S = 20.0


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "BACKOFF_FIRST_S", 0.002)
    monkeypatch.setattr(limits, "BACKOFF_LAST_S", 0.01)


def offer(bench: Bench, count: int, since: int = 0) -> None:
    for seq in range(since, since + count):
        grab = Grab(seq * GAP_NS, seq * GAP_NS, "arrival")
        if bench.pipeline.wants(grab):
            bench.pipeline.offer(Frame("front", seq, grab.mono_ns, grab.arrival_ns, "arrival", GOOD))


def finish(bench: Bench) -> None:
    bench.pipeline.ended()
    wait_for(bench.ended.is_set, "every frame is done")
    bench.pipeline.close()
    bench.pipeline.join(JOIN_S)
    assert not bench.pipeline.is_alive()


def raising(error: BaseException, runs: set[int]):
    def before(run: int) -> None:
        if run in runs:
            raise error

    return before


def test_an_unexpected_error_in_the_model_costs_its_frame_and_no_other() -> None:
    site = Site()
    bench = Bench(site, raising(RuntimeError("interpreter"), {2, 3, 7}))
    bench.pipeline.start()
    offer(bench, 20)
    finish(bench)
    assert [inference.frame_seq for inference in bench.delivered] == [at for at in range(20) if at not in (2, 3, 7)]
    assert bench.discards == {"internal_error": 3}
    assert bench.pipeline.crashes == 3
    assert [event.subject for event in site.said("worker_failed")] == ["pipeline inspect"]
    assert not site.deaths


def test_an_error_of_the_model_itself_is_counted_as_such_and_needs_no_new_start() -> None:
    site = Site()
    bench = Bench(site, raising(ModelError("invoke"), {1, 2}))
    bench.pipeline.start()
    offer(bench, 5)
    finish(bench)
    assert bench.discards == {"invoke_error": 2}
    assert [event.kind for event in site.events] == ["invoke_failed"]
    assert bench.pipeline.crashes == 0


def test_a_delivery_that_fails_is_a_counted_discard() -> None:
    site = Site()

    def refuse(inference) -> None:
        if inference.frame_seq == 1:
            raise OSError("queue")

    bench = Bench(site, deliver=refuse)
    bench.pipeline.start()
    offer(bench, 4)
    finish(bench)
    assert (len(bench.delivered), bench.discards) == (3, {"internal_error": 1})


def test_a_lossless_camera_waits_out_the_failures_of_its_pipeline() -> None:
    """More failures than the ring has slots: a leak would leave the camera waiting for ever."""
    site = Site()
    bench = Bench(site, raising(RuntimeError("interpreter"), set(range(10))))
    bench.pipeline.start()
    feeding = threading.Thread(target=offer, args=(bench, 30), daemon=True)
    feeding.start()
    feeding.join(JOIN_S)
    assert not feeding.is_alive()
    finish(bench)
    assert (len(bench.delivered), bench.discards) == (20, {"internal_error": 10})


def test_frames_that_wait_when_the_process_stops_amid_a_failure_are_counted() -> None:
    site = Site()
    stop = threading.Event()

    def before(run: int) -> None:
        stop.wait(JOIN_S)
        raise RuntimeError("interpreter")

    bench = Bench(site, before)
    bench.pipeline.start()
    offer(bench, 3)
    site.stopping.set()
    stop.set()
    bench.pipeline.join(JOIN_S)
    assert not bench.pipeline.is_alive()
    offer(bench, 1, since=3)
    assert bench.discards == {"internal_error": 1, "shutdown": 3}
    assert bench.frames == bench.accounted() == 4


def test_out_of_memory_ends_the_process_and_lets_go_of_the_camera() -> None:
    site = Site()
    bench = Bench(site, raising(MemoryError(), {0}))
    bench.pipeline.start()
    offer(bench, 10)  # returns: nobody waits for a thread that is gone
    bench.pipeline.join(JOIN_S)
    assert [name for name, _ in site.deaths] == ["pipeline inspect"]
    assert bench.frames == bench.accounted() == 10


def test_a_stateful_model_begins_anew_after_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    site = Site()
    bench = Bench(site, raising(RuntimeError("interpreter"), {1}))
    resets: list[int] = []
    monkeypatch.setattr(bench.pipeline.engine, "reset", lambda: resets.append(bench.runtime.runs))
    bench.pipeline.start()
    offer(bench, 3)
    finish(bench)
    assert resets == [2]


def test_frames_that_only_heat_refuses_are_counted_as_throttled() -> None:
    site = Site()
    bench = Bench(site, newest=True)
    bench.pipeline.gate.set_period(2 * GAP_NS)
    bench.pipeline.slow(4)
    bench.pipeline.start()
    offer(bench, 800)
    finish(bench)
    discards = bench.discards
    assert (discards["rate"], discards["throttled"]) == (400, 300)
    assert bench.frames == bench.accounted() == 800
    assert bench.pipeline.slowdown_most() == 50


def test_the_floor_of_the_configuration_holds_and_the_full_rate_comes_back() -> None:
    site = Site()
    bench = Bench(site, newest=True)
    bench.pipeline.slow(1024)
    bench.pipeline.start()
    offer(bench, 1001)  # ten seconds, one frame a second: the default of rate_floor
    throttled = bench.discards["throttled"]
    assert 1001 - throttled in (10, 11, 12)
    bench.pipeline.slow(1)
    offer(bench, 100, since=1001)
    finish(bench)
    assert bench.discards["throttled"] == throttled
    assert bench.frames == bench.accounted()


def test_a_source_that_loses_no_frame_is_not_slowed() -> None:
    site = Site()
    bench = Bench(site, newest=False)
    bench.pipeline.slow(8)
    bench.pipeline.start()
    offer(bench, 50)
    finish(bench)
    assert (len(bench.delivered), bench.discards) == (50, {})
    assert bench.pipeline.slowdown_most() == 1


def test_the_load_holds_the_configured_rate_and_every_frame_of_the_camera() -> None:
    bench = Bench(Site(), newest=True)
    assert bench.pipeline.load() is None  # "max" promises nothing
    bench.pipeline.gate.set_period(2 * GAP_NS)
    bench.pipeline.slow(2)
    for seq in range(100):
        bench.pipeline.wants(Grab(seq * GAP_NS, seq * GAP_NS, "arrival"))
    bench.pipeline.skipped(7)
    assert bench.pipeline.load() == Load(50.0, 107, 0, 0, 0)
    bench.pipeline.paused = True
    assert bench.pipeline.load() is None


def test_the_load_tells_what_went_through_the_model_from_what_failed() -> None:
    bench = Bench(Site(), raising(ModelError("invoke"), {1}), newest=True)
    bench.pipeline.gate.set_period(1)
    bench.pipeline.start()
    for seq in range(3):
        offer(bench, 1, seq)
        wait_for(lambda count=seq + 1: bench.runtime.runs == count, "the model ran")
    finish(bench)
    load = bench.pipeline.load()
    assert load is not None
    assert (load.frames, load.done, load.runs) == (3, 3, 2)
    assert load.busy_ns > 0


def test_a_source_that_waits_has_no_load_to_tell() -> None:
    bench = Bench(Site(), newest=False)
    bench.pipeline.gate.set_period(GAP_NS)
    assert bench.pipeline.load() is None
