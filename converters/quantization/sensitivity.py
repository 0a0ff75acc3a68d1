"""Which layers lose what quantising costs: each op quantised alone, and each tensor of the fully quantised model."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import islice

import numpy as np
from msgspec import Struct

from converters.progress import Progress, Silent
from converters.quantization.calibration import Calibration
from converters.quantization.every_tensor import EveryTensor
from converters.quantization.flatbuffer import activations_of, ops_of, parse
from converters.quantization.quantize import quantize
from converters.records import FloatModel, Quantized, Tensors
from edge_agent.io.runtimes import create
from edge_agent.records import Array

# 60 layers x 48 runs stay under a minute for a network that takes 10 ms, and a layer that hurts shows in fewer
_RUNS_PER_OP = 48
_RUNS_OF_ALL = 96


class LayerError(Struct, frozen=True):
    """What quantising one op costs. ``name`` is its first output tensor, ``kind`` as in the schema ("CONV_2D").

    ``output_error``: root mean square error of the model's outputs when only this op is quantised, in standard
    deviations of the float output; the largest of several outputs. ``changed``: share of samples whose strongest class
    is another one then. ``own_error``: in the fully quantised model, root mean square error of the op's own tensor in
    its quantisation steps (rounding alone gives 0.29, the root of 1/12); it holds what came from the layers before.
    None where the tensor stays float.
    """

    name: str
    kind: str
    output_error: float
    changed: float
    own_error: float | None


def rank_layers(
    model: FloatModel, calibration: Calibration, samples: Iterable[Tensors], *, progress: Progress | None = None
) -> tuple[LayerError, ...]:
    """Every op that can be quantised, worst first. ``samples`` are those of ``calibrate``: float32 by the signature's
    input name; the first 48 are run for each op, the first 96 for the tensors. Raises ModelError, ConfigError."""
    rows = list(islice(samples, _RUNS_OF_ALL))
    few = rows[:_RUNS_PER_OP]
    ops = ops_of(parse(model.content))
    names = [op.name for op in ops]
    whole = quantize(model, "int8", calibration=calibration, io="float32")
    own = _own_errors(model, whole, rows)
    expected = _outputs(model.content, few)
    found = []
    with (progress or Silent()).step("what each layer costs", len(ops)) as advance:
        for number, op in enumerate(ops):
            if op.name not in whole.float_ops:
                others = [name for name in names if name != op.name]
                alone = quantize(model, "mixed", calibration=calibration, keep_float=others, io="float32")
                error, changed = _compared(_outputs(alone.content, few), expected)
                found.append(LayerError(op.name, op.kind, error, changed, own.get(op.name)))
            advance(number + 1)
    return tuple(sorted(found, key=lambda layer: -layer.output_error))  # stable: the graph's order decides a tie


def _own_errors(model: FloatModel, whole: Quantized, rows: Sequence[Tensors]) -> dict[str, float]:
    parsed = parse(whole.content)
    known = {tensor.name.decode() for tensor in parsed.subgraphs[0].tensors}
    still_float = set(activations_of(parsed))
    names = [name for name in activations_of(parse(model.content)) if name in known and name not in still_float]
    exact, rounded = EveryTensor(model.content, names), EveryTensor(whole.content, names)
    squares = dict.fromkeys(names, 0.0)
    for row in rows:
        true = dict(exact.run(row))
        for name, values in rounded.run(row):
            squares[name] += float(np.mean((values - true[name]).astype(np.float64) ** 2))
    return {name: (total / len(rows)) ** 0.5 / rounded.scale(name) for name, total in squares.items()}


def _outputs(content: bytes, rows: Sequence[Tensors]) -> dict[str, Array]:
    """(rows, ...) float32 by output name."""
    runtime = create(content, "xnnpack", threads=1, external={})
    try:
        results = [runtime.invoke(row) for row in rows]
    finally:
        runtime.close()
    return {name: np.stack([result[name] for result in results]) for name in results[0]}


def _compared(found: Mapping[str, Array], expected: Mapping[str, Array]) -> tuple[float, float]:
    errors, changed = [0.0], [0.0]
    for name, true in expected.items():
        difference = (found[name] - true).astype(np.float64)
        errors.append(float(np.sqrt(np.mean(difference**2))) / (float(true.std()) or 1.0))
        if true.shape[-1] > 1:
            best, was = (array.reshape(len(true), -1).argmax(axis=1) for array in (found[name], true))
            changed.append(float(np.mean(best != was)))
    return max(errors), max(changed)
