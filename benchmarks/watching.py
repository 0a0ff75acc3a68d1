"""What it costs to watch one frame for drift and data quality, part by part, in microseconds.

    python -m benchmarks.watching [--repeats N] [--json]

Every frame is looked at for being black or frozen, and two a second for drift: on the camera's thread the statistics of
the picture, all else in a worker of its own. Time is that of the processor. ``benchmarks.pipeline`` measures what this
leaves of the whole daemon's rate.
"""

from __future__ import annotations

import time
import tracemalloc
from collections.abc import Callable

import numpy as np

from benchmarks.report import arguments, judge, show
from edge_agent.core.card_schema import Budgets, ClassificationOutput, Feature, FeaturesInput, Golden, ImageInput
from edge_agent.core.data_quality import CameraLook, Quality
from edge_agent.core.drift.bins import FeatureSpec
from edge_agent.core.drift.monitor import Monitor
from edge_agent.core.drift.observe import Observer
from edge_agent.core.drift.state import Settings
from edge_agent.core.model_card import ResolvedCard
from edge_agent.core.picture import PictureStatistics
from edge_agent.core.quality import FrameQuality
from edge_agent.monitoring import Moment, Observation
from edge_agent.records import AlignedReading, TensorSpec

FRAME_US = 10_000.0  # an inference that takes 10 ms
SHARE_MOST = 0.005  # of it, for each frame
FPS, WATCHED = 30, 2  # frames a second, and how many of them are looked at beyond their own quality
SENSORS = 12
FEATURES = 27
SECONDS = 120
SECOND, DAY = 10**9, 86_400 * 10**9


def camera_frames() -> Callable[[], object]:
    quality = FrameQuality()
    frames = np.random.default_rng(0).integers(0, 255, (16, 432, 768, 3), np.uint8)
    place = iter(range(10**9))
    return lambda: quality.check(frames[(at := next(place)) % len(frames)], at)


def picture(size: int, dtype: str) -> Callable[[], object]:
    """The statistics of one tensor after the other."""
    spec = TensorSpec("x", 0, (1, size, size, 3), np.dtype(dtype), 0.0 if dtype == "float32" else 1 / 255, 0)
    statistics = PictureStatistics(spec, ImageInput(tensor="x"))
    tensors = np.random.default_rng(0).integers(0, 128, (16, *spec.shape)).astype(dtype)
    place = iter(range(10**9))
    return lambda: statistics.of(tensors[next(place) % len(tensors)])


class Watched:
    """A model of twelve sensors, a picture and a classification, with an observation of it."""

    def __init__(self, classes: int) -> None:
        features = tuple(Feature(name=f"sensor.{place}") for place in range(SENSORS))
        inputs = [TensorSpec("s", 0, (1, SENSORS), np.dtype("float32"))]
        outputs = [TensorSpec("p", 0, (1, classes), np.dtype("uint8"), 1 / 256, 0)]
        self.card = ResolvedCard(
            name="m",
            version="1",
            image_inputs=(ImageInput(tensor="x"),),
            feature_inputs=(FeaturesInput(tensor="s", features=features),),
            state_inputs=(),
            outputs=(ClassificationOutput(tensor="p"),),
            labels={},
            budgets=Budgets(),
            golden=Golden(),
            notes=(),
        )
        self.observer = Observer(self.card, outputs)
        self.quality = Quality(self.card, inputs, fps=30)
        rng = np.random.default_rng(0)
        self.seen = Observation(
            mono_ns=0,
            features={feature.name: 1.0 for feature in features},
            readings={feature.name: AlignedReading(1.0, "", 0) for feature in features},
            image=(0.0,) * 7,
            outputs={"p": rng.integers(0, 256, (1, classes)).astype(np.uint8)},
            decoded={},
        )

    def row(self) -> None:
        self.observer.row(self.seen)

    def observe(self) -> None:
        self.quality.observe(self.seen)

    def look(self) -> None:
        self.quality.look(Moment(0, 0, True), CameraLook("streaming", 0))


def microseconds(call: Callable[[], object], repeats: int, calls: int) -> float:
    """The least of the repeats, each the mean of several calls: what else the machine does only adds to it."""
    found = []
    for _ in range(repeats):
        started = time.thread_time()
        for _ in range(calls):
            call()
        found.append((time.thread_time() - started) / calls * 1e6)
    return min(found)


class Monitored:
    """A monitor past its commissioning, with every feature of a watched model and a few more of an embedding."""

    def __init__(self, observer: Observer) -> None:
        parts = [FeatureSpec(f"embedding.{part}", "embedding") for part in range(FEATURES - len(observer.names))]
        names = (*observer.names, *parts)
        self._rng = np.random.default_rng(0)
        self._classes = [place for place, spec in enumerate(names) if spec.kind == "class"]
        self._mono_ns = 0
        self.monitor = Monitor(names, Settings(900 * SECOND, 7 * DAY))
        for _ in range(8 * 24):
            self.go_on(360, 10 * SECOND)
        if not self.monitor.view().learning.done:
            raise RuntimeError("the monitor has not learnt its baseline")

    def two_minutes(self) -> None:
        """At two rows a second, asked every second."""
        for _ in range(SECONDS):
            self.go_on(2, SECOND // 2)

    def go_on(self, count: int, every_ns: int) -> None:
        self.monitor.close_block(Moment(self._mono_ns, self._mono_ns, True))
        rows = self._rng.normal(size=(count, FEATURES))
        rows[:, self._classes] = self._rng.integers(0, 10, (count, len(self._classes)))
        times = self._mono_ns + every_ns * np.arange(1, count + 1)
        self._mono_ns = int(times[-1])
        self.monitor.update(rows, times)

    def memory_kb(self) -> float:
        saved = self.monitor.save()
        tracemalloc.start()
        restored = Monitor.restore(saved)
        size, _ = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        del restored
        return size / 1024


def main() -> None:
    options = arguments("Measure what watching a frame costs.", repeats=25).parse_args()
    repeats = options.repeats
    rows: dict[str, tuple[float, float]] = {}

    def measure(name: str, call: Callable[[], object], observations: int = 1) -> float:
        """``observations``: that one call is for."""
        found = microseconds(call, repeats, 200 if observations == 1 else 1) / observations
        rows[name] = (found, found / FRAME_US)
        return found

    each = measure("quality of a frame of 768x432", camera_frames())
    watching = max(
        measure(f"picture {size}x{size} {dtype}", picture(size, dtype))
        for dtype in ("uint8", "int8", "float32")
        for size in (96, 224, 320, 640)
    )
    watched, many = Watched(1000), Watched(10_000)
    measure("row of 1,000 classes", watched.row)
    watching += measure("row of 10,000 classes", many.row)
    watching += measure("quality, an observation", watched.observe)
    watching += measure("quality, a look", watched.look)
    monitored = Monitored(watched.observer)
    watching += measure(f"monitor of {FEATURES} features, a row", monitored.two_minutes, 2 * SECONDS)
    held = monitored.memory_kb()
    share = (each + watching * WATCHED / FPS) / FRAME_US
    goals = [
        judge(f"share of a 10 ms inference, {FPS} frames a second", share, f"<= {SHARE_MOST}", share <= SHARE_MOST),
        judge("memory of a pipeline's monitor, KiB", held, "<= 1024", held <= 1024),
    ]
    show({"goals": goals} if options.json else {}, ("us", "of 10 ms"), rows, options.json)
    if not options.json:
        print("\n".join(goals))


if __name__ == "__main__":
    main()
