"""The middle of the first journey: frame -> ready tensors -> sample -> outputs of the model.

The camera's thread fills a slot of the ring (``offer``); this pipeline's own thread aligns, copies the slot into the
interpreter and invokes. Every frame leaves as one inference or as one counted discard, also where the program fails.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping

from msgspec import Struct
from msgspec.structs import replace

from edge_agent import limits
from edge_agent.config.schema import PipelineConfig
from edge_agent.core.align import Aligner
from edge_agent.core.quality import FrameQuality
from edge_agent.core.rate import RateGate
from edge_agent.errors import ModelError
from edge_agent.records import Array, Crossing, Discard, DiscardReason, Event, Frame, Grab, Reading, Sample, TimeSource
from edge_agent.stages.counters import PipelineCounters
from edge_agent.stages.engine import Engine
from edge_agent.stages.further_images import FurtherImages
from edge_agent.stages.media import MediaSensor
from edge_agent.stages.ring import Ring, Slot
from edge_agent.stages.worker import Services, Worker

KNOWN_BEFOREHAND = -(2**62)  # arrival time of a media row: before every frame


class Inference(Struct, frozen=True):
    """Raw outputs of one sample, on their way to the publisher."""

    frame_seq: int
    mono_ns: int
    arrival_ns: int
    time_source: TimeSource
    sample: Sample
    outputs: dict[str, Array]
    crossing: Crossing
    quality: tuple[str, ...]
    capture_ns: int
    align_ns: int
    preprocess_ns: int
    invoke_ns: int


class Slots(Struct, frozen=True):
    """The size of the ring, and whether a newer frame may take the place of one that waits."""

    count: int
    newest: bool


class Pipeline(Worker):
    """Implements ``capture.FrameConsumer`` for its camera."""

    def __init__(
        self,
        config: PipelineConfig,
        engine: Engine,
        aligner: Aligner,
        media: Mapping[str, MediaSensor],
        slots: Slots,
        counters: PipelineCounters,
        deliver: Callable[[Inference | None], None],
        services: Services,
    ) -> None:
        """``deliver`` takes each inference, and None after the last one of a source that ended; it may block, which
        slows the camera or supersedes its frames."""
        super().__init__(f"pipeline {config.name}", services)
        self.config = config
        self.engine = engine
        self.counters = counters
        self.gate = RateGate(config.rate.period_ns)
        self.paused = False
        self.settings: dict[str, object] = {
            "rate": config.rate,
            "publish": config.publish,
            "threshold": config.threshold,
            "paused": False,
        }
        own = [name for name in engine.images if name not in config.images]
        self.further = FurtherImages(engine, config.images, config.align.max_skew, self._picture_failed)
        self._live = slots.newest
        self.ring = Ring(
            [Slot({name: engine.images[name].slot() for name in own}) for _ in range(slots.count)], slots.newest
        )
        self._aligner = aligner
        self._aligner_lock = threading.Lock()
        self.media = media
        self._quality = FrameQuality()
        self._deliver = deliver
        self._closing = threading.Event()
        self._source_ended = threading.Event()
        self._failing = False

    # --- the camera's thread -------------------------------------------------------------------------------------

    def wants(self, grab: Grab) -> bool:
        self.counters.count("frames")
        if self.paused:
            self.counters.discard(DiscardReason.PAUSED)
            return False
        if not self.gate.accept(grab.mono_ns):
            self.counters.discard(DiscardReason.THROTTLED if self.gate.slowed else DiscardReason.RATE)
            return False
        return True

    def unreadable(self) -> None:
        self.counters.discard(DiscardReason.UNREADABLE)

    def ended(self) -> None:
        self._source_ended.set()
        self.ring.wake()

    def skipped(self, count: int) -> None:
        self.counters.count("frames", count)
        self.counters.discard(DiscardReason.SUPERSEDED, count)

    def offer(self, frame: Frame) -> None:
        slot, superseded = self.ring.acquire()
        if superseded:
            self.counters.discard(DiscardReason.SUPERSEDED)
        if slot is None:
            self.counters.discard(DiscardReason.SHUTDOWN)
            return
        try:
            self._fill(slot, frame)
        except BaseException:
            self.ring.release(slot)
            raise
        if not self.ring.submit(slot):
            self.counters.discard(DiscardReason.SHUTDOWN)

    def failed(self, error: Exception) -> None:
        self.counters.discard(DiscardReason.INTERNAL_ERROR)
        self.faults.add(error, "the frame was discarded")

    def _fill(self, slot: Slot, frame: Frame) -> None:
        started_ns = self.clock.monotonic_ns()
        slot.crossing = self.engine.prepare(frame.pixels, slot.tensors)
        slot.preprocess_ns = self.clock.monotonic_ns() - started_ns
        slot.quality = self._quality.check(frame.pixels, frame.mono_ns)
        slot.frame = frame
        # media time is decided at once: its rows are known beforehand, and it may run ahead of the clock
        slot.due_ns = frame.mono_ns + self.config.align.wait if frame.media_ns is None else 0

    def _picture_failed(self, error: Exception) -> None:
        """A further camera's: none of this pipeline's frames is lost by it."""
        self.faults.add(error, "the picture of the further camera was left out")

    # --- the sensors' threads ------------------------------------------------------------------------------------

    def add_reading(self, reading: Reading, arrival_ns: int) -> None:
        with self._aligner_lock:
            self._aligner.add(reading, arrival_ns)

    # --- this pipeline's thread ----------------------------------------------------------------------------------

    def work(self) -> None:
        while not self._closing.is_set():
            self.beat()
            now_ns = self.clock.monotonic_ns()
            ended = self._source_ended.is_set()  # before the look at the ring: then nothing can come after it
            slot, replaced, next_ns = self.ring.take(now_ns)
            for old in replaced:
                self.counters.discard(DiscardReason.SUPERSEDED)
                self.ring.release(old)
            if slot is None:
                if ended and next_ns is None:
                    self._source_ended.clear()
                    self._deliver(None)
                self.ring.wait(1.0 if next_ns is None else min(1.0, (next_ns - now_ns) / 1e9))
                continue
            try:
                self._finish(slot)
            except Exception:
                self.counters.discard(DiscardReason.INTERNAL_ERROR)
                raise

    def recover(self) -> None:
        """A stateful model begins anew: its state may be what it failed on."""
        self.engine.reset()

    def leave(self) -> None:
        self.close()
        for _ in range(self.ring.leftover()):
            self.counters.discard(DiscardReason.SHUTDOWN)

    def close(self) -> None:
        """Stop after the run in progress; frames that still wait are counted as ``shutdown``."""
        self._closing.set()
        self.ring.close()

    def slow(self, factor: int) -> None:
        """Take only one in ``factor`` of the frames that the rate would take, down to ``rate_floor``; 1: all of them.
        From any thread. A source that loses no frame is not slowed: it waits by itself."""
        if self._live:
            self.gate.set_slowdown(factor, self.config.rate_floor.period_ns)

    def slowdown_most(self) -> int | None:
        """The factor beyond which the floor holds; None: not known yet."""
        return self.gate.slowdown_most(self.config.rate_floor.period_ns) if self._live else 1

    def late_readings(self) -> int:
        with self._aligner_lock:
            return self._aligner.late

    def _finish(self, slot: Slot) -> None:
        try:
            inference = self._infer(slot)
        finally:
            self.ring.release(slot)
        if inference is not None:
            with self.excused():
                self._deliver(inference)

    def _infer(self, slot: Slot) -> Inference | None:
        frame = slot.frame
        if frame is None:
            raise RuntimeError("a slot was submitted without its frame")
        started_ns = self.clock.monotonic_ns()
        sample = self._align(frame)
        further = self.further.at(frame.mono_ns)
        aligned_ns = self.clock.monotonic_ns()
        if isinstance(sample, Discard):
            self.counters.discard(sample.reason)
            return None
        if further is None:
            self.counters.discard(DiscardReason.MISSING_IMAGE)
            return None
        try:
            outputs = self.engine.invoke({**slot.tensors, **further}, sample.features)
        except ModelError as error:
            self._invoke_failed(error)
            return None
        self._failing = False
        return Inference(
            frame_seq=frame.seq,
            mono_ns=frame.mono_ns,
            arrival_ns=frame.arrival_ns,
            time_source=frame.time_source,
            sample=sample,
            outputs=outputs,
            crossing=slot.crossing,
            quality=slot.quality,
            capture_ns=frame.capture_ns,
            align_ns=aligned_ns - started_ns,
            preprocess_ns=slot.preprocess_ns,
            invoke_ns=self.clock.monotonic_ns() - aligned_ns,
        )

    def _align(self, frame: Frame) -> Sample | Discard:
        with self._aligner_lock:
            if frame.media_ns is not None:
                self._feed_media(frame.mono_ns - frame.media_ns, frame.media_ns)
            return self._aligner.align(frame.mono_ns)

    def _feed_media(self, epoch_ns: int, media_ns: int) -> None:
        for sensor in self.media.values():
            for reading in sensor.until(media_ns):
                moved = replace(reading, mono_ns=reading.mono_ns + epoch_ns)
                self._aligner.add(moved, KNOWN_BEFOREHAND)

    def _invoke_failed(self, error: ModelError) -> None:
        first, self._failing = not self._failing, True
        if first:  # one event for a row of failures
            self.services.emit(Event("invoke_failed", "error", self.config.name, str(error)))
        self.counters.discard(DiscardReason.INVOKE_ERROR)  # last: a frame is counted once, whatever fails here


def slots_needed(config: PipelineConfig, fps: float) -> int:
    """Frames that wait for their readings occupy a slot each. ``fps``: of the camera, as far as known."""
    waiting = config.align.wait / 1e9 * min(float(config.rate), fps)
    return min(limits.RING_SLOTS_MOST, limits.RING_SLOTS + int(waiting + 0.999))
