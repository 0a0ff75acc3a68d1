"""One user of a secured broker over MQTT 5: it keeps what it hears, and says with which word it was answered."""

from __future__ import annotations

import socket
import struct
import threading
from pathlib import Path
from typing import Any

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from tests.simulators.waiting import wait_for


class Peer:
    def __init__(
        self,
        port: int,
        authority: Path,
        *,
        login: tuple[str, str] | None = None,
        certificate: str | None = None,
        client_id: str = "",
        session_s: int = 0,
        will: str | None = None,
    ) -> None:
        """``authority``: folder with ``ca.pem`` and, for ``certificate``, its pem and key. ``will``: the topic of one
        that says ``forged``; ``session_s``: how long the broker keeps what waits for this client id."""
        self._lock = threading.Lock()
        self._heard: list[tuple[str, bytes]] = []
        self._answers: dict[int, str] = {}
        self._subscribed: set[int] = set()
        self.connected: str | None = None
        self.client = client = paho.Client(CallbackAPIVersion.VERSION2, client_id=client_id, protocol=paho.MQTTv5)
        key = (f"{authority}/{certificate}.pem", f"{authority}/{certificate}.key") if certificate else (None, None)
        client.tls_set(f"{authority}/ca.pem", *key)
        if login is not None:
            client.username_pw_set(*login)
        if will is not None:
            client.will_set(will, "forged", qos=1, retain=True)
        client.on_connect = self._on_connect
        client.on_message = self._on_message
        client.on_publish = self._on_publish
        client.on_subscribe = self._on_subscribe
        properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
        properties.SessionExpiryInterval = session_s
        client.connect("127.0.0.1", port, clean_start=not session_s, properties=properties)
        client.loop_start()
        wait_for(lambda: self.connected, "the broker's answer to the connection")

    def publish(self, topic: str, payload: str = "1", retain: bool = False) -> str:
        """At QoS 1; returns the reason in the PUBACK: ``Success``, ``Not authorized``."""
        message = self.client.publish(topic, payload, qos=1, retain=retain)
        return wait_for(lambda: self._answers.get(message.mid), f"the answer to {topic}")

    def subscribe(self, *filters: str) -> None:
        _, number = self.client.subscribe([(item, paho.SubscribeOptions(qos=1)) for item in filters])
        assert number is not None
        wait_for(lambda: number in self._subscribed, "the answer to a subscription")

    def heard(self) -> list[tuple[str, bytes]]:
        with self._lock:
            return list(self._heard)

    def topics(self) -> list[str]:
        return [topic for topic, _ in self.heard()]

    def wait_topic(self, topic: str) -> None:
        wait_for(lambda: topic in self.topics(), f"{topic} is heard")

    def close(self) -> None:
        self.client.disconnect()
        self.client.loop_stop()

    def vanish(self) -> None:
        """Break the connection without a word: the broker sends the will."""
        self.client.loop_stop()
        connection = self.client.socket()
        assert connection is not None, "not connected"
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        connection.close()

    def _on_connect(self, _client: paho.Client, _data: Any, _flags: Any, reason: Any, _properties: Any) -> None:
        self.connected = str(reason)

    def _on_message(self, _client: paho.Client, _data: Any, message: paho.MQTTMessage) -> None:
        with self._lock:
            self._heard.append((message.topic, message.payload))

    def _on_publish(self, _client: paho.Client, _data: Any, mid: int, reason: Any, _properties: Any) -> None:
        self._answers[mid] = str(reason)

    def _on_subscribe(self, _client: paho.Client, _data: Any, mid: int, _reasons: Any, _properties: Any) -> None:
        self._subscribed.add(mid)
