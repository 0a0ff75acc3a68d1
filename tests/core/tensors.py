"""Tensors for tests: specs of made-up models, and real models with their real interpreter."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edge_agent.records import Array, ModelFile, StandardMetadata, TensorSpec

DATA = Path(__file__).resolve().parents[2] / "../shared/data"


def spec(name: str, shape: Sequence[int], dtype: str = "uint8", scale: float = 0.0, zero_point: int = 0) -> TensorSpec:
    return TensorSpec(name, 0, tuple(shape), np.dtype(dtype), scale, zero_point)


def model_file(
    card: dict[str, Any] | None = None,
    metadata: StandardMetadata | None = None,
    members: dict[str, bytes] | None = None,
    notes: tuple[str, ...] = (),
) -> ModelFile:
    """A model file without a model: what its card resolves to does not depend on the graph."""
    return ModelFile("models/conveyor.tflite", b"", "0" * 64, card, metadata, members or {}, notes=notes)


def real_data(name: str) -> Path:
    path = DATA / name
    if not path.exists():
        pytest.skip(f"{name} of the shared test data is not here")
    return path


class RealModel:
    """A model of the shared data in the LiteRT interpreter, without our own adapter."""

    def __init__(self, name: str) -> None:
        litert = pytest.importorskip("ai_edge_litert.interpreter")
        content = real_data(f"models/{name}").read_bytes()
        self._interpreter = litert.Interpreter(model_content=content, num_threads=1)
        self._interpreter.allocate_tensors()
        self.inputs = [_spec_of(details) for details in self._interpreter.get_input_details()]
        self.outputs = [_spec_of(details) for details in self._interpreter.get_output_details()]

    def run(self, tensors: dict[str, Array]) -> dict[str, Array]:
        for item in self.inputs:
            self._interpreter.set_tensor(item.index, tensors[item.name])
        self._interpreter.invoke()
        return {item.name: self._interpreter.get_tensor(item.index) for item in self.outputs}


def _spec_of(details: dict[str, Any]) -> TensorSpec:
    scale, zero_point = details["quantization"]
    shape = tuple(int(size) for size in details["shape"])
    return TensorSpec(details["name"], details["index"], shape, np.dtype(details["dtype"]), float(scale), zero_point)
