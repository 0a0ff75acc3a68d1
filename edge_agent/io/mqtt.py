"""The broker, through paho. Comes back by itself; what happened is told by callbacks on the network thread.

paho keeps an unacknowledged QoS 1 message over a reconnection and sends it again, in order, so a message that was
handed over leaves in one way only: acknowledged, given back by ``reset``, or lost with the process.

paho's own thread dies without a word when a packet or a callback raises, and can't be stopped while it connects. So the
network thread is ours, and drives paho's ``reconnect`` and ``loop``.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import paho.mqtt.client as paho
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode
from paho.mqtt.subscribeoptions import SubscribeOptions

from edge_agent import limits
from edge_agent.config.schema import MqttConfig
from edge_agent.errors import ConfigError, TransportError
from edge_agent.io import mqtt_client
from edge_agent.io.mqtt_blame import Blame, condemned
from edge_agent.io.mqtt_client import LastError, connect, deliver, make_client, why_refused, why_unreachable
from edge_agent.io.mqtt_link import ANSWER_TIMEOUT_S, Link, Session
from edge_agent.io.mqtt_pace import Pace
from edge_agent.io.mqtt_packet import PACKET_BYTES_MOST, check, expiry, refusal
from edge_agent.io.mqtt_suspect import Suspect, Verdict
from edge_agent.ports import BrokerListener, MessageHandler

LOOP_S = 1.0  # keepalive and time-outs are looked at that often
GOODBYE_S = 0.5  # for the last packets of a stop to get out
STOP_JOIN_S = 1.0


class _SessionOverError(Exception):
    """Raised inside a callback: this session can't go on, and nobody has misbehaved."""


