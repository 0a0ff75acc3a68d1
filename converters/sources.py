"""Whatever was trained -> one float .tflite with batch 1 and the source's own names; and the original's predictions.

Frameworks run in child processes, each kind in its own environment; a .tflite needs none.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from msgspec import Struct

from converters.child import run_worker
from converters.progress import Progress, Silent
from converters.records import Environment, FloatModel, Kind, Tensors
from converters.source_kind import factory_of, kind_of
from converters.workers.protocol import load_arrays, save_arrays
from edge_agent.errors import ConfigError, ModelError
from edge_agent.records import Array, TensorSpec

_CHUNK = 1 << 20


class Route(Struct, frozen=True):
    """How a kind of source is read: ``worker`` in ``environment``, with ``variables`` in its environment's own."""

    environment: Environment
    worker: str
    variables: Mapping[str, str] = {}


ROUTES: Mapping[Kind, Route] = {
    "keras3": Route("keras", "keras3"),
    "keras2": Route("keras", "keras2", {"TF_USE_LEGACY_KERAS": "1"}),
    "saved_model": Route("keras", "saved_model"),
    "torch": Route("torch", "torch_source"),
    "onnx": Route("onnx", "onnx_source"),
}
_WITH_SIGNATURES: tuple[Kind, ...] = ("tflite", "saved_model")


def load_source(
    model: str,
    *,
    work: Path,
    signature: str | None = None,
    images: Sequence[str] | None = None,
    progress: Progress | None = None,
) -> FloatModel:
    """``model`` (a path, or FILE.py:FUNCTION) as a float .tflite. ``work`` is a folder for files on the way;
    ``signature`` chooses one of several of a SavedModel or .tflite. ``images`` are the inputs that take pictures: torch
    and ONNX have their channels first, the device last; None leaves all as they are.

    Raises ConfigError, ModelError, EnvironmentMissingError, WorkerFailedError.
    """
    kind = kind_of(model)
    if signature is not None and kind not in _WITH_SIGNATURES:
        raise ConfigError(f"--signature {signature}: {model} is {kind}, only SavedModel folders and .tflite have them")
    if kind == "tflite":
        from converters.tflite.float_source import float_source

        content = float_source(Path(model).read_bytes(), model, signature)
        _check(content, model, None)
        return FloatModel(content, kind, model, sha256_of(model, content))
    text = f"exporting {model} to a float .tflite"
    result = _run(kind, model, "export", work / "export", (signature, images), progress, text)
    content = (work / "export" / "model.tflite").read_bytes()
    _check(content, model, result)
    versions, notes = dict(result["versions"]), tuple(result["notes"])
    return FloatModel(content, kind, model, sha256_of(model, content), versions, notes)


def predict_source(
    model: str,
    inputs: Mapping[str, Array],
    *,
    work: Path,
    signature: str | None = None,
    images: Sequence[str] | None = None,
    progress: Progress | None = None,
) -> Tensors:
    """What the original model, in its own framework, makes of ``inputs`` (by tensor name, rows first, as float32, laid
    out as the float .tflite takes them): its outputs by name, rows first. Raises as load_source."""
    _require_rows(inputs)
    kind = kind_of(model)
    if kind == "tflite":
        return _run_rows(load_source(model, work=work, signature=signature).content, inputs, progress or Silent())
    folder = work / "predict"
    save_arrays(folder, "inputs", {name: np.asarray(rows, np.float32) for name, rows in inputs.items()})
    _run(kind, model, "predict", folder, (signature, images), progress, f"predicting with {model}")
    outputs = load_arrays(folder, "outputs")
    for name in ("inputs", "outputs"):  # a data set's worth of disk
        shutil.rmtree(folder / name)
    return outputs


def sha256_of(model: str, content: bytes) -> str:
    """Of the source: of a file its bytes, but not the date of saving that a .keras holds; of a folder each file's name
    and bytes, in sorted order; of a function, whose weights may come from anywhere, its file and the .tflite that was
    made of it (``content``)."""
    path = Path(model)
    if path.is_file():
        return _keras_sha256(path) if path.suffix == ".keras" else _file_sha256(path)
    digest = hashlib.sha256()
    if path.is_dir():
        for file in sorted(file for file in path.rglob("*") if file.is_file()):
            digest.update(f"{file.relative_to(path).as_posix()}\0{_file_sha256(file)}\n".encode())
        return digest.hexdigest()
    factory = factory_of(model)
    if factory is not None and factory.file.is_file():
        digest.update(f"{_file_sha256(factory.file)}\n".encode())
    digest.update(content)
    return digest.hexdigest()


