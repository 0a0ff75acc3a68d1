"""``edge-agent bench``: the bare interpreter against the daemon's own threads on this machine, in alternating rounds.

Everything runs but the camera and the network: frames come from memory, and each message is acknowledged at once.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edge_agent.agent import SWITCH_INTERVAL_S
from edge_agent.assembly import LoadedModel, load_model, wanted_arguments
from edge_agent.commands.common import add_json, parser
from edge_agent.commands.model_argument import add_model, model_argument
from edge_agent.config.schema import AlignConfig, PipelineConfig
from edge_agent.core.align import Aligner
from edge_agent.core.outbox import Bounds, Outbox
from edge_agent.core.wire import Topics, milliseconds
from edge_agent.errors import ConfigError, DeviceError
from edge_agent.io.clock import SystemClock
from edge_agent.io.image_file import read_image
from edge_agent.ports import MessageHandler
from edge_agent.records import Event, Frame, Pixels
from edge_agent.stages.counters import PipelineCounters
from edge_agent.stages.inference import Inference
from edge_agent.stages.pipeline import Pipeline, Slots
from edge_agent.stages.publisher import Publisher
from edge_agent.stages.results import ResultStage
from edge_agent.stages.worker import Services

SCHEMA = "edge-agent/bench/1"
IN_MEMORY = Bounds(memory=2**26, disk=0, age_ns=2**62, drain_period_ns=0)
ROUNDS = 5


@dataclass(frozen=True, slots=True)
class Timing:
    """``seconds`` for ``runs`` runs; each run's latency in nanoseconds."""

    seconds: float
    latencies_ns: list[int]

    def report(self) -> dict[str, float]:
        p50, p95 = np.percentile(self.latencies_ns, [50, 95])
        return {
            "fps": round(len(self.latencies_ns) / self.seconds, 2),
            "p50_ms": milliseconds(int(p50)),
            "p95_ms": milliseconds(int(p95)),
        }


class AcknowledgingBroker:
    """Implements ``ports.Broker`` without a network: what is published is acknowledged at once."""

    def __init__(self, publisher: Publisher) -> None:
        self._publisher = publisher
        self._token = 0

    def publish(self, topic: str, payload: bytes, *, qos: int, retain: bool, expiry_s: int | None) -> int:
        self._token += 1
        self._publisher.acknowledged(self._token, None)
        return self._token

    def subscribe(self, topic: str, handler: MessageHandler, *, retain_as_published: bool = False) -> None:
        """Nothing ever arrives."""

    def window(self) -> int:
        return 100


def main(argv: Sequence[str]) -> int:
    options = _arguments().parse_args(argv)
    if options.runs < ROUNDS:
        raise ConfigError(f"--runs {options.runs}: at least {ROUNDS}")
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    model = load_model(model_argument(options))
    pixels = read_image(options.image) if options.image else _noise()
    info = model.engine.runtime.info
    raw, whole = measure(model, pixels, options.runs)
    if model.engine.runtime.info.delegate != info.delegate:
        raise DeviceError(f"{model.engine.runtime.info.reason}: the figures would be a mix; measure again")
    report = {
        "schema": SCHEMA,
        "model": options.model,
        "delegate": info.delegate,
        "threads": info.threads,
        "runs": len(raw.latencies_ns),
        "raw": raw.report(),
        "pipeline": whole.report(),
        "ratio": round(whole.report()["fps"] / raw.report()["fps"], 3),
    }
    print(json.dumps(report) if options.json else _text(report))
    return 0


