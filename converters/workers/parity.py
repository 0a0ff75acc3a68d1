"""Does the .tflite compute what its source computes? Asked right after each conversion, by name, on made-up inputs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from converters.workers.protocol import Array, RefusedError

SAMPLES = 8
# float32 kernels add in another order: 1e-6 to 1e-4 of the output's range was seen, a wrong layout gives more than 0.1
RELATIVE_MOST = 1e-2

Rows = list[dict[str, Array]]


def made_up(shapes: Mapping[str, Sequence[int]], dtypes: Mapping[str, str], pictures: Sequence[str]) -> Rows:
    """Inputs from a fixed seed: pictures from 0 to 1, the others as after scaling to mean 0 and deviation 1."""
    rng = np.random.default_rng(0)
    rows = []
    for _ in range(SAMPLES):
        row = {}
        for name, shape in shapes.items():
            uniform = name in pictures or not dtypes[name].startswith("float")
            values = rng.random(tuple(shape)) if uniform else rng.standard_normal(tuple(shape))
            row[name] = values.astype(dtypes[name])
        rows.append(row)
    return rows


class TfliteRunner:
    """The float .tflite by signature names. The reference kernels: every op keeps its own name and arithmetic."""

    def __init__(self, content: bytes) -> None:
        from ai_edge_litert.interpreter import Interpreter, OpResolverType

        self._interpreter: Any = Interpreter(
            model_content=content, experimental_op_resolver_type=OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
        )
        self._interpreter.allocate_tensors()
        self._run = self._interpreter.get_signature_runner()

    def ops(self, name: str) -> int:
        """How many ops of this kind the graph has."""
        return sum(detail["op_name"] == name for detail in self._interpreter._get_ops_details())

    def __call__(self, row: Mapping[str, Array]) -> dict[str, Array]:
        wanted = self._run.get_input_details()
        outputs: dict[str, Array] = self._run(
            **{name: np.asarray(value, wanted[name]["dtype"]) for name, value in row.items()}
        )
        return outputs


def compare(expected: Rows, found: Rows, what: str) -> tuple[dict[str, dict[str, float]], list[str]]:
    """(by output the largest difference and its share of the output's range, notes).

    Raises RefusedError where most of the samples are off: then the conversion went wrong. A few samples may differ in
    models that sort or cut off (non-maximum suppression), where a tiny difference decides.
    """
    differences, notes = {}, []
    for name in expected[0]:
        pairs = [
            (row[name].astype(np.float64), other[name].astype(np.float64)) for row, other in _both(expected, found)
        ]
        for want, got in pairs:
            if want.shape != got.shape:
                raise RefusedError(f"output {name!r} has shape {want.shape}, in the {what} it has {got.shape}")
        span = max((float(np.abs(want).max()) for want, _ in pairs if want.size), default=0.0) or 1.0
        worst = [float(np.abs(want - got).max()) if want.size else 0.0 for want, got in pairs]
        differences[name] = {"max_abs": max(worst), "relative": max(worst) / span}
        text = f"output {name!r} of the {what} differs from the source by up to {max(worst) / span:.1%} of its range"
        if not np.median(worst) <= RELATIVE_MOST * span:  # also for nan
            raise RefusedError(f"{text}: the conversion is wrong; try another route (torch or ONNX) for this model")
        if max(worst) > RELATIVE_MOST * span:
            notes.append(f"{text}, on {sum(w > RELATIVE_MOST * span for w in worst)} of {len(worst)} made-up samples")
    return differences, notes


def _both(expected: Rows, found: Rows) -> list[tuple[dict[str, Array], dict[str, Array]]]:
    return list(zip(expected, found, strict=True))
