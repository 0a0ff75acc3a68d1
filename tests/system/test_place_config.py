"""The configuration that an installation and the demo get from the example: same meaning, absolute file names."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

EXAMPLE = Path(__file__).resolve().parents[2] / "examples/conveyor"

CONFIG = """\
# Mine.
[device]
id = "demo"

[mqtt]
port = 1883  # plain

[[camera]]
name = "belt"
source = "images:media/*.jpg"
[[camera]]
name = "front"
source = "v4l2:/dev/video0"

[[sensor]]
name = "machine"
source = "csv:media/sensors.csv"  # machine's

[model.conveyor]
path = "model/conveyor.tflite"
[model.conveyor.card]
labels = "labels.txt"
"""


def place(tmp_path: Path, text: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    (tmp_path / "agent.toml").write_text(text)
    command = [sys.executable, str(EXAMPLE / "place_config.py"), "agent.toml", "out.toml", *arguments]
    return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)


def test_file_names_become_absolute_and_nothing_else_changes(tmp_path: Path) -> None:
    assert place(tmp_path, CONFIG, "--files", "/opt/share").returncode == 0
    text = (tmp_path / "out.toml").read_text()
    config = msgspec.toml.decode(text)
    assert [camera["source"] for camera in config["camera"]] == ["images:/opt/share/media/*.jpg", "v4l2:/dev/video0"]
    assert config["sensor"][0]["source"] == "csv:/opt/share/media/sensors.csv"
    assert config["model"]["conveyor"] == {
        "path": "/opt/share/model/conveyor.tflite",
        "card": {"labels": "/opt/share/labels.txt"},
    }
    assert text.replace("/opt/share/", "") == CONFIG


@pytest.mark.parametrize(
    ("mqtt", "expected"),
    [
        ("[mqtt]\nport = 1883  # plain\n", {"port": 4711}),
        ('[mqtt]\nhost = "broker"\n', {"host": "broker", "port": 4711}),
        ("", {"port": 4711}),
    ],
)
def test_the_port_is_replaced_or_added(tmp_path: Path, mqtt: str, expected: dict[str, object]) -> None:
    assert place(tmp_path, CONFIG.replace("[mqtt]\nport = 1883  # plain\n", mqtt), "--port", "4711").returncode == 0
    assert msgspec.toml.decode((tmp_path / "out.toml").read_bytes())["mqtt"] == expected


def test_a_text_that_the_replacements_do_not_meet_is_refused(tmp_path: Path) -> None:
    done = place(tmp_path, CONFIG.replace('"model/conveyor.tflite"', "'model/conveyor.tflite'"))
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert not (tmp_path / "out.toml").exists()


def test_the_example_itself_can_be_placed(tmp_path: Path) -> None:
    done = place(tmp_path, (EXAMPLE / "agent.toml").read_text(), "--files", str(EXAMPLE))
    assert done.returncode == 0, done.stderr
    config = msgspec.toml.decode((tmp_path / "out.toml").read_bytes())
    assert all(Path(model["path"]).is_file() for model in config["model"].values())
