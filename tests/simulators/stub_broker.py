"""A small MQTT broker over real TCP that a test makes misbehave. It keeps what it gets and forwards nothing.

Well-behaved unless told otherwise: ``answer`` sees each packet first and may do anything with the conversation.
"""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
from collections.abc import Callable
from dataclasses import dataclass, field

from tests.simulators.broker import free_port

CONNECT, CONNACK, PUBLISH, PUBACK, SUBSCRIBE, SUBACK, PINGREQ, PINGRESP, DISCONNECT = 1, 2, 3, 4, 8, 9, 12, 13, 14


def packet(kind: int, body: bytes = b"", flags: int = 0) -> bytes:
    length, size = bytearray(), len(body)
    while True:
        size, low = divmod(size, 128)
        length.append(low | (0x80 if size else 0))
        if not size:
            return bytes([kind << 4 | flags]) + bytes(length) + body


@dataclass
class Packet:
    kind: int
    flags: int
    body: bytes

    @property
    def qos(self) -> int:
        return self.flags >> 1 & 3

    @property
    def mid(self) -> int:
        """Of PUBLISH (QoS 1) or SUBSCRIBE."""
        at = 2 + struct.unpack_from("!H", self.body)[0] if self.kind == PUBLISH else 0
        return int(struct.unpack_from("!H", self.body, at)[0])

    @property
    def topic(self) -> str:
        (size,) = struct.unpack_from("!H", self.body)
        return self.body[2 : 2 + size].decode()


@dataclass
class Conversation:
    """One connection of a client. ``v5`` is known from its CONNECT on."""

    socket: socket.socket
    number: int
    v5: bool = False
    silent: bool = False  # nothing is answered any more
    publishes: list[Packet] = field(default_factory=list)

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self.socket.shutdown(socket.SHUT_RDWR)
        self.socket.close()

    def leave(self) -> None:
        """Close so that what was sent before arrives: to close with unread data resets the connection."""
        self.silent = True
        self.socket.shutdown(socket.SHUT_WR)

    def connack(self, reason: int = 0, properties: bytes = b"") -> None:
        self.send(packet(CONNACK, bytes([0, reason]) + (bytes([len(properties)]) + properties if self.v5 else b"")))

    def puback(self, mid: int, reason: int | None = None) -> None:
        self.send(packet(PUBACK, struct.pack("!H", mid) + (b"" if reason is None else bytes([reason, 0]))))

    def disconnect(self, reason: int) -> None:
        """MQTT 5's last word of a broker."""
        self.send(packet(DISCONNECT, bytes([reason, 0])))
        self.close()

    def behave(self, one: Packet, properties: bytes = b"") -> None:
        """The answer of a good broker."""
        if one.kind == CONNECT:
            self.connack(0, properties)
        elif one.kind == SUBSCRIBE:
            self.send(packet(SUBACK, struct.pack("!H", one.mid) + (b"\0" if self.v5 else b"") + b"\1"))
        elif one.kind == PUBLISH and one.qos:
            self.puback(one.mid)
        elif one.kind == PINGREQ:
            self.send(packet(PINGRESP))


Answer = Callable[[Conversation, Packet], bool]
"""Returns whether it has dealt with the packet; False: a good broker's answer follows."""


class StubBroker:
    """``connack_properties``: MQTT 5, packed. ``received``: payloads by arrival, repetitions too."""

    def __init__(self, answer: Answer | None = None, connack_properties: bytes = b"") -> None:
        self.answer = answer
        self.connack_properties = connack_properties
        self.conversations: list[Conversation] = []
        self.publishes: list[Packet] = []
        self.port = free_port()
        self._server = socket.create_server(("127.0.0.1", self.port), backlog=64)
        self._threads = [threading.Thread(target=self._accept, name="stub broker", daemon=True)]
        self._threads[0].start()

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._server.shutdown(socket.SHUT_RDWR)  # wakes accept
        self._server.close()
        self._threads[0].join(10)
        for conversation in self.conversations:
            conversation.close()
        for thread in self._threads:
            thread.join(10)

    @property
    def received(self) -> list[bytes]:
        """The ends of the PUBLISH packets' bodies, from the payload's mark ``|`` on."""
        return [one.body.partition(b"|")[2] for one in self.publishes]

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._server.accept()
            except OSError:
                return
            conversation = Conversation(connection, len(self.conversations))
            self.conversations.append(conversation)
            thread = threading.Thread(target=self._talk, args=(conversation,), name="stub broker", daemon=True)
            self._threads.append(thread)
            thread.start()

    def _talk(self, conversation: Conversation) -> None:
        # the client may hang up, and the test close, at any moment
        with contextlib.suppress(OSError, EOFError), conversation.socket.makefile("rb") as stream:
            while True:
                one = _read(stream.read)
                if one.kind == CONNECT:
                    conversation.v5 = one.body[6:7] == b"\5"
                if one.kind == PUBLISH:
                    self.publishes.append(one)
                    conversation.publishes.append(one)
                if one.kind == DISCONNECT:
                    break
                if conversation.silent or (self.answer is not None and self.answer(conversation, one)):
                    continue
                conversation.behave(one, self.connack_properties)
        conversation.close()


def _read(read: Callable[[int], bytes]) -> Packet:
    def take(size: int) -> bytes:
        data = read(size)
        if len(data) < size:
            raise EOFError
        return data

    head = take(1)[0]
    size, shift = 0, 0
    while True:
        byte = take(1)[0]
        size |= (byte & 127) << shift
        shift += 7
        if byte < 128:
            break
    return Packet(head >> 4, head & 15, take(size))
