"""The end of the first journey, for one pipeline: outputs -> prediction -> decision to publish -> records.

Runs on the publisher's thread. ``seq`` is given here, at the decision to publish, so a subscriber sees every gap.
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
from edge_agent.stages.engine import Engine
from edge_agent.stages.pipeline import Inference
from edge_agent.stages.worker import Services


class ResultStage:
    """``finish`` turns one inference into the records to publish, or counts why there is none."""

    def __init__(
        self,
        config: PipelineConfig,
        engine: Engine,
        counters: PipelineCounters,
        topics: Topics,
        boot_id: str,
        prediction_expiry_s: int,
        services: Services,
    ) -> None:
        self.name = config.name
        self.counters = counters
        self._threshold = config.threshold
        self._engine = engine
        self._topics = topics
        self._boot_id = boot_id
        self._expiry_s = prediction_expiry_s
        self._clock = services.clock
        self._emit = services.emit
        self._seq = 0
        self._smoother = Smoother(config.smoothing.window)
        self._policy = PublishPolicy(config.publish.mode, config.publish.interval, config.publish.deadband)
        self._state = PublishPolicy("change", 0, config.publish.deadband)
        self._settings_lock = threading.Lock()
        self._failing = False
        self._pending: tuple[Prediction, Inference] | None = None  # the last one folded into an open interval

    def set_threshold(self, threshold: float | None) -> None:
        """None: the card's."""
        with self._settings_lock:
            self._threshold = threshold

    def set_publish(self, config: PublishConfig) -> None:
        with self._settings_lock:
            self._policy.configure(config.mode, config.interval, config.deadband)
            self._state.configure("change", 0, config.deadband)

    def finish(self, inference: Inference) -> list[Record]:
        with self._settings_lock:
            prediction = self._predict(inference)
            if prediction is None:
                return []
            return self._decide(prediction, inference)

    def flush(self) -> list[Record]:
        """At the end of the source or of the process: the interval that is still open, with what it holds."""
        with self._settings_lock:
            if self._pending is None:
                return []
            prediction, inference = self._pending
            self._pending = None
            decision = self._policy.flush(prediction.mono_ns, prediction.outputs)
            if decision is None:
                return []
            self.counters.discard(DiscardReason.AGGREGATED, -1)  # it was counted as folded, and is published now
            return self._publish(prediction, inference, decision)

    def _predict(self, inference: Inference) -> Prediction | None:
        started_ns = self._clock.monotonic_ns()
        try:
            outputs = self._engine.decode(inference.outputs, inference.crossing, self._threshold)
        except DecodeError as error:
            self.counters.discard(DiscardReason.DECODE_ERROR)
            if not self._failing:
                self._emit(Event("decode_failed", "error", self.name, str(error)))
            self._failing = True
            return None
        self._failing = False
        outputs = self._smoother.smooth(outputs)
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
            model=self._engine.identity,
            delegate=self._engine.runtime.info.delegate,
            latency=latency,
            outputs=outputs,
            readings=inference.sample.readings,
            quality=inference.sample.quality + inference.quality,
        )

    def _decide(self, prediction: Prediction, inference: Inference) -> list[Record]:
        decision = self._policy.offer(prediction.mono_ns, prediction.outputs)
        self._pending = (prediction, inference) if decision.reason is DiscardReason.AGGREGATED else None
        if decision.reason is not None:
            self.counters.discard(decision.reason)
            return []
        return self._publish(prediction, inference, decision)

    def _publish(self, prediction: Prediction, inference: Inference, decision: Decision) -> list[Record]:
        identity = Identity(self._topics.device, self._boot_id, self._seq)
        self._seq += 1
        self.counters.count("published")
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
