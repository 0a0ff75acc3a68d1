"""What a candidate in shadow costs the live model: runs a second with it and without it, in alternating rounds.

    python -m benchmarks.shadow [--model FILE] [--repeats N] [--json]

The live model runs without a pause, as no camera would have it: the worst case. The candidate is the same file; for the
rounds without it the child is stopped by a signal.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import numpy as np

from benchmarks.report import arguments, judge, show
from edge_agent.assembly import load_model
from edge_agent.children.requirements import Requirements, request_for
from edge_agent.children.shadow import ShadowChild, live_of
from edge_agent.core.rollout_steps import Failed, Shadowed
from edge_agent.io.clock import SystemClock
from tests.simulators.waiting import wait_for

MODEL = Path(__file__).resolve().parents[1] / "examples" / "conveyor" / "model" / "conveyor.tflite"
ROUND_S = 1.0
SWITCH_INTERVAL_S = 0.0002  # the daemon's


def rate(run: Callable[[], None]) -> float:
    """Runs a second over one round."""
    count, end = 0, time.perf_counter() + ROUND_S
    while time.perf_counter() < end:
        run()
        count += 1
    return count / ROUND_S


def main() -> None:
    parser = arguments("Measure what a candidate in shadow costs the live model.", repeats=15)
    parser.add_argument("--model", type=Path, default=MODEL)
    options = parser.parse_args()
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    engine = load_model(request_for(options.model.absolute(), Requirements())).engine
    tensors, features = engine.image_slot(), dict.fromkeys(engine.feature_names, 0.0)
    reports: list[Shadowed | Failed] = []
    offers_ns: list[int] = []
    shadow = ShadowChild(options.model, Requirements(), live_of(engine), reports.append, SystemClock())

    def run() -> None:
        outputs = engine.invoke(tensors, features)
        before_ns = time.perf_counter_ns()
        shadow.offer(tensors, features, outputs)
        offers_ns.append(time.perf_counter_ns() - before_ns)

    wait_for(lambda: shadow.waiting, "the child has loaded the model")
    beside, alone = [], []
    for _ in range(options.repeats):
        os.kill(shadow.pid, signal.SIGSTOP)
        alone.append(rate(run))
        os.kill(shadow.pid, signal.SIGCONT)
        beside.append(rate(run))
    shadow.stop()
    ratio = median(with_it / without for with_it, without in zip(beside, alone, strict=True))
    rows = {"alone": (median(alone),), "with a shadow": (median(beside),)}
    result = {
        "model": options.model.name,
        "rate_ratio": round(ratio, 3),
        "offer_p50_us": round(float(np.percentile(offers_ns, 50)) / 1e3, 1),
        "offer_p99_us": round(float(np.percentile(offers_ns, 99)) / 1e3, 1),
        "samples": reports[-1].samples if reports and isinstance(reports[-1], Shadowed) else 0,
    }
    show(result, ("runs/s",), rows, options.json)
    if not options.json:
        print(judge("live rate with a shadow over without", ratio, ">= 0.90", ratio >= 0.90))


if __name__ == "__main__":
    main()
