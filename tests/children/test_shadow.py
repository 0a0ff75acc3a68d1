"""A candidate in shadow, in a real child, beside samples of a live model."""

from __future__ import annotations

import json
import os
import resource
import signal
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from converters.tflite.archive import with_members
from edge_agent.assembly import load_model
from edge_agent.children.requirements import Requirements, requirements_of
from edge_agent.children.shadow import ShadowChild, live_of
from edge_agent.core.rollout_steps import Failed, Shadowed
from edge_agent.errors import UpdateError
from edge_agent.io.clock import SystemClock
from edge_agent.loading import load_configuration, model_request
from edge_agent.rollouts import Reason, Release
from edge_agent.stages.engine import Engine
from tests.simulators.pushed import EXAMPLE, MODEL, pushed
from tests.simulators.tflite_graph import GraphBuilder
from tests.simulators.waiting import wait_for

Start = Callable[..., "Observed"]


@pytest.fixture(scope="module")
def live() -> Engine:
    return load_model(model_request(load_configuration(EXAMPLE / "agent.toml"), "conveyor", remember=False)).engine


@pytest.fixture(scope="module")
def requirements() -> Requirements:
    return Requirements(place=requirements_of(load_configuration(EXAMPLE / "agent.toml"), release()).place)


def release() -> Release:
    return Release(name="conveyor", version="2", target="", length=0, sha256="", seq=2)


def tiny(floor: float) -> bytes:
    """Classifies by the mean logarithm of (pixel / 255 + floor): not finite for a black pixel where floor is 0."""
    graph = GraphBuilder()
    image = graph.tensor("image", (1, 8, 8, 3))
    raised = graph.subtract(image, np.full((1, 1, 1, 3), -floor, np.float32), "raised")
    log = graph.op("LOG", [raised], (1, 8, 8, 3), "log")
    content = graph.finish({"image": image}, {"fault": graph.mean(log, "mean")})
    card = {
        "schema": "edge-agent/card/1",
        "inputs": [{"role": "image", "tensor": "image", "resize": "nearest"}],
        "outputs": [{"task": "classification", "tensor": "fault", "name": "fault"}],
    }
    return with_members(content, {"edge-agent/card.json": json.dumps(card).encode()})


class SteppedClock(SystemClock):
    """Moved by hand."""

    now_ns = 0

    def monotonic_ns(self) -> int:
        return self.now_ns


class Observed:
    """A shadow and what it reported; a thread that offers samples until it is closed."""

    def __init__(self, path: Path, live: Engine, requirements: Requirements, features: dict[str, float]) -> None:
        self.reports: list[Shadowed | Failed] = []
        self.shadow = ShadowChild(path, requirements, live_of(live), self.reports.append, SystemClock(), duty=1.0)
        self._live, self._features = live, features
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._offer)
        self._thread.start()

    def _offer(self) -> None:
        chance = np.random.default_rng(3)
        tensors = self._live.image_slot()
        while not self._ending.wait(0.002):
            for tensor in tensors.values():
                tensor[...] = chance.integers(-128, 128, tensor.shape)
            outputs = self._live.invoke(tensors, self._features)
            self.shadow.offer(tensors, self._features, outputs)

    def last(self) -> Shadowed | Failed | None:
        return self.reports[-1] if self.reports else None

    def failure(self) -> Failed:
        found = wait_for(lambda: self.last() if isinstance(self.last(), Failed) else None, "it fails")
        assert isinstance(found, Failed)
        return found

    def child(self) -> int:
        return self.shadow.pid

    def close(self) -> None:
        self._ending.set()
        self._thread.join()
        self.shadow.stop()


@pytest.fixture
def observe(tmp_path: Path, live: Engine, requirements: Requirements) -> Iterator[Start]:
    started: list[Observed] = []

    def start(content: bytes) -> Observed:
        path = tmp_path / "model.tflite"
        path.write_bytes(content)
        features = {feature.name: feature.mean for item in live.card.feature_inputs for feature in item.features}
        started.append(Observed(path, live, requirements, features))
        return started[-1]

    yield start
    for observed in started:
        observed.close()


def test_the_same_model_agrees_with_itself_on_every_sample(observe: Start) -> None:
    observed = observe(MODEL.read_bytes())
    found = wait_for(observed.last, "a report")
    assert isinstance(found, Shadowed)
    assert found.samples > 0
    assert found.agreement == 1.0
    assert found.p95_ms > 0
    assert 0 < found.memory_mb < 1000


def test_a_model_with_other_labels_disagrees(observe: Start) -> None:
    def relabel(card) -> None:
        card["outputs"][0]["labels"] = ["v", "w", "x", "y", "z"]

    found = wait_for(observe(pushed(relabel)).last, "a report")
    assert isinstance(found, Shadowed)
    assert found.agreement == 0.0


