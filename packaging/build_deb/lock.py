"""The locks: one a Python, exact versions with hashes and without environment markers."""

from __future__ import annotations

import configparser
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path

from build_deb.target import MACHINES, SUITES

ROOT = Path(__file__).resolve().parents[2]
LOCKS = ROOT / "packaging/locks"
# Extras of the distribution that a device may want and that no system provides.
EXTRAS = ("http",)
RESOLVER = "uv==0.13.9"
HEADER = "# For Python {python}, made by script/package --lock from setup.cfg. Do not edit.\n"
# What setup.cfg leaves open and a device does not.
CONSTRAINTS = """\
# 1.3 asks for a Python before 3.11; the resolver looks at lower bounds only
backports-strenum<1.3; python_version >= "3.11"
"""
# Whatever a distribution asks for. picamera2 and what it needs are the system's, built for its NumPy: 1.24 in bookworm,
# 2.2 in trixie. What is built for NumPy 2 runs with 1.26 too, as NumPy promises, also where it asks for 2: OpenCV from
# 4.12 on, ml-dtypes from 0.6 on. An override hides every such wish: tests/system/test_locked_versions.py names them.
OVERRIDES = """\
numpy<2; python_version == "3.11"
numpy; python_version != "3.11"
"""


def lock_file(python: str) -> Path:
    return LOCKS / f"python{python}.txt"


def requirements() -> list[str]:
    """What the distribution asks for, markers included."""
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    texts = [setup["options"]["install_requires"], *(setup["options.extras_require"][extra] for extra in EXTRAS)]
    return [line for text in texts for line in text.splitlines() if line and not line.startswith("#")]


def make_locks() -> None:
    """Resolve anew for every Python. Needs PyPI. Raises ValueError where the architectures would need two locks."""
    with tempfile.TemporaryDirectory() as folder:
        uv = _resolver(Path(folder))
        for python in sorted({".".join(map(str, suite.python)) for suite in SUITES.values()}):
            texts = {_resolved(uv, python, machine, Path(folder)) for machine in MACHINES.values()}
            if len(texts) != 1:
                raise ValueError(f"Python {python}: {' and '.join(MACHINES)} need different packages")
            lock_file(python).write_text(HEADER.format(python=python) + texts.pop())


def _resolver(folder: Path) -> Path:
    subprocess.run([sys.executable, "-m", "venv", folder / "venv"], check=True)
    subprocess.run([folder / "venv/bin/python", "-m", "pip", "install", "--quiet", RESOLVER], check=True)
    return folder / "venv/bin/uv"


def _resolved(uv: Path, python: str, machine: str, folder: Path) -> str:
    (folder / "constraints").write_text(CONSTRAINTS)
    (folder / "overrides").write_text(OVERRIDES)
    command = [str(uv), "pip", "compile", "--no-config", "--quiet", "--generate-hashes", "--only-binary=:all:"]
    command += ["--no-header", "--no-annotate", "--no-emit-index-url", f"--constraint={folder}/constraints"]
    command += [f"--override={folder}/overrides"]
    command += [f"--python-version={python}", f"--python-platform={machine}-manylinux_2_28", "-"]
    done = subprocess.run(command, input=_lines(requirements()), stdout=subprocess.PIPE, text=True, check=True)
    return str(done.stdout)


def _lines(lines: Iterable[str]) -> str:
    return "".join(f"{line}\n" for line in lines)
