"""ONNX models in a repository: examined, signed under a name that says so, and a version means one file of any kind."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tuf.api.metadata import TargetFile

pytest.importorskip("onnxruntime", reason="ONNX Runtime is not installed: pip install '.[onnx]'")

from edge_agent.errors import UpdateError
from edge_agent.io import tuf_documents
from edge_agent.io.onnx_file import looks_like_onnx
from fleet.__main__ import main
from fleet.repository import read_repository
from tests.fleet.repository_world import NOW
from tests.simulators.onnx_models import brightness
from tests.simulators.pushed import MODEL


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    assert main(["init", str(tmp_path / "repo")]) == 0
    return tmp_path / "repo"


def put(folder: Path, content: bytes) -> str:
    path = folder / "new.onnx"
    path.write_bytes(content)
    return str(path)


def test_one_is_examined_and_signed_as_onnx(
    repository: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    capsys.readouterr()
    assert main(["publish", str(repository), put(tmp_path, brightness("2.0.0")), "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["target"] == "models/conveyor/2.0.0.onnx"
    assert answer["evidence"]["delegate"] == "onnx-cpu"
    targets = read_repository(repository, NOW).targets("models").targets
    assert tuf_documents.release(targets["models/conveyor/2.0.0.onnx"]).version == "2.0.0"
    assert looks_like_onnx(next((repository / "targets").rglob("*.onnx")).read_bytes())


def test_one_that_no_device_would_take_is_not_signed(
    repository: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    damaged = brightness("2.0.0").replace(b"ReduceMean", b"ReduceMeen")
    assert main(["publish", str(repository), put(tmp_path, damaged)]) == 2
    assert "the digest at its end does not match" in capsys.readouterr().err


def test_a_version_that_is_there_as_tflite_is_not_published_again_as_onnx(
    repository: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    named = ["--name", "conveyor", "--version", "2.0.0", "--unchecked"]
    assert main(["publish", str(repository), str(MODEL), *named]) == 0
    assert main(["publish", str(repository), put(tmp_path, brightness("2.0.0")), *named]) == 2
    assert "conveyor@2.0.0 was published with other bytes" in capsys.readouterr().err
    assert main(["publish", str(repository), str(MODEL), *named]) == 0  # the same again


def test_a_device_takes_no_target_of_another_name() -> None:
    fields = {"edge-agent": {"name": "a", "version": "1", "seq": 1}}
    for suffix, taken in {"onnx": True, "tflite": True, "exe": False, "onnx.tflite.x": False}.items():
        target = TargetFile(1, {"sha256": "0" * 64}, f"models/a/1.{suffix}", {"custom": fields})
        if taken:
            assert tuf_documents.release(target).target.endswith(suffix)
        else:
            with pytest.raises(UpdateError, match=r"is not models/NAME/VERSION\.tflite or \.onnx"):
                tuf_documents.release(target)
