"""A small HTTP server for readers on the same machine: GET and HEAD of a few paths, bounded in everything.

No TLS and no password: config/checks_http.py keeps it on loopback unless the operator has written otherwise.
"""

from __future__ import annotations

import contextlib
import logging
import socket
import sys
import threading
import time
from collections.abc import Callable, Mapping
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from socketserver import TCPServer
from types import TracebackType
from typing import Any, Final, NamedTuple

log = logging.getLogger("edge_agent")

CONNECTIONS_MOST: Final = 8
CONNECTION_S: Final = 5.0  # from its first byte to its last: whoever is slower is hung up on


class Answer(NamedTuple):
    status: HTTPStatus
    content_type: str
    body: bytes


class HttpPort:
    """A context. ``answers``: what is said to each path, made anew for each request on a thread of its own."""

    def __init__(self, host: str, port: int, answers: Mapping[str, Callable[[], Answer]]) -> None:
        """Listens from now on. Raises OSError."""
        self._server = _Server(host, port, answers)
        self.port = int(self._server.server_address[1])

    def serve(self, timeout_s: float) -> None:
        """Take at most one connection, waiting for it no longer than that, and hang up on those that took too long."""
        self._server.timeout = timeout_s
        self._server.handle_request()
        self._server.hang_up(older_s=CONNECTION_S)

    def __enter__(self) -> HttpPort:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.server_close()
        self._server.hang_up(older_s=0.0)


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False

    def __init__(self, host: str, port: int, answers: Mapping[str, Callable[[], Answer]]) -> None:
        if ":" in host:
            self.address_family = socket.AF_INET6
        self.answers = answers
        self._lock = threading.Lock()
        self._open: dict[socket.socket, float] = {}  # since when
        super().__init__((host, port), _Handler)

    def server_bind(self) -> None:
        """Not HTTPServer's, which looks up the name of this host: a broken resolver takes seconds for that."""
        TCPServer.server_bind(self)

    def hang_up(self, *, older_s: float) -> None:
        now = time.monotonic()
        with self._lock:
            for connection, since in self._open.items():
                if now - since >= older_s:
                    with contextlib.suppress(OSError):  # the client was first
                        connection.shutdown(socket.SHUT_RDWR)

    def process_request(self, request: Any, client_address: Any) -> None:
        with self._lock:
            busy = len(self._open) >= CONNECTIONS_MOST
            if not busy:
                self._open[request] = time.monotonic()
        if busy:
            self.shutdown_request(request)
        else:
            super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        with self._lock:
            self._open.pop(request, None)
        super().shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients go away in the middle of an answer; that is nobody's fault. All else is ours."""
        error = sys.exc_info()[1]
        if not isinstance(error, OSError):
            log.error("no answer to %s: %s", client_address[0], error, exc_info=error)


class _Handler(BaseHTTPRequestHandler):
    server_version = "edge-agent"
    sys_version = ""
    timeout = CONNECTION_S
    server: _Server

    def do_GET(self) -> None:
        self._answer(body=True)

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing is printed for each request."""

    def _answer(self, *, body: bool) -> None:
        make = self.server.answers.get(self.path.partition("?")[0])
        if make is None:
            paths = " ".join(self.server.answers)
            answer = Answer(HTTPStatus.NOT_FOUND, "text/plain", f"there are: {paths}\n".encode())
        else:
            answer = make()
        self.send_response(answer.status)
        self.send_header("Content-Type", answer.content_type)
        self.send_header("Content-Length", str(len(answer.body)))
        self.end_headers()
        if body:
            self.wfile.write(answer.body)
