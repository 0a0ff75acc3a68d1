"""A pipeline as the worker of drift sees it: a real engine, a real tap, and a clock that a test moves."""

from __future__ import annotations

import json
from typing import Any

import numpy as np

from edge_agent.config.schema import DriftConfig
from edge_agent.config.units import Duration
from edge_agent.core.data_quality import CameraLook
from edge_agent.core.drift.payload import Report, read_report
from edge_agent.core.feedback import Answer, parse_feedback
from edge_agent.core.model_card import resolve
from edge_agent.core.wire import Identity
from edge_agent.io.runtimes import create
from edge_agent.monitoring import Moment, Observation
from edge_agent.records import AlignedReading, Crossing, Event, Latency, ModelFile, ModelIdentity, Prediction
from edge_agent.stages.engine import Engine
from edge_agent.stages.watch import Published, Seen, Site, Watch
from edge_agent.stages.watched import Watched
from tests.simulators.tflite_graph import GraphBuilder

SECOND = 10**9
WALL_NS = 1_790_000_000 * SECOND
BOOTS = [f"0b2a7c52-5b7e-4a5e-9a46-3f1f0a3f9d1{digit}" for digit in range(10)]
CONFIG = DriftConfig(
    report=Duration.parse("5m"),
    block=Duration.parse("1m"),
    commissioning=Duration.parse("20m"),
    feedback=Duration.parse("1h"),
)
LATENCY = Latency(0, 0, 0, 0, 0, 0)


def classifier(version: str) -> Engine:
    """Two classes, "dark" and "bright": the mean of the picture, 8 by 8, decides."""
    graph = GraphBuilder()
    image = graph.tensor("image", (1, 8, 8, 3))
    logits = graph.dense(
        graph.mean(image, "mean"), np.array([[-0.01] * 3, [0.01] * 3]), np.array([3.0, 0.0]), "logits", relu=False
    )
    runtime = create(
        graph.finish({"image": image}, {"scores": graph.softmax(logits, "scores")}), "cpu", threads=1, external={}
    )
    file = ModelFile("light.tflite", b"", version, None, None, {})
    says: dict[str, Any] = {
        "inputs": [{"role": "image", "tensor": "image"}],
        "outputs": [{"task": "classification", "tensor": "scores", "name": "light", "labels": ["dark", "bright"]}],
    }
    card = resolve(file, runtime.inputs, runtime.outputs, says, where="here", read_text=lambda _: "")
    return Engine(ModelIdentity("light", version, version * 64), card, runtime)


class Line:
    """``live``: the model that runs. Times move by ``see`` and ``wait``, half a second a frame; the worker's step comes
    each second, as in the daemon."""

    def __init__(self, live: Engine, config: DriftConfig = CONFIG, *, name: str = "inspect") -> None:
        self.live = live
        self.config = config
        self.name = name
        self.camera = CameraLook("streaming", 0)
        self.mono_ns = 1000 * SECOND
        self.wall_ns = WALL_NS
        self.synced = True
        self.frames = self.seq = self.boots = 0
        self.bodies: list[bytes] = []
        self.events: list[Event] = []
        self.watch = Watch(keep_pixels=False)
        self.watched = self.start()

    @property
    def now(self) -> Moment:
        return Moment(self.mono_ns, self.wall_ns, self.synced)

    @property
    def boot_id(self) -> str:
        return BOOTS[self.boots]

    @property
    def reports(self) -> list[Report]:
        return [read_report(body) for body in self.bodies]

    def start(self, monitor: bytes | None = None, labels: bytes | None = None) -> Watched:
        """A new process, with what an earlier one saved."""
        watched = self.unbegun()
        if monitor is not None:
            watched.take_up_monitor(monitor)
        if labels is not None:
            watched.take_up_labels(labels)
        watched.begin(self.now)
        return watched

    def unbegun(self) -> Watched:
        self.watch = Watch(keep_pixels=False)
        site = Site(self.name, "line1", self.boot_id, self.config, None, True, lambda: self.camera)
        return Watched(site, self.live, self.watch)

    def killed(self, monitor: bytes | None, labels: bytes | None = None) -> None:
        """The process ends as it is; the next one has what was saved."""
        self.boots += 1
        self.seq = 0
        self.watched = self.start(monitor, labels)

    def publish(self, engine: Engine, warmth: float | None = 20.0, level: int = 100, *, looked_at: bool) -> str:
        """One frame through the model. Returns the id of its prediction."""
        tensors = engine.image_slot()
        crossing = engine.prepare(np.full((8, 8, 3), level, np.uint8), tensors)
        features = dict.fromkeys(engine.feature_names, 0.0 if warmth is None else warmth)
        outputs = engine.invoke(tensors, features)
        decoded = engine.decode(outputs, crossing or Crossing(), None)
        readings = {name: AlignedReading(warmth, "degC", 0) for name in engine.feature_names}
        prediction = Prediction(
            self.name, self.frames, self.mono_ns, "arrival", engine.identity, "cpu", LATENCY, decoded, readings
        )
        identity = Identity("line1", self.boot_id, self.seq)
        self.watch.published(Published(identity, prediction, decoded))
        if looked_at:
            image = (float(level),) * 7
            observation = Observation(self.mono_ns, features, readings, image, outputs, decoded)
            self.watch.seen(Seen(engine, observation, prediction, identity, None))
        self.frames += 1
        self.seq += 1
        return identity.id(self.name)

    def see(self, seconds: float, *, warmth: float = 20.0, spread: float = 1.0, level: int = 100) -> None:
        """Two frames a second of the live model, around these values."""
        random = np.random.default_rng(self.frames)
        for _ in range(round(seconds)):
            for _ in range(2):
                self.publish(
                    self.live,
                    warmth + spread * float(random.normal()),
                    level + int(random.integers(-9, 10)),
                    looked_at=True,
                )
                self._move(SECOND // 2)
            self.step()

    def wait(self, seconds: float) -> None:
        """Without a frame."""
        for _ in range(round(seconds)):
            self._move(SECOND)
            self.step()

    def step(self) -> None:
        self.watched.step(self.now)
        self.take()

    def take(self) -> None:
        reports, events = self.watched.take()
        self.bodies += [body for _, body in reports]
        self.events += events

    def save(self) -> tuple[bytes, bytes]:
        return self.watched.saved_monitor(self.now), self.watched.saved_labels(self.now)

    def label(self, name: str, value: object) -> Answer:
        payload = json.dumps({"id": name, "label": value}).encode()
        return self.watched.label(parse_feedback(payload), self.now)

    def said(self, kind: str) -> list[Event]:
        return [event for event in self.events if event.kind == kind]

    def _move(self, time_ns: int) -> None:
        self.mono_ns += time_ns
        self.wall_ns += time_ns
