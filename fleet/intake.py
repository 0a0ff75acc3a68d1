"""Topic and payload in, a typed row or a named rejection out. Pure; whatever the bytes are, it does not raise.

Keys that are not known here are let through: additions to a payload are free.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Annotated, Any, TypeVar

import msgspec
from msgspec import Meta, Struct, field

from fleet.records import (
    COUNT_MOST,
    DRIFT,
    EVENTS,
    PREDICTIONS,
    Availability,
    Info,
    Reason,
    Rejected,
    Rollout,
    Row,
    Sequenced,
    Stats,
    Told,
)

PAYLOAD_BYTES_MOST = 2**20
DEPTH_MOST = 64  # ours have 7 levels; SQLite's JSON functions give up at 1000
_DETAIL_MOST = 300

_DEVICE = re.compile(r"[a-z0-9-]{1,63}")
_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}")

_Text = Annotated[str, Meta(max_length=4096)]
_Time = Annotated[str, Meta(pattern=r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,9})?Z$", max_length=32)]
_BootId = Annotated[str, Meta(pattern=r"^[A-Za-z0-9-]{1,64}$", max_length=64)]
_decode = msgspec.json.Decoder().decode
T = TypeVar("T", bound=Struct)


class _Prediction(Struct):
    device: str
    pipeline: str
    boot_id: _BootId
    seq: int
    time: _Time
    clock_synced: bool
    buffered: bool


class _Event(Struct):
    device: str
    boot_id: _BootId
    seq: int
    time: _Time
    clock_synced: bool
    kind: _Text
    severity: _Text
    subject: _Text
    detail: _Text


class _Stats(Struct):
    device: str
    boot_id: _BootId
    time: _Time
    uptime_s: Annotated[float, Meta(ge=0, le=1e12)]
    ledger: dict[str, Told] = field(default_factory=dict)  # absent before the daemon had one


class _Info(Struct):
    device: str
    boot_id: _BootId


class _Drift(Struct):
    device: str
    pipeline: str
    boot_id: _BootId
    seq: int
    time: _Time
    clock_synced: bool


class _Status(Struct):
    device: str
    time: _Time


class _RefusedError(Exception):
    def __init__(self, reason: Reason, detail: str) -> None:
        super().__init__(detail)
        self.reason, self.detail = reason, detail


def read(base: str, topic: str, payload: bytes) -> Row | Rejected:
    """``base`` is ``mqtt.base_topic``."""
    try:
        return _row(base, topic, payload)
    except _RefusedError as refused:
        # printable: what a stranger sent ends up in a terminal
        detail = "".join(char if char.isprintable() else "?" for char in refused.detail[:_DETAIL_MOST])
        return Rejected(topic, refused.reason, detail, payload)


def _row(base: str, topic: str, payload: bytes) -> Row:
    levels = topic[len(base) + 1 :].split("/") if topic.startswith(base + "/") else []
    match levels:
        case [device, "prediction" | "drift" as what, pipeline]:
            read_as = _prediction if what == "prediction" else _drift
            return read_as(_named(device), _named(pipeline, _NAME), payload)
        case [device, *below] if "/".join(below) in _OF_DEVICE:
            return _OF_DEVICE["/".join(below)](_named(device), payload)
    raise _RefusedError(Reason.UNKNOWN_TOPIC, f"{topic!r} is none of those that a device below {base!r} publishes")


def _named(name: str, pattern: re.Pattern[str] = _DEVICE) -> str:
    if not pattern.fullmatch(name):
        raise _RefusedError(Reason.BAD_NAME, f"{name!r} in the topic: expected {pattern.pattern}")
    return name


def _prediction(device: str, pipeline: str, payload: bytes) -> Sequenced:
    found = _typed(payload, _Prediction, "prediction", device)
    _same(pipeline, found.pipeline)
    return Sequenced(
        device,
        found.boot_id,
        PREDICTIONS + pipeline,
        _seq(found.seq),
        found.time,
        found.clock_synced,
        payload,
        found.buffered,
    )


def _event(device: str, payload: bytes) -> Sequenced:
    found = _typed(payload, _Event, "event", device)
    warning = None
    if found.severity in ("warning", "error"):
        line = f"{found.severity}: {found.kind} {found.subject}: {found.detail}"
        warning = "".join(char if char.isprintable() else "?" for char in line)
    return Sequenced(
        device, found.boot_id, EVENTS, _seq(found.seq), found.time, found.clock_synced, payload, warning=warning
    )


def _drift(device: str, pipeline: str, payload: bytes) -> Sequenced:
    found = _typed(payload, _Drift, "drift", device)
    _same(pipeline, found.pipeline)
    name = DRIFT + pipeline
    return Sequenced(device, found.boot_id, name, _seq(found.seq), found.time, found.clock_synced, payload)


def _stats(device: str, payload: bytes) -> Stats:
    found = _typed(payload, _Stats, "stats", device)
    return Stats(device, found.boot_id, found.time, found.uptime_s, found.ledger, payload)


def _rollout(device: str, payload: bytes) -> Rollout:
    return Rollout(device, _typed(payload, _Status, None, device).time, payload)


def _info(device: str, payload: bytes) -> Info:
    return Info(device, _typed(payload, _Info, "info", device).boot_id, payload)


def _availability(device: str, payload: bytes) -> Availability:
    if payload not in (b"online", b"offline"):
        reason = Reason.WRONG_TYPE if payload else Reason.EMPTY
        raise _RefusedError(reason, f"availability {payload[:40]!r}: expected online or offline")
    return Availability(device, payload.decode())


_OF_DEVICE: dict[str, Callable[[str, bytes], Row]] = {
    "event": _event,
    "stats": _stats,
    "update/status": _rollout,
    "info": _info,
    "availability": _availability,
}


def _same(pipeline: str, named: str) -> None:
    if named != pipeline:
        raise _RefusedError(Reason.OTHER_PIPELINE, f"pipeline {named!r} on the topic of {pipeline!r}")


def _seq(seq: int) -> int:
    if not 0 <= seq <= COUNT_MOST:
        raise _RefusedError(Reason.SEQ, "seq is below 0 or over 2^53")
    return seq


def _typed(payload: bytes, kind: type[T], schema: str | None, device: str) -> T:
    """``schema``: the word in ``edge-agent/<word>/1``; None: any of ours, of number 1."""
    tree = _tree(payload)
    named = tree.get("schema")
    if not isinstance(named, str) or not re.fullmatch(rf"edge-agent/{schema or '[a-z-]{1,40}'}/1", named):
        raise _RefusedError(Reason.OTHER_SCHEMA, f"schema {named!r}: expected edge-agent/{schema or '<what>'}/1")
    if isinstance(tree.get("device"), str) and tree["device"] != device:
        raise _RefusedError(Reason.OTHER_DEVICE, f"device {tree['device']!r} on the topic of {device!r}")
    try:
        return msgspec.convert(tree, kind)
    except msgspec.ValidationError as error:
        raise _RefusedError(Reason.WRONG_TYPE, str(error)) from None


def _tree(payload: bytes) -> dict[str, Any]:
    """All of it decoded: what is stored can be read again by every JSON parser."""
    if not payload:
        raise _RefusedError(Reason.EMPTY, "no payload: a retained message was cleared")
    if len(payload) > PAYLOAD_BYTES_MOST:
        raise _RefusedError(Reason.TOO_LARGE, f"{len(payload)} bytes: at most {PAYLOAD_BYTES_MOST}")
    try:
        tree = _decode(payload)
    except RecursionError:
        raise _RefusedError(Reason.TOO_DEEP, f"nested deeper than {DEPTH_MOST} levels") from None
    except (msgspec.DecodeError, ValueError) as error:  # ValueError: a lone surrogate, bytes that are no UTF-8
        raise _RefusedError(Reason.NOT_JSON, str(error)) from None
    if payload.count(b"{") + payload.count(b"[") > DEPTH_MOST and deeper(tree, DEPTH_MOST):
        raise _RefusedError(Reason.TOO_DEEP, f"nested deeper than {DEPTH_MOST} levels")
    if not isinstance(tree, dict):
        raise _RefusedError(Reason.WRONG_TYPE, "expected an object")
    return tree


def deeper(tree: object, most: int) -> bool:
    """Whether containers are nested more than ``most`` levels."""
    level = [tree]
    for _ in range(most):
        level = [child for node in level for child in _children(node) if isinstance(child, (dict, list))]
        if not level:
            return False
    return True


def _children(node: object) -> Any:
    return node.values() if isinstance(node, dict) else node


def same_but_the_seal(one: bytes, other: bytes) -> bool:
    """Whether two payloads that intake accepted differ in nothing but what a later delivery may correct: ``buffered``,
    ``time`` and ``clock_synced``."""
    return one == other or _without_seal(one) == _without_seal(other)


def _without_seal(payload: bytes) -> bytes:
    tree = _decode(payload)
    for key in ("buffered", "time", "clock_synced"):
        tree.pop(key, None)
    return msgspec.json.encode(tree, order="deterministic")
