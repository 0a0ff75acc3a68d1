"""HTTP connections whose time and bytes are bounded as a whole, and that another thread can cut.

The time-out of a socket begins anew with each byte, and http.client reads lines, headers and "100 Continue" answers
without an end: so every read from the network goes through ``Line``.
"""

from __future__ import annotations

import contextlib
import http.client
import io
import socket
import threading
from typing import Any, Final

from urllib3.connection import HTTPConnection, HTTPSConnection

from edge_agent.errors import TooLargeError, TransportError
from edge_agent.io.fetch.pace import Pace

# Status line, headers and chunk marks, beside twice the bytes of the body (which may come in small chunks).
HEAD_BYTES_MOST: Final = 2**17
SLOW_BUFFER_BYTES: Final = 2**16


class Line:
    """What the connection under way may take."""

    def __init__(self, pace: Pace) -> None:
        self.pace = pace
        self._bytes_left = 0
        self._lock = threading.Lock()
        self._plugged: socket.socket | None = None
        self._stopping = threading.Event()

    @property
    def stopped(self) -> bool:
        return self._stopping.is_set()

    def begin(self, most: int) -> None:
        """A request begins, with ``most`` bytes to come. Raises TransportError when stopped."""
        self._ended()
        self.pace.begin()
        self._bytes_left = 2 * most + HEAD_BYTES_MOST

    def plug(self, connection: socket.socket) -> None:
        """The connection that ``stop`` cuts from now on. Raises TransportError when stopped."""
        with self._lock:
            self._plugged = connection
        self._ended()

    def stop(self) -> None:
        """From any thread: what reads raises TransportError at once, now and later."""
        with self._lock:
            self._stopping.set()
            if self._plugged is not None:
                with contextlib.suppress(OSError):  # it is not connected any more
                    # Not SSLSocket's own, which is not meant for two threads
                    socket.socket.shutdown(self._plugged, socket.SHUT_RDWR)

    def before_read(self) -> float:
        """Wait as the rate wants; then how long the read may take. Raises TransportError."""
        self._stopping.wait(self.pace.delay_s())
        self._ended()
        return self.pace.left_s()

    def received(self, count: int) -> None:
        """Raises TransportError when that is more than was allowed."""
        self._bytes_left -= count
        if self._bytes_left < 0:
            raise TooLargeError("the server's answer has no end")
        self.pace.received(count)

    def _ended(self) -> None:
        if self.stopped:
            raise TransportError("stopped")


class _Reader(io.RawIOBase):
    def __init__(self, raw: io.RawIOBase, connection: socket.socket, line: Line) -> None:
        self._raw = raw
        self._connection = connection
        self._line = line

    def readable(self) -> bool:
        return True

    def fileno(self) -> int:
        return self._raw.fileno()

    def readinto(self, buffer: Any, /) -> int | None:
        self._connection.settimeout(self._line.before_read())
        count = self._raw.readinto(buffer)
        self._line.received(count or 0)
        return count

    def close(self) -> None:
        self._raw.close()
        super().close()


class _Response(http.client.HTTPResponse):
    def __init__(self, sock: socket.socket, *arguments: Any, line: Line, **options: Any) -> None:
        super().__init__(sock, *arguments, **options)
        self.fp = io.BufferedReader(_Reader(self.fp.detach(), sock, line))


class PlainConnection(HTTPConnection):
    """For a pool's ``ConnectionCls``; the pool is given ``line``."""

    def __init__(self, *arguments: Any, line: Line, **options: Any) -> None:
        super().__init__(*arguments, **options)
        _put_on(self, line)

    def connect(self) -> None:
        super().connect()
        self.line.plug(self.sock)

    line: Line


class SecureConnection(HTTPSConnection):
    """As PlainConnection, with TLS."""

    def __init__(self, *arguments: Any, line: Line, **options: Any) -> None:
        super().__init__(*arguments, **options)
        _put_on(self, line)

    def connect(self) -> None:
        super().connect()
        self.line.plug(self.sock)

    line: Line


def _put_on(connection: Any, line: Line) -> None:
    connection.line = line
    connection.response_class = lambda *arguments, **options: _Response(*arguments, line=line, **options)
    if line.pace.rate:  # else the kernel takes megabytes in before anybody reads
        options = connection.socket_options or []
        connection.socket_options = [*options, (socket.SOL_SOCKET, socket.SO_RCVBUF, SLOW_BUFFER_BYTES)]
