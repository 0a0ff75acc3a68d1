"""``stats`` and ``info`` as metrics for Prometheus: the same figures under its names and units."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final, Literal

from edge_agent.core.heat import SLOWING_FLAGS, UNDER_VOLTAGE
from edge_agent.records import Metric

_PREFIX: Final = "edge_agent_"
_STAGE_COUNTS: Final = {
    "frames": "Frames that a camera brought",
    "predictions": "Results of the model",
    "published": "Predictions handed to the outbox",
    "acknowledged": "Predictions that the broker has acknowledged",
    "late_readings": "Readings that arrived after their frame was decided",
    "delegate_losses": "Times that the back-end was lost in a run",
    "runs_repeated": "Runs that failed and went well at once when they were tried again",
}
_SOURCE_COUNTS: Final = {
    "camera": {"frames": "Frames read", "failures": "Failures", "reopened": "Times that it was opened anew"},
    "sensor": {
        "readings": "Readings taken",
        "invalid": "Readings that made no sense",
        "failures": "Failures",
        "reopened": "Times that it was opened anew",
    },
}
_WORKING: Final = {"camera": ("streaming",), "sensor": ("reading", "media")}


def metrics(info: Mapping[str, Any], stats: Mapping[str, Any]) -> Iterator[Metric]:
    """``info`` and ``stats`` as they are published; durations become seconds, sizes bytes."""
    who = {"device": info["device"], "version": info["agent"], "profile": info["profile"], "boot_id": info["boot_id"]}
    yield _many("info", "gauge", "Which program on which device", tuple(who), [(tuple(who.values()), 1)])
    yield _plain("uptime_seconds", "gauge", "Since the start of the process", stats["uptime_s"])
    yield from _pipelines(info["pipelines"], stats["pipelines"])
    for kind, table in (("camera", "cameras"), ("sensor", "sensors")):
        yield from _sources(kind, stats[table])
    yield from _outbox(stats["outbox"])
    yield from _board(stats)
    yield _by("crashes", "counter", "Times that a worker failed and was started again", "worker", stats["crashes"])
    ignored = stats["commands_ignored"]
    yield _by("commands_ignored", "counter", "Commands over MQTT that were ignored", "reason", ignored)


def _pipelines(info: Mapping[str, Any], stats: Mapping[str, Any]) -> Iterator[Metric]:
    for count, text in _STAGE_COUNTS.items():
        yield _by(count, "counter", text, "pipeline", {name: item[count] for name, item in stats.items()})
    discards = (((name, why), n) for name, item in stats.items() for why, n in item["discards"].items())
    yield _many("discards", "counter", "Frames and predictions given up", ("pipeline", "reason"), discards)
    latency = (
        ((name, stage, f"0.{quantile[1:]}".rstrip("0")), ms / 1000)
        for name, item in stats.items()
        for stage, quantiles in item["latency_ms"].items()
        for quantile, ms in quantiles.items()
        if ms is not None
    )
    text = "Of the last statistics' interval, in seconds; puback: from the frame to the broker's acknowledgement"
    yield _many("latency_seconds", "gauge", text, ("pipeline", "stage", "quantile"), latency)
    models = (
        ((name, item["delegate"], item["model"]["name"], item["model"]["version"], item["model"]["sha256"]), 1)
        for name, item in info.items()
    )
    labels = ("pipeline", "delegate", "model", "version", "sha256")
    yield _many("model_info", "gauge", "Which model runs on which back-end", labels, models)


def _sources(kind: str, stats: Mapping[str, Any]) -> Iterator[Metric]:
    working = {name: float(item["state"] in _WORKING[kind]) for name, item in stats.items()}
    yield _by(f"{kind}_up", "gauge", "1: it delivers", kind, working)
    for count, text in _SOURCE_COUNTS[kind].items():
        yield _by(f"{kind}_{count}", "counter", text, kind, {name: item[count] for name, item in stats.items()})


def _outbox(stats: Mapping[str, Any]) -> Iterator[Metric]:
    messages = {where: stats[where] for where in ("waiting", "in_flight", "stored")}
    yield _by("outbox_messages", "gauge", "Messages that the broker has not acknowledged", "where", messages)
    size = {"memory": stats["bytes"], "disk": stats["stored_bytes"]}
    yield _by("outbox_bytes", "gauge", "Their size", "where", size)
    yield _plain("outbox_disk_ok", "gauge", "0: all waits in memory alone", float(stats["disk"] != "failed"))


def _board(stats: Mapping[str, Any]) -> Iterator[Metric]:
    if stats["temperature_c"] is not None:
        yield _plain("temperature_celsius", "gauge", "Of the hottest thermal zone", stats["temperature_c"])
    if stats["memory_mb"] is not None:
        yield _plain("memory_bytes", "gauge", "Resident memory of the process", stats["memory_mb"] * 2**20)
    heat = "What the rates of live cameras are divided by because of heat"
    load = "What a live pipeline's rate is divided by because its model is slower than that"
    yield _plain("heat_slowdown", "gauge", heat, stats["heat"]["slowdown"])
    yield _by("overload_slowdown", "gauge", load, "pipeline", stats["overload"])
    if stats["throttled"] is not None:
        now = {flag: float(flag in stats["throttled"].now) for flag in sorted({*SLOWING_FLAGS, UNDER_VOLTAGE})}
        yield _by("firmware_flag", "gauge", "1: the board's firmware complains of it now", "flag", now)


def _plain(name: str, kind: Literal["counter", "gauge"], text: str, value: float) -> Metric:
    return Metric(_PREFIX + name, kind, text, (), (((), float(value)),))


def _by(name: str, kind: Literal["counter", "gauge"], text: str, label: str, values: Mapping[str, float]) -> Metric:
    return _many(name, kind, text, (label,), (((key,), value) for key, value in values.items()))


def _many(
    name: str,
    kind: Literal["counter", "gauge"],
    text: str,
    labels: tuple[str, ...],
    samples: Iterable[tuple[tuple[str, ...], float]],
) -> Metric:
    return Metric(_PREFIX + name, kind, text, labels, tuple((values, float(value)) for values, value in samples))
