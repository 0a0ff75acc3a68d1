"""Google's edgetpu_compiler: found, run on a bare model, its log read. It is in no package registry."""

from __future__ import annotations

import re
import shutil
import subprocess
import tempfile
from pathlib import Path

from msgspec import Struct

from converters.errors import WorkerFailedError
from converters.progress import Progress, Silent
from edge_agent.errors import ConfigError

PROGRAM = "edgetpu_compiler"
WHERE = "it is distributed by Google as coral's edgetpu_compiler package for Debian on x86-64"
COMPILE_S = 600.0  # the compiler gives up by itself after 180 s, unless told otherwise
_LAST_LINES = 8
_VERSION = re.compile(r"Edge TPU Compiler version (\S+)")
_NUMBERS = {
    "taken": re.compile(r"Number of operations that will run on Edge TPU: (\d+)"),
    "left": re.compile(r"Number of operations that will run on CPU: (\d+)"),
    "total": re.compile(r"Total number of operations: (\d+)"),
    "subgraphs": re.compile(r"Number of Edge TPU subgraphs: (\d+)"),
}
_OPERATOR = re.compile(r"^(\S+)\s+(\d+)\s+(\S.*?)\s*$", re.MULTILINE)
_MAPPED = "Mapped to Edge TPU"


class MappedOps(Struct, frozen=True):
    """A row of the compiler's table. ``status`` in its own words."""

    name: str
    count: int
    status: str


class CompilerLog(Struct, frozen=True):
    """What the compiler said: ops on the Edge TPU and on the CPU."""

    version: str
    taken: int
    left: int
    operators: tuple[MappedOps, ...]


class Compiled(Struct, frozen=True):
    content: bytes
    log: CompilerLog


def find_compiler(named: str | None = None) -> Path | None:
    """The named program, else edgetpu_compiler on the PATH; None where there is none. Raises ConfigError for a named
    one that is no program."""
    found = shutil.which(named or PROGRAM)
    if named and found is None:
        raise ConfigError(f"--compiler {named}: not a program; {WHERE}")
    return Path(found).absolute() if found else None


def compile_model(model: bytes, compiler: Path, *, progress: Progress | None = None) -> Compiled:
    """Compile a bare .tflite. Raises WorkerFailedError with the compiler's last words."""
    with tempfile.TemporaryDirectory(prefix="edgetpu-") as folder:
        source = Path(folder) / "model.tflite"
        source.write_bytes(model)
        with (progress or Silent()).step(f"compiling with {compiler.name}"):
            said = _run([str(compiler), "-s", "-o", folder, str(source)], folder)
        result = Path(folder) / "model_edgetpu.tflite"
        if not result.is_file():
            raise WorkerFailedError(f"{compiler} wrote no model; it said:\n{_last_words(said)}")
        return Compiled(result.read_bytes(), parse_log(said))


def parse_log(text: str) -> CompilerLog:
    """The counts in what the compiler prints with -s. Where all ops are mapped it prints no count of them."""
    version = _VERSION.search(text)
    numbers = {name: int(found[1]) for name, pattern in _NUMBERS.items() if (found := pattern.search(text))}
    operators = tuple(MappedOps(name, int(count), status) for name, count, status in _OPERATOR.findall(_table(text)))
    by_table = sum(row.count for row in operators if row.status.startswith(_MAPPED))
    total = numbers.get("total", sum(row.count for row in operators))
    all_mapped = total if numbers.get("subgraphs") else 0
    taken = numbers.get("taken", by_table or all_mapped)
    return CompilerLog(version[1] if version else "", taken, numbers.get("left", total - taken), operators)


def _run(command: list[str], folder: str) -> str:
    try:
        done = subprocess.run(
            command,
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=COMPILE_S,
            check=False,
            text=True,
            errors="replace",
        )
    except OSError as error:
        raise ConfigError(f"{command[0]} can't be started: {error.strerror or error}") from None
    except subprocess.TimeoutExpired:
        raise WorkerFailedError(f"{command[0]} did not end within {COMPILE_S:g} s") from None
    if done.returncode:
        raise WorkerFailedError(f"{command[0]} ended with exit code {done.returncode}:\n{_last_words(done.stdout)}")
    return done.stdout


def _table(text: str) -> str:
    """What follows the table's head."""
    _, head, rows = text.partition("Operator ")
    return rows.partition("\n")[2] if head else ""


def _last_words(text: str) -> str:
    return "\n".join(f"    {line}" for line in text.strip().splitlines()[-_LAST_LINES:])
