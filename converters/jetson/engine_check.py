"""What the Jetson compares its engine with: golden samples, and how far each output may be off."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from converters.jetson.onnx_file import Precision, run_onnx
from converters.jetson.onnx_model import OnnxModel, prepared_rows
from converters.progress import Progress
from converters.records import Dataset, Tensors
from edge_agent.core.card_schema import ClassificationOutput
from edge_agent.errors import ModelError

SCHEMA = "edge-agent/engine-check/1"
CANDIDATES = 200  # rows to choose from
MOST = 10  # one run of trtexec for each, some seconds on a Jetson
WITHOUT_CLASSES = 5
SEED = 0
# Of the largest value of an output. fp16 has 11 bits, 5e-4 for one rounding; sums of thousands of products through tens
# of layers stay within 2 %, while a wrong layout, weight or binding gives 10 % and more.
# int8: the same 40 of 255 steps that a card allows for other kernels (docs/models.md).
TOLERANCES: Mapping[Precision, float] = {"fp16": 0.02, "int8": 40 / 255}
FILES: Mapping[Precision, str] = {"fp16": "model.onnx", "int8": "model_qdq.onnx"}


def golden_files(
    model: OnnxModel,
    contents: Mapping[Precision, bytes],
    dataset: Dataset | None,
    *,
    work: Path,
    progress: Progress,
) -> dict[str, bytes]:
    """golden.npz (arrays "input/TENSOR" and "fp16/TENSOR", "int8/TENSOR", a row for each sample) and check.json, by
    what ONNX Runtime makes of the files on this machine.

    With a data set: test rows with a wide margin on which all files agree, one of each class. Without: made-up inputs
    from a fixed seed, which show a broken engine, not a wrong class. Raises ModelError where the files never agree.
    """
    inputs = _made_up(model) if dataset is None else prepared_rows(model, dataset, dataset.rows("test")[:CANDIDATES])
    outputs = {
        precision: run_onnx(
            content, inputs, environment=model.onnx.environment, work=work, progress=progress, text="golden samples"
        )
        for precision, content in contents.items()
    }
    heads = [head.tensor for head in model.card.outputs if isinstance(head, ClassificationOutput)]
    return chosen_files(inputs, outputs, heads if dataset is not None else [])


def chosen_files(inputs: Tensors, outputs: Mapping[Precision, Tensors], classes: Sequence[str]) -> dict[str, bytes]:
    """golden.npz and check.json of the rows that are kept; ``classes`` are the outputs whose best class must stay."""
    rows = _chosen(list(outputs.values()), classes)
    kept = {precision: _rows(tensors, rows) for precision, tensors in outputs.items()}
    return {
        "golden.npz": _npz(_rows(inputs, rows), kept),
        "check.json": (json.dumps(_rules(kept, classes), indent=1) + "\n").encode(),
    }


def _rules(outputs: Mapping[Precision, Tensors], classes: Sequence[str]) -> dict[str, Any]:
    """By precision and output: how far off a value may be, and whether the best class must be the same."""
    return {
        "schema": SCHEMA,
        "precisions": {
            precision: {
                "onnx": FILES[precision],
                "outputs": {
                    name: {
                        "tolerance": float(f"{TOLERANCES[precision] * (np.abs(values).max() or 1.0):.4g}"),
                        "argmax": name in classes,
                    }
                    for name, values in tensors.items()
                },
            }
            for precision, tensors in outputs.items()
        },
    }


def _chosen(files: Sequence[Tensors], classes: Sequence[str]) -> list[int]:
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


def _made_up(model: OnnxModel) -> Tensors:
    rng = np.random.default_rng(SEED)
    pictures = {item.tensor: item for item in model.card.image_inputs}
    inputs = {}
    for spec in model.inputs:
        shape = (WITHOUT_CLASSES, *spec.shape[1:])
        if spec.name in pictures:
            stage = model.engine.images[spec.name]
            slots = [stage.slot() for _ in range(WITHOUT_CLASSES)]
            for slot in slots:
                stage.fill(rng.integers(0, 256, (*spec.shape[1:3], 3), np.uint8), slot)
            inputs[spec.name] = np.concatenate(slots)
        else:
            inputs[spec.name] = np.clip(rng.standard_normal(shape), -3, 3).astype(np.float32)
    return inputs


def _rows(tensors: Tensors, rows: Sequence[int]) -> Tensors:
    return {name: values[list(rows)] for name, values in tensors.items()}


def _npz(inputs: Tensors, outputs: Mapping[Precision, Tensors]) -> bytes:
    arrays = {f"input/{name}": rows for name, rows in inputs.items()}
    arrays |= {f"{precision}/{name}": rows for precision, kept in outputs.items() for name, rows in kept.items()}
    stream = io.BytesIO()
    np.savez_compressed(stream, **arrays)  # type: ignore[arg-type]  # numpy's stub takes the names for its own options
    return stream.getvalue()
