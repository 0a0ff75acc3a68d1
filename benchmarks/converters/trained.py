"""The trained networks that every route begins with: made once in the environments of their frameworks, then kept."""

from __future__ import annotations

import hashlib
import json
import subprocess
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from benchmarks.converters import world
from converters.environments import python_of
from converters.records import Environment

HERE = Path(__file__).parent
WORLD = "world.py"
QUICK_EPOCHS = 3
STANDARD_ERROR = 2  # the descriptor: a test may have another object in its place


class Script(NamedTuple):
    """How to train: ``file`` in ``environment`` with ``arguments``; ``network`` is the file that it imports."""

    name: str
    environment: Environment
    file: str
    network: str
    arguments: tuple[str, ...] = ()


KERAS2 = Script("keras2", "keras", "train_keras.py", "networks_keras.py", ("--keras", "2"))
KERAS3 = Script("keras3", "keras", "train_keras.py", "networks_keras.py", ("--keras", "3"))
TORCH = Script("torch", "torch", "train_torch.py", "networks_torch.py")


def trained(script: Script, folder: Path, *, quick: bool = False) -> tuple[Path, dict[str, Any]]:
    """(the folder with the trained files, what training said: accuracy on the test rows, parameters, seconds).

    Raises EnvironmentMissingError; CalledProcessError with the script's own output shown.
    """
    made_by = _digest(WORLD, script.file, script.network)  # another script or network is trained anew
    out = folder / f"{script.name}-{'quick-' if quick else ''}{made_by}"
    facts = out / "training.json"
    if not facts.exists():
        python = python_of(script.environment)  # before anything is drawn: it may be missing
        command = [str(python), str(HERE / script.file), "--arrays", str(arrays(folder)), "--out", str(out)]
        epochs = ["--epochs", str(QUICK_EPOCHS)] if quick else []
        # its progress goes where ours goes: standard output is for the tables
        subprocess.run([*command, *script.arguments, *epochs], check=True, stdout=STANDARD_ERROR)
    found: dict[str, Any] = json.loads(facts.read_text())
    return out, found


def arrays(folder: Path) -> Path:
    """The rows as training code takes them, which needs no package of this project to read them."""
    target = folder / f"arrays-{_digest(WORLD)}"
    if (target / "complete").exists():
        return target
    target.mkdir(parents=True, exist_ok=True)
    mean, std = world.scaling()
    for split in world.COUNTS:
        drawn = world.draw(split)
        scaled = np.clip((drawn["readings"] - mean) / std, -world.CLIP, world.CLIP)
        np.save(target / f"{split}-image.npy", drawn["pixels"][..., ::-1])
        np.save(target / f"{split}-chemistry.npy", scaled.astype(np.float32))
        np.save(target / f"{split}-code.npy", drawn["labels"])
    np.save(target / "mean.npy", mean)
    np.save(target / "std.npy", std)
    (target / "complete").touch()
    return target


def _digest(*files: str) -> str:
    return hashlib.sha256(b"\0".join((HERE / file).read_bytes() for file in files)).hexdigest()[:8]
