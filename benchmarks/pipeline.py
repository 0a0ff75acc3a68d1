"""The whole daemon against the loops that people write, on the same video, model and broker, in alternating rounds.

    python -m benchmarks.pipeline [--video FILE] [--model FILE] [--mediapipe PYTHON] [--json]

``--mediapipe`` names a Python that has mediapipe and paho-mqtt installed (its NumPy may not fit ours).
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median

from benchmarks import daemon
from benchmarks.report import arguments, judge, show
from tests.simulators.broker import Mosquitto

ROOT = Path(__file__).resolve().parents[1]
DATA = ROOT.parent / "shared" / "data"


def loop(python: str, kind: str, video: Path, model: Path, port: int, frames: int) -> dict[str, float]:
    """One run of benchmarks/loops.py; seconds a frame, in all and in invoke."""
    command = [python, "-m", "benchmarks.loops", kind, str(video), str(model), str(port), str(frames)]
    out = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if out.returncode != 0:
        raise RuntimeError(f"{kind}: {out.stderr.strip().splitlines()[-1:]}")
    measured = json.loads(out.stdout.splitlines()[-1])
    return {"frame": measured["seconds"] / frames, "invoke": measured["invoke_s"] / frames}


def main() -> None:
    parser = arguments("Compare the daemon with hand-written loops.", repeats=5)
    parser.add_argument("--video", type=Path, default=DATA / "videos/car-detection.mp4")
    parser.add_argument("--model", type=Path, default=DATA / "models/tf2_mobilenet_v2_1.0_224_ptq.tflite")
    parser.add_argument("--frames", type=int, default=300)
    parser.add_argument("--mediapipe", metavar="PYTHON", help="a Python with mediapipe, to compare with it too")
    options = parser.parse_args()
    kinds = {"raw invoke": "raw", "preprocess alone": "preprocess", "numpy loop": "numpy", "PIL loop": "pil"}
    loops: dict[str, list[dict[str, float]]] = {name: [] for name in kinds}
    if options.mediapipe:
        loops["MediaPipe Tasks"] = []
    runs: list[daemon.Run] = []
    unwatched: list[daemon.Run] = []  # without drift and data quality
    with tempfile.TemporaryDirectory() as folder:
        broker = Mosquitto(Path(folder) / "broker")
        broker.start()
        for _ in range(options.repeats):
            for name, kind in kinds.items():
                loops[name].append(
                    loop(sys.executable, kind, options.video, options.model, broker.port, options.frames)
                )
            if options.mediapipe:
                measured = loop(
                    options.mediapipe, "mediapipe", options.video, options.model, broker.port, options.frames
                )
                loops["MediaPipe Tasks"].append(measured)
            for kept, drift in ((runs, True), (unwatched, False)):
                kept.append(
                    daemon.run(Path(folder), broker.port, options.video, options.model, "max", options.frames, drift)
                )
        paced = daemon.run(Path(folder), broker.port, options.video, options.model, "media", 60)
        broker.stop()
    report(options, loops, runs, unwatched, paced)


def report(
    options: argparse.Namespace,
    loops: dict[str, list[dict[str, float]]],
    runs: list[daemon.Run],
    unwatched: list[daemon.Run],
    paced: daemon.Run,
) -> None:
    frame_ms = {name: 1e3 * median(item["frame"] for item in items) for name, items in loops.items()}
    frame_ms["edge-agent"] = 1e3 * median(run.seconds / run.count for run in runs)
    invoke_ms = {name: 1e3 * median(item["invoke"] for item in items) for name, items in loops.items()}
    invoke_ms["edge-agent"] = median(run.mean_invoke_ms for run in runs)
    limit, ours = frame_ms["raw invoke"], frame_ms["edge-agent"]
    own = median(run.mean_invoke_ms * run.looked_at_fps / 1e3 for run in runs)
    # the daemon's rate is measured without a subscriber and its stages with one, so its share comes from the latter
    share = {name: own if name == "edge-agent" else invoke_ms[name] / value for name, value in frame_ms.items()}
    rows = {
        name: (1e3 / value, value, limit / value, share[name], value / ours)
        for name, value in frame_ms.items()
        if name != "preprocess alone"
    }
    latency = paced.stats["pipelines"]["bench"]["latency_ms"]
    wire_ms = latency["puback"]["p50"] - latency["invoke"]["p50"]
    in_loop = median(run.median_preprocess_ms / run.mean_invoke_ms for run in runs)
    alone = frame_ms["preprocess alone"] / limit
    watching = median(on.fps / off.fps for on, off in zip(runs, unwatched, strict=True))
    goals = [
        judge("rate over invoke in its own loop", own, ">= 0.90", own >= 0.90),
        judge("rate over raw invoke", limit / ours, ">= 0.80", limit / ours >= 0.80),
        judge(
            "rate over the numpy loop", frame_ms["numpy loop"] / ours, ">= 1.3", frame_ms["numpy loop"] / ours >= 1.3
        ),
        judge("rate over the PIL loop", frame_ms["PIL loop"] / ours, ">= 1.5", frame_ms["PIL loop"] / ours >= 1.5),
        judge("preprocess over raw invoke, each alone", alone, "<= 0.05", alone <= 0.05),
        judge("preprocess over invoke, both in the loop, with waiting", in_loop, "<= 0.05", in_loop <= 0.05),
        judge("rate with drift and data quality over without", watching, ">= 0.98", watching >= 0.98),
        judge("frame to PUBACK minus invoke at camera pace, p50 ms", wire_ms, "<= 5", wire_ms <= 5),
    ]
    if "MediaPipe Tasks" in frame_ms:
        ratio = frame_ms["MediaPipe Tasks"] / ours
        goals.append(judge("rate over MediaPipe Tasks", ratio, "> 1", ratio > 1))
    columns = ("frames/s", "ms a frame", "of raw invoke", "of own invoke", "slower than us")
    result = {"video": options.video.name, "model": options.model.name, "frames": options.frames, "goals": goals}
    if not options.json:
        del result["goals"]
    show(result, columns, rows, options.json)
    if not options.json:
        print("\n".join(goals))


if __name__ == "__main__":
    main()
