"""Real models of a few ops for a device without sensors: what each computes, and where it fails, is known."""

from __future__ import annotations

import json

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from converters.golden import GoldenSet, golden_bytes
from converters.tflite.archive import with_members
from edge_agent.core.card_schema import Golden
from edge_agent.io.runtimes import create
from tests.simulators.agent_toml import pipeline
from tests.simulators.pushed import CARD, GOLDEN
from tests.simulators.tflite_graph import GraphBuilder

SIDE = 16
BRIGHT = 0.9
"""Of the golden picture, 0 to 1; the example's own pictures are at about 0.3."""
ONLY_BRIGHT = 0.6
PIPELINE = pipeline("inspect", "belt", "conveyor")


def brightness(version: str, *, more: float = 0.0, fails_in_the_dark: bool = False, golden: float = BRIGHT) -> bytes:
    """A regression: how bright the picture is, and ``more``. ``fails_in_the_dark``: no number comes out below
    ONLY_BRIGHT, which the golden picture, of that brightness, is above."""
    graph = GraphBuilder()
    image = graph.tensor("image", (1, SIDE, SIDE, 3))
    mean = graph.dense(graph.mean(image, "mean"), np.full((1, 3), 1 / 3), np.array([more]), "grey", relu=False)
    if fails_in_the_dark:
        over = graph.subtract(mean, np.array([ONLY_BRIGHT]), "over")
        mean = graph.op("ADD", [mean, graph.op("LOG", [over], (1, 1), "log")], (1, 1), "sum", schema.AddOptionsT())
    bare = graph.finish({"image": image}, {"brightness": graph.reshape(mean, (1, 1), "brightness")})
    card = {
        "schema": "edge-agent/card/1",
        "name": "conveyor",
        "version": version,
        "inputs": [{"role": "image", "tensor": "image", "mean": [0.0], "std": [255.0]}],
        "outputs": [{"task": "regression", "tensor": "brightness", "name": "brightness"}],
        "golden": {"tolerance_lsb": 8},
    }
    return with_members(bare, {CARD: json.dumps(card).encode(), GOLDEN: _golden(bare, golden)})


def _golden(bare: bytes, grey: float) -> bytes:
    """A plain picture, and what the model really makes of it."""
    inputs = {"image": np.full((1, SIDE, SIDE, 3), grey, np.float32)}
    runtime = create(bare, "cpu", threads=1, external={})
    outputs = {name: array.copy() for name, array in runtime.invoke(inputs).items()}
    runtime.close()
    rows = [{name: array[np.newaxis] for name, array in tensors.items()} for tensors in (inputs, outputs)]
    return golden_bytes(GoldenSet(*rows, rule=Golden()))
