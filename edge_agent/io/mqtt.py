"""The broker, through paho. Comes back by itself; what happened is told by callbacks on the network thread.

paho keeps an unacknowledged QoS 1 message over a reconnection and sends it again, in order, so a message that was
handed over leaves in one way only: acknowledged, or lost with the process.
"""

from __future__ import annotations

import ssl
import sys
import threading
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode
from paho.mqtt.subscribeoptions import SubscribeOptions

from edge_agent import limits
from edge_agent.config.schema import MqttConfig
from edge_agent.errors import ConfigError, TransportError
from edge_agent.io.secrets import read_secret
from edge_agent.ports import MessageHandler

CREDENTIAL = "mqtt-password"
SESSION_EXPIRY_S = 300  # unacknowledged messages survive a reconnection; commands older than that are not delivered
CONNECT_TIMEOUT_S = 3.0  # bounds a clean stop while the host does not answer
RECONNECT_FIRST_S, RECONNECT_LAST_S = 1, 30


class MqttBroker:
    """One connection under one client id. Implements ``ports.Broker``."""

    def __init__(
        self,
        config: MqttConfig,
        folder: Path,
        client_id: str,
        will: tuple[str, bytes] | None,
        on_change: Callable[[bool, str], None],
        on_acknowledged: Callable[[int, str | None], None],
    ) -> None:
        """Files of the configuration are meant from ``folder``; ``will`` is a retained topic and payload, sent by the
        broker when this end dies. ``on_change`` gets connected and a detail; ``on_acknowledged`` the token of a
        message and, where the broker refused it for good, its reason. Raises ConfigError (TLS files, password)."""
        self._config = config
        self._folder = folder
        self._on_change = on_change
        self._on_acknowledged = on_acknowledged
        self._handlers: dict[str, list[MessageHandler]] = {}
        self._as_published: set[str] = set()
        self._lock = threading.Lock()  # over the handlers and _linked: a topic is asked for by the one or the other
        self._linked = False  # the broker accepted the connection
        self._window = 0  # above 0 once messages may be handed over
        self._window_granted = 0
        self._v5 = config.protocol == "5"
        self._client = self._make_client(client_id)
        if will is not None:
            self._client.will_set(will[0], will[1], qos=1, retain=True)

    def start(self) -> None:
        """Connect in the background; the first connection is tried again like any other."""
        arguments: dict[str, Any] = {}
        if self._v5:
            properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
            properties.SessionExpiryInterval = SESSION_EXPIRY_S
            arguments["properties"] = properties
        self._client.connect_async(
            self._config.host, self._config.port, round(self._config.keepalive.seconds), **arguments
        )
        self._client.loop_start()

    def stop(self) -> None:
        """Disconnect (no last will is sent) and end the network thread."""
        self._client.disconnect()
        self._client.loop_stop()
        self._window = 0

    def window(self) -> int:
        return self._window

    def publish(self, topic: str, payload: bytes, *, qos: int, retain: bool, expiry_s: int | None) -> int:
        if not self._window:
            raise TransportError("not connected to the broker")
        properties = _expiry(expiry_s) if self._v5 and expiry_s is not None else None
        # MQTT_ERR_NO_CONN (lost just now) is no failure: paho keeps the message and sends it after reconnecting
        return self._client.publish(topic, payload, qos, retain, properties).mid

    def subscribe(self, topic: str, handler: MessageHandler, *, retain_as_published: bool = False) -> None:
        with self._lock:
            self._as_published |= {topic} if retain_as_published else set()
            handlers = self._handlers.setdefault(topic, [])
            handlers.append(handler)
            self._client.message_callback_add(topic, self._deliver(handlers))
            linked = self._linked
        if linked:
            self._client.subscribe([self._filter(topic)])

    def _filter(self, topic: str) -> tuple[str, Any]:
        if not self._v5:
            return topic, 1
        return topic, SubscribeOptions(qos=1, retainAsPublished=topic in self._as_published)

    def _make_client(self, client_id: str) -> paho.Client:
        config = self._config
        client = paho.Client(
            CallbackAPIVersion.VERSION2,
            client_id=client_id,
            protocol=paho.MQTTv5 if self._v5 else paho.MQTTv311,
        )
        if config.username is not None:
            password_file = self._folder / config.password_file if config.password_file else None
            client.username_pw_set(config.username, read_secret(password_file, CREDENTIAL))
        if config.tls is not None:
            try:
                client.tls_set(
                    ca_certs=self._path(config.tls.ca),
                    certfile=self._path(config.tls.certificate),
                    keyfile=self._path(config.tls.key),
                )
            except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
                raise ConfigError(
                    f"[mqtt.tls]: the certificates can't be used: {error}; check ca, certificate and key"
                ) from None
        client.max_inflight_messages_set(limits.INFLIGHT_MOST)
        client.reconnect_delay_set(RECONNECT_FIRST_S, RECONNECT_LAST_S)
        client.connect_timeout = CONNECT_TIMEOUT_S
        client.on_connect = self._connected
        client.on_connect_fail = self._connect_failed
        client.on_subscribe = lambda *_: self._ready()
        client.on_disconnect = self._disconnected
        client.on_publish = self._published
        return client

    def _path(self, name: str | None) -> str | None:
        return None if name is None else str(self._folder / name)

    def _deliver(self, handlers: list[MessageHandler]) -> Callable[[paho.Client, Any, paho.MQTTMessage], None]:
        def deliver(_client: paho.Client, _data: Any, message: paho.MQTTMessage) -> None:
            for handler in handlers:
                handler(message.topic, bytes(message.payload), message.retain)

        return deliver

    def _connected(
        self, client: paho.Client, _data: Any, _flags: Any, reason: ReasonCode, properties: Properties | None
    ) -> None:
        if reason.is_failure:
            self._on_change(False, f"the broker refused the connection: {reason}")
            return
        receive_maximum = (
            getattr(properties, "ReceiveMaximum", limits.INFLIGHT_MOST) if self._v5 else limits.INFLIGHT_MOST
        )
        self._window_granted = min(limits.INFLIGHT_MOST, receive_maximum)
        with self._lock:
            self._linked = True
            filters = list(self._handlers)
        if filters:
            client.subscribe([self._filter(topic) for topic in filters])
        else:
            self._ready()

    def _ready(self) -> None:
        """New messages may go. paho sends the unacknowledged ones again after ``on_connect``, and the answer to our
        subscription comes after that: what is handed over from now on can't overtake them."""
        if not self._window and self._linked:
            self._window = self._window_granted
            self._on_change(True, f"connected to {self._config.host}:{self._config.port}")

    def _connect_failed(self, _client: paho.Client, _data: Any) -> None:
        error = sys.exc_info()[1]  # paho calls from its except block and does not hand the reason on
        why = f": {getattr(error, 'strerror', None) or error}" if error else ""
        self._on_change(False, f"{self._config.host}:{self._config.port} can't be reached{why}")

    def _disconnected(
        self, _client: paho.Client, _data: Any, _flags: Any, reason: ReasonCode, _properties: Any
    ) -> None:
        with self._lock:
            self._linked = False
        self._window = 0
        self._on_change(False, f"disconnected: {reason}")

    def _published(self, _client: paho.Client, _data: Any, mid: int, reason: ReasonCode, _properties: Any) -> None:
        self._on_acknowledged(mid, str(reason) if reason.is_failure else None)


@lru_cache(maxsize=16)  # the same few on every message, and building one costs as much as packing it
def _expiry(seconds: int) -> Properties:
    properties = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]
    properties.MessageExpiryInterval = seconds
    return properties


def reachable(config: MqttConfig, folder: Path, timeout_s: float = 3.0) -> str | None:
    """None when the broker accepts a connection with this configuration, else the reason in one line."""
    outcome: list[str | None] = []
    done = threading.Event()

    def changed(connected: bool, detail: str) -> None:
        outcome.append(None if connected else detail)
        done.set()

    try:
        broker = MqttBroker(config, folder, "", None, changed, lambda _token, _reason: None)
        broker.start()
    except (ConfigError, OSError, ssl.SSLError) as error:
        return str(error)
    done.wait(timeout_s)
    broker.stop()
    return outcome[0] if outcome else f"{config.host}:{config.port} did not answer within {timeout_s:g} s"
