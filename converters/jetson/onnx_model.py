"""An ONNX file with its card: prepared and judged like any model on the device, but run elsewhere, many rows at a time.

Its interpreter lives in the environment of its source, so that this process needs no ONNX Runtime.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from converters.arrays import make_arrays, real_batch
from converters.card_file import labels_text
from converters.child import run_worker
from converters.device_model import DeviceModel
from converters.evaluation.recorded import Recorded
from converters.evaluation.run import Recording, prepared_images
from converters.jetson.onnx_file import SCHEMES, OnnxFile, Precision, run_onnx
from converters.progress import Progress
from converters.quantization.calibration import pins_of
from converters.records import Dataset, Example, Quantized, Tensors
from converters.workers.protocol import save_arrays
from edge_agent.core.model_card import resolve
from edge_agent.errors import ModelError
from edge_agent.records import Array, Crossing, ModelFile, ModelIdentity, RuntimeInfo, TensorSpec
from edge_agent.stages.engine import Engine

CHUNK_BYTES = 256 * 2**20  # of prepared float32 inputs that are held and written at a time


class OnnxModel(DeviceModel):
    """The arithmetic of a ``DeviceModel`` around an ONNX file. ``invoke`` is not possible: see ``record_onnx``."""

    def __init__(self, file: OnnxFile, *, card: Mapping[str, Any], where: str, folder: Path) -> None:
        """Raises ModelError or ConfigError where the card does not fit the tensors."""
        self.onnx = file
        self.file = ModelFile(file.path, file.content, file.sha256, None, None, {}, "onnx")
        self._runtime: Any = _Elsewhere(file.inputs, file.outputs)
        self.card = resolve(
            self.file,
            file.inputs,
            file.outputs,
            card,
            where=where,
            read_text=lambda name: labels_text(folder / name),
        )
        name = self.card.name or Path(file.path).stem
        identity = ModelIdentity(name, self.card.version or "unversioned", file.sha256)
        self.engine = Engine(identity, self.card, self._runtime)
        self._outputs = {spec.name: spec for spec in file.outputs}


class _Elsewhere:
    """Says what the tensors are; a worker runs them."""

    def __init__(self, inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec]) -> None:
        self.inputs = inputs
        self.outputs = outputs
        self.info = RuntimeInfo(delegate="onnxruntime", runtime="onnxruntime", threads=1, delegated=False)

    def invoke(self, tensors: Mapping[str, Array]) -> dict[str, Array]:
        raise ModelError("an ONNX file runs in the environment of its source, not here")

    def close(self) -> None:
        """Nothing is held."""


def quantize_onnx(
    model: OnnxModel, dataset: Dataset, rows: Sequence[int], *, work: Path, progress: Progress
) -> Quantized:
    """int8 as TensorRT wants it: symmetric, QuantizeLinear and DequantizeLinear pairs. Ranges from ``rows``, prepared
    by the device's own arithmetic; those of the inputs are pinned by the card. Raises ConfigError."""
    work.mkdir(parents=True, exist_ok=True)
    arrays = make_arrays(dataset, rows, model, progress=progress)
    save_arrays(work, "calibration", real_batch(arrays, slice(None)))
    (work / "model.onnx").write_bytes(model.onnx.content)
    result = run_worker(
        model.onnx.environment,
        "onnx_qdq",
        "quantize",
        {"pinned": pins_of(model.card)},
        work,
        progress=progress,
        text="quantising the ONNX file",
    )
    return Quantized(
        content=(work / "model_qdq.onnx").read_bytes(),
        scheme="int8",
        method=f"min-max of {result['samples']} samples, symmetric, for TensorRT",
        float_ops=dict.fromkeys(result["float_ops"], "not both of its inputs can be int8"),
    )


def record_onnx(
    model: OnnxModel,
    contents: Mapping[Precision, bytes],
    dataset: Dataset,
    rows: Sequence[int],
    *,
    work: Path,
    progress: Progress,
) -> dict[Precision, Recorded]:
    """What each of ``contents``, files with this model's tensors, answers on the rows. States begin at zero in every
    row. Raises ConfigError or ModelError."""
    recordings = {name: Recording(model) for name in contents}
    for examples in _chunks(model, dataset, rows):
        prepared = [_prepared(model, example) for example in examples]
        inputs = {name: np.concatenate([tensors[name] for tensors, _ in prepared]) for name in prepared[0][0]}
        for name, content in contents.items():
            outputs = run_onnx(
                content,
                inputs,
                environment=model.onnx.environment,
                work=work,
                progress=progress,
                text=f"running the {SCHEMES[name]} file on {len(rows)} rows",
            )
            for row, (example, (_, crossing)) in enumerate(zip(examples, prepared, strict=True)):
                answer = {tensor: values[row : row + 1] for tensor, values in outputs.items()}
                recordings[name].add_outputs(example, answer, crossing)
    return {name: recording.finished() for name, recording in recordings.items()}


def prepared_rows(model: DeviceModel, dataset: Dataset, rows: Sequence[int]) -> Tensors:
    """The rows as input tensors, (n, ...) float32 by name."""
    prepared = [_prepared(model, dataset.example(row))[0] for row in rows]
    return {name: np.concatenate([row[name] for row in prepared]) for name in prepared[0]}


def _prepared(model: DeviceModel, example: Example) -> tuple[Tensors, Crossing]:
    """Every input of one row with its batch axis, and the way back from the model's picture."""
    tensors, crossing = prepared_images(model, example)
    for name, stage in model.engine.features.items():
        tensors[name] = stage.slot()
        stage.fill(example.features, tensors[name])
    for spec in model.inputs:
        tensors.setdefault(spec.name, np.zeros(spec.shape, np.float32))
    return tensors, crossing


def _chunks(model: OnnxModel, dataset: Dataset, rows: Sequence[int]) -> Iterator[list[Example]]:
    size = sum(int(np.prod(spec.shape)) * 4 for spec in model.inputs)
    step = max(1, CHUNK_BYTES // size)
    for start in range(0, len(rows), step):
        yield [dataset.example(row) for row in rows[start : start + step]]
