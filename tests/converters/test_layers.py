"""What the converters may import, read from the source: of the device its values, its arithmetic and its interpreter,
never its daemon; in a worker nothing that its environment lacks."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.test_architecture import LINES_MOST, covers

ROOT = Path(__file__).resolve().parents[2]
_DEVICE = """
records monitoring errors ports limits core command_line config.convert config.units config.profile io.runtimes
io.model_file io.onnx_file io.golden_file io.tflite_metadata io.image_file io.profiles io.board stages.engine
"""
_FRAMEWORKS = """
keras tensorflow tf_keras tensorflow_model_optimization torch litert_torch onnx onnx2tf onnxruntime onnxscript
ai_edge_litert google h5py numpy
"""
DEVICE = frozenset(f"edge_agent.{name}" for name in _DEVICE.split())
FRAMEWORKS = frozenset(_FRAMEWORKS.split())
MODULES = sorted((ROOT / "converters").rglob("*.py"))


def imported(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            # `from edge_agent.io import mqtt` imports a module, `from edge_agent.records import Frame` a name
            whole = [f"{node.module}.{alias.name}" for alias in node.names]
            yield from (name if (ROOT / f"{name.replace('.', '/')}.py").exists() else node.module for name in whole)


def wrong(path: Path) -> list[str]:
    worker = path.parent.name == "workers"
    found = []
    for name in imported(path):
        top = name.partition(".")[0]
        if top == "edge_agent" and name != "edge_agent" and not covers(DEVICE, name):
            found.append(f"imports {name}: not for the workstation")
        if worker and not (
            top in sys.stdlib_module_names or top in FRAMEWORKS or covers(frozenset({"converters.workers"}), name)
        ):
            found.append(f"imports {name}: a worker's environment has no such module")
    return found


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_module_of_the_converters_imports_only_what_it_may(path: Path) -> None:
    assert wrong(path) == []
    assert path.read_text().count("\n") < LINES_MOST


@pytest.mark.parametrize("path", sorted((ROOT / "edge_agent").rglob("*.py")), ids=lambda path: path.stem)
def test_the_device_never_imports_the_workstation(path: Path) -> None:
    assert not [name for name in imported(path) if name.partition(".")[0] in ("converters", "fleet", "benchmarks")]


@pytest.mark.parametrize(
    ("folder", "source"),
    [
        ("converters", "from edge_agent.agent import run"),
        ("converters", "from edge_agent.io import mqtt"),
        ("converters", "from edge_agent.stages.ring import Ring"),
        ("workers", "import msgspec"),
        ("workers", "from edge_agent.records import Array"),
        ("workers", "from converters.records import Kind"),
    ],
)
def test_a_planted_arrow_is_found(tmp_path: Path, folder: str, source: str) -> None:
    (tmp_path / folder).mkdir()
    path = tmp_path / folder / "planted.py"
    path.write_text(source)
    assert len(wrong(path)) == 1
