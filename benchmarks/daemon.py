"""The whole daemon on a video, as a process, seen by a subscriber: what the benchmarks measure it by."""

from __future__ import annotations

import json
import queue
import time
from dataclasses import dataclass
from pathlib import Path
from statistics import mean, median
from typing import Any

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion

from tests.simulators.daemon import Daemon

CONFIGURATION = """
[device]
id = "bench"
[mqtt]
port = {port}
stats_interval = "1s"
[[camera]]
name = "video"
source = "file:{video}"
pace = "{pace}"
loop = true
[[pipeline]]
name = "bench"
camera = "video"
model = "m"
[model.m]
path = "{model}"
threads = 1
[drift]
enabled = {drift}
"""


LOOKED_AT_MOST = 300  # predictions whose latencies are looked at


@dataclass(frozen=True, slots=True)
class Run:
    """What was seen of one run."""

    seconds: float
    count: int  # predictions acknowledged in that time
    first_s: float  # from the start of the process to the first prediction
    invoke_ms: list[float]
    preprocess_ms: list[float]
    looked_at_fps: float  # while a subscriber took every prediction
    stats: dict[str, Any]
    rss_mb: float

    @property
    def fps(self) -> float:
        return self.count / self.seconds

    @property
    def mean_invoke_ms(self) -> float:
        return mean(self.invoke_ms)

    @property
    def median_preprocess_ms(self) -> float:
        return median(self.preprocess_ms)


def run(folder: Path, port: int, video: Path, model: Path, pace: str, frames: int, drift: bool = True) -> Run:
    """Start the daemon, measure its rate over at least ``frames`` acknowledged predictions, look at some, stop it.
    ``drift``: whether it watches for drift and data quality, as it does unless told otherwise.

    The rate is measured from the daemon's own statistics while nobody subscribes to the predictions, as nobody does to
    what the hand-written loops publish; the stages' latencies from the predictions of a second phase.
    """
    watcher = Watcher(port)
    configuration = folder / "agent.toml"
    said = {"port": port, "video": video, "model": model, "pace": pace, "drift": str(drift).lower()}
    configuration.write_text(CONFIGURATION.format(**said))
    started = time.perf_counter()
    daemon = Daemon(configuration, {})
    try:
        first_s = watcher.first_prediction() - started
        begin, end = watcher.statistics_over(frames)
        status = Path(f"/proc/{daemon.process.pid}/status").read_text()
        payloads, seconds = watcher.look_at(min(frames, LOOKED_AT_MOST))
    except TimeoutError as error:
        raise RuntimeError(f"{error}:\n{daemon.log}") from None
    finally:
        daemon.stop()
        watcher.close()
    latencies = [json.loads(payload)["latency_ms"] for payload in payloads]
    return Run(
        seconds=end["uptime_s"] - begin["uptime_s"],
        count=acknowledged(end) - acknowledged(begin),
        first_s=first_s,
        invoke_ms=[latency["invoke"] for latency in latencies],
        preprocess_ms=[latency["preprocess"] for latency in latencies],
        looked_at_fps=(len(payloads) - 1) / seconds,
        stats=end,
        rss_mb=int(status.split("VmRSS:")[1].split()[0]) / 1024,
    )


def acknowledged(stats: dict[str, Any]) -> int:
    count: int = stats["pipelines"]["bench"]["acknowledged"]
    return count


class Watcher:
    """A subscriber that listens to predictions only when asked to."""

    PREDICTIONS = "edge-agent/bench/prediction/bench"

    def __init__(self, port: int) -> None:
        self._messages: queue.SimpleQueue[tuple[float, str, bytes]] = queue.SimpleQueue()
        self._client = paho.Client(CallbackAPIVersion.VERSION2)
        self._client.on_message = lambda _client, _data, message: self._messages.put(
            (time.perf_counter(), message.topic, message.payload)
        )
        self._client.connect("127.0.0.1", port)
        self._client.subscribe([("edge-agent/bench/stats", 0), (self.PREDICTIONS, 0)])
        self._client.loop_start()

    def first_prediction(self) -> float:
        """When the first prediction arrived; from then on no more of them are delivered."""
        arrival, _ = self._next(self.PREDICTIONS)
        self._client.unsubscribe(self.PREDICTIONS)
        return arrival

    def statistics_over(self, predictions: int) -> tuple[dict[str, Any], dict[str, Any]]:
        """The statistics before and after at least that many acknowledged predictions. The first are left out: they
        were taken while this subscriber still listened to predictions, and while the daemon started."""
        for _ in range(2):
            begin = json.loads(self._next("stats")[1])
        while True:
            end = json.loads(self._next("stats")[1])
            if acknowledged(end) - acknowledged(begin) >= predictions:
                return begin, end

    def look_at(self, count: int) -> tuple[list[bytes], float]:
        """So many predictions, and the seconds between the first and the last."""
        self._client.subscribe(self.PREDICTIONS)
        for _ in range(10):  # what the subscription itself disturbs
            self._next(self.PREDICTIONS)
        arrivals = [self._next(self.PREDICTIONS) for _ in range(count)]
        return [payload for _, payload in arrivals], arrivals[-1][0] - arrivals[0][0]

    def close(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()

    def _next(self, topic: str) -> tuple[float, bytes]:
        while True:
            try:
                arrival, name, payload = self._messages.get(timeout=60)
            except queue.Empty:
                raise TimeoutError(f"no message on {topic} for a minute") from None
            if name.endswith(topic):
                return arrival, payload
