"""The end of the first journey, for one pipeline: outputs -> prediction -> decision to publish -> records.

Runs on the publisher's thread. ``seq`` is given here, at the decision to publish, so a subscriber sees every gap. Each
model has a smoothing and a decision of its own: where two share the frames, nothing is averaged or compared across.
"""

from __future__ import annotations

import threading

from edge_agent.config.schema import PipelineConfig, PublishConfig
from edge_agent.core.decode import DecodeError
from edge_agent.core.publish_policy import Decision, PublishPolicy
from edge_agent.core.smoothing import Smoother
from edge_agent.core.wire import Identity, Topics, prediction_body, state_body
from edge_agent.outgoing import Kind, Record, Schema
from edge_agent.records import DiscardReason, Event, Latency, Prediction
from edge_agent.stages.counters import PipelineCounters
from edge_agent.stages.inference import Inference
from edge_agent.stages.route import Route
from edge_agent.stages.watch import Published, Watch, seen
from edge_agent.stages.worker import Services


class _Track:
    """The results of one model: what the next one depends on."""

    def __init__(self, window: int, publish: PublishConfig) -> None:
        self.smoother = Smoother(window)
        self.policy = PublishPolicy(publish.mode, publish.interval, publish.deadband)
        self.pending: tuple[Prediction, Inference] | None = None  # the last one folded into an open interval


class ResultStage:
    """``finish`` turns one inference into the records to publish, or counts why there is none."""

    def __init__(
        self,
        config: PipelineConfig,
        counters: PipelineCounters,
        topics: Topics,
        boot_id: str,
        prediction_expiry_s: int,
        services: Services,
    ) -> None:
        self.name = config.name
        self.counters = counters
        self._threshold = config.threshold
        self._topics = topics
        self._boot_id = boot_id
        self._expiry_s = prediction_expiry_s
        self._clock = services.clock
        self._emit = services.emit
        self._seq = 0
        self._window = config.smoothing.window
        self._publishing = config.publish
        self._tracks: dict[Route, _Track] = {}
        self._state = PublishPolicy("change", 0, config.publish.deadband)
        self._settings_lock = threading.Lock()
        self._failing = False
        self.watch: Watch | None = None  # None: drift is not watched

    def set_threshold(self, threshold: float | None) -> None:
        """None: the card's."""
        with self._settings_lock:
            self._threshold = threshold

    def set_publish(self, config: PublishConfig) -> None:
        with self._settings_lock:
            self._publishing = config
            for track in self._tracks.values():
                track.policy.configure(config.mode, config.interval, config.deadband)
            self._state.configure("change", 0, config.deadband)

    def finish(self, inference: Inference) -> list[Record]:
        with self._settings_lock:
            track = self._tracks.get(inference.route)
            if track is None:
                track = self._tracks[inference.route] = _Track(self._window, self._publishing)
            prediction = self._predict(inference, track.smoother)
            records = self._end_tracks(inference.route) if len(self._tracks) > 1 else []
            return records if prediction is None else records + self._decide(prediction, inference, track)

    def flush(self) -> list[Record]:
        """At the end of the source or of the process: the interval that is still open, with what it holds."""
        with self._settings_lock:
            return [record for track in self._tracks.values() for record in self._flush(track)]

    def _end_tracks(self, current: Route) -> list[Record]:
        """Of models that get no frames any more: what they left open. One that comes back begins anew."""
        over = [route for route in self._tracks if route is not current and not route.taking]
        return [record for route in over for record in self._flush(self._tracks.pop(route))]

    def _flush(self, track: _Track) -> list[Record]:
        if track.pending is None:
            return []
        prediction, inference = track.pending
        track.pending = None
        decision = track.policy.flush(prediction.mono_ns, prediction.outputs)
        if decision is None:
            return []
        self.counters.discard(DiscardReason.AGGREGATED, -1)  # it was counted as folded, and is published now
        return self._publish(prediction, inference, decision)

    def _predict(self, inference: Inference, smoother: Smoother) -> Prediction | None:
        engine = inference.route.engine
        started_ns = self._clock.monotonic_ns()
        try:
            outputs = engine.decode(inference.outputs, inference.crossing, self._threshold)
        except MemoryError:
            raise
        except Exception as error:  # noqa: BLE001 - of one model's output: the others' results do not wait for it
            expected = isinstance(error, DecodeError)
            self.counters.discard(DiscardReason.DECODE_ERROR if expected else DiscardReason.INTERNAL_ERROR)
            inference.route.tally.unreadable(error)
            if not self._failing:
                detail = str(error) if expected else f"{type(error).__name__}: {error}"
                self._emit(Event("decode_failed", "error", self.name, detail))
            self._failing = True
            return None
        self._failing = False
        outputs = smoother.smooth(outputs)
        now_ns = self._clock.monotonic_ns()
        latency = Latency(
            capture=inference.capture_ns,
            align=inference.align_ns,
            preprocess=inference.preprocess_ns,
            invoke=inference.invoke_ns,
            decode=now_ns - started_ns,
            total=now_ns - inference.arrival_ns,
        )
        self.counters.predicted(latency)
        return Prediction(
            pipeline=self.name,
            frame_seq=inference.frame_seq,
            mono_ns=inference.mono_ns,
            time_source=inference.time_source,
            model=engine.identity,
            delegate=inference.delegate,
            latency=latency,
            outputs=outputs,
            readings=inference.sample.readings,
            quality=inference.sample.quality + inference.quality,
        )

    def _decide(self, prediction: Prediction, inference: Inference, track: _Track) -> list[Record]:
        decision = track.policy.offer(prediction.mono_ns, prediction.outputs)
        track.pending = (prediction, inference) if decision.reason is DiscardReason.AGGREGATED else None
        if decision.reason is not None:
            self.counters.discard(decision.reason)
            self._show(prediction, inference, None)
            return []
        records = self._publish(prediction, inference, decision)
        self._show(prediction, inference, self._identity())
        return records

    def _show(self, prediction: Prediction, inference: Inference, identity: Identity | None) -> None:
        """To who watches drift. ``identity`` None: it is not published."""
        if self.watch is not None and inference.look is not None:
            self.watch.seen(seen(inference, prediction, identity))

    def _identity(self) -> Identity:
        """Of the prediction published last."""
        return Identity(self._topics.device, self._boot_id, self._seq - 1)

    def _publish(self, prediction: Prediction, inference: Inference, decision: Decision) -> list[Record]:
        self._seq += 1
        identity = self._identity()
        self.counters.count("published")
        if self.watch is not None:
            self.watch.published(Published(identity, prediction, decision.outputs or prediction.outputs))
        published = Record(
            kind=Kind.PREDICTION,
            topic=self._topics.prediction(self.name),
            schema=Schema.PREDICTION,
            body=prediction_body(prediction, identity, decision.outputs),
            mono_ns=prediction.mono_ns,
            expiry_s=self._expiry_s,
            pipeline=self.name,
            arrival_ns=inference.arrival_ns,
        )
        if not inference.route.leading:  # where two models share the frames, the state stays the live one's
            return [published]
        if self._state.offer(prediction.mono_ns, prediction.outputs).reason is not None:
            return [published]
        return [published, self._state_record(prediction, identity)]

    def _state_record(self, prediction: Prediction, identity: Identity) -> Record:
        return Record(
            kind=Kind.STATE,
            topic=self._topics.state(self.name),
            schema=Schema.STATE,
            body=state_body(prediction, identity),
            mono_ns=prediction.mono_ns,
            retain=True,
        )
