"""Where each framework lives: virtual environments of their own, since no one environment can hold them all.

The pins were measured to work together (docs/converters.md); the versions move only with a new measurement.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import sys
import time
from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from msgspec import Struct

from converters.errors import EnvironmentMissingError
from converters.progress import Advance, Progress, Silent
from converters.records import Environment
from edge_agent.errors import ConfigError

READY = "edge-convert-ready"  # written last: what an environment was made from
OLDEST_PYTHON = (3, 10)
# pip holds all wheels, packed, in its temporary folder and its cache while it unpacks them
DOWNLOADS_SHARE = 0.6
_LAST_LINES = 8
_TEXT_CHARS = 70


class Packages(Struct, frozen=True):
    """``pins`` for pip, ``probe`` a module that only a complete environment has, ``disk_gb`` as measured,
    ``python`` the newest minor version that has wheels for all of it, ``note`` what to know before it is made."""

    pins: tuple[str, ...]
    probe: str
    disk_gb: float
    python: tuple[int, int]
    note: str = ""


ENVIRONMENTS: Mapping[Environment, Packages] = {
    # tf-keras must have TensorFlow's own minor version; the optimisation toolkit works with Keras 2 alone
    "keras": Packages(
        ("tensorflow==2.21.0", "tf-keras==2.21.0", "tensorflow-model-optimization==0.8.1"),
        "tensorflow_model_optimization",
        2.4,
        (3, 13),
    ),
    # litert-torch pins the converter that it was released with; onnx and onnxscript are for `edge-convert onnx`
    "torch": Packages(
        ("torch==2.13.0", "litert-torch==0.10.0", "onnx", "onnxscript", "onnxruntime>=1.23"),
        "litert_torch",
        2.3,
        (3, 13),
        "the size is that of torch for CPUs; if pip finds the one for CUDA first, that is some GB more for nothing: "
        "set PIP_EXTRA_INDEX_URL to the index of the CPU builds",
    ),
    # pins TensorFlow 2.19 and numpy 1.26 by itself, so it can share nothing
    "onnx": Packages(("onnx2tf==1.29.24",), "onnx2tf", 2.7, (3, 12)),
}


class State(Struct, frozen=True):
    """Whether an environment can be used: ``python`` is its interpreter where there is one, ``detail`` says why not,
    or where it comes from."""

    name: Environment
    ready: bool
    python: Path | None
    detail: str


def folder_of(name: Environment) -> Path:
    """Where ``edge-convert setup NAME`` puts it: below EDGE_CONVERT_HOME, else the user's data folder."""
    if home := os.environ.get("EDGE_CONVERT_HOME"):
        return Path(home).absolute() / name
    data = os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share"
    return Path(data) / "edge-convert" / name


def variable_of(name: Environment) -> str:
    """The variable that names another Python for it."""
    return f"EDGE_CONVERT_{name.upper()}"


def python_of(name: Environment) -> Path:
    """The interpreter to run workers with: EDGE_CONVERT_KERAS (…_TORCH, …_ONNX) where it is set, else the environment
    that setup made. Raises EnvironmentMissingError with the command that makes it."""
    if (chosen := _chosen(name)) is not None:
        return chosen
    folder = folder_of(name)
    if problem := _problem(name):
        packages = ENVIRONMENTS[name]
        raise EnvironmentMissingError(
            f"this needs the environment {name!r}, which {problem} ({folder}): make it once with "
            f"`edge-convert setup {name}` ({packages.disk_gb:g} GB), or name a Python that has "
            f"{', '.join(packages.pins)} in {variable_of(name)}"
        )
    return _python_in(folder)


def state_of(name: Environment) -> State:
    """What ``python_of`` would find, without an error. A Python that a variable names is asked for its packages."""
    try:
        chosen = _chosen(name)
    except ConfigError as error:
        return State(name, False, None, str(error))
    if chosen is None:
        folder, problem = folder_of(name), _problem(name)
        return State(name, not problem, None if problem else _python_in(folder), f"{problem or 'is in'} {folder}")
    probe = ENVIRONMENTS[name].probe
    code = f"import importlib.util, sys; sys.exit(importlib.util.find_spec({probe!r}) is None)"
    if subprocess.run([str(chosen), "-c", code], check=False, capture_output=True, env=_variables({})).returncode:
        return State(name, False, chosen, f"{variable_of(name)} names {chosen}, which has no module {probe!r}")
    return State(name, True, chosen, f"named by {variable_of(name)}")


def set_up(name: Environment, *, python: str | None = None, progress: Progress | None = None) -> Path:
    """Make the environment, or bring it up to date; returns its interpreter. pip's own settings (index, proxy) apply.
    ``python`` is what to make it with, by default this one, or another on the PATH that has the wheels.

    Raises ConfigError when there is too little room or the packages can't be installed; what was there before is then
    gone.
    """
    progress = progress or Silent()
    folder = folder_of(name)
    if not _problem(name):
        progress.say(f"{name}: {folder} is up to date")
        return _python_in(folder)
    chosen = _fitting_python(name, python)
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(
            f"{folder.parent} can't be made: {error.strerror}; name another folder by EDGE_CONVERT_HOME"
        ) from None
    with _alone(folder):
        _require_room(name, folder)
        shutil.rmtree(folder, ignore_errors=True)
        started = time.monotonic()
        complete = False
        try:
            _make(name, folder, chosen, progress)
            complete = True
        finally:
            if not complete:  # also on Ctrl-C: gigabytes that nobody can use
                shutil.rmtree(folder, ignore_errors=True)
    progress.say(f"{name}: ready in {folder}, {time.monotonic() - started:.0f} s, {gigabytes(folder):.1f} GB")
    return _python_in(folder)


