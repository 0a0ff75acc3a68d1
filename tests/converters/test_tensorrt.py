"""The folder for a Jetson: its scripts do what they say with a stand-in for trtexec, and find what is wrong."""

from __future__ import annotations

import ast
import io
import json
import os
import shutil
import stat
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest

from converters.__main__ import main
from converters.jetson.engine_check import check_files
from converters.jetson.onnx_golden import TOLERANCES, kept
from converters.jetson.package import HERE, SCRIPTS, check_folder, package_files, try_build, write_folder
from converters.progress import Silent
from edge_agent.errors import ConfigError, ModelError
from tests.converters import hybrid_rows
from tests.converters.torch_onnx_models import onnx_network
from tests.converters.trained_models import require

STANDIN = Path(__file__).with_name("standin_trtexec.py")
INPUTS = {
    "image": np.random.default_rng(0).random((6, 4, 4, 3), np.float32),
    "in:put": np.arange(12, dtype=np.float32).reshape(6, 2),
}
# classes 0, 0, 1, 1, 2, 2; the second of each with the wider margin, but the int8 file has another class in row 3
FLOAT = np.array([[5, 4, 0], [5, 1, 0], [0, 5, 4], [0, 9, 1], [0, 4, 5], [0, 1, 5]], np.float32)
INT8 = FLOAT + np.array([0, 0, 0], np.float32)
INT8[3] = (9, 0, 1)


def files(*, int8: bool = True) -> dict[str, bytes]:
    """A whole folder without any framework: what is in the ONNX files does not matter to the stand-in."""
    outputs = {"fp16": {"code": FLOAT}} | ({"int8": {"code": INT8}} if int8 else {})
    onnx = {"fp16": b"float"} | ({"int8": b"pairs"} if int8 else {})
    golden = check_files(kept(INPUTS, outputs, ["code"]))  # type: ignore[arg-type]
    return package_files("small", b"{}", onnx, golden, 18)  # type: ignore[arg-type]


class Bench:
    """A folder made of ``files``, and a PATH on which there are the stand-in, sh and a Python with numpy alone."""

    def __init__(self, folder: Path, content: Mapping[str, bytes], *, trtexec: bool = True) -> None:
        self.folder, self.log = folder / "engine files", folder / "log"
        write_folder(self.folder, content)
        self.path = folder / "bin"
        self.path.mkdir()
        for name in ("sh", "dirname", "mv", "rm", "tail", "grep"):
            (self.path / name).symlink_to(str(shutil.which(name)))
        write_program(self.path / "python3", f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
        if trtexec:
            write_standin(self.path / "trtexec", sys.executable)

    def build(self, *arguments: str, **settings: str) -> subprocess.CompletedProcess[str]:
        environment = {"PATH": str(self.path), "STANDIN_LOG": str(self.log), **settings}
        command = [str(self.path / "sh"), str(self.folder / "build_engine.sh"), *arguments]
        return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)

    def calls(self) -> list[dict[str, str]]:
        """The options of each call of trtexec, in order."""
        return [json.loads(line) for line in self.log.read_text().splitlines()]

    def engines(self) -> list[str]:
        return sorted(path.name for path in self.folder.glob("*.engine*"))


def write_program(path: Path, text: str) -> None:
    path.write_text(text)
    path.chmod(0o755)


def write_standin(path: Path, python: str | Path) -> None:
    write_program(path, f'#!/bin/sh\nexec "{python}" "{STANDIN}" "$@"\n')


def test_golden_samples_are_those_with_the_widest_margin_on_which_all_files_agree() -> None:
    made = check_files(kept(INPUTS, {"fp16": {"code": FLOAT}, "int8": {"code": INT8}}, ["code"]))
    with np.load(io.BytesIO(made["golden.npz"])) as golden:
        np.testing.assert_array_equal(golden["input/in:put"], INPUTS["in:put"][[1, 2, 5]])
        np.testing.assert_array_equal(golden["int8/code"], INT8[[1, 2, 5]])
    rules = json.loads(made["check.json"])["precisions"]
    assert rules["fp16"]["outputs"]["code"] == {"tolerance": pytest.approx(TOLERANCES["fp16"] * 5), "argmax": True}
    assert rules["int8"]["onnx"] == "model_qdq.onnx"
    assert made == check_files(kept(INPUTS, {"fp16": {"code": FLOAT}, "int8": {"code": INT8}}, ["code"]))


def test_an_int8_file_that_never_agrees_is_refused() -> None:
    with pytest.raises(ModelError, match="int8 does not fit this model"):
        kept(INPUTS, {"fp16": {"code": FLOAT}, "int8": {"code": -FLOAT}}, ["code"])


