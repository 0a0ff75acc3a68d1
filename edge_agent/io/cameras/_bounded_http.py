"""HTTP connections on which time and bytes are bounded as a whole. The time-out of a socket begins anew with each byte:
a server that sends one a second, or a header or redirection without an end, would never be given up."""

from __future__ import annotations

import functools
import http.client
import io
import socket
import ssl
import urllib.request
from typing import Any, Final

from edge_agent.io.cameras._resolve import addresses_of
from edge_agent.ports import Clock

# Headers and the bodies of refusals and redirections; cameras send a few hundred bytes.
ANSWER_BYTES_MOST: Final = 2**20


class Allowance:
    """What the steps under way may take, all of them together. Used by one thread."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._until_ns = 0
        self._bytes: int | None = None

    def begin(self, timeout_ns: int, most_bytes: int | None = None) -> None:
        """From now on. ``most_bytes``: to be received; None for any number."""
        self._until_ns = self._clock.monotonic_ns() + timeout_ns
        self._bytes = most_bytes

    def left_s(self) -> float:
        """Above 0. Raises TimeoutError when nothing is left."""
        left_ns = self._until_ns - self._clock.monotonic_ns()
        if left_ns <= 0:
            raise TimeoutError("the time-out is over")
        return left_ns / 1e9

    def received(self, count: int) -> None:
        """Raises HTTPException when that is more than was allowed."""
        if self._bytes is not None:
            self._bytes -= count
            if self._bytes < 0:
                raise http.client.HTTPException("the answer has no end")


class _Reader(io.RawIOBase):
    """The bytes of a socket, as long as its allowance lasts."""

    def __init__(self, raw: io.RawIOBase, connection: socket.socket, allowance: Allowance) -> None:
        self._raw = raw
        self._connection = connection
        self._allowance = allowance

    def readable(self) -> bool:
        return True

    def fileno(self) -> int:
        return self._raw.fileno()

    def readinto(self, buffer: Any, /) -> int | None:
        self._connection.settimeout(self._allowance.left_s())
        count = self._raw.readinto(buffer)
        self._allowance.received(count or 0)
        return count

    def close(self) -> None:
        self._raw.close()
        super().close()


class _Connection(http.client.HTTPConnection):
    def __init__(self, host: str, allowance: Allowance, **options: Any) -> None:
        super().__init__(host, **options)
        self._allowance = allowance
        self.response_class = functools.partial(_Response, allowance=allowance)  # type: ignore[assignment]

    def connect(self) -> None:
        """To the first of the host's addresses that takes the connection. Raises OSError."""
        refused: OSError | None = None
        for family, kind, protocol, _, address in addresses_of(self.host, self.port, self._allowance.left_s()):
            connection = socket.socket(family, kind, protocol)
            try:
                connection.settimeout(self._allowance.left_s())
                connection.connect(address)
            except OSError as error:
                connection.close()
                refused = error
                continue
            self.sock = connection
            return
        raise refused or OSError("the host has no address")


class _SecureConnection(http.client.HTTPSConnection, _Connection):
    """The order of the bases lets HTTPSConnection shake hands on the connection that _Connection made."""


class _Response(http.client.HTTPResponse):
    def __init__(self, sock: socket.socket, *arguments: Any, allowance: Allowance, **options: Any) -> None:
        super().__init__(sock, *arguments, **options)
        raw = self.fp.detach()
        self.fp = io.BufferedReader(_Reader(raw, sock, allowance))


class BoundedHttpHandler(urllib.request.HTTPHandler):
    """``http`` for an opener."""

    def __init__(self, allowance: Allowance) -> None:
        super().__init__()
        self._allowance = allowance

    def http_open(self, req: urllib.request.Request) -> http.client.HTTPResponse:
        """Raises URLError, OSError, HTTPException."""
        return self.do_open(functools.partial(_Connection, allowance=self._allowance), req)


class BoundedHttpsHandler(urllib.request.HTTPSHandler):
    """``https`` for an opener, certificates checked."""

    def __init__(self, allowance: Allowance) -> None:
        super().__init__()
        self._allowance = allowance

    def https_open(self, req: urllib.request.Request) -> http.client.HTTPResponse:
        """Raises URLError, OSError, HTTPException."""
        connection = functools.partial(
            _SecureConnection, allowance=self._allowance, context=ssl.create_default_context()
        )
        return self.do_open(connection, req)
