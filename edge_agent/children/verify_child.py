"""The child of verify.py: an Examination as a pickle on the standard input, a Verdict as JSON on the standard output.

It may abort, crash or hang: its parent copes. It opens no accelerator that is exclusive to the daemon: of a build for
the Edge TPU it examines the CPU build inside.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from functools import partial
from pathlib import Path

import msgspec
import numpy as np

from edge_agent.assembly import LoadedModel, make_aligner
from edge_agent.children import inside
from edge_agent.children.candidate import Refusal, load_candidate, read_candidate, refusing
from edge_agent.children.golden import difference, golden_evidence, golden_of
from edge_agent.children.requirements import Place, Requirements, task_of
from edge_agent.children.verify import Examination, Verdict
from edge_agent.core.rollout_steps import Evidence
from edge_agent.io.golden_file import GoldenSamples
from edge_agent.records import Array
from edge_agent.rollouts import Reason
from edge_agent.stages.engine import Engine

WARM_UP_RUNS = 3
ROUND_RUNS = 20
ROUNDS = 5  # whatever else the machine does adds to the latency: the best round counts
ROUND_S = 1.0  # a slow model is timed on fewer runs
LEAST_RUNS = 5


def examine(path: Path, requirements: Requirements, evidence: Evidence) -> None:
    """Fills ``evidence`` as it goes. Raises Refusal."""
    gauge = inside.MemoryGauge()
    file = read_candidate(path, requirements)
    started_ns = time.perf_counter_ns()
    model = load_candidate(file, path, requirements)
    evidence["delegate"] = model.engine.runtime.info.delegate
    evidence["load_ms"] = round((time.perf_counter_ns() - started_ns) / 1e6, 1)
    if requirements.place:
        with refusing(Reason.INCOMPATIBLE):
            _fit(model.engine, requirements.place)
    with refusing(Reason.LOAD):
        model.engine.warm_up()
    evidence["memory_mb"] = gauge.grown_mb()
    with refusing(Reason.GOLDEN):
        golden = _golden(model, evidence)
    budgets = model.engine.card.budgets
    # not the back-end that the daemon will take: its own trial judges that
    stands_in = file.form == "edgetpu" or bool(model.tried)
    with refusing(Reason.LATENCY):
        _latency(model.engine, golden, None if stands_in else requirements.p95_ms or budgets.p95_ms, evidence)
    _memory(requirements.memory_mb or budgets.memory_mb, evidence)


def _fit(engine: Engine, place: Place) -> None:
    """Raises what make_aligner does, and Refusal."""
    for pipeline in place.config.pipeline:
        if pipeline.model == place.request.name:
            make_aligner(pipeline, place.config, engine)
    tasks = {head.name: task_of(head) for head in engine.card.outputs}
    for name, task in place.outputs.items():
        if tasks.get(name) != task:
            has = ", ".join(f"{name} ({task})" for name, task in tasks.items())
            raise Refusal(
                Reason.INCOMPATIBLE,
                f'what runs now has an output "{name}" ({task}), which others rely on; it has {has}',
            )


def _golden(model: LoadedModel, evidence: Evidence) -> GoldenSamples:
    golden, found = golden_of(model)
    evidence.update(golden_evidence(found))
    if not found.ok:
        raise Refusal(Reason.GOLDEN, difference(model, found))
    return golden


def _latency(engine: Engine, golden: GoldenSamples, budget_ms: float | None, evidence: Evidence) -> None:
    rows = [{name: rows[row] for name, rows in golden.inputs.items()} for row in range(_count(golden))]
    for run in range(WARM_UP_RUNS):
        engine.runtime.invoke(rows[run % len(rows)])
    best = _round(engine, rows)
    for _ in range(ROUNDS - 1):
        if budget_ms is None or best[1] <= budget_ms:
            break
        best = min(best, _round(engine, rows), key=lambda found: found[1])
    evidence["p50_ms"], evidence["p95_ms"], evidence["runs"] = best
    if budget_ms is not None and best[1] > budget_ms:
        final = engine.runtime.info.delegate == evidence["delegate"]  # else a device was lost: no model's fault
        raise Refusal(Reason.LATENCY, f"p95 of a run is {best[1]:g} ms, the budget is {budget_ms:g} ms", final=final)


def _round(engine: Engine, rows: list[dict[str, Array]]) -> tuple[float, float, int]:
    """p50 and p95 in ms, and the number of runs."""
    taken: list[int] = []
    while len(taken) < LEAST_RUNS or (len(taken) < ROUND_RUNS and sum(taken) < ROUND_S * 1e9):
        row = rows[len(taken) % len(rows)]
        taken.append(inside.timed(engine.runtime.info, partial(engine.runtime.invoke, row)))
    p50, p95 = np.percentile(taken, [50, 95]) / 1e6
    return round(float(p50), 4), round(float(p95), 4), len(taken)


def _memory(budget_mb: float | None, evidence: Mapping[str, float | int | str]) -> None:
    used_mb = float(evidence["memory_mb"])
    if budget_mb is not None and used_mb > budget_mb:
        raise Refusal(Reason.MEMORY, f"it takes {used_mb:g} MB to load and run, the budget is {budget_mb:g} MB")


def _count(golden: GoldenSamples) -> int:
    return len(next(iter(golden.inputs.values())))


def main() -> None:
    asked: Examination = inside.request()
    channel = inside.answer_channel()
    inside.go_first()
    inside.limit_memory(asked.memory_most_mb)
    evidence: Evidence = {}
    try:
        examine(asked.path, asked.requirements, evidence)
        verdict = Verdict(None, evidence=evidence)
    except Refusal as refusal:
        verdict = Verdict(refusal.reason, str(refusal), refusal.final, evidence)
    os.write(channel, msgspec.json.encode(verdict))
    os._exit(0)  # the libraries' exit handlers have nothing to do with the verdict


if __name__ == "__main__":
    main()
