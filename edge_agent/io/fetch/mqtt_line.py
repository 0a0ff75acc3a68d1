"""The connection that pieces of files come over: a client id of its own, driven in the caller's thread.

Two clients with one id throw each other out: the transfer must not share the daemon's.
"""

from __future__ import annotations

import contextlib
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import paho.mqtt.client as paho
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from edge_agent.config.schema import MqttConfig
from edge_agent.errors import TransportError
from edge_agent.io.fetch.chunks import CHUNK_BYTES_MOST
from edge_agent.io.mqtt_client import LastError, make_client, why_refused, why_unreachable

OPEN_TIMEOUT_S: Final = 10.0  # for CONNACK and SUBACK, beside what TCP and TLS take
LOOP_S: Final = 0.2  # how soon a stop is seen
PACKET_BYTES_MOST: Final = 2 * CHUNK_BYTES_MOST  # an MQTT 5 broker keeps larger ones from us


def send_at_once(client: paho.Client) -> None:
    """Otherwise the kernel keeps small packets back until those before are acknowledged: a round trip, or 40 ms."""

    def opened(_client: paho.Client, _data: Any, connection: Any) -> None:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    client.on_socket_open = opened


class LostError(TransportError):
    """This connection has come to nothing; another may do better."""


class MqttLine:
    """One connection with one subscription of QoS 0, used once. ``arrived``: payloads, taken by the caller."""

    def __init__(self, config: MqttConfig, folder: Path, client_id: str, topic: str) -> None:
        """Raises ConfigError (TLS files, password)."""
        self.arrived: list[bytes] = []
        self._config = config
        self._client_id = client_id
        self._topic = topic
        self._subscribed = False
        self._refused: str | None = None
        self._error = LastError()
        self._client = make_client(config, folder, client_id)
        self._error.attach(self._client)
        send_at_once(self._client)
        self._client.on_connect = self._connected
        self._client.on_subscribe = self._granted
        self._client.on_disconnect = self._disconnected
        self._client.on_message = self._message

    def open(self, stopped: Callable[[], bool]) -> None:
        """Connect and subscribe. Raises LostError."""
        config = self._config
        options: dict[str, Any] = {}
        if config.protocol == "5":
            properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
            properties.MaximumPacketSize = PACKET_BYTES_MOST
            options = {"properties": properties, "clean_start": True}
        try:
            self._client.connect(config.host, config.port, round(config.keepalive.seconds), **options)
        except (OSError, ValueError) as error:  # ValueError: a host name that can't be one
            raise LostError(why_unreachable(config, error)) from None
        end_s = time.monotonic() + OPEN_TIMEOUT_S
        while not self._subscribed:
            if stopped():
                raise TransportError("stopped")
            if time.monotonic() > end_s:
                raise LostError(why_unreachable(config, TimeoutError()))
            self.loop(LOOP_S)

    def loop(self, timeout_s: float) -> None:
        """Wait at most that long for a packet, and read it. Raises LostError when the connection is lost."""
        try:
            code = self._client.loop(timeout_s)
        except Exception as error:  # noqa: BLE001  paho raises whatever a malformed packet brings about
            raise LostError(f"the broker sent what MQTT does not allow ({type(error).__name__}: {error})") from None
        if self._refused is not None:
            raise LostError(self._refused)
        if code != paho.MQTT_ERR_SUCCESS:
            raise LostError(self._why())

    def publish(self, topic: str, payload: bytes) -> None:
        self._client.publish(topic, payload, qos=0)

    def close(self) -> None:
        """Never raises."""
        with contextlib.suppress(Exception):  # it is over with this connection, whatever paho finds wrong with it
            self._client.disconnect()
            self._client.loop(0)  # closes the socket

    def _why(self) -> str:
        """Why the connection ended. One that had been good says nothing of host, port or TLS being wrong."""
        error = self._error.error
        if not self._subscribed:
            return why_unreachable(self._config, error)
        cause = getattr(error, "strerror", None) or error or "closed by the broker"
        place = f"{self._config.host}:{self._config.port}"
        return f"the connection to {place} was lost: {cause}; does another client use the id {self._client_id!r}?"

    # --- paho's callbacks, inside ``loop`` -------------------------------------------------------------------------

    def _connected(
        self, client: paho.Client, _data: Any, _flags: Any, reason: ReasonCode, _properties: Properties | None
    ) -> None:
        if reason.is_failure:
            self._refused = why_refused(reason)
        else:
            client.subscribe(self._topic, qos=0)

    def _granted(
        self, _client: paho.Client, _data: Any, _mid: int, reasons: list[ReasonCode], _properties: Properties | None
    ) -> None:
        self._subscribed = True
        if any(reason.is_failure for reason in reasons):
            self._refused = f"the broker denies {self._topic}; give this user the right to read it"

    def _disconnected(self, _client: paho.Client, _data: Any, flags: Any, reason: ReasonCode, _properties: Any) -> None:
        if flags.is_disconnect_packet_from_server and self._refused is None:
            self._refused = f"the broker ended the connection: {reason}"

    def _message(self, _client: paho.Client, _data: Any, message: paho.MQTTMessage) -> None:
        if not message.retain:  # an answer that was kept answers nobody
            self.arrived.append(bytes(message.payload))
