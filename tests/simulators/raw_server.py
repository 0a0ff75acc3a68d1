"""A server that answers every connection with what a test's function writes: for answers that no good server gives."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable
from types import TracebackType

Answer = Callable[["Caller"], None]


class Caller:
    """One connection, its request already read."""

    def __init__(self, connection: socket.socket, stopping: threading.Event) -> None:
        self.sent = 0
        self._connection = connection
        self._stopping = stopping

    def send(self, data: bytes) -> None:
        self._connection.sendall(data)
        self.sent += len(data)

    def for_ever(self, data: bytes, every_s: float = 0.0) -> None:
        """That, again and again, until the reader goes."""
        while not self._stopping.wait(every_s):
            self.send(data)

    def nothing(self) -> None:
        """The connection stays open and silent."""
        self._stopping.wait()


class RawServer:
    """``answer`` runs once for each connection, in a thread of its own; the connection ends with it."""

    def __init__(self, answer: Answer) -> None:
        self._answer = answer
        self._stopping = threading.Event()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.callers: list[Caller] = []
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self._listener.getsockname()[1]}"

    def __enter__(self) -> RawServer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stopping.set()
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return  # __exit__
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        caller = Caller(connection, self._stopping)
        self.callers.append(caller)
        with connection:
            try:
                if connection.recv(2**16):
                    self._answer(caller)
            except OSError:
                pass  # the reader went
