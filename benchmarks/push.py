"""From ``edge-fleet push`` to a model that is committed, over loopback: ``python -m benchmarks.push``.

A real mosquitto, the real daemon on the example, a model of 4 MB, a trial of 1 s. The model comes in pieces over MQTT,
or over HTTP from the same command.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
import zipfile
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from benchmarks.report import arguments, middle, show
from fleet.new_repository import PRESETS, create
from tests.simulators.agent_toml import CONVEYOR, DEVICE, MODEL, belt, head, inspect, machine
from tests.simulators.broker import Mosquitto, free_port
from tests.simulators.daemon import Daemon
from tests.simulators.subscriber import Subscriber
from tests.simulators.waiting import wait_for

SIZE = 4 * 2**20
TRIAL_S = 1
STATES = ("fetching", "verifying", "trial", "idle")  # the last: committed


def main() -> None:
    options = arguments("Push a model of 4 MB to a device.", repeats=3).parse_args()
    rows = {}
    for way in ("mqtt", "http"):
        runs = [run(way) for _ in range(options.repeats)]
        rows[way] = [middle([run[state] for run in runs]) for state in STATES]
    columns = ["asked s", "fetched s", "verified s", "committed s"]
    show({"bytes": SIZE, "trial_s": TRIAL_S}, columns, rows, options.json)


def run(way: str) -> dict[str, float]:
    """Seconds from the start of the command until each state was first told."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        broker = Mosquitto(folder / "broker")
        broker.start()
        subscriber = Subscriber(broker.port)
        port = free_port()
        daemon = _daemon(folder, broker.port, "mqtt:" if way == "mqtt" else f"http://127.0.0.1:{port}")
        try:
            daemon.wait_ready()
            subscriber.wait_predictions(5)
            return _push(folder, broker.port, subscriber, way, port)
        finally:
            daemon.stop()
            subscriber.close()
            broker.stop()


def _daemon(folder: Path, port: int, repository: str) -> Daemon:
    create(folder / "updates", PRESETS["bench"], datetime.now(timezone.utc))
    root = folder / "updates" / "metadata" / "1.root.json"
    update = f'[update]\nrepository = "{repository}"\nroot = "{root}"\n'
    configuration = folder / "agent.toml"
    configuration.write_text(head(port) + belt(20) + machine("media") + inspect() + MODEL + update)
    return Daemon(configuration, {})


def _push(folder: Path, port: int, subscriber: Subscriber, way: str, http_port: int) -> dict[str, float]:
    model = folder / "model.tflite"
    model.write_bytes(padded())
    command = [sys.executable, "-m", "fleet", "push", str(model), "--repository", str(folder / "updates")]
    command += ["--to", f"device:{DEVICE}", "--version", "2.0.0", "--trial", f"{TRIAL_S}s", "--mqtt-port", str(port)]
    command += ["--http-port", str(http_port)] if way == "http" else []
    began_s = time.monotonic()
    reached: dict[str, float] = {}
    log = folder / "push.log"
    with log.open("w") as output, subprocess.Popen(command, stdout=output, stderr=output) as push:
        wait_for(lambda: _look(subscriber, reached, began_s) or push.poll() is not None, "committed", 120)
        assert push.wait(60) == 0, log.read_text()
    return reached


def _look(subscriber: Subscriber, reached: dict[str, float], began_s: float) -> bool:
    for status in subscriber.payloads("/update/status"):
        if status["state"] != "idle" or _committed(status):
            reached.setdefault(status["state"], time.monotonic() - began_s)
    return "idle" in reached


def _committed(status: dict[str, Any]) -> bool:
    return status["last"] is not None and status["last"]["state"] == "committed"


def padded() -> bytes:
    """The example's model with members that nobody reads, up to the size."""
    content = (CONVEYOR / "model" / "conveyor.tflite").read_bytes()
    with tempfile.TemporaryFile() as file:
        file.write(content)
        with zipfile.ZipFile(file, "a") as archive:
            archive.comment = b""  # the digest of the file as it was
            archive.writestr("padding.bin", os.urandom(SIZE - len(content) - 1024))
        file.seek(0)
        return file.read()


if __name__ == "__main__":
    main()
