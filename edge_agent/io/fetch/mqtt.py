"""A repository at the other end of MQTT, in pieces, for devices that may open no other port.

Questions go to ``<base>/<device>/update/get``, answers come on ``<base>/<device>/update/chunk``: see chunks.py.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from edge_agent import limits
from edge_agent.config.schema import MqttConfig
from edge_agent.errors import ConfigError, TransportError
from edge_agent.io.fetch.chunks import CHUNK_BYTES_MOST, decode_chunk, encode_get
from edge_agent.io.fetch.mqtt_line import LOOP_S, LostError, MqttLine
from edge_agent.io.fetch.pace import Pace
from edge_agent.io.fetch.part import PartFile
from edge_agent.io.fetch.paths import inside
from edge_agent.io.fetch.window import CHUNK_BYTES_LEAST, Window

ANSWER_TIMEOUT_S: Final = 30.0  # without any answer: nobody is there
IDLE_MOST_S: Final = 5.0  # nobody reads between two calls: a connection that waited longer is made anew
RECONNECTIONS_MOST: Final = 2  # without a byte in between
RECONNECT_S: Final = 0.5  # before the first, twice that before the next


class MqttSource:
    """Implements ``ports.Source``."""

    def __init__(
        self,
        config: MqttConfig,
        folder: Path,
        client_id: str,
        topic: str,
        *,
        rate: int = 0,
        silence_s: float = limits.TRANSFER_SILENCE_S,
        answer_s: float = ANSWER_TIMEOUT_S,
    ) -> None:
        """Files of ``config`` are meant from ``folder``; ``topic`` is "<base>/<device>"; ``rate``: bytes a second of a
        download at most, 0 for any."""
        self._config = config
        self._folder = folder
        self._client_id = client_id
        self._topic = topic
        self._rate = rate
        self._silence_s = silence_s
        self._answer_s = answer_s
        self._line: MqttLine | None = None
        self._used_s = 0.0
        self._stopping = threading.Event()

    def read(self, path: str, most: int) -> bytes:
        pieces: list[bytes] = []
        inside(path)
        self._transfer(Window(path, 0, size=None, most=most), Pace(silence_s=self._silence_s), pieces.append)
        return b"".join(pieces)

    def download(self, path: str, part: Path, length: int, progress: Callable[[int], None]) -> None:
        inside(path)
        # A limit of few bytes a second: no answer may fill it for longer than keep-alive waits
        chunk_most = max(CHUNK_BYTES_LEAST, min(CHUNK_BYTES_MOST, self._rate or CHUNK_BYTES_MOST))
        with PartFile(part, length, progress) as grown:
            window = Window(path, grown.size, size=length, most=length, chunk_most=chunk_most)
            self._transfer(window, Pace(self._rate, silence_s=self._silence_s), grown.write)

    def stop(self) -> None:
        self._stopping.set()

    def close(self) -> None:
        if self._line is not None:
            self._line.close()
            self._line = None

    def _transfer(self, window: Window, pace: Pace, sink: Callable[[bytes], None]) -> None:
        failures = 0
        while not window.done:
            before = window.taken
            try:
                self._converse(window, pace, sink)
            except LostError:
                self.close()
                window.disconnected()
                failures = 1 if window.taken > before else failures + 1
                if failures > RECONNECTIONS_MOST or self._stopping.is_set():
                    raise
                self._stopping.wait(RECONNECT_S * failures)

    def _converse(self, window: Window, pace: Pace, sink: Callable[[bytes], None]) -> None:
        """Until all is there. Raises LostError when this connection comes to nothing."""
        line = self._connected()
        answered_s = time.monotonic()
        while not window.done:
            if self._stopping.is_set():
                raise TransportError("stopped")
            now_s = time.monotonic()
            delay_s = pace.delay_s()
            if not delay_s:
                for get in window.questions(now_s):
                    line.publish(f"{self._topic}/update/get", encode_get(get))
            line.loop(min(LOOP_S, delay_s or window.wait_s(now_s)))
            now_s = time.monotonic()
            self._used_s = now_s
            received = _taken(line, window, now_s)
            pace.received(received)
            if received or delay_s:  # while we hold back, nobody is expected to answer
                answered_s = now_s
            for data in window.take():
                sink(data)
            if not window.done:
                self._patient(pace, now_s - answered_s)

    def _patient(self, pace: Pace, silent_s: float) -> None:
        """Raises TransportError when it has taken too long."""
        if silent_s > self._answer_s:
            raise TransportError(
                f"nobody answers on {self._topic}/update/chunk: is edge-fleet serve running at this broker, and "
                f"may this device write {self._topic}/update/get and read the answers?"
            )
        pace.left_s()

    def _connected(self) -> MqttLine:
        if self._line is not None and time.monotonic() - self._used_s > IDLE_MOST_S:
            self.close()
        if self._line is None:
            try:
                line = MqttLine(self._config, self._folder, self._client_id, f"{self._topic}/update/chunk")
            except ConfigError as error:  # a certificate or a password file that went away since the start
                raise TransportError(str(error)) from None
            self._line = line
            line.open(self._stopping.is_set)
        return self._line


def _taken(line: MqttLine, window: Window, now_s: float) -> int:
    """Bytes of use among what has arrived. Raises NotThereError, TransportError."""
    payloads, line.arrived = line.arrived, []
    received = 0
    for payload in payloads:
        with contextlib.suppress(ValueError):  # from somebody else: no answer of ours
            received += window.answer(decode_chunk(payload), now_s)
    return received