def _run(
    kind: Kind,
    model: str,
    operation: str,
    folder: Path,
    choices: tuple[str | None, Sequence[str] | None],
    progress: Progress | None,
    text: str,
) -> dict[str, Any]:
    """``choices``: the signature, and the inputs that take pictures."""
    route, (signature, images) = ROUTES[kind], choices
    named = None if images is None else list(images)
    arguments = {"path": _absolute(model), "signature": signature, "images": named}
    options: dict[str, Any] = {"variables": route.variables, "progress": progress, "text": text}
    try:
        return run_worker(route.environment, route.worker, operation, arguments, folder, **options)
    except ConfigError as error:
        raise error if model in str(error) else ConfigError(f"{model}: {error}") from None


def _absolute(model: str) -> str:
    factory = factory_of(model)
    if Path(model).exists() or factory is None:
        return str(Path(model).absolute())
    return f"{factory.file.absolute()}:{factory.function}" if factory.module.endswith(".py") else model


def _check(content: bytes, model: str, exported: Mapping[str, Any] | None) -> None:
    """What every step after this relies on. ``exported``: the names that the source has. Raises ModelError."""
    from edge_agent.io.runtimes import create

    try:
        runtime = create(content, "xnnpack", threads=1, external={})
        runtime.invoke({})
    except ModelError as error:
        raise ModelError(f"{model}: the float model does not run: {error}") from None
    for side, specs in (("inputs", runtime.inputs), ("outputs", runtime.outputs)):
        names = {spec.name for spec in specs}
        if exported is not None and names != set(exported[side]):
            raise ModelError(
                f"{model}: the converter changed the {side}: the source has {', '.join(sorted(exported[side]))}, the "
                f"float model {', '.join(sorted(names))}; rename them in the source"
            )
        for spec in specs:
            _check_tensor(spec, side[:-1], model)
    runtime.close()


def _check_tensor(spec: TensorSpec, side: str, model: str) -> None:
    if spec.dtype != np.float32:
        raise ModelError(
            f"{model}: {side} {spec.name!r} is {spec.dtype}, a device needs float32; leave out of the model what makes "
            "other types (a class number from ArgMax, text)"
        )
    if spec.shape[:1] != (1,):
        raise ModelError(f"{model}: {side} {spec.name!r} has shape {list(spec.shape)}, expected a first axis of 1")


def _require_rows(inputs: Mapping[str, Array]) -> None:
    counts = {name: len(rows) for name, rows in inputs.items()}
    if len(set(counts.values())) != 1 or 0 in counts.values():
        raise ConfigError(f"predictions need the same number of rows, at least one, for each input; got {counts}")


def _run_rows(content: bytes, inputs: Mapping[str, Array], progress: Progress) -> Tensors:
    from edge_agent.io.runtimes import create

    runtime = create(content, "xnnpack", threads=1, external={})
    missing = {spec.name for spec in runtime.inputs} ^ set(inputs)
    if missing:
        raise ConfigError(
            f"the model's inputs are {', '.join(s.name for s in runtime.inputs)}; got {', '.join(inputs)}"
        )
    count = len(next(iter(inputs.values())))
    found: list[Tensors] = []
    with progress.step("predicting with the float model", count) as advance:
        for row in range(count):
            found.append(
                runtime.invoke({name: np.asarray(rows[row : row + 1], np.float32) for name, rows in inputs.items()})
            )
            advance(row + 1)
    return {name: np.concatenate([outputs[name] for outputs in found]) for name in found[0]}


def _keras_sha256(path: Path) -> str:
    """The same training gives the same hash, whenever it was saved."""
    digest = hashlib.sha256()
    with zipfile.ZipFile(path) as archive:
        for name in sorted(archive.namelist()):
            content = archive.read(name)
            if name == "metadata.json":
                content = json.dumps({**json.loads(content), "date_saved": None}, sort_keys=True).encode()
            digest.update(f"{name}\0{hashlib.sha256(content).hexdigest()}\n".encode())
    return digest.hexdigest()


def _file_sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while chunk := stream.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()
