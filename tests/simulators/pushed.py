"""The shipped example's model as somebody might push it: with another card, other members, other weights."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from converters.tflite.archive import bare_model, with_members
from edge_agent.io.model_file import parse_model

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "conveyor"
MODEL = EXAMPLE / "model" / "conveyor.tflite"
CARD = "edge-agent/card.json"
GOLDEN = "edge-agent/golden.npz"


def pushed(
    card: Callable[[dict[str, Any]], object] | None = None,
    *,
    bare: bytes | None = None,
    without: tuple[str, ...] = (),
    **members: bytes,
) -> bytes:
    """``card`` changes the card in place; ``bare`` replaces the flatbuffer; ``members`` are added."""
    content = MODEL.read_bytes()
    old = parse_model(content, MODEL)
    said = json.loads(old.members[CARD])
    if card is not None:
        card(said)
    kept = {**old.members, CARD: json.dumps(said).encode(), **members}
    return with_members(
        bare_model(content) if bare is None else bare,
        {name: member for name, member in kept.items() if name not in without},
    )


def edgetpu_build(content: bytes, *, cpu_build: bool = True) -> bytes:
    """What the Edge TPU compiler and the packing make of a model, as far as this machine can tell them apart: the name
    of the custom operator somewhere in the bytes, and the CPU build among the members."""
    members = dict(parse_model(content, MODEL).members)
    if cpu_build:
        members["edge-agent/cpu.tflite"] = bare_model(content)
    return with_members(bare_model(content), {**members, "compiler.txt": b"edgetpu-custom-op"})


def memory_hog(elements: int) -> bytes:
    """A model of a few hundred bytes that wants 4 * elements bytes to run: x (1, 1) tiled and summed."""
    import numpy as np
    from ai_edge_litert import schema_py_generated as schema

    from tests.simulators.tflite_graph import GraphBuilder

    graph = GraphBuilder()
    x = graph.tensor("x", (1, 1))
    times = graph.constant("times", np.array([elements, 1]))
    tiled = graph.op("TILE", [x, times], (elements, 1), "tiled", schema.TileOptionsT())
    total = graph.op("SUM", [tiled, graph.constant("axes", np.array([0]))], (1,), "y", schema.ReducerOptionsT())
    return graph.finish({"x": x}, {"y": total})
