"""A TCP proxy in front of a broker that keeps every byte that passes, by direction."""

from __future__ import annotations

import socket
import threading

CHUNK = 65_536


class RecordingProxy:
    """Listens on ``port`` of loopback from its construction until ``stop``."""

    def __init__(self, target_port: int) -> None:
        self._target = target_port
        self._lock = threading.Lock()
        self._sent = bytearray()
        self._received = bytearray()
        self._sockets: list[socket.socket] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def sent(self) -> bytes:
        """What clients sent to the broker."""
        with self._lock:
            return bytes(self._sent)

    @property
    def received(self) -> bytes:
        """What the broker sent to clients."""
        with self._lock:
            return bytes(self._received)

    def stop(self) -> None:
        with self._lock:
            sockets = [self._listener, *self._sockets]
        for each in sockets:
            each.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
                broker = socket.create_connection(("127.0.0.1", self._target))
            except OSError:  # stopped, or the broker is gone
                return
            with self._lock:
                self._sockets += [client, broker]
            threading.Thread(target=self._pass, args=(client, broker, self._sent), daemon=True).start()
            threading.Thread(target=self._pass, args=(broker, client, self._received), daemon=True).start()

    def _pass(self, source: socket.socket, target: socket.socket, record: bytearray) -> None:
        try:
            while data := source.recv(CHUNK):
                with self._lock:
                    record += data
                target.sendall(data)
            target.shutdown(socket.SHUT_WR)
        except OSError:  # either end is gone: so is this connection
            source.close()
            target.close()