def gigabytes(folder: Path) -> float:
    """What the files in it occupy."""
    return sum(path.lstat().st_blocks * 512 for path in folder.rglob("*") if not path.is_dir()) / 1e9


def _make(name: Environment, folder: Path, python: str, progress: Progress) -> None:
    packages, own = ENVIRONMENTS[name], _python_in(folder)
    if packages.note:
        progress.say(f"{name}: {packages.note}")
    with progress.step(f"{name}: making {folder}") as advance:
        _run([python, "-m", "venv", str(folder)], name, advance)
    with progress.step(f"{name}: installing {', '.join(packages.pins)} ({packages.disk_gb:g} GB)") as advance:
        install = [str(own), "-m", "pip", "install", "--no-input", "--disable-pip-version-check"]
        _run([*install, *packages.pins], name, advance)
    with progress.step(f"{name}: trying it") as advance:
        quiet = {"TF_USE_LEGACY_KERAS": "1", "TF_CPP_MIN_LOG_LEVEL": "3"}
        _run([str(own), "-c", f"import {packages.probe}"], name, advance, quiet)
    (folder / READY).write_text(_wanted(name))


def _chosen(name: Environment) -> Path | None:
    variable = variable_of(name)
    named = os.environ.get(variable)
    if not named:
        return None
    found = shutil.which(named)
    if found is None:
        raise ConfigError(f"{variable}={named}: not a program; name the Python of an environment with {name}")
    return Path(found).absolute()  # not resolved: a venv is known by the link's own place


def _problem(name: Environment) -> str:
    """Why what setup made can't be used; "" where it can."""
    folder = folder_of(name)
    try:
        made_from = (folder / READY).read_text()
    except OSError:
        return "is not there"
    if made_from != _wanted(name):
        return "is out of date"
    return "" if _python_in(folder).exists() else "has lost the Python that it was made with"


def _python_in(folder: Path) -> Path:
    return folder / "bin" / "python"


def _wanted(name: Environment) -> str:
    return "\n".join(ENVIRONMENTS[name].pins) + "\n"


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """One set-up of a folder at a time. The lock goes with the process."""
    with (folder.parent / f".{folder.name}.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ConfigError(f"{folder} is being made by another edge-convert setup: wait for it") from None
        yield


def _require_room(name: Environment, folder: Path) -> None:
    packages = ENVIRONMENTS[name]
    needed = packages.disk_gb * (1 + DOWNLOADS_SHARE)
    free = shutil.disk_usage(folder.parent).free / 1e9 + gigabytes(folder)  # what is there goes first
    if free < needed:
        raise ConfigError(
            f"{name!r} needs {needed:.1f} GB while it is made, {packages.disk_gb:g} GB after; {folder.parent} has "
            f"{free:.1f} GB free: make room, or name a folder on another disk by EDGE_CONVERT_HOME"
        )


def _fitting_python(name: Environment, python: str | None) -> str:
    newest = ENVIRONMENTS[name].python
    minors = range(newest[1], OLDEST_PYTHON[1] - 1, -1)
    on_path = [path for minor in minors if (path := shutil.which(f"python3.{minor}"))]
    found = None
    for candidate in [python] if python else [sys.executable, *on_path]:
        found = _version(candidate, named=python is not None)
        if found is not None and OLDEST_PYTHON <= found <= newest:
            return candidate
    said = f"{python} is {found[0]}.{found[1]}" if python and found else "there is none on the PATH"
    raise ConfigError(
        f"the packages of {name!r} have wheels for Python 3.{OLDEST_PYTHON[1]} to 3.{newest[1]}, {said}: install one, "
        "then name it with --python"
    )


def _version(python: str, *, named: bool) -> tuple[int, int] | None:
    code = "import sys; print(*sys.version_info[:2])"
    try:
        done = subprocess.run([python, "-c", code], capture_output=True, check=True, env=_variables({}))
        major, minor = map(int, done.stdout.split())
    except (OSError, subprocess.CalledProcessError, ValueError) as error:
        if named:
            raise ConfigError(f"--python {python}: not a Python that starts ({error})") from None
        return None
    return major, minor


def _run(command: list[str], name: str, advance: Advance, variables: Mapping[str, str] | None = None) -> None:
    """Raises ConfigError with the last lines that the command said."""
    last: deque[str] = deque(maxlen=_LAST_LINES)
    try:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            env=_variables(variables or {}),
        )
    except OSError as error:
        raise ConfigError(f"{command[0]} can't be started: {error.strerror}") from None
    try:
        for line in process.stdout or ():
            if line.strip():
                last.append(line.rstrip())
                advance(0, None, f"{name}: {line.strip()[:_TEXT_CHARS]}")
    finally:
        if process.poll() is None and sys.exc_info()[0] is not None:  # Ctrl-C
            process.kill()
        code = process.wait()
    if code:
        said = "\n".join(last)
        raise ConfigError(f"the environment {name!r} can't be made; {' '.join(command[:4])} … said:\n{said}")


def _variables(extra: Mapping[str, str]) -> dict[str, str]:
    kept = {key: value for key, value in os.environ.items() if key not in ("PYTHONPATH", "PYTHONHOME")}
    return {**kept, **extra}
