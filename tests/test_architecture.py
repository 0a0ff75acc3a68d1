"""Which module may import which: read from the source, so that an arrow that points the wrong way fails a test.

``device_profiles`` and ``examples`` are exempt. A module that belongs to no layer fails too: give it one in LAYERS.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = "edge_agent"
LINES_MOST = 350

_VALUES = ("records", "outgoing", "rollouts", "monitoring", "errors", "limits", "config.units", "config.schema")
VALUES = frozenset(_VALUES)
# The composition root: the only place, beside the commands, where io meets core.
_AGENT = ("agent", "assembly", "children", "control", "loading", "parts", "reports", "serving", "updating", "watching")
AGENT = frozenset(_AGENT)


@dataclass(frozen=True)
class Layer:
    """``own``: which modules belong to it, ``may``: what of ours they may import. A name covers all below it."""

    own: frozenset[str]
    may: frozenset[str]


# The first layer that owns a module counts. "" is the package itself (its __init__), which everything executes.
LAYERS = {
    "package": Layer(frozenset({"", "config.__init__"}), frozenset()),
    "schema": Layer(frozenset({"config.schema"}), frozenset({"config.units"})),
    "values": Layer(VALUES, frozenset({"records"})),
    "ports": Layer(frozenset({"ports"}), frozenset({"records", "outgoing", "monitoring", "errors"})),
    "config": Layer(frozenset({"config"}), VALUES | {"config"}),
    "core": Layer(frozenset({"core"}), VALUES | {"core"}),
    # A profile is a file beside the package that io reads; what it may say is configuration.
    "io": Layer(frozenset({"io"}), VALUES | {"ports", "io", "config.profile"}),
    "stages": Layer(frozenset({"stages"}), VALUES | {"ports", "config", "core", "stages"}),
    "agent": Layer(AGENT, VALUES | AGENT | {"ports", "config", "core", "io", "stages"}),
    # Finds and starts a subcommand; the workstation's programs use it too.
    "command line": Layer(frozenset({"command_line"}), frozenset({"", "errors"})),
    "commands": Layer(
        frozenset({"commands", "__main__"}),
        VALUES | AGENT | {"command_line", "ports", "config", "core", "io", "stages", "commands"},
    ),
}

# Pure code: values in, values out. No clock, file, socket, thread, environment or chance is among these.
_PURE = (
    "__future__ abc base64 binascii bisect collections copy dataclasses datetime difflib enum fractions functools "
    "hashlib heapq itertools json math operator re statistics string struct types typing unicodedata zlib"
)
CORE_STDLIB = frozenset(_PURE.split())
CORE_LIBRARIES = frozenset({"numpy", "msgspec"})
CORE_EXTRA = {"core.preprocess": frozenset({"cv2"})}
# What the allowed modules could still reach: the clock through datetime, chance through numpy, files by name.
IMPURE_ATTRIBUTES = frozenset({"now", "utcnow", "today", "random", "fromfile", "tofile", "memmap", "load", "imread"})
IMPURE_BUILTINS = frozenset({"open", "input", "print", "exec", "eval", "__import__"})


def modules() -> dict[str, Path]:
    """Every module of the package, named without the package's own name: "core.wire", "io.__init__", ""."""
    found = {}
    for path in sorted((ROOT / PACKAGE).rglob("*.py")):
        parts = path.relative_to(ROOT / PACKAGE).with_suffix("").parts
        found["" if parts == ("__init__",) else ".".join(parts)] = path
    return found


def covers(names: frozenset[str], module: str) -> bool:
    return any(module == name or (name and module.startswith(name + ".")) for name in names)


def layer_of(module: str) -> str | None:
    return next((name for name, layer in LAYERS.items() if covers(layer.own, module)), None)


def imports(module: str, tree: ast.AST, known: frozenset[str]) -> Iterator[tuple[int, str]]:
    """(line, absolute name) of every import, wherever it stands, also inside functions."""
    package = [PACKAGE, *module.split(".")[:-1]]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node.lineno, alias.name
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            source = ".".join([*base, *([node.module] if node.module else [])])
            for alias in node.names:
                whole = f"{source}.{alias.name}"
                yield node.lineno, whole if own_name(whole) in known else source


def own_name(absolute: str) -> str | None:
    """ "edge_agent.core.wire" -> "core.wire"; None for a module that is not ours."""
    if absolute == PACKAGE:
        return ""
    return absolute[len(PACKAGE) + 1 :] if absolute.startswith(PACKAGE + ".") else None


