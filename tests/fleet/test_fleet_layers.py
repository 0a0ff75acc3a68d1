"""What the fleet's side may import, read from the source: of the device its values, its arithmetic and its MQTT client,
never its daemon."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.converters.test_layers import ROOT, imported
from tests.test_architecture import LINES_MOST, covers

_DEVICE = """
records outgoing rollouts monitoring errors ports limits core command_line config.schema config.units config.convert
config.checks_mqtt io.mqtt io.mqtt_client io.secrets io.model_file io.tuf_client io.tuf_documents
io.fetch io.clock io.profiles config.words children
"""
DEVICE = frozenset(f"edge_agent.{name}" for name in _DEVICE.split())
LIBRARIES = frozenset({"msgspec", "paho", "fleet", "tuf", "securesystemslib", "cryptography", "rich"})
# no file, socket, thread or clock
PURE = ("records", "intake", "gaps", "gaps_text", "campaign", "fleet_view", "fleet_text", "drift_view", "drift_text")
IMPURE = frozenset({"sqlite3", "os", "socket", "threading", "time", "random", "pathlib", "paho", "signal"})
MODULES = sorted((ROOT / "fleet").rglob("*.py"))


def wrong(path: Path) -> list[str]:
    found = []
    for name in imported(path):
        top = name.partition(".")[0]
        if top == "edge_agent":
            if not covers(DEVICE, name):
                found.append(f"imports {name}: not for the fleet's side")
        elif top not in sys.stdlib_module_names | LIBRARIES:
            found.append(f"imports {name}: no library of this side")
        if path.stem in PURE and path.parent.name == "fleet" and top in IMPURE:
            found.append(f"imports {name}: pure, the caller passes it in")
    return found


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_module_of_the_fleet_imports_only_what_it_may(path: Path) -> None:
    assert wrong(path) == []
    assert path.read_text().count("\n") < LINES_MOST


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("collector", "from edge_agent.agent import run"),
        ("collector", "from edge_agent.stages.publisher import Publisher"),
        ("collector", "from edge_agent.io import board"),
        ("collector", "import converters"),
        ("collector", "import pandas"),
        ("intake", "import time"),
        ("gaps", "from pathlib import Path"),
    ],
)
def test_a_planted_arrow_is_found(tmp_path: Path, module: str, source: str) -> None:
    folder = tmp_path / "fleet"
    folder.mkdir()
    path = folder / f"{module}.py"
    path.write_text(source)
    assert len(wrong(path)) == 1
