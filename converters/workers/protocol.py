"""How a worker talks to the process that started it: a job folder and a pipe for progress.

``job.json`` names the operation and its arguments, arrays lie beside it as ``SET/TENSOR.npy``; the worker writes
``result.json`` last and whole. What the framework prints goes to a log. Standard library and numpy only.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
Operation = Callable[["Job"], dict[str, Any]]


class RefusedError(Exception):
    """The job can't be done as asked, and the person can do something about it: the message says what."""


class Job:
    """One job, seen from inside the worker."""

    def __init__(self, folder: Path) -> None:
        content = json.loads((folder / "job.json").read_text())
        self.folder = folder
        self.operation: str = content["operation"]
        self.arguments: dict[str, Any] = content["arguments"]
        self._pipe: int | None = content["progress_fd"]

    def arrays(self, name: str) -> dict[str, Array]:
        """The arrays of a set by tensor name, mapped from the disk: read-only."""
        return load_arrays(self.folder, name, mapped=True)

    def save_arrays(self, name: str, arrays: Mapping[str, Array]) -> None:
        save_arrays(self.folder, name, arrays)

    def progress(self, done: int, total: int, text: str) -> None:
        """How far the step ``text`` has come."""
        if self._pipe is not None:
            try:
                os.write(self._pipe, (json.dumps([done, total, text]) + "\n").encode())
            except OSError:
                self._pipe = None  # nobody reads any more: the work goes on


def save_arrays(folder: Path, name: str, arrays: Mapping[str, Array]) -> None:
    """Write a set of arrays; tensor names may hold anything, so files are numbered and indexed."""
    target = folder / name
    target.mkdir(parents=True, exist_ok=True)
    index = {tensor: f"{number}.npy" for number, tensor in enumerate(arrays)}
    for tensor, file in index.items():
        np.save(target / file, np.ascontiguousarray(arrays[tensor]), allow_pickle=False)
    (target / "index.json").write_text(json.dumps(index))


def load_arrays(folder: Path, name: str, *, mapped: bool = False) -> dict[str, Array]:
    """A set of arrays by tensor name; ``mapped``: read from the disk when used, and read-only."""
    index = json.loads((folder / name / "index.json").read_text())
    files = {tensor: folder / name / file for tensor, file in index.items()}
    return {tensor: np.load(file, mmap_mode="r" if mapped else None) for tensor, file in files.items()}


def real_inputs(
    images: Mapping[str, Array], normalisation: Mapping[str, Any], features: Mapping[str, Array], rows: Any
) -> dict[str, Array]:
    """float32 batches by tensor for those rows: (pixel - mean) / std, and the features as they are."""
    batch = {}
    for tensor, pixels in images.items():
        mean, std = (np.array(side, np.float32) for side in normalisation[tensor])
        batch[tensor] = (pixels[rows].astype(np.float32) - mean) / std
    return {**batch, **{tensor: np.asarray(values[rows], np.float32) for tensor, values in features.items()}}


def work(operations: Mapping[str, Operation]) -> None:
    """Do the job that the command line names, write its result."""
    job = Job(Path(sys.argv[2]))
    try:
        answer = {"ok": True, "result": operations[job.operation](job)}
    except RefusedError as error:
        answer = {"ok": False, "error": str(error)}
    write_answer(job.folder, answer)


def write_answer(folder: Path, answer: Mapping[str, Any]) -> None:
    """Write ``result.json``, whole or not at all."""
    temporary = folder / "result.json.part"
    temporary.write_text(json.dumps(answer))
    temporary.replace(folder / "result.json")
