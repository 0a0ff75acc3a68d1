"""The state of one client and of one connection of it, and how that connection's end is told."""

from __future__ import annotations

import ssl
import threading
from typing import Final

import paho.mqtt.client as paho
from paho.mqtt.reasoncodes import ReasonCode

from edge_agent.config.schema import MqttConfig
from edge_agent.io.mqtt_client import SESSION_TAKEN_OVER, why_unreachable

# Answers to CONNECT and SUBSCRIBE must be there by then, whatever else the broker sends; less with a short keepalive.
ANSWER_TIMEOUT_S: Final = 15.0
# A message that was handed over is acknowledged by then, or sent again over a new connection (MQTT forbids it over the
# same). Long: a broker's disk can stall, and a slow line is kept busy by a full window.
UNANSWERED_S = 60.0

_UNSPECIFIED, _PROTOCOL_ERROR, _KEEPALIVE = 0x80, 0x82, 0x8D
# Reasons of a DISCONNECT that have nothing to do with what a message holds: busy, shutting down, receive maximum, rate,
# quota, administrative action, moved and so on.
_CLEARS_THE_MESSAGES = frozenset(
    {0x89, 0x8B, _KEEPALIVE, SESSION_TAKEN_OVER, 0x93, 0x96, 0x97, 0x98, 0x9C, 0x9D, 0x9F, 0xA0}
)


class Session:
    """One client, and what it was handed that the broker has not answered. Tokens of different sessions differ. Used by
    the publishing thread and the network thread."""

    def __init__(self, client: paho.Client, number: int) -> None:
        self.client = client
        self._number = number
        # A leaf: held while paho is called, it would deadlock with the lock that paho holds during ``on_publish``.
        self._lock = threading.Lock()
        self._under_way: dict[int, None] = {}  # in the order of handing over
        self._early: set[int] = set()  # answered before the publishing thread knew the token
        self._progress_s = 0.0
        self._overtaken_s: float | None = None  # when a later message was answered before the first

    def next(self, client: paho.Client) -> Session:
        return Session(client, self._number + 1)

    def token(self, mid: int) -> int:
        return self._number << 16 | mid

    def handed(self, token: int, now_s: float) -> None:
        with self._lock:
            if token in self._early:
                self._early.discard(token)
                return
            if not self._under_way:
                self._progress_s = now_s
            self._under_way[token] = None

    def answered(self, token: int, now_s: float) -> None:
        with self._lock:
            self._progress_s = now_s
            if token not in self._under_way:
                self._early.add(token)
            elif token == next(iter(self._under_way)):
                self._overtaken_s = None
            else:
                self._overtaken_s = self._overtaken_s or now_s
            self._under_way.pop(token, None)

    def connected(self, now_s: float) -> None:
        """What is under way goes out again."""
        self._progress_s, self._overtaken_s = now_s, None

    @property
    def in_flight(self) -> int:
        return len(self._under_way)

    def first(self) -> int:
        """The token handed over first among those not answered; there must be one."""
        return next(iter(self._under_way))

    def stuck(self, now_s: float) -> bool:
        """Nothing was answered for too long, or a message was left out: brokers answer in order (MQTT 5.0, 4.6)."""
        if not self._under_way:
            return False
        overtaken = self._overtaken_s is not None and now_s - self._overtaken_s > UNANSWERED_S
        return overtaken or now_s - self._progress_s > UNANSWERED_S

    def hang_up(self) -> None:
        """At once, without a word: the client does not notice before it is driven again."""
        socket = self.client.socket()
        if socket is not None:
            socket.close()


class Link:
    """One connection, written by the network thread."""

    def __init__(self) -> None:
        self.accepted_s: float | None = None  # when the broker's CONNACK said yes
        self.granted = 0  # its receive maximum
        self.waits = False  # for the answer to the subscription
        self.open = False  # messages may go
        self.answered = False  # it took, or refused, a message
        self.refused: str | None = None
        self.silent = False  # no answer in time
        self.reason: ReasonCode | None = None  # of the end
        self.by_packet = False  # the broker said so itself (MQTT 5)
        self.error: BaseException | None = None

    @property
    def taken_over(self) -> bool:
        return self.by_packet and self.reason is not None and self.reason.value == SESSION_TAKEN_OVER

    @property
    def malformed(self) -> bool:
        """paho gave up on what the broker sent."""
        by_us = self.reason is not None and not self.by_packet and self.reason.value == _PROTOCOL_ERROR
        return by_us and self.refused is None

    @property
    def closed_by_peer(self) -> bool:
        """The broker ended an accepted connection, and gave no reason that clears the messages."""
        if self.accepted_s is None or self.silent or self.reason is None:
            return False
        if self.by_packet:
            return self.reason.value not in _CLEARS_THE_MESSAGES
        gone = self.error is None or isinstance(self.error, (ConnectionError, ssl.SSLError))
        return gone and self.reason.value == _UNSPECIFIED

    def why(self, config: MqttConfig) -> str:
        """How it ended, in one line for a person."""
        where = f"{config.host}:{config.port}"
        if self.refused is not None:
            return self.refused
        if self.by_packet:
            return f"the broker closed the connection: {self.reason}"
        if self.malformed:
            return f"{where} sent a malformed packet; is it an MQTT broker?"
        if self.silent or (self.reason is not None and self.reason.value == _KEEPALIVE):
            return (
                f"{where} does not answer any more"
                if self.open
                else f"{where} accepts connections, but does not answer"
            )
        if self.accepted_s is None:
            return why_unreachable(config, self.error or ConnectionError("it closed the connection without an answer"))
        return f"the broker closed the connection{f' ({self.error})' if self.error is not None else ''}"
