"""Torch models: to a float .tflite, and predicting with the original.

A source is a ``.pt2`` (``torch.export.save``), whose example inputs give the shapes, or ``FILE.py:FUNCTION``, where
FUNCTION() returns ``(module, {forward's argument name: example tensor})``. Inputs keep the names of forward's
arguments; outputs have names where forward returns a dict.
"""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import sys
import zipfile
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np
import torch

from converters.workers.layout import (
    TO_CHANNELS_FIRST,
    as_source,
    channels_first,
    channels_last_shape,
    pictures_of,
    unsaid_note,
)
from converters.workers.parity import TfliteRunner, compare, made_up
from converters.workers.protocol import Array, Job, RefusedError, work

PACKAGES = ("torch", "litert-torch", "litert-converter")
HOW_TO_NAME = "return a dict {name: tensor} from forward to name them"


class Source(NamedTuple):
    """``positional``: those inputs that ``module`` takes by position. ``examples``: by input, with batch 1, in the
    source's own layout. ``turned`` names the pictures that it takes with the channels first."""

    module: Any
    positional: tuple[str, ...]
    examples: dict[str, torch.Tensor]
    notes: list[str]
    pictures: tuple[str, ...] = ()
    turned: tuple[str, ...] = ()

    def call(self, inputs: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        keyword = {name: tensor for name, tensor in inputs.items() if name not in self.positional}
        return named_outputs(self.module(*(inputs[name] for name in self.positional), **keyword))


class ByName(torch.nn.Module):  # type: ignore[misc]  # not installed where types are checked
    """The source as the device sees it: tensors by name, pictures with their channels last, outputs in a dict."""

    def __init__(self, source: Source) -> None:
        super().__init__()
        self.module = source.module  # as an attribute, so that its weights are found
        self.source = source
        self.training = False  # .eval() is not possible on an exported program

    def forward(self, **inputs: torch.Tensor) -> dict[str, torch.Tensor]:
        turned = self.source.turned
        return self.source.call(
            {name: t.permute(TO_CHANNELS_FIRST) if name in turned else t for name, t in inputs.items()}
        )


def load(path: str, images: Sequence[str] | None) -> Source:
    """Raises RefusedError for what is no such source. ``images``: the card's image inputs, None where it has none."""
    file, separator, function = path.rpartition(":")
    source = _from_function(file, function) if separator else _from_program(Path(path))
    shapes = {name: tuple(tensor.shape) for name, tensor in source.examples.items()}
    pictures = pictures_of(images, shapes)
    notes = [*source.notes, *unsaid_note(images, shapes, "torch")]
    return source._replace(notes=notes, pictures=pictures, turned=channels_first(shapes, pictures))


def device_examples(source: Source) -> dict[str, torch.Tensor]:
    """Zeros in the shapes that the device gives."""
    return {
        name: torch.zeros(
            channels_last_shape(tensor.shape) if name in source.turned else tensor.shape, dtype=tensor.dtype
        )
        for name, tensor in source.examples.items()
    }


def named_outputs(result: Any) -> dict[str, torch.Tensor]:
    """What forward returned, by name. Raises RefusedError for what is no tensor."""
    if isinstance(result, torch.Tensor):
        return {"output": result}
    if isinstance(result, Mapping):
        outputs = {str(name): tensor for name, tensor in result.items()}
    elif isinstance(result, Sequence):
        outputs = {f"output_{number}": tensor for number, tensor in enumerate(result)}
    else:
        outputs = {"": result}
    wrong = [tensor for tensor in outputs.values() if not isinstance(tensor, torch.Tensor)]
    if wrong or not outputs:
        what = type(wrong[0]).__name__ if wrong else "nothing"
        raise RefusedError(
            f"forward returns {what}; a tensor, a tuple of tensors or a dict of tensors can be converted"
        )
    return outputs


def naming_notes(outputs: Sequence[str]) -> list[str]:
    """How to name outputs that have no name of their own."""
    unnamed = [name for name in outputs if name == "output" or name.startswith("output_")]
    return [f"outputs are called {', '.join(unnamed)}: {HOW_TO_NAME}"] if unnamed else []


def export(job: Job) -> dict[str, Any]:
    """Writes model.tflite. Arguments: path, images (the card's image inputs, or null)."""
    job.progress(0, 3, "loading the torch model")
    source = load(job.arguments["path"], job.arguments.get("images"))
    job.progress(1, 3, "converting to .tflite")
    import litert_torch

    content: bytes = litert_torch.convert(ByName(source), sample_kwargs=device_examples(source)).model_content()
    (job.folder / "model.tflite").write_bytes(content)
    job.progress(2, 3, "comparing with the torch model")
    runner = TfliteRunner(content)
    inputs = device_examples(source)
    rows = made_up(
        {name: tensor.shape for name, tensor in inputs.items()},
        {name: str(tensor.dtype).removeprefix("torch.") for name, tensor in inputs.items()},
        source.pictures,
    )
    expected = [run(source, row) for row in rows]
    differences, notes = compare(expected, [runner(row) for row in rows], ".tflite")
    return {
        "inputs": list(source.examples),
        "outputs": list(expected[0]),
        "versions": {name: version(name) for name in PACKAGES},
        "notes": [*source.notes, *naming_notes(list(expected[0])), *notes, *_left_transposes(runner, source)],
        "differences": differences,
    }


def predict(job: Job) -> dict[str, Any]:
    """Runs the original on the set "inputs" (rows by input name, float32, pictures with the channels last), row by
    row since a model may insist on batch 1; writes the set "outputs". Arguments as for export."""
    source = load(job.arguments["path"], job.arguments.get("images"))
    inputs = job.arrays("inputs")
    count = len(next(iter(inputs.values())))
    outputs: dict[str, list[Array]] = {}
    for row in range(count):
        for name, value in run(source, {name: rows[row : row + 1] for name, rows in inputs.items()}).items():
            outputs.setdefault(name, []).append(value)
        job.progress(row + 1, count, "running the torch model")
    job.save_arrays("outputs", {name: np.concatenate(values) for name, values in outputs.items()})
    return {"rows": count}


def run(source: Source, row: Mapping[str, Array]) -> dict[str, Array]:
    """One row in the device's layout through the original."""
    missing = sorted(set(source.examples) - set(row))
    if missing:
        raise RefusedError(f"the model needs {', '.join(source.examples)}; missing: {', '.join(missing)}")
    turned = as_source({name: row[name] for name in source.examples}, source.turned)
    with torch.no_grad():
        outputs = source.call(
            {name: torch.tensor(value).to(source.examples[name].dtype) for name, value in turned.items()}
        )
    return {name: tensor.numpy() for name, tensor in outputs.items()}


def _from_program(path: Path) -> Source:
    if not path.is_file() or not zipfile.is_zipfile(path):
        raise RefusedError(
            f"{path}: not a program that torch.export.save wrote (.pt2); weights alone and TorchScript can't be "
            "converted: give FILE.py:FUNCTION, which returns the module and its example inputs"
        )
    program = torch.export.load(path)
    if program.example_inputs is None:
        raise RefusedError(f"{path}: has no example inputs; write it anew with torch.export.export(model, inputs)")
    if learning := _training_ops(program):
        raise RefusedError(f"{path}: exported in training mode ({learning}); call model.eval() before torch.export")
    positional, keyword = program.example_inputs
    names = list(program.graph_signature.user_inputs)[: len(positional)]
    examples = {**dict(zip(names, positional, strict=True)), **keyword}
    notes: list[str] = []
    _check_examples(str(path), examples)
    for name, tensor in examples.items():
        sizes = next(node for node in program.graph.nodes if node.name == name).meta["val"].shape
        if len(sizes) and isinstance(sizes[0], int) and sizes[0] != 1:
            raise RefusedError(
                f"{path}: input {name!r} has a fixed batch of {sizes[0]}; export it with a batch of 1, or with a "
                "dynamic first dimension"
            )
        if any(not isinstance(size, int) for size in sizes[1:]):
            notes.append(f"input {name!r} has dynamic dimensions: taken as in its example, {tuple(tensor.shape)[1:]}")
    return Source(program.module(), tuple(names), {name: tensor[:1] for name, tensor in examples.items()}, notes)


def _from_function(module_name: str, function: str) -> Source:
    where = f"{module_name}:{function}"
    namespace = _imported(module_name, where)
    maker = getattr(namespace, function, None)
    if not callable(maker):
        raise RefusedError(f"{where}: {module_name} has no function {function}")
    made = maker()
    if not (isinstance(made, tuple) and len(made) == 2 and isinstance(made[0], torch.nn.Module)):
        raise RefusedError(f"{where}: must return (module, {{argument of forward: example tensor}}), not {_kind(made)}")
    module, examples = made
    _check_examples(where, examples)
    try:
        inspect.signature(module.forward).bind(**examples)
    except TypeError as error:
        raise RefusedError(f"{where}: the examples {', '.join(examples)} don't fit forward: {error}") from None
    notes = ["the module was in training mode: converted in evaluation mode"] if module.training else []
    module.eval()
    return Source(module, (), {name: tensor[:1] for name, tensor in examples.items()}, notes)


def _imported(module_name: str, where: str) -> ModuleType:
    """FILE.py, or a dotted name below the working folder; what lies beside it can be imported, as when it is run."""
    file = Path(module_name)
    if file.suffix != ".py":
        sys.path.insert(0, str(Path.cwd()))
        return importlib.import_module(module_name)
    sys.path.insert(0, str(file.resolve().parent))
    spec = importlib.util.spec_from_file_location(file.stem, file)
    if not file.is_file() or spec is None or spec.loader is None:
        raise RefusedError(f"{where}: there is no Python file {file}")
    namespace = importlib.util.module_from_spec(spec)
    sys.modules[file.stem] = namespace  # classes look themselves up there
    spec.loader.exec_module(namespace)
    return namespace


def _check_examples(where: str, examples: Any) -> None:
    wrong = {name: value for name, value in dict(examples).items() if not isinstance(value, torch.Tensor)}
    if wrong or not examples:
        found = ", ".join(f"{name} is {_kind(value)}" for name, value in wrong.items()) or "there are none"
        raise RefusedError(f"{where}: every input must be one tensor with an example ({found})")
    flat = [name for name, value in examples.items() if value.ndim == 0]
    if flat:
        raise RefusedError(f"{where}: input {flat[0]!r} is a scalar; give it a batch dimension")


def _training_ops(program: Any) -> str:
    """The first op that only training has, with its layer; "" where there is none."""
    always = ("aten.native_dropout", "aten._native_batch_norm_legit_functional")
    for node in program.graph.nodes:
        target = str(node.target)
        flag = {"aten.dropout.default": 2, "aten.batch_norm.default": 5}.get(target)
        if target.startswith(always) or (flag is not None and node.args[flag] is True):
            return f"{target} at {node.name}"
    return ""


def _left_transposes(runner: TfliteRunner, source: Source) -> list[str]:
    left = runner.ops("TRANSPOSE")
    if not left or not source.turned:
        return []
    return [
        f"{left} TRANSPOSE op(s) are left in the graph and cost time on the device; mean over (2, 3) leaves one, "
        "adaptive_avg_pool2d(x, 1) does not"
    ]


def _kind(value: Any) -> str:
    if isinstance(value, tuple):
        return f"a tuple of {', '.join(type(item).__name__ for item in value)}"
    return type(value).__name__


def main() -> None:
    # the same sums on every machine; and a small model, row by row, was 40 times slower with two threads on busy cores
    torch.set_num_threads(1)
    work({"export": export, "predict": predict})
