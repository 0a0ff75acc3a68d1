"""A model of 4 MB to a device, by HTTP and in pieces over MQTT, side by side: ``python -m benchmarks.transfer``.

Over loopback, and over a way of 80 ms and 10 Mbit/s. The servers are ``edge-fleet serve`` and a real mosquitto, in
processes of their own; the device's end is the daemon's code. Wanted: by MQTT at most 3 times as long as by HTTP.
"""

from __future__ import annotations

import contextlib
import json
import queue
import random
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from urllib.parse import urlsplit

from benchmarks.report import arguments, judge, middle, show
from edge_agent.config.schema import MqttConfig
from edge_agent.io.fetch.http import HttpSource
from edge_agent.io.fetch.mqtt import MqttSource
from edge_agent.ports import Source
from tests.simulators.broker import Mosquitto

SIZE = 4 * 2**20
TARGET = "targets/models/bench/1.tflite"
ROUND_TRIP_S, BYTES_PER_S = 0.080, 10_000_000 / 8
PIECE_BYTES, PIECES_MOST = 2**13, 16  # what a router would hold: 128 KiB
RATIO_MOST = 3.0


class LongWay:
    """A TCP proxy on ``port`` of so long a round trip and so many bytes a second in each direction. ``tc`` would do
    it better, where the kernel has netem."""

    def __init__(self, target: int) -> None:
        self._target = target
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        self._free_s = {"up": 0.0, "down": 0.0}
        self._lock = threading.Lock()
        threading.Thread(target=self._accept, daemon=True).start()

    def __enter__(self) -> LongWay:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._listener.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):  # __exit__
            while True:
                near, _ = self._listener.accept()
                far = socket.create_connection(("127.0.0.1", self._target))
                begun_s = time.monotonic() + ROUND_TRIP_S  # of TCP's own handshake
                for source, sink, direction in ((near, far, "up"), (far, near, "down")):
                    pieces: queue.Queue[tuple[float, bytes]] = queue.Queue(PIECES_MOST)
                    threading.Thread(target=self._take, args=(source, pieces, direction, begun_s), daemon=True).start()
                    threading.Thread(target=self._give, args=(sink, pieces), daemon=True).start()

    def _take(
        self, source: socket.socket, pieces: queue.Queue[tuple[float, bytes]], direction: str, begun_s: float
    ) -> None:
        data = b"x"
        while data:
            try:
                data = source.recv(PIECE_BYTES)
            except OSError:
                data = b""
            with self._lock:
                sent_s = max(time.monotonic(), begun_s, self._free_s[direction]) + len(data) / BYTES_PER_S
                self._free_s[direction] = sent_s
            pieces.put((sent_s + ROUND_TRIP_S / 2, data))

    def _give(self, sink: socket.socket, pieces: queue.Queue[tuple[float, bytes]]) -> None:
        with contextlib.suppress(OSError):
            while True:
                due_s, data = pieces.get()
                time.sleep(max(0.0, due_s - time.monotonic()))
                if not data:
                    sink.shutdown(socket.SHUT_WR)
                    return
                sink.sendall(data)


@contextlib.contextmanager
def served(folder: Path) -> Iterator[tuple[int, int]]:
    """Ports of HTTP and of the broker, with a repository behind both."""
    (folder / "metadata").mkdir()
    (folder / "metadata" / "timestamp.json").write_text("{}")
    (folder / TARGET).parent.mkdir(parents=True)
    (folder / TARGET).write_bytes(random.Random(1).randbytes(SIZE))
    broker = Mosquitto(folder / "broker")
    broker.start()
    command = [sys.executable, "-m", "fleet", "serve", str(folder), "--port", "0", "--json"]
    command += ["--mqtt-host", "127.0.0.1", "--mqtt-port", str(broker.port)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as server:
        try:
            assert server.stdout is not None
            port = urlsplit(json.loads(server.stdout.readline())["url"]).port
            assert port is not None
            yield port, broker.port
        finally:
            server.terminate()
            broker.stop()


def seconds(source: Source, part: Path) -> float:
    """From nothing to all on the disk, the connection included."""
    part.unlink(missing_ok=True)
    begun_s = time.monotonic()
    source.download(TARGET, part, SIZE, lambda _: None)
    took_s = time.monotonic() - begun_s
    source.close()
    return took_s


def measured(http: int, mqtt: int, part: Path, repeats: int) -> tuple[float, float]:
    """Medians in seconds, by HTTP and by MQTT, taken in turns."""
    by_http, by_mqtt = [], []
    for _ in range(repeats):
        by_http.append(seconds(HttpSource(f"http://127.0.0.1:{http}"), part))
        by_mqtt.append(seconds(MqttSource(MqttConfig(port=mqtt), Path(), "cam1-update", "edge-agent/cam1"), part))
    return middle(by_http), middle(by_mqtt)


def main() -> int:
    options = arguments("Seconds for 4 MiB by HTTP and by MQTT.", 3).parse_args()
    rows = {}
    with tempfile.TemporaryDirectory() as name, served(Path(name)) as (http, mqtt):
        part = Path(name) / "part"
        rows["loopback"] = measured(http, mqtt, part, options.repeats)
        with LongWay(http) as far_http, LongWay(mqtt) as far_mqtt:
            rows["80 ms, 10 Mbit/s"] = measured(far_http.port, far_mqtt.port, part, options.repeats)
    table = {way: (by_http, by_mqtt, by_mqtt / by_http) for way, (by_http, by_mqtt) in rows.items()}
    show({"bytes": SIZE}, ("HTTP s", "MQTT s", "ratio"), table, options.json)
    worst = max(ratio for _, _, ratio in table.values())
    if not options.json:
        print(judge("MQTT over HTTP, worst", worst, f"at most {RATIO_MOST:g}", worst <= RATIO_MOST))
    return 0


if __name__ == "__main__":
    sys.exit(main())
