"""Payloads as a device publishes them, for the tests of the collector."""

from __future__ import annotations

import json
from typing import Any

from fleet.records import Sequenced

DEVICE, BOOT, PIPELINE = "line3-cam1", "6e0c9f9e-0000-4000-8000-000000000001", "inspect"
TOPIC = f"edge-agent/{DEVICE}/prediction/{PIPELINE}"
NOW = "2026-11-21T12:00:00.000Z"


def encoded(tree: dict[str, Any]) -> bytes:
    return json.dumps(tree, separators=(",", ":")).encode()


def prediction(seq: int, /, **changed: Any) -> dict[str, Any]:
    return {
        "schema": "edge-agent/prediction/1",
        "time": "2026-11-21T11:59:59.123Z",
        "clock_synced": True,
        "buffered": False,
        "id": f"{BOOT}-{PIPELINE}-{seq}",
        "device": DEVICE,
        "pipeline": PIPELINE,
        "boot_id": BOOT,
        "seq": seq,
        "frame_seq": seq,
        "time_source": "driver",
        "model": {"name": "conveyor", "version": "1.0.0", "sha256": "0" * 64},
        "delegate": "xnnpack",
        "latency_ms": {"capture": 1.2, "align": 0.03, "preprocess": 0.2, "invoke": 2.9, "decode": 0.1, "total": 4.8},
        "outputs": {"class": {"task": "classification", "classes": [{"label": "good", "index": 0, "score": 0.98}]}},
        "readings": {"vibration": {"value": 1.7, "unit": "mm/s", "age_ms": 12.0, "flags": []}},
        "quality": [],
        **changed,
    }


def event(seq: int, /, **changed: Any) -> dict[str, Any]:
    return {
        "schema": "edge-agent/event/1",
        "time": "2026-11-21T11:59:59.123Z",
        "clock_synced": True,
        "device": DEVICE,
        "boot_id": BOOT,
        "seq": seq,
        "kind": "camera_lost",
        "severity": "warning",
        "subject": "front",
        "detail": "no frame for 5 s",
        **changed,
    }


def stats(uptime_s: float, ledger: dict[str, Any] | None = None, **changed: Any) -> dict[str, Any]:
    return {
        "schema": "edge-agent/stats/1",
        "time": f"2026-11-21T12:00:{int(uptime_s) % 60:02d}.000Z",
        "clock_synced": True,
        "device": DEVICE,
        "boot_id": BOOT,
        "uptime_s": uptime_s,
        **({} if ledger is None else {"ledger": ledger}),
        **changed,
    }


def drift(seq: int, **changed: Any) -> dict[str, Any]:
    head = {"schema": "edge-agent/drift/1", "time": NOW, "clock_synced": True, "device": DEVICE, "boot_id": BOOT}
    return {**head, "pipeline": PIPELINE, "seq": seq, **changed}


def info(**changed: Any) -> dict[str, Any]:
    whole = {"schema": "edge-agent/info/1", "time": NOW, "clock_synced": True, "device": DEVICE, "boot_id": BOOT}
    return {**whole, "agent": "0.1.0", **changed}


def row(seq: int, /, **changed: Any) -> Sequenced:
    """A prediction as intake returns it."""
    payload = encoded(prediction(seq, **changed))
    return Sequenced(DEVICE, BOOT, f"prediction/{PIPELINE}", seq, NOW, True, payload, buffered=False)
