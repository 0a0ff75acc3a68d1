"""Topics and payloads, exactly as docs/mqtt.md and docs/asyncapi.yaml describe them.

A payload is made in two steps: its *body* when the thing happens, and the *seal* (schema, time, clock_synced and, for
predictions, buffered) when it is handed to the network, so that a clock synchronised meanwhile corrects the time.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta, timezone
from functools import lru_cache
from typing import Any

import msgspec
from msgspec import Struct

from edge_agent.outgoing import Schema
from edge_agent.records import AlignedReading, Event, Latency, Prediction

_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
_encode = msgspec.json.Encoder().encode


ONLINE = b"online"
OFFLINE = b"offline"


class Topics(Struct, frozen=True):
    """Every topic of one device. Names are checked by the configuration: no wildcard can get in."""

    base: str
    device: str

    def _of(self, *levels: str) -> str:
        return "/".join((self.base, self.device, *levels))

    @property
    def availability(self) -> str:
        return self._of("availability")

    @property
    def info(self) -> str:
        return self._of("info")

    @property
    def stats(self) -> str:
        return self._of("stats")

    @property
    def event(self) -> str:
        return self._of("event")

    def prediction(self, pipeline: str) -> str:
        return self._of("prediction", pipeline)

    def state(self, pipeline: str) -> str:
        return self._of("state", pipeline)

    def drift(self, pipeline: str) -> str:
        return self._of("drift", pipeline)

    @property
    def feedback(self) -> str:
        return self._of("feedback")

    def setting(self, pipeline: str, setting: str) -> str:
        return self._of("setting", pipeline, setting)

    def response(self, command: str) -> str:
        return self._of("response", command)

    @property
    def update_status(self) -> str:
        return self._of("update", "status")

    @property
    def update_hold(self) -> str:
        return self._of("update", "hold")

    @property
    def update_bells(self) -> tuple[str, str]:
        """This device's, and that of the whole fleet."""
        return self._of("update", "bell"), "/".join((self.base, "_fleet", "update", "bell"))

    @property
    def set_filter(self) -> str:
        return self._of("set", "+", "+")

    @property
    def request_filter(self) -> str:
        return self._of("request", "+")

    def levels(self, topic: str) -> tuple[str, ...]:
        """The levels below the device, empty for a topic that is not this device's."""
        prefix = self._of("")
        return tuple(topic[len(prefix) :].split("/")) if topic.startswith(prefix) else ()


class Identity(Struct, frozen=True):
    """What makes a published prediction unique, given at the decision to publish."""

    device: str
    boot_id: str
    seq: int

    def id(self, pipeline: str) -> str:
        return f"{self.boot_id}-{pipeline}-{self.seq}"


def printable(text: str) -> str:
    """For a log or a terminal: what strangers wrote must neither end the line nor command the terminal."""
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)


def rfc3339(wall_ns: int) -> str:
    """UTC with milliseconds, rounded down: 2026-11-20T22:53:00.123Z."""
    seconds, rest_ns = divmod(wall_ns, 10**9)
    return f"{_date_and_time(seconds)}.{rest_ns // 10**6:03d}Z"


@lru_cache(maxsize=8)  # every prediction of a second begins alike, and strftime costs more than all the rest of a seal
def _date_and_time(seconds: int) -> str:
    return (_EPOCH + timedelta(seconds=seconds)).strftime("%Y-%m-%dT%H:%M:%S")


def seal(schema: Schema, body: bytes, wall_ns: int, clock_synced: bool, buffered: bool | None = None) -> bytes:
    """The whole payload: schema and time in front of a body made by one of the functions below."""
    head = f'{{"schema":"{schema.value}","time":"{rfc3339(wall_ns)}","clock_synced":{_json_bool(clock_synced)}'
    if buffered is not None:
        head += f',"buffered":{_json_bool(buffered)}'
    return head.encode() + (b"}" if body == b"{}" else b"," + body[1:])


def prediction_body(
    prediction: Prediction, identity: Identity | None, outputs: Mapping[str, Mapping[str, object]] | None = None
) -> bytes:
    """Everything of a prediction but the seal. Without an identity (``edge-agent predict``) those keys are null.

    ``outputs`` stands in for the prediction's own where they were aggregated over an interval.
    """
    pipeline = prediction.pipeline if identity else None
    return _encode(
        {
            "id": identity.id(prediction.pipeline) if identity else None,
            "device": identity.device if identity else None,
            "pipeline": pipeline,
            "boot_id": identity.boot_id if identity else None,
            "seq": identity.seq if identity else None,
            "frame_seq": prediction.frame_seq if identity else None,
            "time_source": prediction.time_source,
            "model": {
                "name": prediction.model.name,
                "version": prediction.model.version,
                "sha256": prediction.model.sha256,
            },
            "delegate": prediction.delegate,
            "latency_ms": latency_ms(prediction.latency),
            "outputs": prediction.outputs if outputs is None else outputs,
            "readings": {name: _reading(reading) for name, reading in prediction.readings.items()},
            "quality": prediction.quality,
        }
    )


def state_body(prediction: Prediction, identity: Identity) -> bytes:
    return _encode(
        {
            "device": identity.device,
            "pipeline": prediction.pipeline,
            "id": identity.id(prediction.pipeline),
            "outputs": prediction.outputs,
        }
    )


def event_body(event: Event, device: str, boot_id: str, seq: int) -> bytes:
    return _encode(
        {
            "device": device,
            "boot_id": boot_id,
            "seq": seq,
            "kind": event.kind,
            "severity": event.severity,
            "subject": event.subject,
            "detail": event.detail,
        }
    )


def setting_body(pipeline: str, setting: str, value: object) -> bytes:
    return _encode({"pipeline": pipeline, "setting": setting, "value": value})


def response_body(transaction: object, data: Mapping[str, Any] | None, error: str | None) -> bytes:
    """``data`` where it went well, else ``error``: one line that says what to do."""
    status = "error" if error else "ok"
    return _encode({"status": status, "data": data, "error": error, "transaction": transaction})


def object_body(members: Mapping[str, Any]) -> bytes:
    """A body made of plain values: ``info`` and ``stats``."""
    return _encode(members)


def latency_ms(latency: Latency) -> dict[str, float]:
    return {
        "capture": milliseconds(latency.capture),
        "align": milliseconds(latency.align),
        "preprocess": milliseconds(latency.preprocess),
        "invoke": milliseconds(latency.invoke),
        "decode": milliseconds(latency.decode),
        "total": milliseconds(latency.total),
    }


def milliseconds(ns: int) -> float:
    """Milliseconds with microseconds' resolution, as every payload gives them."""
    return round(ns / 1e6, 3)


def _reading(reading: AlignedReading) -> dict[str, object]:
    age = None if reading.age_ns is None else milliseconds(reading.age_ns)
    flags: Sequence[str] = [flag.value for flag in reading.flags]
    return {"value": reading.value, "unit": reading.unit, "age_ms": age, "flags": flags}


def _json_bool(value: bool) -> str:
    return "true" if value else "false"
