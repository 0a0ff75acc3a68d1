"""What a stranger sees of a device: knows the topics and the JSON of docs/mqtt.md, and imports nothing of edge_agent.

Single-threaded: whoever holds a Subscriber calls ``poll`` and gets what arrived meanwhile.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion

LINE_COLUMNS = 100
LABEL_COLUMNS = 12  # "worn_bearing", the longest of the example's
READING_COLUMNS = 14  # at least: "filled,invalid"


@dataclass
class Seen:
    """Totals of one device, as far as they were published."""

    received: int = 0
    missing: int = 0  # gaps in ``seq``
    first_s: float | None = None
    last_s: float = 0.0
    availability: str | None = None
    stats: dict[str, Any] | None = None
    totals_ms: list[float] = field(default_factory=list)
    _next_seq: dict[tuple[str, str], int] = field(default_factory=dict)

    def prediction(self, payload: dict[str, Any], now_s: float) -> None:
        run = (payload["boot_id"], payload["pipeline"])
        seq = payload["seq"]
        # The first one seen of a run need not be its first.
        self.missing += max(0, seq - self._next_seq.get(run, seq))
        self._next_seq[run] = seq + 1
        self.received += 1
        self.first_s = now_s if self.first_s is None else self.first_s
        self.last_s = now_s
        self.totals_ms.append(payload["latency_ms"]["total"])


class Subscriber:
    """One connection that follows ``<base>/<device>/#``."""

    def __init__(self, host: str, port: int, topic: str) -> None:
        """Raises OSError when the broker can't be reached."""
        self._arrived: list[tuple[str, bytes]] = []
        self._client = paho.Client(CallbackAPIVersion.VERSION2, protocol=paho.MQTTv5)
        self._client.on_connect = lambda client, *_: client.subscribe(topic, qos=1)
        self._client.on_message = lambda _client, _data, message: self._arrived.append(
            (message.topic, bytes(message.payload))
        )
        self._client.connect(host, port)

    def poll(self, timeout_s: float) -> list[tuple[str, bytes]]:
        """(topic, payload) of what arrived, after waiting for at most that long. Raises ConnectionError."""
        if (code := self._client.loop(timeout_s)) != paho.MQTT_ERR_SUCCESS:
            raise ConnectionError(paho.error_string(code))
        arrived, self._arrived = self._arrived, []
        return arrived


def result_text(outputs: dict[str, dict[str, Any]]) -> str:
    """All outputs of one prediction in a few words."""
    several = len(outputs) > 1
    return "  ".join((f"{name}: " if several else "") + _output_text(output) for name, output in outputs.items())


def _output_text(output: dict[str, Any]) -> str:
    task = output["task"]
    if task == "classification":
        return f"{output['classes'][0]['label']:<{LABEL_COLUMNS}} {output['classes'][0]['score']:.2f}"
    if task == "detection":
        best = "".join(f" {box['label']} {box['score']:.2f}" for box in output["boxes"][:2])
        return f"{len(output['boxes'])} found{best}"
    if task == "anomaly":
        return f"{'anomalous' if output['anomalous'] else 'normal':<{LABEL_COLUMNS}} {output['score']:.2f}"
    if task == "regression":
        return f"{output['value']:.4g} {output.get('unit', '')}".rstrip()
    return json.dumps(output)


def heading(readings: dict[str, dict[str, Any]]) -> str:
    """What stands above the lines of ``prediction_line``."""
    heads = (f"{_head(name, reading):<{_columns(name, reading)}}" for name, reading in readings.items())
    return f"{'time (UTC)':<12}  {'result':<{LABEL_COLUMNS + 5}}  {'latency':>8}  {'  '.join(heads)}".rstrip()


def prediction_line(prediction: dict[str, Any]) -> str:
    """One prediction in columns that stay where they are; what does not fit into the line is cut."""
    cells = (f"{_cell(reading):<{_columns(name, reading)}}" for name, reading in prediction["readings"].items())
    line = (
        f"{prediction['time'][11:23]}  {result_text(prediction['outputs']):<{LABEL_COLUMNS + 5}}  "
        f"{prediction['latency_ms']['total']:5.1f} ms  {'  '.join(cells)}"
    ).rstrip()
    return line if len(line) <= LINE_COLUMNS else line[: LINE_COLUMNS - 1] + "…"


def _head(name: str, reading: dict[str, Any]) -> str:
    return f"{name} {reading['unit']}".rstrip()


def _columns(name: str, reading: dict[str, Any]) -> int:
    return max(READING_COLUMNS, len(_head(name, reading)))


def _cell(reading: dict[str, Any]) -> str:
    flags = reading["flags"]
    if reading["value"] is None:  # no number says by itself that it is missing
        return ",".join(flag for flag in flags if flag != "missing") or "missing"
    return f"{reading['value']:7.2f} {','.join(flags)}".rstrip()


def summary(seen: Seen) -> list[str]:
    """What a run came to: the daemon's own count, and what arrived here."""
    lines = []
    for name, pipeline in (seen.stats or {}).get("pipelines", {}).items():
        discards = ", ".join(f"{reason} {count}" for reason, count in sorted(pipeline["discards"].items()))
        lines.append(f"{name}: {pipeline['frames']} frames, {pipeline['predictions']} predictions")
        lines.append(f"discarded: {discards or 'none'}")
    if not lines:
        lines.append("no statistics were published yet")
    span_s = seen.last_s - (seen.first_s or 0.0)
    rate = f" at {(seen.received - 1) / span_s:.1f}/s" if seen.received > 1 and span_s > 0 else ""
    lines.append(f"received: {seen.received} predictions{rate}, {seen.missing or 'none'} missing")
    if seen.totals_ms:
        ordered = sorted(seen.totals_ms)
        p50, p95 = (ordered[round(q * (len(ordered) - 1))] for q in (0.5, 0.95))
        lines.append(f"latency from frame to result: p50 {p50:.1f} ms, p95 {p95:.1f} ms")
    return lines
