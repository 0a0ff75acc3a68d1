"""A repository over HTTP or HTTPS, for benches: GET and HEAD of its public files, with resume. Nothing else."""

from __future__ import annotations

import contextlib
import re
import socket
import ssl
import threading
from collections.abc import Iterator
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Any, Final
from urllib.parse import unquote, urlsplit

from edge_agent.errors import ConfigError, NotThereError
from fleet.served_files import ServedFile, ServedFiles

BLOCK_BYTES: Final = 2**16
CONNECTIONS_MOST: Final = 64
STOP_S: Final = 0.05  # how soon a stop is seen
SILENCE_S: Final = 30.0  # a client that neither reads nor asks for that long is hung up on


class RepositoryServer:
    """A context, or ``start`` and ``close``. ``url`` is what goes into ``[update] repository``."""

    def __init__(
        self, repository: Path, host: str = "127.0.0.1", port: int = 0, *, tls: ssl.SSLContext | None = None
    ) -> None:
        """Listens from now on. ``port`` 0: any that is free. Raises ConfigError."""
        files = ServedFiles(repository)
        try:
            self._server = _Server((host, port), files, tls)
        except (OSError, OverflowError, UnicodeError) as error:
            why = getattr(error, "strerror", None) or error
            raise ConfigError(f"can't listen on {host}:{port}: {why}; choose another --host or --port") from None
        scheme = "http" if tls is None else "https"
        self.port = int(self._server.server_address[1])
        name = socket.gethostname() if host in ("", "0.0.0.0", "::") else host
        self.url = f"{scheme}://{f'[{name}]' if ':' in name else name}:{self.port}"
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(STOP_S,), name="http server", daemon=True
        )

    @property
    def bytes_sent(self) -> int:
        """Of bodies."""
        return self._server.bytes_sent

    def start(self) -> RepositoryServer:
        self._thread.start()
        return self

    def close(self) -> None:
        """Hang up on everybody."""
        if self._thread.is_alive():
            self._server.shutdown()
            self._thread.join()
        self._server.server_close()
        self._server.hang_up()

    def __enter__(self) -> RepositoryServer:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False

    def __init__(self, address: tuple[str, int], files: ServedFiles, tls: ssl.SSLContext | None) -> None:
        if ":" in address[0]:
            self.address_family = socket.AF_INET6
        super().__init__(address, _Handler)
        self.files = files
        self.bytes_sent = 0
        self._tls = tls
        self._free = threading.BoundedSemaphore(CONNECTIONS_MOST)
        self._lock = threading.Lock()
        self._open: set[socket.socket] = set()

    def hang_up(self) -> None:
        with self._lock:
            for connection in self._open:
                with contextlib.suppress(OSError):  # the client was first
                    # Not SSLSocket's own, which is not meant for two threads
                    socket.socket.shutdown(connection, socket.SHUT_RDWR)

    def process_request(self, request: Any, client_address: Any) -> None:
        if self._free.acquire(blocking=False):
            super().process_request(request, client_address)
        else:
            self.shutdown_request(request)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            request.settimeout(SILENCE_S)
            if self._tls is not None:  # here, so that a slow handshake holds up nobody else
                request = self._tls.wrap_socket(request, server_side=True)
            with self._lock:
                self._open.add(request)
            super().process_request_thread(request, client_address)
        except OSError:  # no TLS, or gone
            self.shutdown_request(request)
        finally:
            with self._lock:
                self._open.discard(request)
            self._free.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients go away in the middle of an answer; that is nobody's fault."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server_version = "edge-fleet"
    sys_version = ""
    server: _Server

    def do_GET(self) -> None:
        self._answer(body=True)

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing is printed for each request."""

    def _answer(self, *, body: bool) -> None:
        try:
            file = self.server.files.open(unquote(urlsplit(self.path).path).removeprefix("/"))
        except (NotThereError, ValueError):
            self._head(HTTPStatus.NOT_FOUND, {"Content-Length": "0"})
            return
        with file:
            first, last, partial = self._range(file)
            if first > last and partial:
                unsatisfied = {"Content-Range": f"bytes */{file.size}", "Content-Length": "0"}
                self._head(HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE, unsatisfied)
                return
            headers = {"Content-Length": str(last - first + 1), "ETag": file.tag, "Accept-Ranges": "bytes"}
            if partial:
                headers["Content-Range"] = f"bytes {first}-{last}/{file.size}"
            self._head(HTTPStatus.PARTIAL_CONTENT if partial else HTTPStatus.OK, headers)
            if body:
                for block in _blocks(file, first, last):
                    self.wfile.write(block)
                    self.server.bytes_sent += len(block)

    def _head(self, status: HTTPStatus, headers: dict[str, str]) -> None:
        self.send_response(status)
        # Of what may change (timestamp.json, the next root) no cache on the way may keep the old one
        for name, value in {**headers, "Content-Type": "application/octet-stream", "Cache-Control": "no-cache"}.items():
            self.send_header(name, value)
        self.end_headers()

    def _range(self, file: ServedFile) -> tuple[int, int, bool]:
        """First and last byte, and whether they are a part. Anything but one simple range means the whole file."""
        whole = (0, file.size - 1, False)
        found = re.fullmatch(r"bytes=(\d{1,15})-(\d{0,15})", self.headers.get("Range", ""))
        if found is None or self.headers.get("If-Range", file.tag) != file.tag:
            return whole
        first, last = int(found[1]), min(int(found[2] or file.size), file.size - 1)
        return first, last, True


def _blocks(file: ServedFile, first: int, last: int) -> Iterator[bytes]:
    while first <= last:
        block = file.read(first, min(BLOCK_BYTES, last - first + 1))
        if not block:
            raise ConnectionAbortedError("the file became shorter")
        first += len(block)
        yield block
