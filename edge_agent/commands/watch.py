"""``edge-agent watch``: a subscriber that prints what devices publish, one line each."""

from __future__ import annotations

import argparse
import json
import queue
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

from edge_agent.commands.common import DEFAULT_CONFIG, add_json, parser
from edge_agent.config.schema import MqttConfig
from edge_agent.errors import TransportError
from edge_agent.io.mqtt import MqttBroker
from edge_agent.loading import load_configuration
from edge_agent.outgoing import Refusal

FIRST_ANSWER_S = 10.0


def main(argv: Sequence[str]) -> int:
    options = _arguments().parse_args(argv)
    mqtt, folder = _mqtt(options)
    lines: queue.SimpleQueue[tuple[str, bytes] | bool] = queue.SimpleQueue()
    broker = MqttBroker(mqtt, folder, "", None, _News(lines))
    for topic in ("prediction/+", "event", "availability"):
        broker.subscribe(f"{mqtt.base_topic}/{options.device}/{topic}", lambda *message: lines.put(message[:2]))
    broker.start()
    try:
        return _follow(lines, mqtt, options)
    except KeyboardInterrupt:  # the way to end it
        return 0
    finally:
        broker.stop()


class _News:
    """A BrokerListener that is interested in the connection alone: nothing is published here."""

    def __init__(self, lines: queue.SimpleQueue[Any]) -> None:
        self._lines = lines

    def connection(self, up: bool, detail: str) -> None:
        self._lines.put(up)

    def acknowledged(self, token: int, refusal: Refusal | None) -> None:
        """Nothing was published."""

    def reset(self) -> None:
        """Nothing was under way."""

    def fault(self, kind: str, detail: str) -> None:
        print(f"{kind}: {detail}", file=sys.stderr)


def _follow(lines: queue.SimpleQueue[Any], mqtt: MqttConfig, options: argparse.Namespace) -> int:
    connected = was_connected = False
    printed = 0
    while options.count is None or printed < options.count:
        try:
            item = lines.get(timeout=None if was_connected else FIRST_ANSWER_S)
        except queue.Empty:
            item = False
        if item is False and not connected and not was_connected:
            raise TransportError(
                f"{mqtt.host}:{mqtt.port}: no broker answers there; is it running, are host and port right?"
            )
        if isinstance(item, bool):
            if item != connected:
                print("connected; waiting for messages" if item else "broker lost; waiting for it", file=sys.stderr)
            connected, was_connected = item, True
            continue
        topic, payload = item
        line = _as_json(topic, payload) if options.json else describe(topic, payload)
        printed += "/prediction/" in topic
        print(line, flush=True)
    return 0


def _as_json(topic: str, payload: bytes) -> str:
    """The payload as it is, or, where it is plain text (availability), an object around it."""
    text = payload.decode("utf-8", "replace")
    if text.startswith("{"):
        return text
    *_, device, name = topic.split("/")
    return json.dumps({"device": device, name: text})


def _arguments() -> argparse.ArgumentParser:
    arguments = parser("watch", "Print the predictions, events and availability that devices publish. Ctrl-C ends it.")
    arguments.add_argument(
        "--config", type=Path, metavar="FILE", help=f"take the broker from here (default {DEFAULT_CONFIG})"
    )
    arguments.add_argument("--host", help="broker, where no configuration is at hand")
    arguments.add_argument("--port", type=int)
    arguments.add_argument("--base-topic")
    arguments.add_argument("--device", default="+", help="one device (default: all)")
    arguments.add_argument("--count", type=int, metavar="N", help="end after N predictions")
    add_json(arguments)
    return arguments


def _mqtt(options: argparse.Namespace) -> tuple[MqttConfig, Path]:
    path = options.config or (DEFAULT_CONFIG if options.host is None and DEFAULT_CONFIG.exists() else None)
    loaded = load_configuration(path) if path else None
    mqtt = loaded.config.mqtt if loaded else MqttConfig(insecure=True)
    given = {"host": options.host, "port": options.port, "base_topic": options.base_topic}
    mqtt = msgspec.structs.replace(mqtt, **{key: value for key, value in given.items() if value is not None})
    return mqtt, loaded.folder if loaded else Path()


def describe(topic: str, payload: bytes) -> str:
    """One line for a person. A payload that is not ours is shown as it is."""
    device = topic.split("/")[-3 if "/prediction/" in topic else -2]
    try:
        message = msgspec.json.decode(payload)
        if "/prediction/" in topic:
            return _prediction(message)
        what = f"{message['severity']}: {message['kind']} {message['subject']}: {message['detail']}"
        return f"{message['time'][11:23]}  {device}  {what}"
    except (msgspec.DecodeError, KeyError, TypeError):
        return f"{device}  {topic.rsplit('/', 1)[-1]}: {payload[:200].decode('utf-8', 'replace')}"


def _prediction(message: dict[str, Any]) -> str:
    outputs = "  ".join(f"{name}: {_output(output)}" for name, output in message["outputs"].items())
    readings = " ".join(_reading(name, reading) for name, reading in message["readings"].items())
    flags = f"  ({', '.join(message['quality'])})" if message["quality"] else ""
    total = message["latency_ms"]["total"]
    head = f"{message['time'][11:23]}  {message['device']}/{message['pipeline']} #{message['seq']}"
    return f"{head}  {outputs}  {readings}  {total:.1f} ms {message['delegate']}{flags}"


def _output(output: dict[str, Any]) -> str:
    if output["task"] == "classification":
        best = output["classes"][:1]
        return f"{best[0]['label']} {best[0]['score']:.2f}" if best else "nothing over the threshold"
    if output["task"] == "detection":
        return ", ".join(f"{box['label']} {box['score']:.2f}" for box in output["boxes"]) or "nothing"
    if output["task"] == "regression":
        return f"{output['value']:g} {output['unit']}".strip()
    return f"{output['score']:g}{' ANOMALOUS' if output['anomalous'] else ''}"


def _reading(name: str, reading: dict[str, Any]) -> str:
    value = "-" if reading["value"] is None else f"{reading['value']:g} {reading['unit']}".rstrip()
    flags = f" [{', '.join(reading['flags'])}]" if reading["flags"] else ""
    return f"{name} = {value}{flags}"
