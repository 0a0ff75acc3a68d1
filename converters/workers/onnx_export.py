"""Torch and ONNX models as an ONNX file for the device: batch 1, pictures with the channels last, names kept.

"from_torch" runs in the environment "torch", "from_onnx" in "onnx"; both end in the same checks. Pictures come as the
device's preprocessing makes them, so a Transpose stands behind each.
"""

from __future__ import annotations

from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from converters.workers import onnx_graph
from converters.workers.layout import as_source, channels_first, pictures_of, unsaid_note
from converters.workers.onnx_session import Session
from converters.workers.parity import Rows, compare, made_up
from converters.workers.protocol import Job, RefusedError, work

LEAST_TORCH_OPSET = 18  # torch's exporter writes this or later; converting down fails on ReduceMean


def from_torch(job: Job) -> dict[str, Any]:
    """Writes model.onnx. Arguments: path, images (the card's image inputs, or null), opset (or null)."""
    import torch

    from converters.workers import torch_source

    torch.set_num_threads(1)
    job.progress(0, 3, "loading the torch model")
    wanted = job.arguments.get("opset") or LEAST_TORCH_OPSET
    if wanted < LEAST_TORCH_OPSET:
        raise RefusedError(f"torch writes ONNX opset {LEAST_TORCH_OPSET} or later, {wanted} was asked for")
    source = torch_source.load(job.arguments["path"], job.arguments.get("images"))
    examples = torch_source.device_examples(source)
    wrapped = torch_source.ByName(source)
    with torch.no_grad():
        names = list(wrapped(**examples))
    job.progress(1, 3, "exporting to ONNX")
    program = torch.onnx.export(
        wrapped,
        (),
        kwargs=examples,
        dynamo=True,
        input_names=list(examples),
        output_names=names,
        opset_version=wanted,
        external_data=False,
        verbose=False,
    )
    model = onnx_graph.fix_batch(program.model_proto, job.arguments["path"])
    if onnx_graph.opset(model) != wanted:
        raise RefusedError(f"torch wrote ONNX opset {onnx_graph.opset(model)} though {wanted} was asked for")
    rows = _rows(model, source.pictures)
    expected = [torch_source.run(source, row) for row in rows]
    notes = [*source.notes, *torch_source.naming_notes(names)]
    return _finished(job, model, rows, expected, notes, ("torch", "onnx", "onnxscript", "onnxruntime"))


def from_onnx(job: Job) -> dict[str, Any]:
    """The same for an ONNX model, which stays as it is but for batch, layout and, where asked for, opset."""
    job.progress(0, 3, "reading the ONNX model")
    where, images = job.arguments["path"], job.arguments.get("images")
    source = onnx_graph.fix_batch(onnx_graph.load(Path(where)), where)
    shapes = onnx_graph.shapes(source)
    pictures = pictures_of(images, shapes)
    turned = channels_first(shapes, pictures)
    job.progress(1, 3, "preparing the graph")
    model = _with_opset(source, job.arguments.get("opset"), where)
    onnx_graph.take_channels_last(model, turned)
    rows, original = _rows(model, pictures), Session(source)
    expected = [original(as_source(row, turned)) for row in rows]
    return _finished(job, model, rows, expected, unsaid_note(images, shapes, "ONNX"), ("onnx", "onnxruntime"))


def _with_opset(model: onnx_graph.Model, wanted: int | None, where: str) -> onnx_graph.Model:
    copy = type(model)()
    copy.CopyFrom(model)
    if wanted is None or wanted == onnx_graph.opset(model):
        return copy
    try:
        return onnx.version_converter.convert_version(copy, wanted)
    except RuntimeError as error:  # the converter's own assertions
        reason = str(error).strip().splitlines()[0].rpartition("failed: ")[2]
        raise RefusedError(
            f"{where}: opset {onnx_graph.opset(model)} can't be brought to {wanted} ({reason}); leave --opset out"
        ) from None


def _rows(model: onnx_graph.Model, pictures: Any) -> Rows:
    dtypes = {name: tensor.dtype for name, tensor in onnx_graph.inputs(model).items()}
    return made_up(onnx_graph.shapes(model), dtypes, pictures)


def _finished(
    job: Job, model: onnx_graph.Model, rows: Rows, expected: Rows, notes: list[str], packages: tuple[str, ...]
) -> dict[str, Any]:
    job.progress(2, 3, "checking the ONNX file")
    onnx_graph.finish(model)
    onnx_graph.check(model, "the exported model")
    run = Session(model)
    differences, found = compare(expected, [run(row) for row in rows], "ONNX file")
    (job.folder / "model.onnx").write_bytes(model.SerializeToString(deterministic=True))
    return {
        "inputs": onnx_graph.described(onnx_graph.inputs(model)),
        "outputs": _measured(model, expected[0]),
        "opset": onnx_graph.opset(model),
        "versions": {name: version(name) for name in packages},
        "notes": [*notes, *found],
        "differences": differences,
    }


def _measured(model: onnx_graph.Model, outputs: Any) -> dict[str, dict[str, Any]]:
    """Shapes as they came out: the graph may leave them open."""
    return {name: {"shape": list(np.shape(outputs[name])), "dtype": str(outputs[name].dtype)} for name in outputs}


def main() -> None:
    work({"from_torch": from_torch, "from_onnx": from_onnx})
