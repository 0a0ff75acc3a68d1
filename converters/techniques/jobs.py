"""What every training job needs from this side: the rows as files, what each output's task is, its own process."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from converters.arrays import save
from converters.child import run_worker
from converters.errors import WorkerFailedError
from converters.records import Arrays, FloatModel, Kind
from converters.workbench import Workbench
from edge_agent.core.card_roles import task_of
from edge_agent.core.card_schema import ClassificationOutput, DetectionOutput
from edge_agent.errors import ConfigError

LEAST_ROWS = 16
_LEARNT = ("classification", "regression")
_VARIABLES: Mapping[Kind, Mapping[str, str]] = {"keras2": {"TF_USE_LEGACY_KERAS": "1"}}


def train(
    bench: Workbench,
    operation: str,
    arguments: Mapping[str, Any],
    sets: Arrays,
    *,
    epochs: int,
    learning_rate: float,
    seed: int,
    text: str,
) -> tuple[dict[str, Any], Path]:
    """Run an operation of workers/training.py: (its result, the folder with what it wrote).

    Raises ConfigError for numbers out of range and for what the worker refuses, EnvironmentMissingError,
    WorkerFailedError.
    """
    check_numbers(epochs, learning_rate)
    folder = bench.work / operation
    folder.mkdir(parents=True, exist_ok=True)
    save(sets, folder)
    job = {
        **arguments,
        "path": str(Path(bench.source.path).absolute()),
        "kind": bench.source.kind,
        "heads": heads_of(bench),
        "epochs": epochs,
        "learning_rate": learning_rate,
        "seed": seed,
    }
    variables = _VARIABLES.get(bench.source.kind)
    result = run_worker(
        "keras", "training", operation, job, folder, variables=variables, progress=bench.progress, text=text
    )
    return result, folder


def training_rows(bench: Workbench) -> Arrays:
    """The rows of the split train, with the labels that a loss can use. Raises ConfigError for too few."""
    if bench.float_model.card.state_inputs:
        raise ConfigError(
            f"{bench.source.path}: the model keeps a state from run to run, and training here sees single rows: use "
            "post-training quantisation"
        )
    arrays = bench.arrays("train")
    if len(arrays.ids) < LEAST_ROWS:
        raise ConfigError(
            f"{bench.data().spec}: {len(arrays.ids)} rows to train on, at least {LEAST_ROWS} are needed: add rows of "
            "the split train"
        )
    heads = heads_of(bench)
    labels = {tensor: values for tensor, values in arrays.labels.items() if heads[tensor]["task"] in _LEARNT}
    return msgspec.structs.replace(arrays, labels=labels)


def heads_of(bench: Workbench) -> dict[str, Any]:
    """By output tensor its task, and the activation that the card still applies; a detection's boxes have no loss."""
    return {
        head.tensor: {
            "task": task_of(head),
            "activation": head.activation if isinstance(head, ClassificationOutput) else "none",
        }
        for head in bench.float_model.card.outputs
        if not isinstance(head, DetectionOutput)
    }


def require_keras(source: FloatModel, what: str) -> None:
    """Raises ConfigError for a source whose layers are not there to be changed."""
    if source.kind not in ("keras2", "keras3"):
        raise ConfigError(
            f"{source.path}: {what} changes a Keras model and trains it, this is {source.kind}: give the .keras or .h5 "
            "file that it was made from (`edge-convert qat` fine-tunes any source)"
        )


def check_numbers(epochs: int, learning_rate: float) -> None:
    """Raises ConfigError."""
    if epochs < 1:
        raise ConfigError(f"epochs = {epochs}: at least 1 is needed")
    if not 0 < learning_rate <= 1:
        raise ConfigError(f"learning rate = {learning_rate:g}: above 0 and at most 1, usually 0.0001 to 0.01")


def written_file(folder: Path, name: str) -> bytes:
    """A file that a worker should have written."""
    try:
        return (folder / name).read_bytes()
    except FileNotFoundError:
        raise WorkerFailedError(f"the training process ended without writing {name}") from None
