"""The wheel holds what the programs need outside the checkout. To build it, pip fetches setuptools."""

from __future__ import annotations

import configparser
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "packaging"))

from build_deb.environment import build_wheel  # noqa: E402

DATA = {"device_profiles": "*.toml", "converters/jetson": "*.sh", "converters/report": "*.j2"}


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    with zipfile.ZipFile(build_wheel(folder)) as wheel:
        wheel.extractall(folder / "unpacked")
    return folder / "unpacked"


def test_every_module_and_file_of_data_is_in_the_wheel(unpacked: Path) -> None:
    wanted = [path for name in ("edge_agent", "converters", "fleet") for path in (ROOT / name).rglob("*.py")]
    data = [path for folder, pattern in DATA.items() for path in (ROOT / folder).glob(pattern)]
    assert data
    assert [path for path in wanted + data if not (unpacked / path.relative_to(ROOT)).is_file()] == []
    assert not (unpacked / "tests").exists()


def test_every_command_starts_from_the_wheel_alone(unpacked: Path, tmp_path: Path) -> None:
    entries = configparser.ConfigParser()
    entries.read(next(unpacked.glob("*.dist-info/entry_points.txt")))
    assert set(entries["console_scripts"]) == {"edge-agent", "edge-convert", "edge-fleet"}
    for command, target in entries["console_scripts"].items():
        module = target.partition(":")[0]
        # Found first: the checkout may be installed in this environment too.
        code = f"import sys; sys.path.insert(0, {str(unpacked)!r}); from {module} import main; import {module} as it; "
        code += "print(it.__file__); sys.exit(main(['--version']))"
        done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
        place, version = done.stdout.splitlines()
        assert Path(place).is_relative_to(unpacked)
        assert version.startswith(f"{command} ")


def test_profiles_are_read_from_the_wheel(unpacked: Path, tmp_path: Path) -> None:
    code = f"import sys; sys.path.insert(0, {str(unpacked)!r}); from edge_agent.io.profiles import profile_names; "
    done = subprocess.run(
        [sys.executable, "-c", code + "print(*profile_names())"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    assert set(done.stdout.split()) == {path.stem for path in (ROOT / "device_profiles").glob("*.toml")}
