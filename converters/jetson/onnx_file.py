"""A torch or ONNX model as an ONNX file: batch 1, the source's own names, pictures with their channels last, as the
device's preprocessing makes them. All of it is done by workers in the source's own environment.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
from msgspec import Struct

from converters.child import run_worker
from converters.progress import Progress, Silent
from converters.records import Environment, Kind, Scheme, Tensors
from converters.source_kind import kind_of
from converters.sources import sha256_of
from converters.workers.protocol import load_arrays, save_arrays
from edge_agent.errors import ConfigError
from edge_agent.records import Array, TensorSpec

Precision = Literal["fp16", "int8"]
"""What an engine is built for: "fp16" from the float32 file, "int8" from the one with QDQ pairs."""
SCHEMES: Mapping[Precision, Scheme] = {"fp16": "float32", "int8": "int8"}
"""What the file itself holds."""


class Route(NamedTuple):
    environment: Environment
    operation: str


ROUTES: Mapping[Kind, Route] = {"torch": Route("torch", "from_torch"), "onnx": Route("onnx", "from_onnx")}


class OnnxFile(Struct, frozen=True):
    """``content``: the file without a card. ``sha256``: of the source. ``environment`` can run it."""

    content: bytes
    kind: Kind
    path: str
    sha256: str
    environment: Environment
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    opset: int
    versions: dict[str, str]
    notes: tuple[str, ...]


def export_onnx(
    model: str,
    *,
    images: Sequence[str] | None,
    work: Path,
    opset: int | None = None,
    progress: Progress | None = None,
) -> OnnxFile:
    """``model`` (.pt2, FILE.py:FUNCTION or .onnx) as an ONNX file. ``images``: the inputs that take pictures, as the
    card says; None where no card says anything.

    Raises ConfigError, ModelError, EnvironmentMissingError, WorkerFailedError.
    """
    kind = kind_of(model)
    if kind not in ROUTES:
        raise ConfigError(_no_route(model, kind))
    route = ROUTES[kind]
    arguments = {"path": model, "images": None if images is None else list(images), "opset": opset}
    result = run_worker(
        route.environment,
        "onnx_export",
        route.operation,
        arguments,
        work,
        progress=progress,
        text=f"exporting {model} to ONNX",
    )
    content = (work / "model.onnx").read_bytes()
    return OnnxFile(
        content=content,
        kind=kind,
        path=model,
        sha256=sha256_of(model, content),
        environment=route.environment,
        inputs=_specs(model, "input", result["inputs"]),
        outputs=_specs(model, "output", result["outputs"]),
        opset=result["opset"],
        versions=dict(result["versions"]),
        notes=tuple(result["notes"]),
    )


def run_onnx(
    content: bytes,
    inputs: Mapping[str, Array],
    *,
    environment: Environment,
    work: Path,
    progress: Progress | None = None,
    text: str = "running the ONNX file",
) -> Tensors:
    """The outputs by name, rows first, of an ONNX file for rows of inputs, by ONNX Runtime on the CPU."""
    work.mkdir(parents=True, exist_ok=True)
    (work / "run.onnx").write_bytes(content)
    save_arrays(work, "inputs", inputs)
    arguments = {"path": str((work / "run.onnx").absolute()), "text": text}
    run_worker(environment, "onnx_qdq", "predict", arguments, work, progress=progress or Silent(), text=text)
    return load_arrays(work, "outputs")


def _no_route(model: str, kind: Kind) -> str:
    names = {"keras3": "Keras 3", "keras2": "Keras 2", "saved_model": "a SavedModel", "tflite": "a .tflite"}
    return (
        f"{model} is {names.get(kind, kind)}: ONNX files are made of torch (.pt2, FILE.py:FUNCTION) and ONNX models. "
        "tf2onnx converts this kind, but is in none of the environments, since nothing here checks what it makes: run "
        "it yourself (python -m tf2onnx.convert) and give the .onnx, or take the .tflite of `edge-convert convert`"
    )


def _specs(model: str, side: str, tensors: Mapping[str, Any]) -> tuple[TensorSpec, ...]:
    specs = []
    for index, (name, tensor) in enumerate(tensors.items()):
        if tensor["dtype"] != "float32":
            raise ConfigError(
                f"{model}: {side} {name!r} is {tensor['dtype']}, a device needs float32; leave out of the model what "
                "makes other types (a class number from ArgMax, half precision)"
            )
        specs.append(TensorSpec(name, index, tuple(tensor["shape"]), np.dtype(np.float32), 0.0, 0))
    return tuple(specs)
