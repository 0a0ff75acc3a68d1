"""A web server over real TCP that answers with whatever bytes a test wants."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType


@dataclass
class Request:
    """One request and the connection it came on. ``number`` counts from 0, over all connections."""

    number: int
    target: str
    headers: dict[str, str]
    _connection: socket.socket
    _stopping: threading.Event

    def send(self, data: bytes) -> None:
        self._connection.sendall(data)

    def answer(self, status: str, body: bytes = b"", *headers: str, length: int | None = None) -> None:
        """A whole answer. ``length``: said to be the body's, where that is not true."""
        size = len(body) if length is None else length
        lines = [f"HTTP/1.1 {status}", f"Content-Length: {size}", *headers, "", ""]
        self.send("\r\n".join(lines).encode() + body)

    def for_ever(self, data: bytes, every_s: float = 0.0) -> None:
        """Until the client hangs up or the test ends."""
        while not self._stopping.wait(every_s):
            self.send(data)

    def nothing(self) -> None:
        """The connection stays open and silent."""
        self._stopping.wait()

    def first_byte(self) -> int:
        """Of a request with Range, else 0."""
        return int(self.headers.get("range", "bytes=0-").removeprefix("bytes=").removesuffix("-"))

    def hang_up(self) -> None:
        """In order, with what was sent before."""
        with contextlib.suppress(OSError):
            self._connection.shutdown(socket.SHUT_RDWR)


class WebServer:
    """``answer`` runs once for each request, in the thread of its connection. ``requests``: all so far."""

    def __init__(self, answer: Callable[[Request], None]) -> None:
        self._answer = answer
        self._stopping = threading.Event()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._connections: list[socket.socket] = []
        self.requests: list[Request] = []
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def __enter__(self) -> WebServer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stopping.set()
        for one in (self._listener, *self._connections):
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return  # __exit__
            self._connections.append(connection)
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        with contextlib.suppress(OSError), connection, connection.makefile("rb") as stream:
            while line := stream.readline():
                headers = {}
                while (header := stream.readline().strip()) != b"":
                    name, _, value = header.decode().partition(":")
                    headers[name.lower()] = value.strip()
                request = Request(len(self.requests), line.split()[1].decode(), headers, connection, self._stopping)
                self.requests.append(request)
                self._answer(request)
