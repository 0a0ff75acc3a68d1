"""What the Jetson compares its engine with: golden samples, and how far each output may be off."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from typing import Any

import numpy as np

from converters.jetson.onnx_file import Precision
from converters.jetson.onnx_golden import TOLERANCES, Chosen
from converters.records import Tensors

SCHEMA = "edge-agent/engine-check/1"
FILES: Mapping[Precision, str] = {"fp16": "model.onnx", "int8": "model_qdq.onnx"}


def check_files(chosen: Chosen) -> dict[str, bytes]:
    """golden.npz (arrays "input/TENSOR" and "fp16/TENSOR", "int8/TENSOR", a row for each sample) and check.json."""
    return {
        "golden.npz": _npz(chosen.inputs, chosen.outputs),
        "check.json": (json.dumps(_rules(chosen), indent=1) + "\n").encode(),
    }


def _rules(chosen: Chosen) -> dict[str, Any]:
    """By precision and output: how far off a value may be, and whether the best class must be the same."""
    return {
        "schema": SCHEMA,
        "precisions": {
            precision: {
                "onnx": FILES[precision],
                "outputs": {
                    name: {
                        "tolerance": float(f"{TOLERANCES[precision] * (np.abs(values).max() or 1.0):.4g}"),
                        "argmax": name in chosen.classes,
                    }
                    for name, values in tensors.items()
                },
            }
            for precision, tensors in chosen.outputs.items()
        },
    }


def _npz(inputs: Tensors, outputs: Mapping[Precision, Tensors]) -> bytes:
    arrays = {f"input/{name}": rows for name, rows in inputs.items()}
    arrays |= {f"{precision}/{name}": rows for precision, kept in outputs.items() for name, rows in kept.items()}
    stream = io.BytesIO()
    np.savez_compressed(stream, **arrays)  # type: ignore[arg-type]  # numpy's stub takes the names for its own options
    return stream.getvalue()
