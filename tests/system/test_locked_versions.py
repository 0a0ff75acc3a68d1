"""The exact versions that the package holds for this Python, with the tests of everything that depends on them."""

from __future__ import annotations

import configparser
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.system.debian_machine import REPOSITORY

PYTHON = f"{sys.version_info.major}.{sys.version_info.minor}"
LOCK = REPOSITORY / f"packaging/locks/python{PYTHON}.txt"
# What meets the libraries. The journeys are about the daemon.
TESTS = ("tests/children", "tests/commands", "tests/config", "tests/core", "tests/io", "tests/stages", "tests/updating")
TFLITE_RUNTIME = "tflite-runtime==2.14.0"  # the last
ASK_FOR_NUMPY_2 = {"ml-dtypes", "opencv-python-headless"}  # and run with 1.26: build_deb/lock.py overrules them
MARKS = "not soak and not system and not keras and not torch and not onnx"

pytestmark = [
    pytest.mark.system,
    pytest.mark.skipif(not LOCK.exists(), reason=f"no system that has a package has Python {PYTHON}"),
]


def test_they_do_what_the_newest_do(tmp_path: Path) -> None:
    """With NumPy 1.26 for bookworm, OpenCV is newer than the resolver of pip would allow."""
    setup = configparser.ConfigParser()
    setup.read(REPOSITORY / "setup.cfg")
    tools = [line for line in setup["options.extras_require"]["test"].splitlines() if line and line[0] != "#"]
    (tmp_path / "tools.txt").write_text("\n".join(tools))
    subprocess.run([sys.executable, "-m", "venv", tmp_path / "venv"], check=True)
    python = tmp_path / "venv/bin/python"
    install = [python, "-m", "pip", "install", "--quiet"]
    subprocess.run([*install, "--requirement", tmp_path / "tools.txt"], check=True)
    subprocess.run([*install, "--no-deps", "--require-hashes", "--requirement", LOCK], check=True)
    if "\nnumpy==1." in LOCK.read_text():  # who must use tflite-runtime has such a NumPy
        subprocess.run([*install, "--no-deps", TFLITE_RUNTIME], check=True)
        subprocess.run([python, "-c", "import tflite_runtime.interpreter"], check=True)  # else its tests are skipped
        locked = {line.partition("==")[0] for line in LOCK.read_text().splitlines() if "==" in line}
        said = subprocess.run([python, "-m", "pip", "check"], check=False, capture_output=True, text=True).stdout
        wishes = [line.split()[0] for line in said.splitlines() if "requirement numpy" in line]
        assert locked.intersection(wishes) == ASK_FOR_NUMPY_2
    command = [python, "-m", "pytest", "-q", "-n", "3", "--dist", "loadfile", "-m", MARKS, *TESTS]
    here = {**os.environ, "PYTHONPATH": str(REPOSITORY)}  # nothing of ours is installed there
    output = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    done = subprocess.run(command, check=False, cwd=REPOSITORY, env=here, **output)
    assert done.returncode == 0, done.stdout[-8000:]
