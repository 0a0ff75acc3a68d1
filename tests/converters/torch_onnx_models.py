"""The models of torch_networks.py and onnx_networks.py as files, each written once in a test run by the environment of
its framework; skips the test where that is missing."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np

from converters.records import Tensors
from converters.sources import load_source
from edge_agent.io.runtimes.litert import LiteRtRuntime
from tests.converters.trained_models import require, run_in, temporary_folder

HERE = Path(__file__).parent
SIDE = 16
ROWS = 6


@cache
def torch_program(name: str) -> str:
    """A .pt2 of torch_networks.PROGRAMS."""
    path = temporary_folder() / f"{name}.pt2"
    run_in(require("torch"), [str(HERE / "torch_networks.py"), name, str(path)])
    return str(path)


def torch_function(name: str) -> str:
    """FILE.py:FUNCTION."""
    require("torch")
    return f"{HERE / 'torch_networks.py'}:{name}"


@cache
def onnx_network(name: str) -> str:
    """An .onnx of onnx_networks.NETWORKS."""
    path = temporary_folder() / f"{name}.onnx"
    run_in(require("onnx"), [str(HERE / "onnx_networks.py"), name, str(path)])
    return str(path)


def rows(image: str = "image", chemistry: str = "chemistry") -> Tensors:
    """Inputs as the device gives them: pictures with their channels last."""
    rng = np.random.default_rng(3)
    return {
        image: rng.random((ROWS, SIDE, SIDE, 3), np.float32),
        chemistry: rng.standard_normal((ROWS, 5)).astype(np.float32),
    }


def float_model(model: str, work: Path, images: list[str] | None) -> LiteRtRuntime:
    """What the source becomes, loaded as on the device."""
    return LiteRtRuntime(load_source(model, work=work, images=images).content)


def answers(runtime: LiteRtRuntime, inputs: Tensors) -> Tensors:
    """Its outputs, rows first."""
    count = len(next(iter(inputs.values())))
    found = [runtime.invoke({name: rows[row : row + 1] for name, rows in inputs.items()}) for row in range(count)]
    return {name: np.concatenate([row[name] for row in found]) for name in found[0]}


def shapes(runtime: LiteRtRuntime) -> dict[str, tuple[int, ...]]:
    """Of all tensors by name."""
    return {spec.name: spec.shape for spec in (*runtime.inputs, *runtime.outputs)}
