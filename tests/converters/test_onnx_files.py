"""A finished .onnx in the hands of the commands: shown, its golden samples run and chosen anew, files put in."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("onnxruntime", reason="ONNX Runtime is not installed: pip install '.[onnx]'")

from converters.__main__ import main
from converters.jetson.onnx_golden import BYTES_MOST, kept
from edge_agent.io.golden_file import read_golden
from edge_agent.io.model_file import read_model
from edge_agent.monitoring import REFERENCE_MEMBER
from tests.simulators.onnx_models import CLASSES, FEATURES, SIDE, hybrid, whole_hybrid


@pytest.fixture
def model(tmp_path: Path) -> Path:
    path = tmp_path / "hybrid.onnx"
    path.write_bytes(whole_hybrid())
    return path


@pytest.fixture
def rows(tmp_path: Path) -> str:
    rng = np.random.default_rng(4)
    readings = {name: rng.normal(1, 2, 60).astype(np.float32) for name in FEATURES}
    labels = np.array(CLASSES)[rng.integers(0, 4, 60)]
    path = tmp_path / "rows.npz"
    np.savez(path, image=rng.integers(0, 256, (60, SIDE, SIDE, 3), np.uint8), label=labels, **readings)
    return str(path)


def answer(capsys: pytest.CaptureFixture[str], *arguments: object) -> dict:
    assert main([str(argument) for argument in arguments] + ["--json"]) == 0
    found: dict = json.loads(capsys.readouterr().out)
    return found


def test_inspect_shows_tensors_operators_and_members(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = answer(capsys, "inspect", model)
    assert found["schema"] == "edge-agent/convert-inspect-onnx/1"
    assert (found["opset"], found["quantised"], found["golden"]) == (17, False, True)
    assert found["operations"] == {
        "Conv": 2, "Relu": 3, "Gemm": 2, "Transpose": 1, "GlobalAveragePool": 1, "Flatten": 1, "Concat": 1, "Softmax": 1
    }  # fmt: skip
    assert [(port["name"], port["role"]) for port in found["inputs"]] == [
        ("image", "image, rgb"),
        ("sensors", "3 features"),
    ]
    assert main(["inspect", str(model)]) == 0
    said = capsys.readouterr().out
    assert "hybrid 1.0.0, ONNX opset 17, not quantised" in said
    assert "member  edge-agent/card.json" in said


def test_inspect_of_a_bare_model_says_what_is_missing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "bare.onnx"
    path.write_bytes(hybrid())
    assert main(["inspect", str(path)]) == 0
    said = capsys.readouterr().out
    assert "write a card with edge-convert card" in said
    assert "no golden samples" in said


def test_golden_samples_run_here_and_are_chosen_anew_from_rows(
    model: Path, rows: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = answer(capsys, "golden", model)
    assert [(check["delegate"], check["samples"], check["worst_lsb"]) for check in found["checks"]] == [
        ("onnx-cpu", 1, 0)
    ]
    out = tmp_path / "new.onnx"
    answer(capsys, "golden", model, "--data", rows, "-o", out)
    file = read_model(out)
    golden = read_golden(file.members, out)
    assert golden.inputs["image"].shape[1:] == (1, SIDE, SIDE, 3)
    assert golden.outputs["code"].shape[1:] == (1, 4)
    assert file.card is not None
    assert file.card["golden"]["tolerance_lsb"] >= 8
    assert "fp16" in file.card["golden"]["reason"]
    assert file.notes == ()
    assert answer(capsys, "golden", out)["ok"]


def test_files_are_put_in_and_taken_out_and_the_model_stays_as_it_is(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "notes.bin").write_bytes(b"\xff\0")
    before = read_model(model)
    answer(capsys, "embed", model, "--file", f"docs/notes.bin={tmp_path}/notes.bin", "-o", model)
    file = read_model(model)
    assert file.members == {**before.members, "docs/notes.bin": b"\xff\0"}
    assert file.notes == ()
    answer(capsys, "embed", model, "--remove", "docs/notes.bin", "-o", model)
    assert read_model(model).content == before.content


def test_another_version_goes_into_the_card(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "new.onnx"
    answer(capsys, "card", "edit", model, "--set", "version=3.0.0", "-o", out)
    file = read_model(out)
    assert file.card is not None
    assert (file.card["version"], file.card["outputs"][0]["labels"]) == ("3.0.0", list(CLASSES))
    assert answer(capsys, "golden", out)["ok"]


def test_a_drift_reference_is_made_with_the_devices_arithmetic(
    model: Path, rows: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "with.onnx"
    answer(capsys, "baseline", model, "--data", rows, "--split", "all", "-o", out)
    assert REFERENCE_MEMBER in read_model(out).members
    found = answer(capsys, "inspect", out)
    assert found["drift"]["rows"] == 60
    assert found["drift"]["misfit"] == ""


def test_large_inputs_make_fewer_samples() -> None:
    inputs = {"x": np.zeros((5, BYTES_MOST // 4 // 2), np.float32)}
    chosen = kept(inputs, {"fp16": {"y": np.zeros((5, 1), np.float32)}}, [])
    assert len(chosen.inputs["x"]) == 2
