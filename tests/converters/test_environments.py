"""Environments: found, made, out of date, interrupted. What is made here is real, and holds one small package."""

from __future__ import annotations

import base64
import fcntl
import hashlib
import json
import sys
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest

from converters import environments
from converters.__main__ import main
from converters.environments import ENVIRONMENTS, READY, Packages, folder_of, python_of, set_up, state_of
from converters.errors import EnvironmentMissingError
from converters.progress import Advance
from converters.records import Environment
from edge_agent.errors import ConfigError

PYTHON = sys.version_info[:2]
VARIABLES = [f"EDGE_CONVERT_{name.upper()}" for name in ENVIRONMENTS]


class Recorder:
    """A Progress that keeps what is said. ``interrupt_at``: the step at whose first line Ctrl-C is pressed."""

    def __init__(self, interrupt_at: str = "") -> None:
        self.said: list[str] = []
        self._interrupt_at = interrupt_at

    @contextmanager
    def step(self, text: str, total: int | None = None) -> Iterator[Advance]:
        self.said.append(text)

        def advance(done: int, total: int | None = None, line: str | None = None) -> None:
            if self._interrupt_at and self._interrupt_at in text:
                raise KeyboardInterrupt

        yield advance

    def say(self, text: str) -> None:
        self.said.append(text)


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty EDGE_CONVERT_HOME, nothing named by variables."""
    for variable in VARIABLES:
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("EDGE_CONVERT_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    return tmp_path / "home"


@pytest.fixture
def small(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Packages:
    """The environment keras as one wheel of a few hundred bytes."""
    packages = Packages((str(wheel(tmp_path, "tiny_framework")),), "tiny_framework", 0.001, (3, 99))
    use(monkeypatch, {"keras": packages})
    return packages


def use(monkeypatch: pytest.MonkeyPatch, packages: Mapping[Environment, Packages]) -> None:
    monkeypatch.setattr(environments, "ENVIRONMENTS", {**ENVIRONMENTS, **packages})


def wheel(folder: Path, name: str, code: str = "ANSWER = 42\n") -> Path:
    path = folder / f"{name}-1.0-py3-none-any.whl"
    info = f"{name}-1.0.dist-info"
    files = {
        f"{name}.py": code,
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    record = "".join(f"{file},sha256={_digest(text)},{len(text)}\n" for file, text in files.items())
    with zipfile.ZipFile(path, "w") as archive:
        for file, text in {**files, f"{info}/RECORD": f"{record}{info}/RECORD,,\n"}.items():
            archive.writestr(file, text)
    return path


def _digest(text: str) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b"=").decode()


def answer_of(capsys: pytest.CaptureFixture[str]) -> dict[str, object]:
    answer: dict[str, object] = json.loads(capsys.readouterr().out)
    return answer


# -- finding one


@pytest.mark.parametrize("name", ["keras", "torch", "onnx"])
def test_a_missing_environment_gives_the_command_the_size_and_the_pins(home: Path, name: Environment) -> None:
    with pytest.raises(EnvironmentMissingError) as caught:
        python_of(name)
    said = str(caught.value)
    assert f"edge-convert setup {name}" in said
    assert f"{ENVIRONMENTS[name].disk_gb:g} GB" in said
    assert all(pin in said for pin in ENVIRONMENTS[name].pins)
    assert str(home / name) in said
    assert caught.value.exit_code == 2


def test_a_python_named_by_a_variable_is_used_as_it_is(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGE_CONVERT_TORCH", sys.executable)
    assert python_of("torch") == Path(sys.executable).absolute()
    monkeypatch.setenv("EDGE_CONVERT_TORCH", str(home / "python"))
    with pytest.raises(ConfigError, match=r"EDGE_CONVERT_TORCH=.*: not a program"):
        python_of("torch")


def test_a_named_python_without_the_packages_is_not_ready(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    use(monkeypatch, {"torch": Packages((), "no_such_framework", 1, (3, 13))})
    monkeypatch.setenv("EDGE_CONVERT_TORCH", sys.executable)
    state = state_of("torch")
    assert not state.ready
    assert "has no module 'no_such_framework'" in state.detail


def test_an_environment_of_other_pins_is_out_of_date(home: Path) -> None:
    (home / "keras" / "bin").mkdir(parents=True)
    (home / "keras" / READY).write_text("tensorflow==1.0\n")
    with pytest.raises(EnvironmentMissingError, match="which is out of date"):
        python_of("keras")


def test_the_users_data_folder_is_where_environments_go_by_default(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("EDGE_CONVERT_HOME", raising=False)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    assert folder_of("onnx") == tmp_path / "edge-convert" / "onnx"


# -- making one


def test_an_environment_is_made_once_then_found(home: Path, small: Packages) -> None:
    recorder = Recorder()
    python = set_up("keras", progress=recorder)
    assert python == home / "keras" / "bin" / "python"
    assert python_of("keras") == python
    assert state_of("keras").ready
    assert any(" s, " in said and " GB" in said for said in recorder.said)
    again = Recorder()
    assert set_up("keras", progress=again) == python
    assert again.said == [f"keras: {home / 'keras'} is up to date"]
    python.unlink()
    with pytest.raises(EnvironmentMissingError, match="has lost the Python"):
        python_of("keras")


def test_packages_that_cannot_be_installed_end_with_what_pip_said_and_nothing_left(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    use(monkeypatch, {"keras": Packages(("no-such-framework==1.0",), "no_such_framework", 0.001, (3, 99))})
    with pytest.raises(ConfigError, match=r"No matching distribution found for no-such-framework==1\.0"):
        set_up("keras")
    assert not (home / "keras").exists()
    with pytest.raises(EnvironmentMissingError):
        python_of("keras")


def test_packages_that_do_not_import_are_not_taken_for_ready(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = wheel(tmp_path, "broken_framework", "raise RuntimeError('made for another processor')\n")
    use(monkeypatch, {"keras": Packages((str(broken),), "broken_framework", 0.001, (3, 99))})
    with pytest.raises(ConfigError, match="made for another processor"):
        set_up("keras")
    assert not (home / "keras").exists()


@pytest.mark.parametrize("step", ["installing", "trying"])
def test_an_interrupted_set_up_is_not_taken_for_ready(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    chatty = wheel(tmp_path, "chatty_framework", "print('a line')\n")
    use(monkeypatch, {"keras": Packages((str(chatty),), "chatty_framework", 0.001, (3, 99))})
    with pytest.raises(KeyboardInterrupt):
        set_up("keras", progress=Recorder(interrupt_at=step))
    with pytest.raises(EnvironmentMissingError):
        python_of("keras")
    assert not (home / "keras").exists()


def test_a_set_up_that_was_killed_is_begun_again(home: Path, small: Packages) -> None:
    (home / "keras" / "bin").mkdir(parents=True)
    (home / "keras" / "bin" / "python").write_text("half a file")
    with pytest.raises(EnvironmentMissingError):
        python_of("keras")
    assert set_up("keras") == python_of("keras")


def test_a_full_disk_is_said_with_figures_before_anything_is_made(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    use(monkeypatch, {"keras": Packages(("x",), "x", 1e6, (3, 99))})
    with pytest.raises(
        ConfigError, match=r"needs 1600000\.0 GB while it is made, 1e\+06 GB after; .* has \d+\.\d GB free"
    ):
        set_up("keras")
    assert not (home / "keras").exists()


def test_two_set_ups_of_one_environment_do_not_meet(home: Path, small: Packages) -> None:
    home.mkdir()
    with (home / ".keras.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(ConfigError, match="is being made by another"):
            set_up("keras")


def test_a_python_without_wheels_is_refused_by_its_version(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    use(monkeypatch, {"keras": Packages(("x",), "x", 0.001, (3, 1))})
    with pytest.raises(ConfigError, match=rf"{sys.executable} is {PYTHON[0]}\.{PYTHON[1]}: .* --python"):
        set_up("keras", python=sys.executable)
    with pytest.raises(ConfigError, match=r"there is none on the PATH: .* --python"):
        set_up("keras")
    with pytest.raises(ConfigError, match="not a Python that starts"):
        set_up("keras", python=str(tmp_path / "python"))


# -- the command


def test_check_says_what_there_is_and_makes_nothing(
    home: Path, small: Packages, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert main(["setup", "--check", "--json"]) == 1
    answer = answer_of(capsys)
    assert answer["schema"] == "edge-agent/convert-setup/1"
    assert [(state["name"], state["ready"]) for state in answer["environments"]] == [  # type: ignore[attr-defined]
        ("keras", False),
        ("torch", False),
        ("onnx", False),
    ]
    assert not home.exists()


def test_set_up_from_the_command_line_gives_time_and_disk(
    home: Path, small: Packages, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["setup", "keras", "--json"]) == 0
    (made,) = answer_of(capsys)["environments"]  # type: ignore[misc]
    assert made["ready"]
    assert made["python"] == str(home / "keras" / "bin" / "python")
    assert made["disk_gb"] > 0
    assert made["seconds"] > 0
    assert main(["setup", "keras", "--check"]) == 0
    assert capsys.readouterr().out.startswith("keras  ready")


@pytest.mark.parametrize("words", [[], ["caffe"], ["--check", "caffe"]])
def test_a_name_that_there_is_not_is_an_error_of_usage(
    home: Path, capsys: pytest.CaptureFixture[str], words: list[str]
) -> None:
    assert main(["setup", *words]) == 2
    assert "keras, torch, onnx" in capsys.readouterr().err