class MqttBroker:
    """One connection under one client id. Implements ``ports.Broker``; one thread publishes."""

    def __init__(
        self,
        config: MqttConfig,
        folder: Path,
        client_id: str,
        will: tuple[str, bytes] | None,
        listener: BrokerListener,
    ) -> None:
        """Files of the configuration are meant from ``folder``; ``will`` is a retained topic and payload, sent by the
        broker when this end dies. Raises ConfigError (TLS files, password)."""
        self._config = config
        self._folder = folder
        self._client_id = client_id
        self._will = will
        self._listener = listener
        self._v5 = config.protocol == "5"
        self._handlers: dict[str, list[MessageHandler]] = {}
        self._as_published: set[str] = set()
        self._lock = threading.Lock()  # over the handlers and _linked: a topic is asked for by the one or the other
        self._linked = False  # the broker accepted the connection
        self._window = 0  # above 0 once messages may be handed over
        self._bytes_most = PACKET_BYTES_MOST
        self._retains = True
        self._suspect = Suspect()
        self._pace = Pace(mqtt_client.RECONNECT_FIRST_S, mqtt_client.RECONNECT_LAST_S)
        self._last_error = LastError()
        self._blame = Blame(config, client_id, self._suspect, self._pace, self._fault)
        self._session = Session(self._new_client(), 0)
        self._stale = False  # the session's client is not to be used again
        self._link = Link()
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None

    # --- from other threads --------------------------------------------------------------------------------------

    def start(self) -> None:
        """Connect in the background; the first connection is tried again like any other."""
        self._thread = threading.Thread(target=self._run, name="mqtt", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Disconnect (no last will is sent) and end the network thread; within about a second, whatever the network
        does. The listener hears nothing more. A thread that is still connecting ends when that attempt does."""
        self._window = 0
        self._stopping.set()
        self._session.client.disconnect()  # wakes the loop
        if self._thread is not None:
            self._thread.join(STOP_JOIN_S)

    def window(self) -> int:
        return min(self._window, 1) if self._suspect.alone else self._window

    def publish(self, topic: str, payload: bytes, *, qos: int, retain: bool, expiry_s: int | None) -> int:
        session = self._session  # the network thread may put another one there at any time: the token says which it was
        if not self._window:
            raise TransportError("not connected to the broker")
        with_expiry = self._v5 and expiry_s is not None
        check(topic, len(payload), self._bytes_most, qos=qos, v5=self._v5, with_expiry=with_expiry)
        properties = expiry(expiry_s) if with_expiry and expiry_s is not None else None
        # MQTT_ERR_NO_CONN (lost just now) is no failure: paho keeps the message and sends it after reconnecting
        info = session.client.publish(topic, payload, qos, retain and self._retains, properties)
        if info.rc == paho.MQTT_ERR_QUEUE_SIZE:
            raise TransportError("the broker leaves a message unanswered whose packet id would be the next one")
        token = session.token(info.mid)
        session.handed(token, time.monotonic())
        return token

    def subscribe(self, topic: str, handler: MessageHandler, *, retain_as_published: bool = False) -> None:
        with self._lock:
            self._as_published |= {topic} if retain_as_published else set()
            handlers = self._handlers.setdefault(topic, [])
            handlers.append(handler)
            client = self._session.client
            client.message_callback_add(topic, deliver(handlers))
            linked = self._linked
        if linked:
            client.subscribe([self._filter(topic)])

    def _filter(self, topic: str) -> tuple[str, Any]:
        if not self._v5:
            return topic, 1
        return topic, SubscribeOptions(qos=1, retainAsPublished=topic in self._as_published)

    # --- the network thread --------------------------------------------------------------------------------------

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                self._serve()
            except _SessionOverError as reason:
                self._down(str(reason))
                self._begin_anew()
            except Exception as error:  # noqa: BLE001 - whatever a packet made paho raise is told
                self._down(self._blame.misbehaved(error, time.monotonic()))
                self._begin_anew()
            self._stopping.wait(self._pace.delay_s(time.monotonic(), random.random()))

    def _serve(self) -> None:
        """One connection, from its making to its end. Raises whatever a packet makes paho raise."""
        if not self._call():
            return
        link, session = self._link, self._session
        try:
            self._drive(session, link)
        finally:
            self._window = 0
            with self._lock:
                self._linked = False
            session.hang_up()
        link.error = self._last_error.error
        if not self._stopping.is_set():
            self._ended(session, link)

    def _call(self) -> bool:
        """Whether there is a connection now, TLS included."""
        try:
            if self._stale:
                self._renew()
            self._link, self._last_error.error = Link(), None
            self._session.client.reconnect()
        except ConfigError as error:  # the password or a certificate was changed since, and not well
            self._down(str(error))
        except (OSError, UnicodeError) as error:  # UnicodeError: a host name that no DNS can hold
            self._down(why_unreachable(self._config, error))
        else:
            return True
        return False

    def _drive(self, session: Session, link: Link) -> None:
        """Until the connection ends, the broker keeps us waiting for too long, or our own end."""
        client = session.client
        end_s = time.monotonic() + min(ANSWER_TIMEOUT_S, 2 * self._config.keepalive.seconds)
        while not self._stopping.is_set() and client.loop(LOOP_S) == paho.MQTT_ERR_SUCCESS:
            now_s = time.monotonic()
            if link.open:
                link.silent = session.stuck(now_s)
            elif link.accepted_s is not None and not link.waits:
                self._open(link)
            else:
                link.silent = now_s > end_s
            if link.silent:
                return
        if self._stopping.is_set():
            end_s = time.monotonic() + GOODBYE_S
            while time.monotonic() < end_s and client.loop(GOODBYE_S) == paho.MQTT_ERR_SUCCESS:
                """The last packets get out, and the word that we leave."""

    def _open(self, link: Link) -> None:
        """New messages may go. paho has queued the unacknowledged ones again by the time it has handled the CONNACK:
        what is handed over from now on can't overtake them."""
        link.open = True
        self._pace.settled()
        self._window = link.granted
        self._tell(lambda: self._listener.connection(True, f"connected to {self._config.host}:{self._config.port}"))

    def _ended(self, session: Session, link: Link) -> None:
        self._down(link.why(self._config))
        verdict = self._blame.ended(session, link, time.monotonic())
        if verdict is Verdict.CONDEMN:
            self._tell(lambda: self._listener.acknowledged(session.first(), condemned(link)))
        if verdict is not Verdict.NOTHING:
            self._begin_anew()

    def _begin_anew(self) -> None:
        """The next connection is another client's. Nobody drives this one again, so it calls back no more."""
        self._stale = True
        self._tell(self._listener.reset)

    def _renew(self) -> None:
        client = self._new_client()
        with self._lock:
            for topic, handlers in self._handlers.items():
                client.message_callback_add(topic, deliver(handlers))
            self._session = self._session.next(client)
        self._stale = False

    def _new_client(self) -> paho.Client:
        client = make_client(self._config, self._folder, self._client_id)
        if self._will is not None:
            client.will_set(self._will[0], self._will[1], qos=1, retain=True)
        connect(client, self._config, mqtt_client.SESSION_EXPIRY_S)
        self._last_error.attach(client)
        client.on_connect = self._connected
        client.on_subscribe = self._subscribed
        client.on_disconnect = self._disconnected
        client.on_publish = self._published
        # Otherwise paho, driven by no thread of its own, writes to the socket in the thread that publishes. What is
        # queued gets out all the same: paho wakes its loop through a socket pair.
        client.on_socket_register_write = lambda *_: None
        return client

    def _down(self, detail: str) -> None:
        self._tell(lambda: self._listener.connection(False, detail))

    def _fault(self, kind: str, detail: str) -> None:
        self._tell(lambda: self._listener.fault(kind, detail))

    def _tell(self, what: Callable[[], None]) -> None:
        if not self._stopping.is_set():
            what()

    # --- paho's callbacks, on the network thread -----------------------------------------------------------------

    def _connected(
        self, client: paho.Client, _data: Any, _flags: Any, reason: ReasonCode, properties: Properties | None
    ) -> None:
        link = self._link
        if reason.is_failure:
            link.refused = why_refused(reason)
            return
        if not getattr(properties, "MaximumQoS", 1):
            link.refused = "the broker takes QoS 0 only: nothing could be delivered for certain; choose another broker"
            client.disconnect()
            return
        link.accepted_s = time.monotonic()
        self._session.connected(link.accepted_s)
        link.granted = max(1, min(limits.INFLIGHT_MOST, getattr(properties, "ReceiveMaximum", limits.INFLIGHT_MOST)))
        if self._session.in_flight > link.granted:
            # paho would send all of them at once, and be thrown out for it
            raise _SessionOverError(f"the broker takes {link.granted} messages at once now, fewer than are under way")
        self._bytes_most = min(PACKET_BYTES_MOST, getattr(properties, "MaximumPacketSize", PACKET_BYTES_MOST))
        self._retains = bool(getattr(properties, "RetainAvailable", 1))
        with self._lock:
            self._linked = True
            filters = [self._filter(topic) for topic in self._handlers]
        link.waits = bool(filters)
        if filters:
            client.subscribe(filters)

    def _subscribed(self, _client: paho.Client, _data: Any, _mid: int, reasons: list[ReasonCode], _more: Any) -> None:
        self._link.waits = False
        refused = [str(reason) for reason in reasons if reason.is_failure]
        if refused:
            what = f"the broker refused a subscription of {self._client_id!r}: {refused[0]}"
            detail = f"{what}; commands do not arrive: check the broker's access list"
            self._blame.tell("subscription_refused", detail, time.monotonic())

    def _disconnected(self, _client: paho.Client, _data: Any, flags: Any, reason: ReasonCode, _properties: Any) -> None:
        self._window = 0
        self._link.reason, self._link.by_packet = reason, flags.is_disconnect_packet_from_server

    def _published(self, _client: paho.Client, _data: Any, mid: int, reason: ReasonCode, _properties: Any) -> None:
        session = self._session
        token = session.token(mid)
        session.answered(token, time.monotonic())
        self._suspect.acknowledged()
        if not self._link.answered:
            self._link.answered = True
            self._pace.acknowledged()
        if not self._stopping.is_set():
            self._listener.acknowledged(token, refusal(reason))
