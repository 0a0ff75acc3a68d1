"""The composition root: joins cameras, sensors, models, pipelines and the broker, and runs until it is told to stop.

The journey of a sample, top to bottom: CameraWorker -> Pipeline (ring, align, invoke) -> Publisher (decode, decide,
outbox) -> broker. SensorWorkers feed the pipelines' aligners.
"""

from __future__ import annotations

import gc
import logging
import os
import signal
import sys
import threading
import time
import uuid
from collections.abc import Sequence

from edge_agent import limits
from edge_agent.assembly import (
    bounds,
    converters,
    make_aligner,
    sensors_of,
    silence_s,
)
from edge_agent.config.load import LoadedConfig
from edge_agent.config.schema import CameraConfig, PipelineConfig, SensorConfig
from edge_agent.control import Control
from edge_agent.core.outbox import Outbox
from edge_agent.core.wire import OFFLINE, Topics, event_body
from edge_agent.io.board import read_state
from edge_agent.io.cameras import create_camera, is_live
from edge_agent.io.clock import SystemClock
from edge_agent.io.mqtt import MqttBroker
from edge_agent.io.outbox_sqlite import SqliteOutbox
from edge_agent.io.sensors import create_sensor, create_series
from edge_agent.io.systemd import Notifier
from edge_agent.loading import Loading, outbox_path
from edge_agent.outgoing import Kind, Record, Refusal, Schema
from edge_agent.parts import Parts
from edge_agent.records import Event
from edge_agent.reports import log_event
from edge_agent.serving import make_http
from edge_agent.stages.capture import CameraWorker, FrameConsumer
from edge_agent.stages.counters import PipelineCounters
from edge_agent.stages.further_images import FurtherConsumer
from edge_agent.stages.media import MediaSensor
from edge_agent.stages.pipeline import Pipeline, Slots, slots_needed
from edge_agent.stages.publisher import Publisher
from edge_agent.stages.results import ResultStage
from edge_agent.stages.sensing import ReadingSink, SensorWorker
from edge_agent.stages.storage import StorageWorker
from edge_agent.stages.upkeep import Upkeep
from edge_agent.stages.worker import Services
from edge_agent.updating.first_load import FirstLoad
from edge_agent.updating.make import make_updater
from edge_agent.updating.start import UpdateStart
from edge_agent.updating.status import refusal_record
from edge_agent.watching import make_drift

log = logging.getLogger("edge_agent")
SWITCH_INTERVAL_S = 0.0002  # a busy Python thread hands the GIL to the invoke thread sooner: restores invoke's median
LAST_WORDS_S = 0.1  # for the log, where nobody may be reading any more
UNKNOWN_FPS = 30.0  # to size the ring where the camera's rate is not known beforehand


