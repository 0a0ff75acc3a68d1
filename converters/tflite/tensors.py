"""The inputs and outputs of a .tflite as the device's interpreter sees them, without running it."""

from __future__ import annotations

from edge_agent.io.runtimes import create
from edge_agent.records import TensorSpec


def tensors_of(model: bytes) -> tuple[tuple[TensorSpec, ...], tuple[TensorSpec, ...]]:
    """(inputs, outputs) in the order of the interpreter's own lists. Raises ModelError."""
    runtime = create(model, "cpu", threads=1, external={})
    try:
        return tuple(runtime.inputs), tuple(runtime.outputs)
    finally:
        runtime.close()
