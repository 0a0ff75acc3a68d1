"""A subscriber as a stranger would write it: paho, the topics, JSON. It keeps everything that it gets, in order."""

from __future__ import annotations

import json
import threading
from typing import Any

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion

from tests.simulators.waiting import wait_for


class Subscriber:
    """A persistent session under a client id of its own, so that a restarted broker keeps its messages."""

    def __init__(
        self, port: int, topic: str = "edge-agent/#", client_id: str = "stranger", *, host: str = "127.0.0.1"
    ) -> None:
        self._lock = threading.Lock()
        self._messages: list[tuple[str, bytes, bool]] = []
        self._subscribed = threading.Event()
        self.client = paho.Client(CallbackAPIVersion.VERSION2, client_id=client_id, clean_session=False)
        self.client.reconnect_delay_set(1, 1)
        self.client.on_connect = lambda client, *_: client.subscribe(topic, qos=1)
        self.client.on_subscribe = lambda *_: self._subscribed.set()
        self.client.on_message = self._keep
        self.client.connect(host, port)
        self.client.loop_start()
        assert self._subscribed.wait(20), "the broker did not acknowledge the subscription"

    def close(self) -> None:
        self.client.disconnect()
        self.client.loop_stop()

    def _keep(self, _client: paho.Client, _data: Any, message: paho.MQTTMessage) -> None:
        with self._lock:
            self._messages.append((message.topic, message.payload, message.retain))

    def raw(self, part: str = "") -> list[tuple[str, bytes, bool]]:
        with self._lock:
            return [message for message in self._messages if part in message[0]]

    def payloads(self, part: str) -> list[dict[str, Any]]:
        """Decoded JSON payloads of the topics that contain ``part``, in the order of arrival."""
        return [json.loads(payload) for _, payload, _ in self.raw(part)]

    def predictions(self) -> list[dict[str, Any]]:
        return self.payloads("/prediction/")

    def events(self, kind: str) -> list[dict[str, Any]]:
        return [event for event in self.payloads("/event") if event["kind"] == kind]

    def last(self, part: str) -> dict[str, Any] | None:
        found = self.payloads(part)
        return found[-1] if found else None

    def wait_predictions(self, count: int, limit_s: float = 60.0) -> list[dict[str, Any]]:
        wait_for(lambda: len(self.predictions()) >= count, f"{count} predictions", limit_s)
        return self.predictions()

    def publish(self, topic: str, payload: str | bytes, retain: bool = False) -> None:
        self.client.publish(topic, payload, qos=1, retain=retain).wait_for_publish(20)
