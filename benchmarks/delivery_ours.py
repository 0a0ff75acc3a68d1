"""The daemon's own way out, without cameras and models: publisher, outbox, storage and, to deliver, the broker."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.costs import MB, Memory, written_bytes
from benchmarks.messages import BOOT_ID, STREAM, TOPICS, records
from edge_agent.agent import SWITCH_INTERVAL_S
from edge_agent.config.schema import MqttConfig
from edge_agent.core.outbox import Bounds, Outbox
from edge_agent.io.clock import SystemClock
from edge_agent.io.mqtt import MqttBroker
from edge_agent.io.outbox_ledger import read_ledger
from edge_agent.io.outbox_sqlite import SqliteOutbox
from edge_agent.outgoing import Refusal
from edge_agent.records import Event
from edge_agent.stages.publisher import Publisher
from edge_agent.stages.storage import StorageWorker
from edge_agent.stages.worker import Services

MEMORY = 16 * 2**20  # [outbox] memory by default
DISK = 8 * 2**30  # nothing is to be given up here
AGE_NS = 7 * 86_400 * 10**9
FED_AT_ONCE = 128  # records between two looks at how much waits, as two pipelines may have on their way


class Away:
    """``ports.Broker`` that is not there."""

    def publish(self, topic: str, payload: bytes, *, qos: int, retain: bool, expiry_s: int | None) -> int:
        raise RuntimeError("nothing is handed over while the window is 0")

    def subscribe(self, topic: str, handler: Any, *, retain_as_published: bool = False) -> None:
        """Nothing ever arrives."""

    def window(self) -> int:
        return 0


class WayOut:
    """The daemon's way out alone: publisher, outbox, storage. Implements ``ports.BrokerListener``."""

    def __init__(self, path: Path, *, every: bool = False, drain: float = 0.0, boot_id: str = BOOT_ID) -> None:
        sys.setswitchinterval(SWITCH_INTERVAL_S)
        self.path = path
        self.up = threading.Event()
        services = Services(SystemClock(), threading.Event(), _say, _died)
        bounds = Bounds(MEMORY, DISK, AGE_NS, round(1e9 / drain) if drain else 0, every)
        self.publisher = Publisher(
            Outbox(bounds, boot_id, durable=True), TOPICS, lambda: [], lambda: [], lambda *_: None, services
        )
        self.storage = StorageWorker(SqliteOutbox(path), boot_id, self.publisher.stored, str(path), services)
        self.publisher.use(Away(), self.storage)

    def start(self) -> None:
        """Until the store is open and checked."""
        self.storage.start()
        self.publisher.start()
        _until(lambda: self.publisher.report()["disk"] == "ok")

    def feed(self, count: int) -> None:
        """As quickly as it takes them, without giving one up: what the daemon's permits do."""
        for fed, record in enumerate(records(count), 1):
            self.publisher.publish(record)
            if fed % FED_AT_ONCE == 0:
                self._wait_for_room(fed)

    def _wait_for_room(self, fed: int) -> None:
        def room() -> bool:
            taken = self.publisher.ledger().get(STREAM, {}).get("produced", 0)
            return fed - _number(taken) <= FED_AT_ONCE and self.reported("bytes") < MEMORY * 3 // 4

        _until(room, 0.0005)

    def reported(self, name: str) -> int:
        return _number(self.publisher.report()[name])

    def stop(self) -> dict[str, Any]:
        """A clean stop. Returns the ledger's row in the file of the run that made the records, and the file's size."""
        self.publisher.stop()
        self.publisher.join()
        self.storage.finish()
        self.storage.join()
        ledger = read_ledger(self.path)
        run = next(run for run in ledger.runs if run.boot_id == BOOT_ID)
        count = run.counts[STREAM]
        return {
            "produced": count.produced,
            "acknowledged": count.acknowledged,
            "stored": count.stored,
            "discarded": count.lost(),
            "adds_up": count.produced == count.acknowledged + count.stored + count.lost(),
            "file_mb": ledger.file_bytes / MB,
        }

    # --- ports.BrokerListener ------------------------------------------------------------------------------------

    def connection(self, up: bool, detail: str) -> None:
        if up:
            self.up.set()
        self.publisher.connection(up)

    def acknowledged(self, token: int, refusal: Refusal | None) -> None:
        self.publisher.acknowledged(token, refusal)

    def reset(self) -> None:
        self.publisher.reset()

    def fault(self, kind: str, detail: str) -> None:
        _say(Event(kind, "error", "broker", detail))


def store(path: str, count: int, every: bool) -> dict[str, Any]:
    """Without a broker, from the first record to the last one's commit."""
    way = WayOut(Path(path), every=every)
    way.start()
    memory, written, started = Memory(), written_bytes(), time.perf_counter()
    way.feed(count)
    if every:
        _until(lambda: way.reported("stored") == count, 0.002)
        seconds = time.perf_counter() - started
        ledger = way.stop()
    else:
        ledger = way.stop()  # commits the rest at once, where a running daemon waits for 4 s
        seconds = time.perf_counter() - started
    return {
        "per_s": count / seconds,
        "peak_mb": memory.peak_over_idle_mb(),
        "written_per_record": (written_bytes() - written) / count,
        **ledger,
    }


def open_store(path: str) -> dict[str, Any]:
    """From the order to open it to the publisher's knowledge that it can be used."""
    way = WayOut(Path(path), boot_id="opened")
    started = time.perf_counter()
    way.start()
    seconds = time.perf_counter() - started
    stored = way.reported("stored")
    way.publisher.stop()
    way.publisher.join()
    way.storage.finish()
    way.storage.join()
    return {"seconds": seconds, "stored": stored}


def drain(path: str, port: int, rate: float) -> dict[str, Any]:
    """A later run delivers what an earlier one stored: from the connection to the last acknowledgement."""
    way = WayOut(Path(path), drain=rate, boot_id="drains")
    broker = MqttBroker(MqttConfig(port=port), Path(), "edge-agent-bench", None, way)
    way.publisher.use(broker, way.storage)
    way.start()
    count = way.reported("stored")
    memory, written = Memory(), written_bytes()
    broker.start()
    way.up.wait()
    window, started = broker.window(), time.perf_counter()

    def delivered() -> bool:
        return not (way.reported("waiting") or way.reported("in_flight"))

    _until(delivered, 0.02)
    seconds = time.perf_counter() - started
    ledger = way.stop()
    broker.stop()
    return {
        "per_s": count / seconds,
        "peak_mb": memory.peak_over_idle_mb(),
        "written_per_record": (written_bytes() - written) / count,
        "window": window,
        **ledger,
    }


def _until(condition: Callable[[], bool], pause_s: float = 0.001) -> None:
    while not condition():
        time.sleep(pause_s)


def _number(value: object) -> int:
    assert isinstance(value, int)
    return value


def _say(event: Event) -> None:
    print(f"{event.kind}: {event.subject}: {event.detail}", file=sys.stderr)


def _died(name: str, error: BaseException) -> None:
    raise SystemExit(f"{name} died: {error!r}")