def violations(module: str, source: str, known: frozenset[str]) -> list[str]:
    """What this module may not do, one line each. ``known``: names of all modules and packages of ours."""
    layer = layer_of(module)
    if layer is None:
        return [f"{module} belongs to no layer: add it to LAYERS"]
    tree = ast.parse(source)
    found = []
    for line, name in dict.fromkeys(imports(module, tree, known)):
        own = own_name(name)
        if own is None:
            if layer == "core" and not pure(module, name):
                found.append(f"{module}:{line} imports {name}: core takes values and returns values")
        elif own and not covers(LAYERS[layer].may, own):
            found.append(f"{module}:{line} imports {name}: {layer} may import {', '.join(sorted(LAYERS[layer].may))}")
    if layer == "core":
        found += impurities(module, tree)
    if (lines := source.count("\n")) >= LINES_MOST:
        found.append(f"{module} has {lines} lines: under {LINES_MOST}, or it holds two things")
    return found


def pure(module: str, name: str) -> bool:
    allowed = CORE_STDLIB | CORE_LIBRARIES | CORE_EXTRA.get(module, frozenset())
    return name.partition(".")[0] in allowed and not name.startswith("numpy.random")


def impurities(module: str, tree: ast.AST) -> list[str]:
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and node.attr in IMPURE_ATTRIBUTES and foreign(node.value):
            found.append(f"{module}:{node.lineno} uses .{node.attr}: the caller passes time, chance and bytes in")
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in IMPURE_BUILTINS:
            found.append(f"{module}:{node.lineno} calls {node.func.id}(): core does no input or output")
    return found


def foreign(node: ast.expr) -> bool:
    """Whether the attribute is looked up on a library (np.load), not on a value of ours (self.now)."""
    names = {"datetime", "date", "np", "numpy", "cv2", "dt"}
    return (isinstance(node, ast.Name) and node.id in names) or (isinstance(node, ast.Attribute) and node.attr in names)


MODULES = modules()
KNOWN = frozenset(MODULES) | {name.removesuffix(".__init__") for name in MODULES}


@pytest.mark.parametrize("module", MODULES)
def test_a_module_imports_only_what_its_layer_may(module: str) -> None:
    assert violations(module, MODULES[module].read_text(), KNOWN) == []


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("core.wire", "import socket"),
        ("core.wire", "import time"),
        ("core.wire", "from os import environ"),
        ("core.wire", "import cv2"),
        ("core.wire", "from edge_agent.io import mqtt"),
        ("core.wire", "from edge_agent.io.mqtt import Connection"),
        ("core.wire", "from ..io import mqtt"),
        ("core.wire", "from edge_agent import ports"),
        ("core.wire", "from edge_agent.config import load"),
        ("core.wire", "from edge_agent.stages import ring"),
        ("core.wire", "def late():\n    import threading"),
        ("core.wire", "from datetime import datetime\ndatetime.now()"),
        ("core.wire", "import numpy as np\nnp.random.default_rng()"),
        ("core.wire", "from numpy.random import default_rng"),
        ("core.wire", "open('file')"),
        ("core.drift.counts", "from pathlib import Path"),
        ("io.mqtt", "from edge_agent.core import wire"),
        ("io.cameras.v4l2", "import edge_agent.stages.ring"),
        ("io.mqtt", "from edge_agent.config import load"),
        ("stages.ring", "from edge_agent.io import mqtt"),
        ("stages.ring", "from edge_agent import agent"),
        ("agent", "from edge_agent.commands import run"),
        ("config.load", "from edge_agent.io import board"),
        ("config.load", "from edge_agent.core import model_card"),
        ("config.schema", "from edge_agent.records import Frame"),
        ("config.schema", "from edge_agent.config.load import load"),
        ("records", "from edge_agent.errors import ConfigError"),
        ("ports", "from edge_agent.limits import RING_SLOTS"),
        ("helpers", ""),
        ("core.wire", "x = 1\n" * LINES_MOST),
    ],
)
def test_a_planted_violation_is_found(module: str, source: str) -> None:
    known = KNOWN | {"agent", "io.mqtt", "config.load", "core.model_card", "stages.ring", "commands.run", "io.board"}
    assert len(violations(module, source, known)) == 1


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("core.wire", "from collections.abc import Mapping\nimport numpy as np\nfrom edge_agent.records import Frame"),
        ("core.wire", "from datetime import datetime, timezone\ndatetime.fromtimestamp(0, timezone.utc)"),
        ("core.preprocess", "import cv2"),
        ("core.wire", "class Clockless:\n    def step(self):\n        return self.now"),
        ("io.mqtt", "import socket, threading, time\nfrom edge_agent.ports import MessageHandler"),
        (
            "stages.ring",
            "import threading\nfrom edge_agent.core import align\nfrom edge_agent.config.load import Loaded",
        ),
        ("config.schema", "from edge_agent.config.units import Rate"),
        ("agent", "from edge_agent.core import align\nfrom edge_agent.io import mqtt"),
        ("commands.run", "from edge_agent.agent import run"),
        ("__main__", "from edge_agent import __version__\nfrom edge_agent.commands import run"),
    ],
)
def test_an_arrow_that_points_the_right_way_is_allowed(module: str, source: str) -> None:
    known = KNOWN | {"agent", "io.mqtt", "core.align", "stages.ring", "commands.run"}
    assert violations(module, source, known) == []
