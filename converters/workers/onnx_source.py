"""ONNX models: to a float .tflite by onnx2tf, and predicting with the original in ONNX Runtime.

onnx2tf may swap the order of inputs and changes names; so the graph is given plain names before, and its own names back
in the signature. Outputs keep the layout that they have in ONNX.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from converters.workers import onnx_graph
from converters.workers.layout import as_source, channels_first, channels_last_shape, pictures_of, unsaid_note
from converters.workers.onnx_session import Session, predict_rows
from converters.workers.parity import TfliteRunner, compare, made_up
from converters.workers.protocol import Job, RefusedError, work

PACKAGES = ("onnx", "onnx2tf", "onnxruntime", "tensorflow")
SIGNATURE = "serving_default"
# onnx2tf downloads this for models that take only pictures, to find out layouts with it; any pictures do
_SAMPLE_FILE, _SAMPLE_SHAPE = "calibration_image_sample_data_20x128x128x3_float32.npy", (20, 128, 128, 3)


def export(job: Job) -> dict[str, Any]:
    """Writes model.tflite. Arguments: path, images (the card's image inputs, or null)."""
    job.progress(0, 4, "reading the ONNX model")
    where, images = job.arguments["path"], job.arguments.get("images")
    model = onnx_graph.fix_batch(onnx_graph.load(Path(where)), where)
    shapes = onnx_graph.shapes(model)
    pictures = pictures_of(images, shapes)
    turned = channels_first(shapes, pictures)
    job.progress(1, 4, "converting with onnx2tf")
    plain = _plain_names(model)
    network = _convert(model, plain, turned, job.folder)
    job.progress(2, 4, "converting to .tflite")
    content = _to_tflite(network, model, plain, job.folder / "saved_model")
    (job.folder / "model.tflite").write_bytes(content)
    job.progress(3, 4, "comparing with the ONNX model")
    session, runner = Session(model), TfliteRunner(content)
    rows = made_up(
        {name: channels_last_shape(shape) if name in turned else shape for name, shape in shapes.items()},
        {name: tensor.dtype for name, tensor in onnx_graph.inputs(model).items()},
        pictures,
    )
    differences, notes = compare(
        [session(as_source(row, turned)) for row in rows], [runner(row) for row in rows], ".tflite"
    )
    notes += unsaid_note(images, shapes, "ONNX")
    if left := runner.ops("TRANSPOSE"):
        notes.append(f"{left} TRANSPOSE op(s) are left in the graph and cost time on the device")
    return {
        "inputs": list(shapes),
        "outputs": list(onnx_graph.outputs(model)),
        "versions": {name: version(name) for name in PACKAGES},
        "notes": notes,
        "differences": differences,
    }


def predict(job: Job) -> dict[str, Any]:
    """Runs the original on the set "inputs" (rows by input name, pictures with the channels last), row by row; writes
    the set "outputs". Arguments as for export."""
    where = job.arguments["path"]
    model = onnx_graph.fix_batch(onnx_graph.load(Path(where)), where)
    shapes = onnx_graph.shapes(model)
    turned = channels_first(shapes, pictures_of(job.arguments.get("images"), shapes))
    return predict_rows(job, Session(model), turned, "running the ONNX model")


def _plain_names(model: Any) -> dict[str, str]:
    """By the model's own name one that TensorFlow and Python take."""
    names = {name: f"input_{number}" for number, name in enumerate(onnx_graph.inputs(model))}
    return names | {name: f"output_{number}" for number, name in enumerate(onnx_graph.outputs(model))}


def _convert(model: Any, plain: Mapping[str, str], turned: tuple[str, ...], folder: Path) -> Any:
    """The Keras model that onnx2tf makes, its inputs and outputs in ONNX's order."""
    import onnx

    renamed = type(model)()
    renamed.CopyFrom(model)
    inner = {name: f"inner_{name}" for name in plain.values()}  # a tensor inside may have one of the plain names
    onnx_graph.rename(renamed, inner)
    onnx_graph.rename(renamed, {inner.get(name, name): name_given for name, name_given in plain.items()})
    onnx.save(renamed, folder / "plain.onnx")
    os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"  # it starts onnxsim
    import onnx2tf

    kept = [plain[name] for name, shape in onnx_graph.shapes(model).items() if name not in turned and len(shape) > 2]
    before = Path.cwd()
    os.chdir(folder)  # it looks for samples there, and writes there
    try:
        np.save(_SAMPLE_FILE, np.random.default_rng(0).random(_SAMPLE_SHAPE, np.float32))
        return onnx2tf.convert(
            input_onnx_file_path="plain.onnx",
            output_folder_path="onnx2tf",
            keep_shape_absolutely_input_names=kept or None,
            disable_model_save=True,
            verbosity="error",
        )
    finally:
        Path(_SAMPLE_FILE).unlink(missing_ok=True)
        os.chdir(before)


def _to_tflite(network: Any, model: Any, plain: Mapping[str, str], folder: Path) -> bytes:
    """By way of a SavedModel whose signature has ONNX's names; TensorFlow itself makes "input_1" of "input.1"."""
    import tensorflow as tf

    wanted = [plain[name] for name in onnx_graph.outputs(model)]
    if len(network.outputs) != len(wanted):
        raise RefusedError(f"onnx2tf made {len(network.outputs)} outputs of {len(wanted)}; use another route (torch)")
    layouts = network.onnx_output_layouts

    def call(**tensors: Any) -> dict[str, Any]:
        results = network([tensors[name] for name in network.input_names])
        results = results if isinstance(results, (list, tuple)) else [results]
        return {
            name: _channels_first(result) if layouts[name] else result
            for name, result in zip(wanted, results, strict=True)
        }

    specs = {
        name: tf.TensorSpec(tensor.shape, tensor.dtype)
        for name, tensor in zip(network.input_names, network.inputs, strict=True)
    }
    holder = tf.Module()
    holder.network = network
    signature = tf.function(call).get_concrete_function(**specs)
    tf.saved_model.save(holder, str(folder), signatures={SIGNATURE: signature})
    _restore_names(folder / "saved_model.pb", {given: name for name, given in plain.items()})
    converter = tf.lite.TFLiteConverter.from_saved_model(str(folder), signature_keys=[SIGNATURE])
    content: bytes = converter.convert()
    return content


def _channels_first(tensor: Any) -> Any:
    """onnx2tf computes with the channels last; for a tensor without height and width there is nothing to turn."""
    import tensorflow as tf

    rank = len(tensor.shape)
    return tensor if rank < 3 else tf.transpose(tensor, (0, rank - 1, *range(1, rank - 1)))


def _restore_names(file: Path, names: Mapping[str, str]) -> None:
    from tensorflow.core.protobuf import saved_model_pb2

    saved = saved_model_pb2.SavedModel()
    saved.ParseFromString(file.read_bytes())
    signature = saved.meta_graphs[0].signature_def[SIGNATURE]
    for side in (signature.inputs, signature.outputs):
        entries = {name: entry.SerializeToString() for name, entry in side.items()}
        side.clear()
        for name, entry in entries.items():
            side[names[name]].ParseFromString(entry)
    file.write_bytes(saved.SerializeToString(deterministic=True))


def main() -> None:
    work({"export": export, "predict": predict})
