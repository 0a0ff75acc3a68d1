"""The operator's end of the broker: hears what devices say, and publishes what wakes them. Everything that happened
waits in a queue for the one thread that asks; the connection comes back by itself.
"""

from __future__ import annotations

import queue
import time
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType
from typing import Final

from msgspec import Struct

from edge_agent.config.schema import MqttConfig
from edge_agent.errors import TransportError
from edge_agent.io.mqtt import MqttBroker
from edge_agent.outgoing import Refusal

CONNECT_S: Final = 15.0  # for the first connection; later ones take as long as they take
ANSWER_S: Final = 15.0  # for the broker's word on what was published


class Said(Struct, frozen=True):
    """A message. ``topic`` without the base."""

    topic: str
    payload: bytes
    retained: bool


class Connection(Struct, frozen=True):
    """It is up and subscribed, or lost. ``detail``: a sentence."""

    up: bool
    detail: str


class _Answered(Struct, frozen=True):
    token: int
    refusal: str | None


class FleetLink:
    """A context. ``topics``: filters below the base. Used by one thread."""

    def __init__(self, config: MqttConfig, folder: Path, topics: Iterable[str] = ()) -> None:
        """Files of ``config`` are meant from ``folder``. Raises ConfigError."""
        self.base = config.base_topic
        self.connected = False
        self._queue: queue.SimpleQueue[Said | Connection | _Answered] = queue.SimpleQueue()
        self._kept: list[Said | Connection] = []  # what came while an answer was waited for
        # No client id: the broker gives one, and any number of people may look at once.
        self._broker = MqttBroker(config, folder, "", None, _Listener(self._queue))
        for topic in topics:
            self._broker.subscribe(f"{self.base}/{topic}", self._said)

    def connect(self) -> None:
        """Raises TransportError where the first try fails: host, port, TLS, password or access list."""
        self._broker.start()
        first = self._next(CONNECT_S)
        if not isinstance(first, Connection):
            raise TransportError(f"the broker did not answer within {CONNECT_S:g} s")
        if not first.up:
            raise TransportError(first.detail)
        self._kept.append(first)

    def receive(self, timeout_s: float) -> list[Said | Connection]:
        """What happened since; waits so long for something to happen. Empty when nothing did."""
        found = self._kept
        self._kept = []
        item = self._next(0.0 if found else timeout_s)
        while item is not None:
            if not isinstance(item, _Answered):  # of a publication that was given up
                found.append(item)
            item = self._next(0.0)
        return found

    def publish(self, messages: Iterable[tuple[str, bytes]]) -> None:
        """Topics below the base, retained, QoS 1: the broker has them all when this returns. Raises TransportError."""
        end_s = time.monotonic() + ANSWER_S
        under_way: set[int] = set()
        for topic, payload in messages:
            while len(under_way) >= max(1, self._broker.window()):
                self._await_answer(under_way, end_s)
            token = self._broker.publish(f"{self.base}/{topic}", payload, qos=1, retain=True, expiry_s=None)
            under_way.add(token)
        while under_way:
            self._await_answer(under_way, end_s)

    def close(self) -> None:
        self._broker.stop()

    def __enter__(self) -> FleetLink:
        try:
            self.connect()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _await_answer(self, under_way: set[int], end_s: float) -> None:
        item = self._next(max(0.0, end_s - time.monotonic()))
        if item is None:
            raise TransportError(f"the broker did not acknowledge within {ANSWER_S:g} s")
        if not isinstance(item, _Answered):
            self._kept.append(item)
            if isinstance(item, Connection) and not item.up:
                raise TransportError(item.detail)
            return
        if item.token in under_way and item.refusal is not None:
            raise TransportError(
                f"the broker refuses it ({item.refusal}): this user must be allowed to write {self.base}/+/update/bell"
            )
        under_way.discard(item.token)

    def _next(self, timeout_s: float) -> Said | Connection | _Answered | None:
        try:
            item = self._queue.get(timeout=timeout_s) if timeout_s > 0 else self._queue.get_nowait()
        except queue.Empty:
            return None
        if isinstance(item, Connection):
            self.connected = item.up
        return item

    def _said(self, topic: str, payload: bytes, retained: bool) -> None:
        """On the network thread."""
        self._queue.put(Said(topic.removeprefix(f"{self.base}/"), payload, retained))


class _Listener:
    """A BrokerListener; on the network thread."""

    def __init__(self, items: queue.SimpleQueue[Said | Connection | _Answered]) -> None:
        self._items = items

    def connection(self, up: bool, detail: str) -> None:
        self._items.put(Connection(up, detail))

    def acknowledged(self, token: int, refusal: Refusal | None) -> None:
        self._items.put(_Answered(token, None if refusal is None else refusal.reason))

    def reset(self) -> None:
        """What was under way is given up: whoever waits for it is told that the connection was lost."""

    def fault(self, kind: str, detail: str) -> None:
        self._items.put(Connection(False, detail))
