"""The whole daemon on a video, as a process, seen by a subscriber: what the benchmarks measure it by."""

from __future__ import annotations

import json
import threading
import time
from dataclasses import dataclass, field
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
stats_interval = "2s"
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
"""


@dataclass(slots=True)
class Run:
    """What a subscriber saw of one run."""

    seconds: float = 0.0  # between the first counted prediction and the last
    count: int = 0
    first_s: float = 0.0  # from the start of the process to the first prediction
    invoke_ms: list[float] = field(default_factory=list)
    preprocess_ms: list[float] = field(default_factory=list)
    stats: dict[str, Any] = field(default_factory=dict)
    rss_mb: float = 0.0

    @property
    def fps(self) -> float:
        return self.count / self.seconds

    @property
    def mean_invoke_ms(self) -> float:
        return mean(self.invoke_ms)

    @property
    def median_preprocess_ms(self) -> float:
        return median(self.preprocess_ms)


def run(folder: Path, port: int, video: Path, model: Path, pace: str, frames: int) -> Run:
    """Start the daemon, count ``frames`` predictions after the first 20, stop it."""
    result, done = Run(), threading.Event()
    arrivals: list[float] = []
    payloads: list[bytes] = []

    def keep(_client: paho.Client, _data: Any, message: paho.MQTTMessage) -> None:
        if message.topic.endswith("/stats"):
            result.stats = json.loads(message.payload)
            return
        arrivals.append(time.perf_counter())
        payloads.append(message.payload)
        if len(arrivals) == frames + 20:
            done.set()

    client = paho.Client(CallbackAPIVersion.VERSION2)
    client.on_message = keep
    client.connect("127.0.0.1", port)
    client.subscribe([("edge-agent/bench/prediction/bench", 0), ("edge-agent/bench/stats", 0)])
    client.loop_start()
    configuration = folder / "agent.toml"
    configuration.write_text(CONFIGURATION.format(port=port, video=video, model=model, pace=pace))
    started = time.perf_counter()
    daemon = Daemon(configuration, {})
    try:
        if not done.wait(600):
            raise RuntimeError(f"the daemon did not deliver {frames} predictions:\n{daemon.log}")
        status = Path(f"/proc/{daemon.process.pid}/status").read_text()
        result.rss_mb = int(status.split("VmRSS:")[1].split()[0]) / 1024
    finally:
        daemon.stop()
        client.loop_stop()
    result.first_s = arrivals[0] - started
    result.seconds = arrivals[frames + 19] - arrivals[19]
    result.count = frames
    for payload in payloads[20 : frames + 20]:
        latency = json.loads(payload)["latency_ms"]
        result.invoke_ms.append(latency["invoke"])
        result.preprocess_ms.append(latency["preprocess"])
    return result
