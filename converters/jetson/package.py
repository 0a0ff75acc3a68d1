"""The folder for a Jetson: ONNX, card, golden samples, the script that builds the engine and the one that checks it.

Written whole or not at all. Where trtexec is on the PATH the script is tried here, on a copy.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path

from msgspec import Struct

from converters.files import check_output
from converters.jetson.engine_check import FILES
from converters.jetson.onnx_file import Precision
from converters.progress import Progress
from edge_agent.errors import ConfigError

HERE = Path(__file__).parent
SCRIPTS = ("build_engine.sh", "check_engine.py")
TRTEXEC = "trtexec"
README = """{name}: files to build a TensorRT engine on an NVIDIA Jetson

  {files}
  card.json          what each tensor is for; it is in the ONNX files too, as metadata edge-agent/card.json
  golden.npz         inputs and expected outputs, by ONNX Runtime on the machine that made this folder
  check.json         how far an engine's outputs may be off
  build_engine.sh    builds an engine with trtexec and checks it: sh build_engine.sh [fp16|int8]
  check_engine.py    the check alone; --provider CPUExecutionProvider checks the ONNX file with ONNX Runtime

On the Jetson (JetPack 6.0 has TensorRT 8.6, 6.1 has 10.3; this file's opset {opset} needs {tensorrt} or later):

  sudo apt-get install tensorrt python3-numpy
  sh build_engine.sh

An engine fits only the GPU and the TensorRT version that it was built with: build it on the device that runs it.
Pictures go in as (1, height, width, channels) float32, as the card says; everything is bound by name.

int8 or fp16? Measure it: others report that on an Orin Nano int8 gained little over fp16 and lost accuracy. A folder
made with --precision int8 has both files; build both, and compare what trtexec says of the latency.

Untested on hardware: these scripts have run against a stand-in for trtexec and against ONNX Runtime on a CPU, never on
a Jetson.
"""


class Tried(Struct, frozen=True):
    """What the script did here."""

    ok: bool
    output: str


def check_folder(folder: Path) -> None:
    """Raises ConfigError where ``folder`` can't be made: said before minutes of work."""
    if folder.is_dir():
        if any(folder.iterdir()):
            raise ConfigError(f"{folder}: is there already and not empty; name a new folder, or remove it first")
        return
    if folder.exists():
        raise ConfigError(f"{folder}: a file; name a folder to make")
    check_output(folder)


def package_files(
    name: str, card: bytes, onnx: Mapping[Precision, bytes], golden: Mapping[str, bytes], opset: int
) -> dict[str, bytes]:
    """Every file of the folder by name."""
    listed = {FILES[precision]: content for precision, content in onnx.items()}
    kinds = {"model.onnx": "the model in float32", "model_qdq.onnx": "the same for int8, symmetric"}
    readme = README.format(
        name=name,
        files="\n  ".join(f"{file:<19}{kinds[file]}" for file in listed),
        opset=opset,
        tensorrt="8.6" if opset <= 17 else "10",
    )
    scripts = {script: (HERE / script).read_bytes() for script in SCRIPTS}
    return {**listed, "card.json": card, **golden, **scripts, "README.txt": readme.encode()}


def write_folder(folder: Path, files: Mapping[str, bytes]) -> None:
    """All of the files, then the folder gets its name. Raises ConfigError."""
    check_folder(folder)
    try:
        part = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
        try:
            _fill(part, files)
            part.chmod(0o755)
            part.replace(folder)  # an empty folder of that name is taken over
        finally:
            shutil.rmtree(part, ignore_errors=True)
    except OSError as error:
        raise ConfigError(f"{folder}: can't be written: {error.strerror or error}") from error


def try_build(files: Mapping[str, bytes], precision: Precision, *, work: Path, progress: Progress) -> Tried | None:
    """Build and check the engine on this machine; None where it has no trtexec. The engine is not kept: it would not
    fit another GPU."""
    trtexec = shutil.which(TRTEXEC)
    if trtexec is None:
        return None
    work.mkdir(parents=True)
    _fill(work, files)
    with progress.step(f"building the {precision} engine with {trtexec}"):
        done = subprocess.run(
            ["sh", str(work / "build_engine.sh"), precision],
            env={**os.environ, "TRTEXEC": trtexec},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            check=False,
        )
    return Tried(done.returncode == 0, done.stdout.decode(errors="replace").strip())


def _fill(folder: Path, files: Mapping[str, bytes]) -> None:
    for name, content in files.items():
        path = folder / name
        path.write_bytes(content)
        path.chmod(0o755 if name in SCRIPTS else 0o644)
