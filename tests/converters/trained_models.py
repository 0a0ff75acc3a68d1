"""The hybrid on digits and wine, trained for a moment in the environment of its framework; each once in a test run.

The networks and their training are those of the benchmark.
"""

from __future__ import annotations

import atexit
import os
import shutil
import subprocess
import tempfile
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from benchmarks.converters import world
from converters.environments import python_of
from converters.errors import EnvironmentMissingError
from converters.records import Environment, Split, Tensors
from edge_agent.records import Array

TRAIN = Path(__file__).resolve().parents[2] / "benchmarks" / "converters" / "train_keras.py"
ROWS = {"train": 1000, "test": 200}


def require(name: Environment) -> Path:
    """The environment's Python; skips the test where there is none."""
    try:
        return python_of(name)
    except EnvironmentMissingError as error:
        pytest.skip(str(error))


@cache
def trained_keras(version: int, epochs: int = 1) -> Path:
    """A folder with model.keras and model.h5 (version 2), or model.keras and saved_model/ (version 3)."""
    python = require("keras")
    out = temporary_folder() / f"keras{version}-{epochs}"
    command = [str(python), str(TRAIN), "--arrays", str(_arrays()), "--out", str(out)]
    run_in(python, [*command[1:], "--keras", str(version), "--epochs", str(epochs)])
    return out


def run_in(python: Path, arguments: list[str]) -> None:
    """A script in an environment, as a person who trains there would run it; its output on failure."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}
    settings = {**kept, "TF_CPP_MIN_LOG_LEVEL": "2", "CUDA_VISIBLE_DEVICES": "-1"}
    done = subprocess.run([str(python), *arguments], env=settings, capture_output=True, text=True, check=False)
    assert done.returncode == 0, (done.stdout + done.stderr)[-3000:]


def inputs_of(split: Split, count: int) -> Tensors:
    """The first rows of a split as the trained models take them, by input name."""
    arrays = _split(split, count)
    image = arrays["image"].astype(np.float32) / np.float32(255)
    return {"image": image, "chemistry": arrays["chemistry"]}


@cache
def _arrays() -> Path:
    folder = temporary_folder() / "arrays"
    folder.mkdir()
    for split, count in ROWS.items():
        for name, values in _split(split, count).items():
            np.save(folder / f"{split}-{name}.npy", values)
    for name, values in zip(("mean", "std"), world.scaling(), strict=True):
        np.save(folder / f"{name}.npy", values)
    return folder


def _split(split: str, count: int) -> dict[str, Array]:
    drawn = world.draw(split)
    mean, std = world.scaling()
    scaled = np.clip((drawn["readings"][:count] - mean) / std, -world.CLIP, world.CLIP)
    return {
        "image": drawn["pixels"][:count, :, :, ::-1],
        "chemistry": scaled.astype(np.float32),
        "code": drawn["labels"][:count],
    }


@cache
def temporary_folder() -> Path:
    """Of this test run."""
    folder = Path(tempfile.mkdtemp(prefix="trained-models-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder
