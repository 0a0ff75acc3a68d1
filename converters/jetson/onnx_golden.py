"""Golden samples of ONNX files: inputs that are ready, and what ONNX Runtime on the CPU makes of them.

A Jetson computes in fp16 or int8 what was measured here in float32 or with other int8 kernels: the tolerance is that of
the arithmetic, not that of two kinds of kernels on one machine as for a .tflite (converters/golden.py).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from msgspec import Struct

from converters.datasets.splits import spread
from converters.device_model import DeviceModel
from converters.golden import CANDIDATES, WITHOUT_CLASSES, GoldenSet
from converters.jetson.onnx_file import Precision, run_onnx
from converters.jetson.onnx_model import OnnxModel, prepared_rows
from converters.progress import Progress
from converters.records import Dataset, Tensors
from edge_agent.core.card_schema import Golden
from edge_agent.core.golden import FLOAT_STEP, class_tensors
from edge_agent.errors import ModelError
from edge_agent.records import Array

MOST = 10  # one run of trtexec for each, some seconds on a Jetson
BYTES_MOST = 24 * 2**20  # of the kept inputs: they ride in the model
SEED = 0
LEAST_STEPS = 8
# Of the largest value of an output. fp16 has 11 bits, 5e-4 for one rounding; sums of thousands of products through tens
# of layers stay within 2 %, while a wrong layout, weight or binding gives 10 % and more.
# int8: the same 40 of 255 steps that a card allows for other kernels (docs/models.md).
TOLERANCES: Mapping[Precision, float] = {"fp16": 0.02, "int8": 40 / 255}


class Chosen(Struct, frozen=True):
    """``inputs`` and, for each file, ``outputs``: by tensor, rows along the first axis. ``classes``: the outputs whose
    best class must stay; none where the inputs are made up."""

    inputs: Tensors
    outputs: dict[Precision, Tensors]
    classes: tuple[str, ...]

    def set_of(self, precision: Precision) -> GoldenSet:
        """For inside that file."""
        outputs = self.outputs[precision]
        largest = max((float(np.abs(values).max()) for values in outputs.values()), default=0.0)
        steps = max(LEAST_STEPS, int(np.ceil(TOLERANCES[precision] * largest / FLOAT_STEP)))
        made_up = "" if self.classes else "; inputs are made up: they show a broken engine, not a wrong class"
        reason = f"{TOLERANCES[precision]:.3g} of the largest value, {largest:.4g}, for {precision}{made_up}"
        return GoldenSet(
            inputs={name: rows[:, None] for name, rows in self.inputs.items()},
            outputs={name: rows[:, None] for name, rows in outputs.items()},
            rule=Golden(tolerance_lsb=steps, argmax=bool(self.classes), reason=reason),
        )


def choose_onnx_golden(
    model: OnnxModel,
    contents: Mapping[Precision, bytes],
    dataset: Dataset | None,
    *,
    work: Path,
    progress: Progress,
) -> Chosen:
    """With a data set: test rows with a wide margin on which all files agree, one of each class. Without: made-up
    inputs from a fixed seed. Raises ModelError where the files never agree."""
    inputs = made_up(model) if dataset is None else prepared_rows(model, dataset, _candidates(dataset))
    outputs = {
        precision: run_onnx(
            content, inputs, environment=model.onnx.environment, work=work, progress=progress, text="golden samples"
        )
        for precision, content in contents.items()
    }
    return kept(inputs, outputs, class_tensors(model.card) if dataset is not None else [])


def golden_of_rows(model: DeviceModel, dataset: Dataset, progress: Progress) -> GoldenSet:
    """The same for a finished file, run by this machine's ONNX Runtime."""
    precision: Precision = "int8" if b"QuantizeLinear" in model.file.content else "fp16"
    inputs = prepared_rows(model, dataset, _candidates(dataset))
    count = len(next(iter(inputs.values())))
    answers = []
    with progress.step("choosing golden samples", count) as advance:
        for row in range(count):
            answers.append(model.invoke({name: rows[row : row + 1] for name, rows in inputs.items()}))
            advance(row + 1)
    outputs = {name: np.concatenate([answer[name] for answer in answers]) for name in answers[0]}
    return kept(inputs, {precision: outputs}, class_tensors(model.card)).set_of(precision)


def kept(inputs: Tensors, outputs: Mapping[Precision, Tensors], classes: Sequence[str]) -> Chosen:
    """The rows that stay of all candidates."""
    size = sum(rows[0].nbytes for rows in inputs.values())
    rows = _best(list(outputs.values()), classes)[: max(1, BYTES_MOST // size)]
    return Chosen(
        _rows(inputs, rows), {precision: _rows(tensors, rows) for precision, tensors in outputs.items()}, tuple(classes)
    )


def made_up(model: DeviceModel) -> Tensors:
    """Noise in pictures' and features' ranges, states at zero."""
    rng = np.random.default_rng(SEED)
    states = {item.tensor for item in model.card.state_inputs}
    inputs: dict[str, Array] = {}
    for spec in model.inputs:
        shape = (WITHOUT_CLASSES, *spec.shape[1:])
        if spec.name in model.engine.images:
            stage = model.engine.images[spec.name]
            slots = [stage.slot() for _ in range(WITHOUT_CLASSES)]
            for slot in slots:
                stage.fill(rng.integers(0, 256, (*spec.shape[1:3], 3), np.uint8), slot)
            inputs[spec.name] = np.concatenate(slots)
        elif spec.name in states:
            inputs[spec.name] = np.zeros(shape, np.float32)
        else:
            inputs[spec.name] = np.clip(rng.standard_normal(shape), -3, 3).astype(np.float32)
    return inputs


def _candidates(dataset: Dataset) -> Sequence[int]:
    return spread(dataset.rows("test"), CANDIDATES)


def _best(files: Sequence[Tensors], classes: Sequence[str]) -> list[int]:
    """The rows to keep, in order."""
    if not classes:
        return list(range(min(WITHOUT_CLASSES, len(next(iter(files[0].values()))))))
    best: dict[tuple[int, ...], tuple[float, int]] = {}
    for row in range(len(files[0][classes[0]])):
        answers = {tuple(int(tensors[name][row].argmax()) for name in classes) for tensors in files}
        margin = min(_lead(tensors[name][row]) for tensors in files for name in classes)
        if len(answers) == 1 and margin > best.get(key := answers.pop(), (0.0, 0))[0]:
            best[key] = (margin, row)
    if not best:
        raise ModelError("the float and the int8 file give the same class to no sample: int8 does not fit this model")
    return sorted(row for _, row in sorted(best.values(), reverse=True)[:MOST])


def _lead(values: Any) -> float:
    """How far the best class stands above the next."""
    ordered = np.sort(values.reshape(-1).astype(np.float64))
    return float(ordered[-1] - ordered[-2]) if ordered.size > 1 else float("inf")


def _rows(tensors: Tensors, rows: Sequence[int]) -> Tensors:
    return {name: values[list(rows)] for name, values in tensors.items()}
