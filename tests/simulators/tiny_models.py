"""Real interpreters over graphs of a few ops, whose one result tells which model ran, on what, and how often."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from edge_agent.core.model_card import resolve
from edge_agent.io.runtimes import create
from edge_agent.records import ModelFile, ModelIdentity
from edge_agent.stages.engine import Engine
from tests.simulators.tflite_graph import GraphBuilder


def tiny_engine(
    version: str,
    value: float = 0.0,
    *,
    side: int = 8,
    images: tuple[str, ...] = ("image",),
    features: Mapping[str, Mapping[str, Any]] | None = None,
    stateful: bool = False,
) -> Engine:
    """Its regression output ``value`` is the given value, plus its features (already scaled), plus the number of runs
    since its state was new. ``features``: name -> further keys of the card's feature."""
    graph = GraphBuilder()
    inputs = {name: graph.tensor(name, (1, side, side, 3)) for name in images}
    pooled = graph.concat([graph.mean(inputs[name], f"{name}/mean") for name in images], "pictures")
    total = graph.dense(pooled, np.zeros((1, 3 * len(images))), np.array([value]), "base", relu=False)
    card: list[dict[str, Any]] = [{"role": "image", "tensor": name} for name in images]
    outputs = {}
    if features:
        inputs["readings"] = graph.tensor("readings", (1, len(features)))
        summed = graph.dense(inputs["readings"], np.ones((1, len(features))), np.zeros(1), "sum", relu=False)
        total = graph.op("ADD", [total, summed], (1, 1), "with_readings", schema.AddOptionsT())
        said = [{"name": name, **more} for name, more in features.items()]
        card.append({"role": "features", "tensor": "readings", "features": said})
    if stateful:
        inputs["runs"] = graph.tensor("runs", (1, 1))
        one = graph.constant("one", np.ones((1, 1)))
        outputs["runs_now"] = graph.op("ADD", [inputs["runs"], one], (1, 1), "runs_now", schema.AddOptionsT())
        total = graph.op("ADD", [total, outputs["runs_now"]], (1, 1), "with_runs", schema.AddOptionsT())
        card.append({"role": "state", "tensor": "runs", "source": "runs_now"})
    outputs["total"] = graph.reshape(total, (1, 1), "total")
    runtime = create(graph.finish(inputs, outputs), "cpu", threads=1, external={})
    file = ModelFile("tiny.tflite", b"", version, None, None, {})
    says = {"inputs": card, "outputs": [{"task": "regression", "tensor": "total", "name": "value"}]}
    resolved = resolve(file, runtime.inputs, runtime.outputs, says, where="here", read_text=lambda _: "")
    return Engine(ModelIdentity("tiny", version, version), resolved, runtime)


def value_of(outputs: Mapping[str, Any]) -> float:
    """The result in the raw outputs of a run."""
    return round(float(outputs["total"][0, 0]), 3)
