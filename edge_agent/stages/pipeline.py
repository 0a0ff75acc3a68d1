"""The middle of the first journey: frame -> ready tensors -> sample -> outputs of the model.

The camera's thread fills a slot of the ring (``offer``); this pipeline's own thread aligns, copies the slot into the
interpreter and invokes. Every frame leaves as one inference or as one counted discard, also where the program fails,
and with the model that its slot was filled for, also where another one takes over meanwhile (``route``).
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence

from msgspec import Struct

from edge_agent import limits
from edge_agent.config.schema import PipelineConfig
from edge_agent.core.align import Aligner, Wanted
from edge_agent.core.overload import Load
from edge_agent.core.quality import FrameQuality
from edge_agent.core.rate import RateGate
from edge_agent.core.trial_watch import TrialCounts
from edge_agent.records import Array, Discard, DiscardReason, Event, Frame, Grab, Reading, Sample
from edge_agent.stages.alignment import Alignment
from edge_agent.stages.counters import PipelineCounters
from edge_agent.stages.engine import Engine
from edge_agent.stages.further_images import FurtherImages
from edge_agent.stages.inference import Inference, Tap
from edge_agent.stages.invoker import Invoker
from edge_agent.stages.media import MediaSensor
from edge_agent.stages.ring import Ring, Slot
from edge_agent.stages.route import Route
from edge_agent.stages.routes import Routes
from edge_agent.stages.tally import taken
from edge_agent.stages.watch import Watch
from edge_agent.stages.worker import Services, Worker


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
        self.counters = counters
        self.gate = RateGate(config.rate.period_ns)
        self.paused = False
        self.settings: dict[str, object] = {
            "rate": config.rate,
            "publish": config.publish,
            "threshold": config.threshold,
            "paused": False,
        }
        self.routes = Routes(Route(engine, aligner.own, tuple(config.images)))
        self.further = FurtherImages(self.routes.pictures, self._picture_failed, self.routes.trial_failed)
        self.tap: Tap | None = None
        self.watch: Watch | None = None  # None: drift is not watched
        self._live = slots.newest
        self.ring = Ring([Slot({}) for _ in range(slots.count)], slots.newest)
        self._alignment = Alignment(aligner, media)
        self.media = media
        self._quality = FrameQuality()
        self._deliver = deliver
        self._closing = threading.Event()
        self._source_ended = threading.Event()
        self._invoker = Invoker(engine, self.clock, self._invoke_failed)
        self._done = self._runs = self._busy_ns = 0  # see Load; each is counted by one thread

    # --- the camera's thread -------------------------------------------------------------------------------------

    def wants(self, grab: Grab) -> bool:
        self.counters.count("frames")
        if self.paused:
            self.counters.discard(DiscardReason.PAUSED)
            return False
        accepted = self.gate.accept(grab.mono_ns)
        if not accepted:
            self.counters.discard(DiscardReason.THROTTLED if self.gate.slowed else DiscardReason.RATE)
        return accepted

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
            self._release(slot)
            raise
        if not self.ring.submit(slot):
            self.counters.discard(DiscardReason.SHUTDOWN)

    def failed(self, error: Exception) -> None:
        self.counters.discard(DiscardReason.INTERNAL_ERROR)
        self.faults.add(error, "the frame was discarded")

    def _fill(self, slot: Slot, frame: Frame) -> None:
        slot.look = None
        started_ns = self.clock.monotonic_ns()
        self.routes.fill(slot, frame)
        slot.preprocess_ns = self.clock.monotonic_ns() - started_ns
        slot.quality = self._quality.check(frame.pixels, frame.mono_ns)
        if self.watch is not None and slot.route is self.routes.live:
            slot.look = self.watch.look(slot.route.engine, slot.tensors, frame)
        slot.frame = frame
        # media time is decided at once: its rows are known beforehand, and it may run ahead of the clock
        slot.due_ns = frame.mono_ns + self.config.align.wait if frame.media_ns is None else 0

    def _picture_failed(self, error: Exception) -> None:
        """A further camera's: none of this pipeline's frames is lost by it."""
        self.faults.add(error, "the picture of the further camera was left out")

    # --- the updater's thread: another model ---------------------------------------------------------------------

    @property
    def engine(self) -> Engine:
        """The live model; one on trial beside it is not meant."""
        return self.routes.live.engine

    def route(self, engine: Engine, wanted: Sequence[Wanted], share: float) -> None:
        """From the next frame on, give ``engine`` that share of the frames (above 0, to 1); the live model stays
        ready. The engine is warm and nobody else's; ``wanted`` is what it wants of the readings, as for the aligner.
        Raises ValueError where a feature could be neither filled nor discarded, RuntimeError during another trial."""
        trial = Route(engine, self._alignment.view(wanted), tuple(self.config.images))
        self.routes.begin(trial, share, taken(self.counters))

    def settle(self) -> Engine | None:
        """The model on trial is the live one from now on. Returns the one before it; None: there was no trial."""
        return self.routes.settle()

    def route_back(self) -> Engine | None:
        """All frames to the live model again. Returns the one that was on trial; None: there was none."""
        return self.routes.back()

    def drained(self, engine: Engine, timeout_s: float) -> bool:
        """Wait for the frames on their way to an engine that was settled or routed away from: then its runtime may be
        closed. From any thread but the pipeline's own."""
        return self.routes.drained(engine, timeout_s)

    def lost_share(self) -> float:
        """The share of its frames, 0 to 1, that the pipeline has lost since the start of the process."""
        return taken(self.counters).lost_share

    def trial_counts(self) -> TrialCounts | None:
        """What became of the frames of the model on trial, and of this pipeline's, since the last call or
        ``route``. None: there is no trial."""
        return self.routes.counts(taken(self.counters))

    # --- the sensors' threads ------------------------------------------------------------------------------------

    def add_reading(self, reading: Reading, arrival_ns: int) -> None:
        self._alignment.add(reading, arrival_ns)

    # --- this pipeline's thread ----------------------------------------------------------------------------------

    def work(self) -> None:
        while not self._closing.is_set():
            self.beat()
            now_ns = self.clock.monotonic_ns()
            ended = self._source_ended.is_set()  # before the look at the ring: then nothing can come after it
            slot, replaced, next_ns = self.ring.take(now_ns)
            for old in replaced:
                self.counters.discard(DiscardReason.SUPERSEDED)
                self._release(old)
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
        """A model with a state begins anew: its state may be what it failed on."""
        for route in self.routes.open():
            route.engine.reset()

    def leave(self) -> None:
        self.close()
        for _ in range(self.ring.leftover()):
            self.counters.discard(DiscardReason.SHUTDOWN)

    def close(self) -> None:
        """Stop after the run in progress; frames that still wait are counted as ``shutdown``."""
        self._closing.set()
        self.ring.close()

    def slow(self, factor: float) -> None:
        """Take only one in ``factor`` of the frames that the rate would take, down to ``rate_floor``; 1: all of them.
        From any thread. A source that loses no frame is not slowed: it waits by itself."""
        if self._live:
            self.gate.set_slowdown(factor, self.config.rate_floor.period_ns)

    def slowdown_most(self) -> int | None:
        """The factor beyond which the floor holds; None: not known yet."""
        return self.gate.slowdown_most(self.config.rate_floor.period_ns) if self._live else 1

    def load(self) -> Load | None:
        """What the configured rate asks of this pipeline's thread. From any thread. None where no rate is promised
        (``"max"``: as many as the model manages, and a source that waits), and where nothing can be said: paused, or
        with a model on trial, whose slowness is its own."""
        if not self._live or self.paused or not self.gate.period_ns or len(self.routes.open()) > 1:
            return None
        frames = self.counters.get("frames")
        return Load(1e9 / self.gate.period_ns, frames, self._done, self._runs, self._busy_ns)

    def late_readings(self) -> int:
        return self._alignment.late()

    def _finish(self, slot: Slot) -> None:
        began_ns = self.clock.monotonic_ns()
        try:
            inference = self._infer(slot)
        finally:
            self._release(slot)
            self._done += 1
        if inference is not None:
            self._busy_ns += self.clock.monotonic_ns() - began_ns
            self._runs += 1
            with self.excused():
                self._deliver(inference)

    def _release(self, slot: Slot) -> None:
        self.routes.leave(slot)
        self.ring.release(slot)

    def _infer(self, slot: Slot) -> Inference | None:
        frame, route = slot.frame, slot.route
        if frame is None or route is None:
            raise RuntimeError("a slot was submitted without its frame")
        started_ns = self.clock.monotonic_ns()
        sample = self._alignment.sample(frame, route.view)
        further = route.pictures.at(frame.mono_ns, self.config.align.max_skew)
        aligned_ns = self.clock.monotonic_ns()
        if isinstance(sample, Discard):
            self.counters.discard(sample.reason)
            return None
        if further is None:
            self.counters.discard(DiscardReason.MISSING_IMAGE)
            return None
        tensors = {**slot.tensors, **further}
        ran = self._invoker.run(route, tensors, sample.features)
        if ran is None:
            self.counters.discard(DiscardReason.INVOKE_ERROR)
            return None
        if route is self.routes.live:
            self._show(tensors, sample, ran.outputs)
        look = slot.look
        if look is not None and self.watch is not None:
            look = self.watch.complete(look, route.engine, further)
        return Inference(
            route=route,
            frame_seq=frame.seq,
            mono_ns=frame.mono_ns,
            arrival_ns=frame.arrival_ns,
            time_source=frame.time_source,
            sample=sample,
            outputs=ran.outputs,
            delegate=ran.delegate,
            crossing=slot.crossing,
            quality=slot.quality,
            capture_ns=frame.capture_ns,
            align_ns=aligned_ns - started_ns,
            preprocess_ns=slot.preprocess_ns,
            invoke_ns=ran.took_ns,
            look=look,
        )

    def _show(self, tensors: Mapping[str, Array], sample: Sample, outputs: Mapping[str, Array]) -> None:
        try:
            if (tap := self.tap) is not None:
                tap(tensors, sample.features, outputs)
        except MemoryError:
            raise
        except Exception as error:  # noqa: BLE001 - counted and reported; no frame is lost by a shadow
            self.tap = None
            self.faults.add(error, "the live model's samples are shown to nobody any more")

    def _invoke_failed(self, error: Exception) -> None:
        self.services.emit(Event("invoke_failed", "error", self.config.name, str(error)))


def slots_needed(config: PipelineConfig, fps: float) -> int:
    """Frames that wait for their readings occupy a slot each. ``fps``: of the camera, as far as known."""
    waiting = config.align.wait / 1e9 * min(float(config.rate), fps)
    return min(limits.RING_SLOTS_MOST, limits.RING_SLOTS + int(waiting + 0.999))