class Agent:
    """One process, one broker connection, one boot_id."""

    def __init__(self, loaded: LoadedConfig, start: UpdateStart, loading: Sequence[Loading]) -> None:
        """``loading``: the model of each pipeline, begun as ``start`` says."""
        self.loaded = loaded
        self.start = start
        self.config = loaded.config
        self.clock = SystemClock()
        self.boot_id = str(uuid.uuid4())
        device = self.config.device.id or ""  # always set by load_config
        self.topics = Topics(self.config.mqtt.base_topic, device)
        self.stopping = threading.Event()
        self.services = Services(self.clock, self.stopping, self.emit, self.died)
        self.parts = Parts(loaded, self.boot_id, self.topics, self.clock, Notifier(), self.stopping, self.emit)
        self.control = Control(self.parts)
        self._events = 0
        self._events_lock = threading.Lock()
        self._refusals: set[tuple[str, ...]] = set()
        self.publisher = self.parts.publisher = Publisher(
            Outbox(bounds(self.config.outbox), self.boot_id, durable=True),
            self.topics,
            self._greeting,
            self.control.farewell,
            self._refused,
            self.services,
        )
        self.client_id = self.config.mqtt.client_id or f"{self.config.mqtt.base_topic}-{device}".replace("/", "-")
        self.broker = MqttBroker(
            self.config.mqtt,
            loaded.folder,
            self.client_id,
            (self.topics.availability, OFFLINE),
            self,
        )
        path = outbox_path(loaded)
        self.storage = self.parts.storage = StorageWorker(
            SqliteOutbox(path), self.boot_id, self.publisher.stored, str(path), self.services
        )
        self.publisher.use(self.broker, self.storage)
        self.parts.upkeep = Upkeep(loaded.profile.thermal, read_state, self.parts.pipelines, self.services)
        self._loading = loading

    # --- life ----------------------------------------------------------------------------------------------------

    def run(self) -> int:
        """Until SIGTERM, SIGINT or the death of a thread. Returns the exit code. Raises what keeps it from starting."""
        sys.setswitchinterval(SWITCH_INTERVAL_S)
        self._load_models()
        for pipeline in self.config.pipeline:
            self._add_pipeline(pipeline)
        for camera in self.config.camera:
            self._add_camera(camera)
        for sensor in self.config.sensor:
            self._add_sensor(sensor)
        threading.Thread(target=self._end_at_once, name="overdue", daemon=True).start()
        self._add_drift()
        self._add_updater()
        self.parts.http = make_http(self.parts, self.control, self.services)
        self._listen_to_signals()
        for commands in (self.topics.set_filter, self.topics.request_filter):
            self.broker.subscribe(commands, self.control.received, retain_as_published=True)
        self.broker.start()  # not before all is built: what keeps the daemon from starting is said alone
        gc.freeze()  # what is alive now stays alive: the collector need not walk it while frames wait
        for worker in self.parts.workers():
            worker.start()
        self.parts.notifier.ready()
        log.info("ready: device %s, boot %s", self.topics.device, self.boot_id, extra={"event": "ready"})
        self.control.run()
        self._stop()
        return 1 if self.parts.failure else 0

    def emit(self, event: Event) -> None:
        """Log an event and publish it. From any thread."""
        log_event(event)
        with self._events_lock:
            seq, self._events = self._events, self._events + 1
        body = event_body(event, self.topics.device, self.boot_id, seq)
        kind = Kind.EVENT if event.severity == "info" else Kind.ALARM
        self.publisher.publish(Record(kind, self.topics.event, Schema.EVENT, body, self.clock.monotonic_ns()))

    def died(self, name: str, error: BaseException) -> None:
        """A worker ended by an exception: say so and stop; the service manager starts the process anew."""
        log.critical("%s died", name, exc_info=error, extra={"event": "worker_died", "subject": name})
        self.parts.failure = error
        self.control.wake()
        self.stopping.set()

    def _stop(self) -> None:
        self.stopping.set()
        self.parts.notifier.stopping()
        self.publisher.closing()
        if self.parts.updater is not None:
            self.parts.updater.wake()
        for pipeline in self.parts.pipelines.values():
            pipeline.close()
        end_ns = self.clock.monotonic_ns() + round(limits.STOP_JOIN_S * 1e9)  # for all together
        for worker in [
            *self.parts.updaters(),
            *self.parts.cameras.values(),
            *self.parts.sensors.values(),
            *self.parts.pipelines.values(),
        ]:
            worker.join(max(0.0, (end_ns - self.clock.monotonic_ns()) / 1e9))
        for name, pipeline in self.parts.pipelines.items():
            failover = self.parts.models[name].failover
            if failover is not None and not pipeline.is_alive():  # the next start may trust its device
                failover.close()
        if self.parts.drift is not None:  # nothing more comes: its last words
            self.parts.drift.close()
            self.parts.drift.join(limits.STOP_DRIFT_S)
        self.publisher.stop()
        self.publisher.join(limits.STOP_FLUSH_S + limits.STOP_STORE_S + limits.STOP_JOIN_S)
        self.storage.finish()
        self.broker.stop()
        self.storage.join(limits.STOP_STORE_S)
        log.info("stopped: %s", self.control.reports.summary(), extra={"event": "stopped"})

    def _end_at_once(self) -> None:
        """Something hangs (a disk, a driver, whoever reads the log), and a service that is told to stop must be gone in
        time."""
        self.stopping.wait()
        time.sleep(limits.STOP_MOST_S)
        last_words = threading.Thread(target=self._say_what_hangs, daemon=True)
        last_words.start()
        last_words.join(LAST_WORDS_S)
        os._exit(1 if self.parts.failure else 0)

    def _say_what_hangs(self) -> None:
        log.error("stopped without waiting any longer for %s", ", ".join(self.control.reports.alive()) or "the end")

    def _listen_to_signals(self) -> None:
        def stop(number: int, _frame: object) -> None:
            if self.stopping.is_set():
                os._exit(128 + number)  # the second signal does not wait for anything
            self.stopping.set()
            self.control.wake()

        signal.signal(signal.SIGTERM, stop)
        signal.signal(signal.SIGINT, stop)
        signal.signal(signal.SIGHUP, lambda _number, _frame: self.control.reload())

    # --- parts ---------------------------------------------------------------------------------------------------

    def _load_models(self) -> None:
        """One interpreter for each pipeline, warmed up; a fallback is announced."""
        first = FirstLoad(self.start, self.parts.notifier.starting)
        for pipeline, loading in zip(self.config.pipeline, self._loading, strict=True):
            model = first.finish(pipeline.model, loading)
            self.parts.models[pipeline.name] = model
            self.control.follow(pipeline.name, model)
            info = model.engine.runtime.info
            log.info("pipeline %s: model %s on %s", pipeline.name, model.engine.identity.name, info.delegate)
            for note in model.engine.card.notes:
                log.info("model %s: %s", pipeline.model, note)

    def _add_updater(self) -> None:
        for event in self.start.events():
            self.emit(event)
        if self.start.refusal:
            return
        updater = self.parts.updater = make_updater(
            self.parts, self.start, self.client_id, self.control.publish_info, self.services
        )
        for bell in self.topics.update_bells:
            self.broker.subscribe(bell, lambda _topic, _payload, _retained: updater.bell())
        self.broker.subscribe(self.topics.update_hold, lambda _topic, payload, _retained: updater.hold(payload))

    def _add_drift(self) -> None:
        drift = self.parts.drift = make_drift(self.parts, self.services)
        if drift is not None:
            self.control.requests.update(drift.requests())
            self.broker.subscribe(self.topics.feedback, drift.feedback, retain_as_published=True)

    def _greeting(self) -> list[Record]:
        updater = self.parts.updater
        update = [refusal_record(self.parts, self.start)] if self.start.refusal else []
        return [*self.control.greeting(), *(updater.greeting() if updater else update)]

    def _add_pipeline(self, config: PipelineConfig) -> None:
        engine = self.parts.models[config.name].engine
        camera = next(camera for camera in self.config.camera if camera.name == config.camera)
        lossless = _drop(camera) == "none"
        aligner = make_aligner(config, self.config, engine)
        media = {
            sensor.name: MediaSensor(create_series(sensor, self.loaded.folder), converters(sensor), aligner.ahead_ns)
            for sensor in self.config.sensor
            if sensor.timeline == "media" and sensor.name in sensors_of(config)
        }
        counters = PipelineCounters()
        stage = self.parts.stages[config.name] = ResultStage(
            config,
            counters,
            self.topics,
            self.boot_id,
            round(self.config.mqtt.prediction_expiry.seconds),
            self.services,
        )
        self.parts.pipelines[config.name] = Pipeline(
            config,
            engine,
            aligner,
            media,
            Slots(slots_needed(config, camera.fps or UNKNOWN_FPS), newest=not lossless),
            counters,
            self.publisher.add_pipeline(stage, lossless),
            self.services,
        )

    def _add_camera(self, config: CameraConfig) -> None:
        consumers: list[FrameConsumer] = []
        for pipeline in self.parts.pipelines.values():
            if pipeline.config.camera == config.name:
                consumers.append(pipeline)
            for tensor, camera in pipeline.config.images.items():
                if camera == config.name:
                    consumers.append(FurtherConsumer(pipeline.further, tensor))
        if not consumers:
            return
        source = create_camera(config, self.clock, self.loaded.folder, self.stopping)
        worker = CameraWorker(config.name, source, consumers, self.services)
        worker.silence_most_s = max(worker.silence_most_s, 4 * config.timeout.seconds)
        self.parts.cameras[config.name] = worker

    def _add_sensor(self, config: SensorConfig) -> None:
        if config.timeline == "media":
            return  # its rows are known beforehand: the pipelines read them
        users = [pipeline for pipeline in self.parts.pipelines.values() if config.name in sensors_of(pipeline.config)]
        if not users:
            return
        sinks: dict[str, list[ReadingSink]] = {
            f"{config.name}.{field}": [pipeline.add_reading for pipeline in users] for field in config.fields
        }
        sensor = create_sensor(
            config, self.clock, self.loaded.folder, subscribe=self.broker.subscribe, stopping=self.stopping
        )
        self.parts.sensors[config.name] = SensorWorker(
            config.name,
            sensor,
            converters(config),
            sinks,
            silence_s(config),
            self.services,
        )

    # --- ports.BrokerListener: from the network thread -----------------------------------------------------------

    def connection(self, up: bool, detail: str) -> None:
        reports = self.control.reports
        if detail != reports.broker_detail:  # a broker that is away for a week is said once, not at each attempt
            expected = up or self.stopping.is_set()
            log.log(logging.INFO if expected else logging.WARNING, "broker: %s", detail)
        reports.broker_detail = detail
        self.publisher.connection(up)

    def acknowledged(self, token: int, refusal: Refusal | None) -> None:
        self.publisher.acknowledged(token, refusal)

    def reset(self) -> None:
        self.publisher.reset()

    def fault(self, kind: str, detail: str) -> None:
        self.emit(Event(kind, "error", "broker", detail))

    # --- from the publisher's thread -----------------------------------------------------------------------------

    def _refused(self, topic: str, reason: str) -> None:
        kind = self.topics.levels(topic)[:1]
        if kind not in self._refusals:  # what refuses one prediction refuses them all
            self._refusals.add(kind)
            detail = f"the broker refused a message for good: {reason}; further ones like it are only counted"
            self.emit(Event("message_refused", "warning", topic, detail))


def _drop(camera: CameraConfig) -> str:
    return camera.drop or ("newest" if is_live(camera.source) else "none")