@pytest.mark.parametrize(
    ("arguments", "precision", "onnx"),
    [((), "int8", "model_qdq.onnx"), (("fp16",), "fp16", "model.onnx"), (("int8",), "int8", "model_qdq.onnx")],
)
def test_the_script_builds_checks_and_keeps_a_right_engine(
    arguments: tuple[str, ...], precision: str, onnx: str, tmp_path: Path
) -> None:
    bench = Bench(tmp_path, files())
    done = bench.build(*arguments)
    assert done.returncode == 0, done.stderr
    assert f"model_{precision}.engine is right" in done.stdout
    assert "Throughput: 1234.5 qps" in done.stdout
    assert "the same class on 3 of 3" in done.stdout
    first, *runs = bench.calls()
    wanted = {
        "onnx": onnx,
        "saveEngine": f"model_{precision}.engine.part",
        "fp16": "",
        "timingCacheFile": "timing.cache",
    }
    assert first == wanted | ({"int8": ""} if precision == "int8" else {})
    assert len(runs) == 3  # one for each sample
    assert "'in:put':" in runs[0]["loadInputs"]  # a name with a colon, in quotation marks
    assert bench.engines() == [f"model_{precision}.engine"]


def test_without_int8_the_script_builds_fp16_and_says_what_is_missing_for_int8(tmp_path: Path) -> None:
    bench = Bench(tmp_path, files(int8=False))
    assert bench.build().returncode == 0
    assert bench.engines() == ["model_fp16.engine"]
    done = bench.build("int8")
    assert done.returncode == 2
    assert "there is no model_qdq.onnx" in done.stderr
    assert bench.build("int4").returncode == 2


def test_a_wrong_engine_is_thrown_away_and_an_older_one_stays(tmp_path: Path) -> None:
    bench = Bench(tmp_path, files())
    (bench.folder / "model_fp16.engine").write_bytes(b"older")
    done = bench.build("fp16", STANDIN_OFF="0.3")
    assert done.returncode == 1
    assert "code: WRONG, off by 0.3 at most (0.1 allowed)" in done.stdout
    assert "thrown away" in done.stderr
    assert (bench.folder / "model_fp16.engine").read_bytes() == b"older"
    assert bench.engines() == ["model_fp16.engine"]
    assert bench.build("int8", STANDIN_OFF="0.3").returncode == 0  # int8 may be further off
    assert bench.build("int8", STANDIN_OFF="nan").returncode == 1


def test_a_name_that_trtexec_cannot_be_given_is_said(tmp_path: Path) -> None:
    golden = check_files(kept({"a,b": INPUTS["image"]}, {"fp16": {"code": FLOAT}}, ["code"]))
    done = Bench(tmp_path, package_files("small", b"{}", {"fp16": b"float"}, golden, 17)).build()
    assert done.returncode == 2
    assert "'a,b': trtexec can't be given" in done.stderr


def test_an_engine_that_cannot_be_built_leaves_its_log(tmp_path: Path) -> None:
    bench = Bench(tmp_path, files())
    done = bench.build(STANDIN_FAILS="Error Code 4: Internal Error")
    assert done.returncode == 1
    assert "Internal Error" in done.stderr
    assert "Internal Error" in (bench.folder / "build_int8.log").read_text()
    assert bench.engines() == []


@pytest.mark.parametrize(
    ("settings", "message"),
    [({"STANDIN_NEW": "1"}, "has no --fp16"), ({"TRTEXEC": "/nowhere/trtexec"}, "/nowhere/trtexec is no program")],
)
def test_a_trtexec_that_cannot_be_used_is_said_before_minutes_of_building(
    settings: dict[str, str], message: str, tmp_path: Path
) -> None:
    done = Bench(tmp_path, files()).build(**settings)
    assert done.returncode == 2
    assert message in done.stderr


def test_without_trtexec_and_without_numpy_the_script_says_what_to_install(tmp_path: Path) -> None:
    if any(Path(place).exists() for place in ("/usr/src/tensorrt", "/usr/local/tensorrt", "/opt/tensorrt")):
        pytest.skip("this machine has a trtexec")
    bench = Bench(tmp_path, files(), trtexec=False)
    done = bench.build()
    assert done.returncode == 2
    assert "apt-get install tensorrt" in done.stderr
    write_standin(bench.path / "trtexec", sys.executable)
    write_program(bench.path / "python3", "#!/bin/sh\nexit 1\n")
    done = bench.build()
    assert done.returncode == 2
    assert "python3-numpy" in done.stderr


def test_the_check_needs_no_newer_python_than_that_of_jetpack_5() -> None:
    ast.parse((HERE / "check_engine.py").read_text(), feature_version=(3, 8))
    assert "strict=" not in (HERE / "check_engine.py").read_text()  # Python 3.10


