"""The broker's end: a persistent session with manual acknowledgement, all in the caller's thread.

Nothing dies unnoticed in the background because nothing runs there: ``poll`` reads the network, and between two calls
nothing changes. What has arrived stays here until the caller has it on the disk and says so.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import paho.mqtt.client as paho
from msgspec import Struct
from paho.mqtt.enums import MQTTErrorCode
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from edge_agent.config.schema import MqttConfig
from edge_agent.core.backoff import Backoff
from edge_agent.errors import TransportError
from edge_agent.io.mqtt_client import SESSION_TAKEN_OVER, LastError, connect, make_client, why_refused, why_unreachable

SESSION_EXPIRY_S = 7 * 86400  # as long as a device keeps what it could not deliver
TOPICS = ("availability", "info", "prediction/+", "drift/+", "stats", "event", "update/status")
UNACKNOWLEDGED_QOS0_MOST = 10_000  # QoS 0 knows no flow control: what exceeds this is counted and given up
RETRY_FIRST_S, RETRY_LAST_S = 1.0, 30.0
TAKEN_OVER_WAIT_S = 30.0  # two that throw each other out would do nothing else
SHORT_S, SHORT_TIMES = 10.0, 3  # connections that end sooner, so often in a row: a fight that the broker does not name
_OWN_ID = "let each collector have its own --client-id"


class Message(Struct, frozen=True):
    topic: str
    payload: bytes
    retained: bool
    qos: int
    mid: int


class Subscription:
    """Connects by itself, again and again. ``say`` gets one line for each change."""

    def __init__(self, config: MqttConfig, folder: Path, client_id: str, say: Callable[[str], None]) -> None:
        """Raises ConfigError (TLS files, password)."""
        self._config = config
        self._say = say
        self.arrived: list[Message] = []
        self.subscribed = False
        self.ever_subscribed = False
        self.given_up = 0  # messages of QoS 0
        self.last_failure = ""
        self._backoff = Backoff(RETRY_FIRST_S, RETRY_LAST_S)
        self._retry_at = 0.0
        self._granted_at: float | None = None  # of this connection
        self._short = 0  # connections in a row that did not last
        self._up = False  # a socket that paho's loop may be called for
        self._error = LastError()
        self._client = make_client(config, folder, client_id, manual_ack=True, clean_session=False)
        self._error.attach(self._client)
        self._client.on_connect = self._connected
        self._client.on_subscribe = self._granted
        self._client.on_disconnect = self._disconnected
        self._client.on_message = self._message
        connect(self._client, config, SESSION_EXPIRY_S, resume=True)

    def poll(self, timeout_s: float) -> None:
        """Read at most one packet, waiting for it at most ``timeout_s``; connect where that is due.

        Raises TransportError where the broker refuses the very first connection or the subscription: the operator
        must act."""
        if not self._up:
            wait_s = self._retry_at - time.monotonic()
            if wait_s > 0:
                time.sleep(min(wait_s, timeout_s))
                return
            self._connect()
            return
        try:
            code = self._client.loop(timeout_s)
        except TransportError:
            raise
        except Exception as error:  # noqa: BLE001  paho raises whatever a malformed packet brings about; it is said
            self._lost(f"the broker sent what MQTT does not allow ({type(error).__name__}: {error})")
            return
        if code != MQTTErrorCode.MQTT_ERR_SUCCESS and self._up:
            self._lost(self._why())

    def acknowledge(self, count: int) -> None:
        """The first ``count`` of ``arrived`` are on the disk: the broker may forget them."""
        done, self.arrived = self.arrived[:count], self.arrived[count:]
        for message in done:
            if message.qos and self._up:
                self._client.ack(message.mid, message.qos)

    def close(self) -> None:
        """Disconnect; the broker keeps the session and what was not acknowledged."""
        self._client.disconnect()
        self._up = self.subscribed = False

    def _connect(self) -> None:
        self._error.error = None
        try:
            self._up = True
            self._client.reconnect()
        except (OSError, ValueError) as error:  # ValueError: a host name that can't be one
            self._lost(why_unreachable(self._config, error))

    def _why(self) -> str:
        """Why the connection ended. One that had been good says nothing of host, port or TLS being wrong."""
        error = self._error.error
        if self._granted_at is None:
            return why_unreachable(self._config, error)
        cause = getattr(error, "strerror", None) or error or "closed by the broker"
        return f"the connection to {self._config.host}:{self._config.port} was lost: {cause}"

    def _connected(
        self, client: paho.Client, _data: Any, _flags: Any, reason: ReasonCode, _properties: Properties | None
    ) -> None:
        if reason.is_failure:
            self._refused(why_refused(reason))
            return
        client.subscribe([(f"{self._config.base_topic}/+/{topic}", 1) for topic in TOPICS])

    def _granted(
        self, _client: paho.Client, _data: Any, _mid: int, reasons: list[ReasonCode], _properties: Properties | None
    ) -> None:
        denied = [f"{topic} ({reason})" for topic, reason in zip(TOPICS, reasons, strict=False) if reason.is_failure]
        if denied:
            base = self._config.base_topic
            self._refused(f"the broker denies {base}/+/{', '.join(denied)}; give this user the right to read {base}/#")
            return
        self.subscribed = self.ever_subscribed = True
        self.last_failure = ""
        self._granted_at = time.monotonic()
        self._say(f"connected to {self._config.host}:{self._config.port}")

    def _refused(self, why: str) -> None:
        if not self.ever_subscribed:
            raise TransportError(why)
        self._lost(why)

    def _disconnected(
        self, _client: paho.Client, _data: Any, _flags: Any, reason: ReasonCode, _properties: Properties | None
    ) -> None:
        if self._up and reason.value == SESSION_TAKEN_OVER:
            self._lost(f"another client connected with this client id: {_OWN_ID}")
            self._retry_at = time.monotonic() + TAKEN_OVER_WAIT_S

    def _lost(self, why: str) -> None:
        self._up = self.subscribed = False
        # Not acknowledged, so the broker sends them again; what it sent with QoS 0 is here alone
        self.arrived = [message for message in self.arrived if not message.qos]
        now = time.monotonic()
        if self._granted_at is not None:
            lasted = now - self._granted_at >= SHORT_S
            self._short = 0 if lasted else self._short + 1
            self._granted_at = None
            if lasted:
                self._backoff.reset()
            elif self._short >= SHORT_TIMES:
                why += f", {self._short} times in a row soon after connecting: is its client id in use? {_OWN_ID}"
        self._retry_at = now + self._backoff.next(random.random())
        if why != self.last_failure:  # once, not every half minute for a weekend
            self._say(f"{why}; trying again")
        self.last_failure = why

    def _message(self, _client: paho.Client, _data: Any, message: paho.MQTTMessage) -> None:
        if not message.qos and len(self.arrived) >= UNACKNOWLEDGED_QOS0_MOST:
            self.given_up += 1
            return
        try:
            topic = message.topic
        except UnicodeDecodeError:
            topic = ""  # rejected as unknown
        self.arrived.append(Message(topic, bytes(message.payload), message.retain, message.qos, message.mid))
