"""A small real MJPEG camera: one HTTP response that never ends, and the faults that such cameras show.

A test changes ``server.mode`` while a reader is connected. Stopped and started again, it keeps its port.
"""

from __future__ import annotations

import hashlib
import http.server
import socket
import threading
from base64 import b64encode
from collections.abc import Callable
from types import TracebackType
from typing import Literal
from urllib.request import parse_http_list, parse_keqv_list

import cv2
import numpy as np
import numpy.typing as npt

from tests.simulators.stamped_picture import grey_bytes

Mode = Literal["ok", "stall", "stall_in_frame", "trickle", "close", "corrupt", "half", "cut", "resize", "grey", "huge"]
Picture = npt.NDArray[np.uint8]
REALM = "camera"


def numbered_picture(number: int, width: int = 480, height: int = 320) -> Picture:
    """(height, width, 3) BGR that says ``number`` to ``number_in``."""
    grey = np.frombuffer(grey_bytes(number, width, height), np.uint8).reshape(height, width)
    return cv2.cvtColor(grey, cv2.COLOR_GRAY2BGR)


class MjpegServer:
    """Serves ``draw(number)`` as JPEG, ``fps`` times a second, to everybody who asks for any path.

    Modes: ``ok``; ``stall``: the connection stays open and silent; ``stall_in_frame``: the same after half of a
    frame; ``trickle``: one byte every 50 ms; ``close``: the connection ends after a frame; ``cut``: it ends in the
    middle of one; ``corrupt``: every second frame is no JPEG; ``half``: every second frame is the first half of one,
    with the length to match; ``resize``: half of the width and height; ``grey``: one channel; ``huge``: a header
    that announces 60,000 x 60,000 pixels.
    """

    def __init__(self, draw: Callable[[int], Picture] = numbered_picture, fps: float = 50.0) -> None:
        self.draw = draw
        self.fps = fps
        self.mode: Mode = "ok"
        self.content_length = True  # False: the parts end at the next boundary only, as with some cheap cameras
        self.boundary = "frame"  # as written in Content-Type
        self.delimiter = "--frame"  # as written before each part
        self.credentials: tuple[str, str] | None = None
        self.digest: str | None = None  # "MD5" or "SHA-256": ask for Digest authentication instead of Basic
        self.connections = 0
        self.sent = 0  # frames, counted over all connections; the number in the picture
        self._port = 0
        self._server: http.server.ThreadingHTTPServer | None = None
        self._stopping = threading.Event()
        self._sockets: set[socket.socket] = set()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}/stream.mjpg"

    def start(self) -> None:
        """Listen, on the same port as the last time."""
        self._stopping = threading.Event()
        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", self._port), _handler_of(self))
        self._port = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    def stop(self) -> None:
        """Stop listening and break every connection, as a camera that loses its power. May be called twice."""
        if self._server is None:
            return
        self._stopping.set()
        self._server.shutdown()
        self._server.server_close()
        self._server = None
        for connection in tuple(self._sockets):
            try:
                connection.shutdown(socket.SHUT_RDWR)
            except OSError:
                continue  # the reader went first

    def __enter__(self) -> MjpegServer:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def admits(self, authorization: str) -> bool:
        """Whether that Authorization header opens the stream."""
        if self.credentials is None:
            return True
        user, password = self.credentials
        if not self.digest:
            return authorization == "Basic " + b64encode(f"{user}:{password}".encode()).decode()
        if not authorization.startswith("Digest "):
            return False
        given = parse_keqv_list(parse_http_list(authorization[len("Digest ") :]))
        secret = self._hash(f"{user}:{REALM}:{password}")
        asked = self._hash(f"GET:{given['uri']}")
        return given["response"] == self._hash(
            f"{secret}:{given['nonce']}:{given['nc']}:{given['cnonce']}:{given['qop']}:{asked}"
        )

    def _hash(self, text: str) -> str:
        return (hashlib.sha256 if self.digest == "SHA-256" else hashlib.md5)(text.encode()).hexdigest()

    def challenge(self) -> str:
        if self.digest:
            return f'Digest realm="{REALM}", nonce="0123456789abcdef", qop="auth", algorithm={self.digest}'
        return f'Basic realm="{REALM}"'

    def serve(self, connection: socket.socket, stopping: threading.Event) -> None:
        """Send frames until the mode or the reader ends it."""
        self._sockets.add(connection)
        self.connections += 1
        try:
            while not stopping.wait(1 / self.fps) and self._send_frame(connection, stopping):
                pass
        except OSError:
            pass  # the reader went, or stop() broke the connection
        finally:
            self._sockets.discard(connection)

    def _send_frame(self, connection: socket.socket, stopping: threading.Event) -> bool:
        mode = self.mode
        if mode == "stall":
            return True
        self.sent += 1
        part = self._part(mode)
        if mode in ("stall_in_frame", "cut"):
            connection.sendall(part[: len(part) // 2])
            return mode == "stall_in_frame" and not stopping.wait()
        if mode == "trickle":
            for place in range(len(part)):
                connection.sendall(part[place : place + 1])
                if stopping.wait(0.05):
                    return False
        connection.sendall(part)
        return mode != "close"

    def _part(self, mode: Mode) -> bytes:
        picture = self.draw(self.sent)
        if mode == "resize":
            picture = np.ascontiguousarray(picture[::2, ::2])
        if mode == "grey":
            picture = np.ascontiguousarray(picture[:, :, 0])
        body = cv2.imencode(".jpg", picture)[1].tobytes()
        if mode == "corrupt" and self.sent % 2:
            body = bytes(len(body))
        if mode == "half" and self.sent % 2:
            body = body[: len(body) // 2]
        if mode == "huge":
            body = _announce_size(body, 60_000)
        length = f"Content-Length: {len(body)}\r\n" if self.content_length else ""
        return f"{self.delimiter}\r\nContent-Type: image/jpeg\r\n{length}\r\n".encode() + body + b"\r\n"


def _announce_size(jpeg: bytes, side: int) -> bytes:
    """The same JPEG with a start-of-frame header that says ``side`` x ``side``."""
    start = jpeg.index(b"\xff\xc0") + 5
    return jpeg[:start] + side.to_bytes(2, "big") * 2 + jpeg[start + 4 :]


def _handler_of(camera: MjpegServer) -> type[http.server.BaseHTTPRequestHandler]:
    stopping = camera._stopping

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if not camera.admits(self.headers.get("Authorization", "")):
                self.send_response(401)
                self.send_header("WWW-Authenticate", camera.challenge())
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            self.send_response(200)
            self.send_header("Content-Type", f"multipart/x-mixed-replace; boundary={camera.boundary}")
            self.end_headers()
            camera.serve(self.connection, stopping)

        def log_message(self, format: str, *args: object) -> None:
            pass

    return Handler