def test_the_script_is_portable_shell() -> None:
    shellcheck = shutil.which("shellcheck")
    if shellcheck is None:
        pytest.skip("shellcheck is not installed")
    done = subprocess.run([shellcheck, str(HERE / "build_engine.sh")], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
    assert (HERE / "build_engine.sh").read_text().startswith("#!/bin/sh\n")


def test_the_folder_appears_whole_and_never_over_something_else(tmp_path: Path) -> None:
    write_folder(tmp_path / "jetson", files())
    assert {path.name for path in (tmp_path / "jetson").iterdir()} == set(files())
    for script in SCRIPTS:
        assert (tmp_path / "jetson" / script).stat().st_mode & stat.S_IXUSR
    readme = (tmp_path / "jetson" / "README.txt").read_text()
    assert "Untested on hardware" in readme
    assert "opset 18 needs 10 or later" in readme
    for taken, message in (
        (tmp_path / "jetson", "not empty"),
        (tmp_path / "jetson" / "card.json", "a file; name a folder"),
        (tmp_path / "nowhere" / "jetson", "there is no folder"),
    ):
        with pytest.raises(ConfigError, match=message):
            check_folder(taken)
    (tmp_path / "empty").mkdir()
    write_folder(tmp_path / "empty", files())
    assert sorted(path.name for path in tmp_path.iterdir()) == ["empty", "jetson"]


def test_trtexec_is_tried_here_where_there_is_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bench = Bench(tmp_path, files())
    monkeypatch.setenv("STANDIN_LOG", str(bench.log))
    monkeypatch.setenv("PATH", f"{bench.path}{os.pathsep}{os.environ['PATH']}")
    tried = try_build(files(), "int8", work=tmp_path / "1", progress=Silent())
    assert tried is not None
    assert tried.ok
    assert "model_int8.engine is right" in tried.output
    monkeypatch.setenv("STANDIN_OFF", "9")
    tried = try_build(files(), "int8", work=tmp_path / "2", progress=Silent())
    assert tried is not None
    assert not tried.ok
    monkeypatch.setenv("PATH", str(tmp_path))
    assert try_build(files(), "int8", work=tmp_path / "3", progress=Silent()) is None


def test_the_command_wants_a_card_and_samples_for_int8(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["tensorrt", "model.onnx", "-o", str(tmp_path / "out"), "--precision", "int8"]
    assert main(arguments) == 2
    assert "add --card FILE" in capsys.readouterr().err
    card = tmp_path / "card.json"
    card.write_text(json.dumps(hybrid_rows.card()))
    assert main([*arguments, "--card", str(card)]) == 2
    assert "add --data DATASET" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.onnx
def test_the_whole_folder_is_right_by_onnx_runtime_and_a_changed_file_is_found(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    python, out = require("onnx"), tmp_path / "out"
    card = tmp_path / "card.json"
    card.write_text(json.dumps(hybrid_rows.card()))
    arguments = ["tensorrt", onnx_network("hybrid"), "-o", str(out), "--card", str(card), "--precision", "int8"]
    assert main([*arguments, "--data", hybrid_rows.ROWS, "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["trtexec"] is None
    assert any("untested on hardware" in note for note in answer["notes"])
    assert set(answer["files"]) == {path.name for path in out.iterdir()}

    def check(precision: str, provider: str = "CPUExecutionProvider") -> subprocess.CompletedProcess[str]:
        command = [str(python), str(out / "check_engine.py"), "--precision", precision, "--provider", provider]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    for precision in ("fp16", "int8"):
        assert check(precision).returncode == 0
    missing = check("int8", "NoSuchExecutionProvider")
    assert missing.returncode == 2
    assert "has no NoSuchExecutionProvider" in missing.stderr
    other = tmp_path / "other"
    assert main(["tensorrt", onnx_network("other_weights"), "-o", str(other), "--card", str(card)]) == 0
    shutil.copy(other / "model.onnx", out / "model.onnx")
    wrong = check("fp16")
    assert wrong.returncode == 1
    assert "WRONG" in wrong.stdout


@pytest.mark.onnx
def test_the_command_builds_and_checks_here_with_a_trtexec_that_computes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_standin(tmp_path / "trtexec", require("onnx"))
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("STANDIN_LOG", str(tmp_path / "log"))
    monkeypatch.setenv("STANDIN_ONNX", "1")
    card = tmp_path / "card.json"
    card.write_text(json.dumps(hybrid_rows.card("input.1", "/sensors/in:0", "output_0")))
    arguments = ["tensorrt", onnx_network("odd_names"), "--card", str(card), "--data", hybrid_rows.ROWS]
    for precision in ("fp16", "int8"):
        assert main([*arguments, "-o", str(tmp_path / precision), "--precision", precision]) == 0
        said = capsys.readouterr().out
        assert "trtexec here: output_0: right" in said
        assert not list((tmp_path / precision).glob("*.engine"))  # it would not fit another GPU
    monkeypatch.setenv("STANDIN_OFF", "0.5")
    assert main([*arguments, "-o", str(tmp_path / "wrong")]) == 1
    assert "nothing was written" in capsys.readouterr().out
    assert not (tmp_path / "wrong").exists()
