"""Somebody who sends over an MqttBroker as the publisher does: keeps a message until the broker has answered it."""

from __future__ import annotations

import queue
from collections import deque
from pathlib import Path

from edge_agent.config.schema import MqttConfig
from edge_agent.errors import RefusedError, TransportError
from edge_agent.io.mqtt import MqttBroker
from edge_agent.outgoing import Refusal
from tests.simulators.waiting import wait_for


class Sender:
    """A started MqttBroker, and everything that it reported. Messages go out, in order, while the test waits."""

    def __init__(self, config: MqttConfig, folder: Path, client_id: str = "under-test", *, hear: bool = True) -> None:
        self.downs: list[str] = []  # details
        self.faults: list[tuple[str, str]] = []
        self.delivered: list[str] = []
        self.refused: dict[str, Refusal] = {}  # for good; and those that did not even leave
        self.put_off: list[tuple[str, Refusal]] = []  # not for good
        self.ups = self.resets = 0
        self.heard: list[tuple[str, bytes]] = []
        self.widest = 0  # messages under way at once
        self._news: queue.SimpleQueue[tuple[str, tuple[object, ...]]] = queue.SimpleQueue()
        self._waiting: deque[str] = deque()
        self._under_way: dict[int, str] = {}
        self.broker = MqttBroker(config, folder, client_id, None, self)
        if hear:
            self.broker.subscribe("in/#", lambda topic, payload, _retained: self.heard.append((topic, payload)))
        self.broker.start()

    # BrokerListener, on the network thread

    def connection(self, up: bool, detail: str) -> None:
        self.ups += up
        if not up:
            self.downs.append(detail)

    def acknowledged(self, token: int, refusal: Refusal | None) -> None:
        self._news.put(("acknowledged", (token, refusal)))

    def reset(self) -> None:
        self._news.put(("reset", ()))

    def fault(self, kind: str, detail: str) -> None:
        self.faults.append((kind, detail))

    # the test's thread

    def send(self, *payloads: str) -> None:
        self._waiting.extend(payloads)

    def wait(self, *payloads: str, limit_s: float = 30.0) -> None:
        """Until the broker has answered all of these for good."""
        wait_for(lambda: self._pump() or {*self.delivered, *self.refused} >= {*payloads}, f"{payloads}", limit_s)

    def wait_until(self, condition: object, what: str, limit_s: float = 30.0) -> None:
        assert callable(condition)
        wait_for(lambda: self._pump() or condition(), what, limit_s)

    def _pump(self) -> None:
        while not self._news.empty():
            self._take(*self._news.get())
        while self._waiting and len(self._under_way) < self.broker.window():
            payload = self._waiting[0]
            try:
                token = self.broker.publish("out", f"|{payload}".encode(), qos=1, retain=False, expiry_s=None)
            except RefusedError as error:
                self.refused[payload] = Refusal(str(error), True)
            except TransportError:
                return
            else:
                self._under_way[token] = payload
                self.widest = max(self.widest, len(self._under_way))
            self._waiting.popleft()

    def _take(self, what: str, arguments: tuple[object, ...]) -> None:
        if what == "reset":
            self.resets += 1
            self._waiting.extendleft(reversed(self._under_way.values()))
            self._under_way.clear()
            return
        token, refusal = arguments
        assert isinstance(token, int)
        payload = self._under_way.pop(token)  # KeyError: a token that is not, or no longer, under way
        if refusal is None:
            self.delivered.append(payload)
        elif isinstance(refusal, Refusal) and refusal.for_good:
            self.refused[payload] = refusal
        elif isinstance(refusal, Refusal):
            self.put_off.append((payload, refusal))
            self._waiting.append(payload)
