"""A real TCP link to a camera that a test disturbs: held up, dribbling, garbled, cut or reset. Bytes in, bytes out."""

from __future__ import annotations

import socket
import struct
import threading
from types import TracebackType
from typing import Literal
from urllib.parse import urlsplit

Mode = Literal["pass", "hold", "dribble", "garble"]

DRIBBLE_S = 0.1  # between two bytes, far below every time-out
# A small send buffer, so that little of the stream is on its way past the link when it is disturbed.
BUFFER_BYTES = 32 * 2**10


class FaultyLink:
    """``url`` is the camera's with this link's port in it. ``mode`` is what happens to the camera's bytes on all
    connections, those to come included: ``pass``; ``hold``: accepted and nothing comes through until it passes again,
    then all that waited; ``dribble``: one byte after another; ``garble``: every bit of them turned.
    """

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        assert parts.hostname is not None
        assert parts.port is not None
        self._camera = (parts.hostname, parts.port)
        self._changed = threading.Condition()
        self._mode: Mode = "pass"
        self._pairs: set[tuple[socket.socket, socket.socket]] = set()
        self._stopping = threading.Event()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.connections = 0
        self.url = parts._replace(netloc=f"127.0.0.1:{self._listener.getsockname()[1]}").geturl()
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def mode(self) -> Mode:
        return self._mode

    @mode.setter
    def mode(self, mode: Mode) -> None:
        with self._changed:
            self._mode = mode
            self._changed.notify_all()

    def cut(self) -> None:
        """End all connections in order (FIN)."""
        self._end(reset=False)

    def reset(self) -> None:
        """Break all connections (RST)."""
        self._end(reset=True)

    def close(self) -> None:
        """May be called twice."""
        self._stopping.set()
        self._listener.close()
        self._end(reset=False)
        with self._changed:
            self._changed.notify_all()

    def __enter__(self) -> FaultyLink:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _end(self, reset: bool) -> None:
        with self._changed:
            pairs, self._pairs = self._pairs, set()
        for reader, camera in pairs:
            for end in (reader, camera):
                try:
                    if reset:  # lingering for 0 s makes close() send RST, once nobody waits for the socket any more
                        end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                        end.shutdown(socket.SHUT_RD)
                        end.close()
                    else:
                        end.shutdown(socket.SHUT_RDWR)
                except OSError:
                    continue  # that side went first

    def _accept(self) -> None:
        while True:
            try:
                reader, _ = self._listener.accept()
            except OSError:
                return  # close()
            self.connections += 1
            reader.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, BUFFER_BYTES)
            try:
                camera = socket.create_connection(self._camera, 5)
            except OSError:
                reader.close()
                continue
            camera.settimeout(None)
            with self._changed:
                self._pairs.add((reader, camera))
            threading.Thread(target=self._pump, args=(reader, camera), daemon=True).start()
            threading.Thread(target=self._pump, args=(camera, reader), daemon=True).start()

    def _pump(self, source: socket.socket, sink: socket.socket) -> None:
        try:
            while data := source.recv(2**16):
                if (sink, source) in self._pairs:
                    self._deliver(data, sink)
                else:
                    sink.sendall(data)
            if {(source, sink), (sink, source)} & self._pairs:
                sink.shutdown(socket.SHUT_WR)
        except OSError:
            pass  # one of the two ends is gone, or the link was cut

    def _deliver(self, data: bytes, reader: socket.socket) -> None:
        while data:
            with self._changed:
                self._changed.wait_for(lambda: self._mode != "hold" or self._stopping.is_set())
            if self._stopping.is_set():
                return
            if self._mode == "dribble":
                reader.sendall(data[:1])
                data = data[1:]
                self._stopping.wait(DRIBBLE_S)
                continue
            reader.sendall(bytes(byte ^ 0xFF for byte in data) if self._mode == "garble" else data)
            return
