"""What the daemon says of itself: ``info``, ``stats``, the status line of the service and the last line of the log."""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping
from typing import Any, Final

import edge_agent
from edge_agent.core.settings import PARSERS
from edge_agent.core.wire import printable
from edge_agent.io.board import read_board
from edge_agent.parts import Parts
from edge_agent.records import Event

log = logging.getLogger("edge_agent")
RATE_WINDOW_NS: Final = 5 * 10**9  # the status line's rate is the mean over at least that long
_LEVELS: Final = {"info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}


def log_event(event: Event) -> None:
    """One line; the journal gets kind and subject as fields too."""
    fields = {"event": event.kind, "subject": event.subject}
    text = event.kind, printable(event.subject), printable(event.detail)
    log.log(_LEVELS[event.severity], "%s: %s: %s", *text, extra=fields)


class Reports:
    """Reads the parts; changes nothing."""

    def __init__(self, parts: Parts, requests: Collection[str]) -> None:
        """``requests``: the names of those that are answered."""
        self._parts = parts
        self._requests = requests
        self.broker_detail = "connecting"
        self._started_ns = parts.clock.monotonic_ns()
        self._marks: dict[str, tuple[int, int]] = {}
        self._rates: dict[str, float] = {}

    def info(self) -> dict[str, Any]:
        """Who this is and what it runs, as ``info`` and ``request/info`` give it."""
        parts = self._parts
        board = read_board()
        return {
            "device": parts.topics.device,
            "boot_id": parts.boot_id,
            "agent": edge_agent.__version__,
            "groups": list(parts.config.device.groups),
            "board": {"model": board.model, "arch": board.arch, "cpus": board.cpus, "memory_mb": board.memory_mb},
            "profile": parts.loaded.profile.name,
            "configuration_schema": 1,
            "capabilities": {"settings": list(PARSERS), "requests": list(self._requests)},
            "pipelines": {name: self._pipeline_info(name) for name in parts.pipelines},
        }

    def summary(self) -> str:
        """One line for the log when the process ends."""
        parts = []
        for name, pipeline in self._parts.pipelines.items():
            counters = pipeline.counters
            lost = counters.discards()
            parts.append(
                f"{name}: {counters.get('frames')} frames, {counters.get('predictions')} predictions, "
                f"{counters.get('acknowledged')} acknowledged, discards {lost or 'none'}"
            )
        return "; ".join(parts)

    def alive(self) -> list[str]:
        """The workers that have not ended."""
        return [worker.name for worker in self._parts.workers() if worker.is_alive()]

    def status_line(self) -> str:
        """What an operator asks first: does it predict, with which model on what, and does it get out."""
        parts = self._parts
        waiting, temperature_c = parts.publisher.report()["waiting"], parts.upkeep.temperature_c
        board = [] if temperature_c is None else [f"{temperature_c:.0f} degC"]
        pipelines = map(self._pipeline_line, parts.pipelines)
        return "; ".join([*pipelines, *board, f"broker {self.broker_detail}", f"waiting {waiting}"])

    def _pipeline_line(self, name: str) -> str:
        pipeline = self._parts.pipelines[name]
        model, delegate = pipeline.engine.identity, pipeline.engine.runtime.info.delegate
        camera = pipeline.config.camera
        state = self._parts.cameras[camera].state
        rate = "paused" if pipeline.paused else f"{self._rate(name):.1f}/s"
        slowdown = self._parts.upkeep.slowdown
        slowed = f" (hot board: rate divided by {slowdown})" if slowdown > 1 else ""
        if self._parts.upkeep.overload(name) > 1:
            slowed += " (more than the board manages: rate lowered)"
        return f"{name} {rate}{slowed}, {model.name} {model.version} on {delegate}, camera {camera} {state}"

    def stats(self, commands_ignored: Mapping[str, int]) -> dict[str, Any]:
        parts = self._parts
        return {
            "device": parts.topics.device,
            "boot_id": parts.boot_id,
            "uptime_s": self.uptime_s(),
            "pipelines": {name: self._pipeline_stats(name) for name in parts.pipelines},
            "cameras": {name: camera.report() for name, camera in parts.cameras.items()},
            "sensors": self._sensors(),
            "outbox": parts.publisher.report(),
            "ledger": parts.publisher.ledger(),
            "commands_ignored": dict(commands_ignored),
            "drift": None if parts.drift is None else parts.drift.report(),
            **parts.upkeep.report(),
            "crashes": {worker.name: worker.crashes for worker in parts.workers() if worker.crashes},
        }

    def _sensors(self) -> dict[str, object]:
        live: dict[str, object] = {name: sensor.report() for name, sensor in self._parts.sensors.items()}
        # one that runs with several videos is read by each of their pipelines: the last one stands for it
        played = {
            name: sensor.report() for item in self._parts.pipelines.values() for name, sensor in item.media.items()
        }
        return live | played

    def _pipeline_stats(self, name: str) -> dict[str, Any]:
        pipeline = self._parts.pipelines[name]
        failover = self._parts.models[name].failover
        return {
            **pipeline.counters.report(),
            "late_readings": pipeline.late_readings(),
            "delegate_losses": failover.losses if failover else 0,
            "runs_repeated": failover.repeats if failover else 0,
        }

    def _rate(self, name: str) -> float:
        """Predictions per second over the last full window."""
        now_ns, predictions = self._parts.clock.monotonic_ns(), self._parts.pipelines[name].counters.get("predictions")
        before, since_ns = self._marks.setdefault(name, (0, self._started_ns))
        if now_ns - since_ns >= RATE_WINDOW_NS:
            self._rates[name] = (predictions - before) * 1e9 / (now_ns - since_ns)
            self._marks[name] = (predictions, now_ns)
        return self._rates.get(name, 0.0)

    def _pipeline_info(self, name: str) -> dict[str, Any]:
        model = self._parts.models[name]
        identity, info = model.engine.identity, model.engine.runtime.info
        return {
            "camera": self._parts.pipelines[name].config.camera,
            "model": {"name": identity.name, "version": identity.version, "sha256": identity.sha256},
            "delegate": info.delegate,
            "delegated": info.delegated,
            "runtime": info.runtime,
            "threads": info.threads,
            "reason": info.reason,
        }

    def uptime_s(self) -> float:
        return round((self._parts.clock.monotonic_ns() - self._started_ns) / 1e9, 1)