def test_it_runs_only_when_nothing_else_wants_the_processor(observe: Start) -> None:
    observed = observe(MODEL.read_bytes())
    wait_for(observed.last, "a report")
    for task in Path(f"/proc/{observed.child()}/task").iterdir():
        assert os.sched_getscheduler(int(task.name)) == os.SCHED_IDLE
    assert Path(f"/proc/{observed.child()}/oom_score_adj").read_text().strip() == "1000"


def test_the_death_of_the_child_is_reported_once_and_the_pipeline_goes_on(observe: Start) -> None:
    observed = observe(MODEL.read_bytes())
    wait_for(observed.last, "a report")
    os.kill(observed.child(), signal.SIGSEGV)
    failure = observed.failure()
    assert (failure.reason, failure.final) == (Reason.CRASHED, True)
    assert "SIGSEGV" in failure.detail
    observed.close()
    assert [report for report in observed.reports if isinstance(report, Failed)] == [failure]


def test_a_model_that_does_not_load_fails_with_its_reason(observe: Start) -> None:
    failure = observe(b"<html>").failure()
    assert (failure.reason, failure.final) == (Reason.NOT_A_MODEL, True)


def test_a_model_that_takes_a_smaller_picture_sees_the_same_one(observe: Start) -> None:
    found = wait_for(observe(tiny(0.5)).last, "a report")
    assert isinstance(found, Shadowed)
    assert found.samples > 0


def test_a_model_whose_outputs_are_not_finite_fails(observe: Start) -> None:
    failure = observe(tiny(0.0)).failure()
    assert (failure.reason, failure.final) == (Reason.OUTPUT, True)


@pytest.mark.parametrize(("first_s", "then_s", "most"), [(0.1, 0.1, 20), (0.1, 2.0, 15), (2.0, 2.0, 20)])
def test_once_the_live_rate_falls_below_its_floor_it_all_but_rests(
    tmp_path: Path, live: Engine, requirements: Requirements, first_s: float, then_s: float, most: int
) -> None:
    """5 samples, one each ``first_s`` of the pipeline's clock, then 15 each ``then_s``; the floor is one a second, or
    the rate that there was before."""
    path, reports, clock = tmp_path / "model.tflite", [], SteppedClock()
    path.write_bytes(MODEL.read_bytes())
    shadow = ShadowChild(path, requirements, live_of(live, floor_hz=1.0), reports.append, clock)
    tensors, features = live.image_slot(), dict.fromkeys(live.feature_names, 0.0)
    outputs = live.invoke(tensors, features)
    for step_s in [first_s] * 5 + [then_s] * 15 + [20.0]:  # the last one is taken and reported in any case
        wait_for(lambda: shadow.waiting, "the child waits")
        clock.now_ns += round(step_s * 1e9)
        shadow.offer(tensors, features, outputs)
    wait_for(lambda: shadow.waiting, "the child waits")
    found = wait_for(lambda: reports and reports[-1], "a report")
    shadow.stop()
    assert 5 < found.samples <= most + 1
    assert found.samples == most + 1 or then_s > first_s


def test_after_the_stop_nothing_is_reported_and_no_process_is_left(observe: Start) -> None:
    observed = observe(MODEL.read_bytes())
    wait_for(observed.last, "a report")
    pid = observed.child()
    observed.close()
    reports = list(observed.reports)
    observed.shadow.stop()
    observed.shadow.offer({}, {}, {})
    assert not Path(f"/proc/{pid}").exists()
    assert observed.reports == reports
    assert not any(isinstance(report, Failed) for report in reports)


def test_where_no_descriptor_is_left_on_the_way_the_world_is_at_fault_and_nothing_stays(
    tmp_path: Path, live: Engine, requirements: Requirements
) -> None:
    path = tmp_path / "model.tflite"
    path.write_bytes(MODEL.read_bytes())
    limits, before, failures = resource.getrlimit(resource.RLIMIT_NOFILE), descriptors(), 0
    for more in range(30):
        free = [number for number in range(len(before) + more + 1) if number not in before][: more + 1]
        resource.setrlimit(resource.RLIMIT_NOFILE, (free[-1], limits[1]))
        try:
            shadow = ShadowChild(path, requirements, live_of(live), lambda _: None, SystemClock())
        except UpdateError as error:
            failures += 1
            assert (error.reason, error.final) == (Reason.CRASHED, False)
        else:
            shadow.stop()
            break
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, limits)
        assert descriptors() == before
        assert not Path("/proc/thread-self/children").read_text()
    assert failures > 3
    assert descriptors() == before


def descriptors() -> set[int]:
    return {number for number in range(1024) if Path(f"/proc/self/fd/{number}").exists()}
