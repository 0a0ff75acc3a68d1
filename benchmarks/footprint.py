"""Start and memory of the daemon against a bare interpreter script, in alternating rounds; then memory over a long run.

python -m benchmarks.footprint [--predictions 100000] [--json]
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

from benchmarks import daemon
from benchmarks.pipeline import DATA, ROOT
from benchmarks.report import arguments, judge, show
from tests.simulators.broker import Mosquitto

# What one writes to see whether a model runs; the second imports what a camera-to-broker script imports, and stays.
BARE = """
import sys
import numpy as np
from ai_edge_litert.interpreter import Interpreter
interpreter = Interpreter(sys.argv[1], num_threads=1)
interpreter.allocate_tensors()
interpreter.invoke()
print("first", flush=True)
"""
SAME_LIBRARIES = """
import sys
import cv2, numpy, PIL.Image, msgspec
import paho.mqtt.client
from ai_edge_litert.interpreter import Interpreter
interpreter = Interpreter(sys.argv[1], num_threads=1)
interpreter.allocate_tensors()
capture = cv2.VideoCapture(sys.argv[2])
capture.read()
interpreter.invoke()
print(next(int(line.split()[1]) / 1024 for line in open("/proc/self/status") if line.startswith("VmRSS")))
"""


def bare_first_s(model: Path) -> float:
    """Seconds from the start of the process to the end of its first invoke."""
    started = time.perf_counter()
    with subprocess.Popen([sys.executable, "-c", BARE, str(model)], stdout=subprocess.PIPE) as process:
        if process.stdout is None or not process.stdout.readline():
            raise RuntimeError("the bare script failed")
        return time.perf_counter() - started


def script_rss_mb(model: Path, video: Path) -> float:
    command = [sys.executable, "-c", SAME_LIBRARIES, str(model), str(video)]
    return float(subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT).stdout)


def main() -> None:
    parser = arguments("Start and memory of the daemon against bare scripts.", repeats=7)
    parser.add_argument("--video", type=Path, default=DATA / "videos/car-detection.mp4")
    parser.add_argument("--model", type=Path, default=DATA / "models/tf2_mobilenet_v2_1.0_224_ptq.tflite")
    parser.add_argument("--small-model", type=Path, default=DATA / "models/mobilenet_v1_0.25_128_quant.tflite")
    parser.add_argument("--predictions", type=int, default=100_000, help="of the long run; 0 leaves it out")
    options = parser.parse_args()
    bare, script, again, first_start = [], [], [], []
    with tempfile.TemporaryDirectory() as folder:
        broker = Mosquitto(Path(folder) / "broker")
        broker.start()
        for number in range(options.repeats):
            bare.append(bare_first_s(options.model))
            script.append(script_rss_mb(options.model, options.video))
            fresh = Path(folder) / f"fresh{number}"  # no remembered probe: the child runs before the model is built
            fresh.mkdir()
            first_start.append(daemon.run(fresh, broker.port, options.video, options.model, "media", 20))
            again.append(daemon.run(fresh, broker.port, options.video, options.model, "media", 20))
        growth = memory_growth(Path(folder), broker, options) if options.predictions else None
        broker.stop()
    show_all(options, bare, script, first_start, again, growth)


def memory_growth(folder: Path, broker: Mosquitto, options: argparse.Namespace) -> tuple[float, float]:
    """Resident memory early and after many predictions of a small, fast model."""
    video, model, count = options.video, options.small_model, options.predictions
    early = daemon.run(folder, broker.port, video, model, "max", count // 20).rss_mb
    late = daemon.run(folder, broker.port, video, model, "max", count).rss_mb
    return early, late


def show_all(
    options: argparse.Namespace,
    bare: list[float],
    script: list[float],
    first_start: list[daemon.Run],
    again: list[daemon.Run],
    growth: tuple[float, float] | None,
) -> None:
    first_s = {
        "first start": median(run.first_s for run in first_start),
        "later start": median(run.first_s for run in again),
    }
    rss = median(run.rss_mb for run in again)
    rows = {
        "bare script": (median(bare), 1.0, None, None),
        "same libraries": (None, None, median(script), 1.0),
        "edge-agent, first start": (first_s["first start"], first_s["first start"] / median(bare), None, None),
        "edge-agent, later start": (
            first_s["later start"],
            first_s["later start"] / median(bare),
            rss,
            rss / median(script),
        ),
    }
    start, memory = first_s["later start"] / median(bare), rss / median(script)
    goals = [
        judge("start to first prediction over the bare script", start, "<= 3", start <= 3),
        judge("resident memory over the same libraries", memory, "<= 1.6", memory <= 1.6),
    ]
    if growth:
        ratio = growth[1] / growth[0]
        goals.append(judge("resident memory, late over early", ratio, "<= 1.03", ratio <= 1.03))
    as_json = options.json
    show({"goals": goals} if as_json else {}, ("first s", "over bare", "RSS MB", "over script"), rows, as_json)
    if not as_json:
        print("\n".join(goals))


if __name__ == "__main__":
    main()
