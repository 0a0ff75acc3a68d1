"""What answers questions for pieces of a file over a real broker, as a test wants: nothing, too much, or wrong."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from types import TracebackType
from typing import Any

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion

from edge_agent.io.fetch.chunks import Get, Head, decode_get, encode_chunk
from tests.simulators.waiting import wait_for

TOPIC = "edge-agent/cam1/update"


def good(get: Get, content: bytes) -> bytes:
    return encode_chunk(Head(get.id, get.path, get.offset, len(content)), content[get.offset :][: get.length])


class ChunkAnswerer:
    """A context. ``answer`` gets the number of the question and the question; what it returns is published.
    ``asked``: all questions so far."""

    def __init__(self, port: int, answer: Callable[[int, Get], Iterable[bytes]]) -> None:
        self.asked: list[Get] = []
        self._port = port
        self._answer = answer
        self._subscribed = False
        self.client = paho.Client(CallbackAPIVersion.VERSION2, client_id="answerer")
        self.client.on_subscribe = self._granted
        self.client.on_message = self._message

    def __enter__(self) -> ChunkAnswerer:
        self.client.connect("127.0.0.1", self._port)
        self.client.loop_start()
        self.client.subscribe(f"{TOPIC}/get")
        wait_for(lambda: self._subscribed, "the answerer is subscribed")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.client.disconnect()
        self.client.loop_stop()

    def say(self, payload: bytes, *, retain: bool = False) -> None:
        self.client.publish(f"{TOPIC}/chunk", payload, retain=retain)

    def _granted(self, *_: Any) -> None:
        self._subscribed = True

    def _message(self, _client: paho.Client, _data: Any, message: paho.MQTTMessage) -> None:
        get = decode_get(message.payload)
        self.asked.append(get)
        for payload in self._answer(len(self.asked) - 1, get):
            self.say(payload)