def measure(model: LoadedModel, pixels: Pixels, runs: int) -> tuple[Timing, Timing]:
    """Bare invoke and the whole path, ``runs`` each in alternating rounds, after a warm-up of both."""
    model.engine.warm_up()
    _pipeline_round(model, pixels, 5)
    raw, whole = Timing(0.0, []), Timing(0.0, [])
    for _ in range(ROUNDS):
        raw = _add(raw, _raw_round(model, runs // ROUNDS))
        whole = _add(whole, _pipeline_round(model, pixels, runs // ROUNDS))
    return raw, whole


def _raw_round(model: LoadedModel, runs: int) -> Timing:
    latencies = []
    started = time.perf_counter_ns()
    for _ in range(runs):
        before = time.perf_counter_ns()
        model.engine.runtime.invoke({})
        latencies.append(time.perf_counter_ns() - before)
    return Timing((time.perf_counter_ns() - started) / 1e9, latencies)


def _pipeline_round(model: LoadedModel, pixels: Pixels, runs: int) -> Timing:
    clock = SystemClock()
    latencies: list[int] = []
    services = Services(clock, threading.Event(), _report_event, _report_death)
    topics = Topics("bench", "bench")
    publisher = Publisher(Outbox(IN_MEMORY, "bench", durable=False), topics, list, list, _report_refusal, services)
    publisher.use(AcknowledgingBroker(publisher), None)
    config = PipelineConfig(name="bench", camera="bench", model="bench")
    stage = ResultStage(config, PipelineCounters(), topics, "bench", 60, services)
    deliver = publisher.add_pipeline(stage, lossless=True)
    finished = threading.Event()

    def timed(inference: Inference | None) -> None:
        deliver(inference)
        if inference is None:
            return
        latencies.append(clock.monotonic_ns() - inference.arrival_ns)
        if len(latencies) == runs:
            finished.set()

    aligner = Aligner(wanted_arguments(model.engine), AlignConfig())
    slots = Slots(3, newest=False)
    pipeline = Pipeline(config, model.engine, aligner, {}, slots, stage.counters, timed, services)
    pipeline.restartable = publisher.restartable = False  # a run that is lost would leave the measurement waiting
    publisher.start()
    pipeline.start()
    started_ns = clock.monotonic_ns()
    for number in range(runs):
        now_ns = clock.monotonic_ns()
        pipeline.offer(Frame("bench", number, now_ns, now_ns, "arrival", pixels))
    finished.wait()
    seconds = (clock.monotonic_ns() - started_ns) / 1e9
    pipeline.close()
    pipeline.join()
    publisher.stop()
    publisher.join()
    return Timing(seconds, latencies)


def _add(sum_: Timing, round_: Timing) -> Timing:
    return Timing(sum_.seconds + round_.seconds, sum_.latencies_ns + round_.latencies_ns)


def _report_event(event: Event) -> None:
    print(f"edge-agent bench: {event.kind}: {event.detail}", file=sys.stderr)


def _report_refusal(topic: str, reason: str) -> None:
    raise RuntimeError(f"a broker that refuses nothing refused {topic}: {reason}")


def _report_death(name: str, error: BaseException) -> None:
    print(f"edge-agent bench: {name} died: {error!r}", file=sys.stderr)
    os._exit(1)


def _noise() -> Pixels:
    return np.random.default_rng(1).integers(0, 256, (480, 640, 3), dtype=np.uint8)


def _arguments() -> argparse.ArgumentParser:
    arguments = parser("bench", "Compare the bare interpreter with the daemon's whole path on this machine.")
    add_model(arguments)
    arguments.add_argument("--image", type=Path, metavar="FILE", help="frame to use (default: 640x480 noise)")
    arguments.add_argument("--runs", type=int, default=500, help="of each, in five alternating rounds (default 500)")
    add_json(arguments)
    return arguments


def _text(report: dict[str, object]) -> str:
    lines = [f"{report['model']} on {report['delegate']}, {report['threads']} threads, {report['runs']} runs of each"]
    lines.append(f"{'':<18}{'per second':>12}{'p50 ms':>10}{'p95 ms':>10}")
    for name, title in (("raw", "bare invoke"), ("pipeline", "whole pipeline")):
        row: dict[str, float] = report[name]  # type: ignore[assignment]
        lines.append(f"{title:<18}{row['fps']:>12.1f}{row['p50_ms']:>10.2f}{row['p95_ms']:>10.2f}")
    lines.append(f"the whole pipeline reaches {report['ratio']} of the bare interpreter's rate; its frames overlap, so")
    lines.append("a frame's own time includes waiting for the one before it")
    return "\n".join(lines)
