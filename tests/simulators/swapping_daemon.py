"""The real daemon, whose one pipeline is given a freshly built model again and again: ``python -m`` with

    agent.toml SWAPS CALM_S REPORT

Model number n calls itself version n; the first keeps its own. REPORT becomes a JSON list with one object for each
swap: ``build_ms`` of its interpreter, and ``gap_ms``, the longest time meanwhile for which a thread that only sleeps a
millisecond at a time was kept from running; ``calm_gap_ms`` is the same over CALM_S without a swap.
"""

from __future__ import annotations

import json
import sys
import threading
import time
from pathlib import Path

from edge_agent.agent import Agent
from edge_agent.assembly import LoadedModel, load_model, wanted_of
from edge_agent.commands.run import start_logging
from edge_agent.config.load import LoadedConfig
from edge_agent.loading import load_configuration, model_request
from edge_agent.records import ModelIdentity
from edge_agent.stages.pipeline import Pipeline
from edge_agent.updating.start import UpdateStart

FRAMES_BETWEEN = 3
DRAIN_S = 30.0


class Ticker(threading.Thread):
    """Notes by how much it is kept from running."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self._longest_ns = 0

    def run(self) -> None:
        last_ns = time.monotonic_ns()
        while True:
            time.sleep(0.001)
            now_ns = time.monotonic_ns()
            self._longest_ns = max(self._longest_ns, now_ns - last_ns - 1_000_000)
            last_ns = now_ns

    def take_ms(self) -> float:
        """The longest since the last call."""
        longest_ns, self._longest_ns = self._longest_ns, 0
        return longest_ns / 1e6


def numbered(loaded: LoadedConfig, name: str, number: int) -> LoadedModel:
    model = load_model(model_request(loaded, name, behind=True))
    model.engine.warm_up()
    identity = model.engine.identity
    model.engine.identity = ModelIdentity(identity.name, str(number), identity.sha256)
    return model


def swap(loaded: LoadedConfig, pipeline: Pipeline, number: int, ticker: Ticker, calm_s: float) -> dict[str, float]:
    """As an update does it, with a trial of a few frames."""
    ticker.take_ms()
    started_ns = time.monotonic_ns()
    model = numbered(loaded, pipeline.config.model, number)
    build_ns = time.monotonic_ns() - started_ns
    gap_ms = ticker.take_ms()
    pipeline.route(model.engine, wanted_of(pipeline.config, loaded.config, model.engine), 1.0)
    wait_frames(pipeline)
    retired = pipeline.settle()
    if retired is None or not pipeline.drained(retired, DRAIN_S):
        raise RuntimeError(f"the model before version {number} is still in use")
    retired.runtime.close()
    ticker.take_ms()
    time.sleep(calm_s)
    return {"build_ms": build_ns / 1e6, "gap_ms": gap_ms, "calm_gap_ms": ticker.take_ms()}


def wait_frames(pipeline: Pipeline) -> None:
    wanted = pipeline.counters.get("predictions") + FRAMES_BETWEEN
    while pipeline.counters.get("predictions") < wanted:
        time.sleep(0.01)


def swap_all(agent: Agent, loaded: LoadedConfig, swaps: int, calm_s: float, report: Path) -> None:
    while not agent.parts.pipelines:
        time.sleep(0.01)
    (pipeline,) = agent.parts.pipelines.values()
    ticker = Ticker()
    ticker.start()
    wait_frames(pipeline)
    measured = [swap(loaded, pipeline, number, ticker, calm_s) for number in range(1, swaps + 1)]
    draft = report.with_suffix(".draft")
    draft.write_text(json.dumps(measured))
    draft.rename(report)


def main(path: str, swaps: str, calm_s: str, report: str) -> int:
    loaded = load_configuration(Path(path))
    start_logging(loaded.config.log.level)
    start = UpdateStart(loaded)
    agent = Agent(loaded, start, [start.begin(pipeline.model) for pipeline in loaded.config.pipeline])
    arguments = (agent, loaded, int(swaps), float(calm_s), Path(report))
    threading.Thread(target=swap_all, args=arguments, daemon=True).start()
    return agent.run()


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
