"""What a swap costs the frames of a running pipeline: the real daemon under a camera, a new model again and again.

    python -m benchmarks.swap [--swaps N] [--fps N] [--json]

Building an interpreter holds Python's lock for a while; the longest such gap must stay below the period of the camera.
A gap is what a thread that only sleeps a millisecond at a time was kept from running for; beside it, the same over as
long a time without a swap, which is what this machine does by itself.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from statistics import median

from benchmarks.report import arguments, judge, show
from tests.simulators.agent_toml import DEVICE, MODEL, belt, classifier, head, inspect, machine, pipeline
from tests.simulators.broker import Mosquitto
from tests.simulators.subscriber import Subscriber
from tests.simulators.swaps import Swaps, run_swaps

ROOT = Path(__file__).resolve().parents[1]
CLASSIFIER = ROOT.parent / "shared" / "data" / "models" / "tf2_mobilenet_v2_1.0_224_ptq.tflite"
CALM_S = 0.05  # about what a build takes


def main() -> None:
    parser = arguments("Swap models under a running camera.", repeats=1)
    parser.add_argument("--swaps", type=int, default=20)
    parser.add_argument("--fps", type=int, default=30, help="of the camera (default 30)")
    options = parser.parse_args()
    camera = belt(options.fps, 'drop = "newest"')
    configurations = {"conveyor": camera + machine("media") + inspect() + MODEL}
    if CLASSIFIER.exists():
        configurations["MobileNetV2"] = camera + pipeline("classify", "belt", "m") + classifier("m", CLASSIFIER)
    rows, goals = {}, []
    for name, configuration in configurations.items():
        runs = [run(configuration, options.swaps) for _ in range(options.repeats)]
        row, said = judged(name, runs, 1 / options.fps)
        rows[name] = row
        goals += said
    columns = ("build ms", "gap ms", "worst gap", "calm worst", "of a period", "frames", "lost", "late")
    result = {"device": DEVICE, "swaps": options.swaps, "fps": options.fps}
    show({**result, "goals": goals} if options.json else result, columns, rows, options.json)
    if not options.json:
        print("\n".join(goals))


def run(configuration: str, swaps: int) -> Swaps:
    with tempfile.TemporaryDirectory() as folder:
        broker = Mosquitto(Path(folder) / "broker")
        broker.start()
        subscriber = Subscriber(broker.port)
        try:
            return run_swaps(Path(folder), broker, subscriber, head(broker.port) + configuration, swaps, CALM_S)
        finally:
            subscriber.close()
            broker.stop()


def judged(name: str, runs: list[Swaps], period_s: float) -> tuple[tuple[float, ...], list[str]]:
    """A row of the table, and which goals were reached."""
    measured = [item for run in runs for item in run.measured]
    gaps = [item["gap_ms"] for item in measured]
    worst = max(gaps) / (1000 * period_s)
    frames = sum(run.pipeline["frames"] for run in runs)
    lost = frames - sum(run.pipeline["predictions"] + run.pipeline["discards"].get("shutdown", 0) for run in runs)
    late = sum(run.late(period_s) for run in runs)
    builds, calm = [item["build_ms"] for item in measured], max(item["calm_gap_ms"] for item in measured)
    row = (median(builds), median(gaps), max(gaps), calm, worst, frames, lost, late)
    return row, [
        judge(f"{name}: worst gap over a period of the camera", worst, "< 1", worst < 1),
        judge(f"{name}: frames lost", lost, "0", lost == 0),
        judge(f"{name}: frames later than a period", late, "0", late == 0),
    ]


if __name__ == "__main__":
    main()
