"""What people do instead: a queue in paho, a commit for each message, publishing from memory."""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion

from benchmarks.costs import MB, Memory, written_bytes
from benchmarks.messages import EXPIRY_S, PIPELINE, TOPICS, bodies
from edge_agent.core.wire import seal
from edge_agent.io.clock import SystemClock
from edge_agent.io.mqtt_packet import expiry
from edge_agent.io.outbox_schema import companions
from edge_agent.outgoing import Schema


def paho_queue(count: int) -> dict[str, Any]:
    """``publish`` on a client without a connection, as often as paho takes it."""
    client = _client(100)
    payloads = _payloads(count)
    memory, started, kept = Memory(), time.perf_counter(), 0
    for payload in payloads:
        kept += _publish(client, payload) != paho.MQTT_ERR_QUEUE_SIZE
    seconds = time.perf_counter() - started
    return {"per_s": count / seconds, "peak_mb": memory.peak_over_idle_mb(), "kept": kept}


def commit_each(path: str, count: int) -> dict[str, Any]:
    """One SQLite transaction for each message, safe from power cuts (WAL, synchronous = FULL)."""
    with sqlite3.connect(path, isolation_level=None) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("CREATE TABLE message(id INTEGER PRIMARY KEY, topic TEXT, payload BLOB)")
        topic = TOPICS.prediction(PIPELINE)
        payloads = list(_payloads(count))
        memory, written, started = Memory(), written_bytes(), time.perf_counter()
        for payload in payloads:
            connection.execute("INSERT INTO message(topic, payload) VALUES(?, ?)", (topic, payload))
        seconds = time.perf_counter() - started
    size = sum(file.stat().st_size for file in companions(Path(path)) if file.exists())
    return {
        "per_s": count / seconds,
        "peak_mb": memory.peak_over_idle_mb(),
        "written_per_record": (written_bytes() - written) / count,
        "file_mb": size / MB,
    }


def paho_bare(port: int, count: int, window: int) -> dict[str, Any]:
    """The same payloads through paho and its own thread, from memory, never more than the window unacknowledged; a few
    more wait in paho, so that it always has the next one."""
    client = _client(window)
    room, done = threading.Semaphore(window + 100), threading.Event()
    acknowledged = 0

    def published(*_arguments: Any) -> None:
        nonlocal acknowledged
        acknowledged += 1
        room.release()
        if acknowledged == count:
            done.set()

    connected = threading.Event()
    client.on_connect = lambda *_arguments: connected.set()
    client.on_publish = published
    client.connect("127.0.0.1", port)
    client.loop_start()
    connected.wait()
    memory, started = Memory(), time.perf_counter()
    for payload in _payloads(count):
        room.acquire()
        _publish(client, payload)
    done.wait()
    seconds = time.perf_counter() - started
    client.disconnect()
    client.loop_stop()
    return {"per_s": count / seconds, "peak_mb": memory.peak_over_idle_mb()}


def _client(window: int) -> paho.Client:
    client = paho.Client(CallbackAPIVersion.VERSION2, protocol=paho.MQTTv5)
    client.max_inflight_messages_set(window)
    return client


def _publish(client: paho.Client, payload: bytes) -> int:
    return client.publish(TOPICS.prediction(PIPELINE), payload, qos=1, properties=expiry(EXPIRY_S)).rc


def _payloads(count: int) -> Iterator[bytes]:
    clock = SystemClock()
    for body in bodies(count):
        yield seal(Schema.PREDICTION, body, clock.wall_ns(time.monotonic_ns()), clock.synced(), False)
