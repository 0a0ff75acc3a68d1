"""Samples as a device keeps them, for the tests of the store and of the command."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import numpy as np
from msgspec import Raw

from edge_agent.core.wire import rfc3339
from edge_agent.monitoring import Held, Sample, SampleReason
from edge_agent.records import ModelIdentity, Pixels

BOOT = "0b2a7c52-5b7e-4a5e-9a46-3f1f0a3f9d10"
FIRST_WALL_NS = 1_790_000_000 * 10**9
MODEL = ModelIdentity("conveyor", "1.0.0", "ab" * 32)
UNITS = {"weight": "g", "temperature": "degC"}
OUTPUTS = {"fault": {"task": "classification", "classes": [{"label": "worn", "index": 2, "score": 0.4}]}}


def name_of(number: int, pipeline: str = "inspect") -> str:
    return f"{BOOT}-{pipeline}-{number}"


def kept(
    number: int,
    *,
    reason: SampleReason = "random",
    pipeline: str = "inspect",
    tensors: tuple[str, ...] = ("image",),
    features: Mapping[str, float | None] | None = None,
    units: Mapping[str, str] = UNITS,
    labels: Mapping[str, Any] | None = None,
    outputs: Mapping[str, Any] = OUTPUTS,
) -> Sample:
    """The ``number``-th, a minute after the one before."""
    wall_ns = FIRST_WALL_NS + number * 60 * 10**9
    name = name_of(number, pipeline)
    return Sample(
        held=Held(name, reason, number / 100, wall_ns),
        pipeline=pipeline,
        time=rfc3339(wall_ns),
        clock_synced=True,
        model=MODEL,
        tensors=tensors,
        features={"weight": 100.0 + number, "temperature": 50.5} if features is None else dict(features),
        units=dict(units),
        labels=dict(labels or {}),
        prediction=Raw(json.dumps({"id": name, "outputs": outputs}).encode()),
    )


def picture(number: int, height: int = 24, width: int = 32) -> Pixels:
    """(height, width, 3) uint8 BGR: a soft ramp, another one for each number."""
    ramp = np.linspace(0, 120, height * width).reshape(height, width) + number % 100
    return np.stack([ramp, ramp + 20, ramp + 30], axis=-1).astype(np.uint8)
