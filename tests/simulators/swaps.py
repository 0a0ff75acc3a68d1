"""A daemon that swaps its model again and again (swapping_daemon.py), run to its clean stop."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from msgspec import Struct

from tests.simulators.broker import Mosquitto
from tests.simulators.daemon import Daemon
from tests.simulators.subscriber import Subscriber
from tests.simulators.waiting import wait_for


class Swaps(Struct):
    """``measured``: see swapping_daemon.py. ``stats``: the last ones, of the clean stop."""

    measured: list[dict[str, float]]
    predictions: list[dict[str, Any]]
    stats: dict[str, Any]
    events: list[dict[str, Any]]

    @property
    def pipeline(self) -> dict[str, Any]:
        (found,) = self.stats["pipelines"].values()
        return dict(found)

    def late(self, period_s: float) -> int:
        """Predictions that were ready later than a period after their frame."""
        return sum(item["latency_ms"]["total"] > 1000 * period_s for item in self.predictions)


def run_swaps(
    folder: Path, broker: Mosquitto, subscriber: Subscriber, configuration: str, swaps: int, calm_s: float = 0.0
) -> Swaps:
    """``configuration``: with one pipeline, and the device that the subscriber listens to."""
    path, report = folder / "agent.toml", folder / "swaps.json"
    path.write_text(configuration)
    program = ("-m", "tests.simulators.swapping_daemon", str(path), str(swaps), str(calm_s), str(report))
    daemon = Daemon(path, {}, program)
    try:
        wait_for(lambda: report.exists() or daemon.process.poll() is not None, "all models have had their turn", 180)
        assert report.exists(), daemon.log
        assert daemon.stop() == 0, daemon.log
    finally:
        daemon.kill()
    wait_for(lambda: subscriber.raw("/availability")[-1][1] == b"offline", "the farewell")
    stats = subscriber.last("/stats") or {}
    return Swaps(json.loads(report.read_text()), subscriber.predictions(), stats, subscriber.events("worker_failed"))
