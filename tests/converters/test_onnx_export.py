"""ONNX files for the device: names kept, pictures with their channels last, the card inside, int8 for TensorRT."""

from __future__ import annotations

import hashlib
import json
import subprocess
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from converters.__main__ import main
from converters.child import run_worker
from converters.jetson.onnx_file import export_onnx, run_onnx
from converters.jetson.onnx_members import with_onnx_members
from converters.jetson.protobuf import bytes_field, text_field, varint_field
from converters.sources import predict_source
from converters.workers.protocol import save_arrays
from edge_agent.children.verify import Requirements, verify_model
from edge_agent.errors import ConfigError, ModelError
from tests.converters import hybrid_rows
from tests.converters.torch_onnx_models import SIDE, onnx_network, rows, torch_function, torch_program
from tests.converters.trained_models import require
from tests.simulators import onnx_models

NAMES = {"image": (1, SIDE, SIDE, 3), "chemistry": (1, 5), "code": (1, 4)}
# read by the real library, in the environment that has it
READ = """
import json, sys, numpy as np, onnx
from onnx import numpy_helper
model = onnx.load(sys.argv[1]); onnx.checker.check_model(model, full_check=True)
held = {i.name: numpy_helper.to_array(i) for i in model.graph.initializer}
pairs = [n for n in model.graph.node if n.op_type in ("QuantizeLinear", "DequantizeLinear")]
print(json.dumps({
    "card": {p.key: p.value for p in model.metadata_props}.get("edge-agent/card.json"),
    "opset": model.opset_import[0].version,
    "ops": sorted({n.op_type for n in model.graph.node}),
    "pairs": len(pairs),
    "zero_points": sorted({int(v) for n in pairs for v in held[n.input[2]].reshape(-1)}),
    "types": sorted({str(held[n.input[2]].dtype) for n in pairs}),
    "scales": {n.input[0]: float(held[n.input[1]].max()) for n in pairs if n.op_type == "QuantizeLinear"},
    "rounded_outputs": sorted(n.op_type for n in model.graph.node
        if n.op_type in ("Conv", "Gemm") and any(n.output[0] in p.input[:1] for p in pairs)),
    "biases": sum(len(n.input) == 3 and n.input[2] in held for n in model.graph.node if n.op_type in ("Conv", "Gemm")),
    "private": [t for t in (str(model),) if "stack_trace" in t or "torch_networks.py" in t] != [],
}))
"""


def read(path: Path, environment: Any) -> dict[str, Any]:
    done = subprocess.run([require(environment), "-c", READ, path], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def write_card(folder: Path, **names: str) -> Path:
    path = folder / "card.json"
    path.write_text(json.dumps(hybrid_rows.card(**names)))
    return path


def check_int8(found: dict[str, Any], picture: str, sensors: str = "chemistry") -> None:
    """The form that TensorRT takes: every pair symmetric, none behind an operator, biases in float."""
    assert found["pairs"] >= 8
    assert found["zero_points"] == [0]
    assert found["types"] == ["int8"]
    assert found["rounded_outputs"] == []
    assert found["scales"][sensors] == pytest.approx(hybrid_rows.CLIP / 127)  # pinned, not measured
    assert found["scales"][picture] == pytest.approx(1 / 127)


def test_members_are_put_behind_the_model_as_protocol_buffers_allow() -> None:
    content = with_onnx_members(b"\x08\x08", {"edge-agent/card.json": b'{"name": "x"}' * 20, "l": b"\xff\xfe"})
    # field 14, length 286 in two octets; field 1, the key; field 2, the value with 260 octets
    assert content.startswith(b"\x08\x08\x72\x9d\x02\x0a\x14edge-agent/card.json\x12\x84\x02{")
    assert b"\x72\x10\x0a\x08l;base64\x12\x04//4=" in content  # what is no text
    assert content[-64:] == hashlib.sha256(content[:-64]).hexdigest().encode()
    assert content[:-64].endswith(b"\x72\x55\x0a\x11edge-agent/sha256\x12\x40")


def test_a_keras_model_is_refused_with_what_to_do_instead(tmp_path: Path) -> None:
    path = tmp_path / "model.keras"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("metadata.json", '{"keras_version": "3.15.0"}')
        archive.writestr("config.json", "{}")
    with pytest.raises(ConfigError, match=r"is Keras 3: ONNX files are made of torch .*tf2onnx"):
        export_onnx(str(path), images=None, work=tmp_path / "work")


def test_int8_without_samples_and_a_card_and_an_output_that_cannot_be_written_are_refused_before_any_work(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = str(tmp_path / "out.onnx")
    assert main(["onnx", "model.onnx", "-o", out, "--int8"]) == 2
    assert "--card FILE" in capsys.readouterr().err
    assert main(["onnx", "model.onnx", "-o", out, "--int8", "--card", str(write_card(tmp_path))]) == 2
    assert "add --data DATASET" in capsys.readouterr().err
    assert main(["onnx", "model.onnx", "-o", str(tmp_path / "nowhere" / "out.onnx")]) == 2
    assert "there is no folder" in capsys.readouterr().err


@pytest.mark.torch
def test_a_torch_model_keeps_names_and_arithmetic_and_says_nothing_of_its_machine(tmp_path: Path) -> None:
    for name, model in {"a": torch_program("open_batch"), "b": torch_function("sensors_first")}.items():
        file = export_onnx(model, images=["image"], work=tmp_path / name)
        assert {spec.name: spec.shape for spec in (*file.inputs, *file.outputs)} == NAMES
        assert file.opset == 18
        turned = dict(reversed(rows().items()))
        expected = predict_source(model, turned, work=tmp_path / name, images=["image"])["code"]
        found = run_onnx(file.content, turned, environment="torch", work=tmp_path / name)["code"]
        np.testing.assert_allclose(found, expected, atol=1e-5)
        (tmp_path / f"{name}.onnx").write_bytes(file.content)
        assert not read(tmp_path / f"{name}.onnx", "torch")["private"]


@pytest.mark.torch
def test_torch_writes_no_opset_that_its_exporter_does_not_know(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="torch writes ONNX opset 18 or later, 13 was asked for"):
        export_onnx(torch_function("hybrid"), images=["image"], work=tmp_path, opset=13)


@pytest.mark.torch
def test_the_command_writes_an_int8_file_that_agrees_with_float_and_carries_its_card(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out.onnx"
    arguments = ["onnx", torch_function("hybrid"), "-o", str(out), "--int8", "--json", "--model-version", "2.0"]
    assert main([*arguments, "--card", str(write_card(tmp_path)), "--data", hybrid_rows.ROWS]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["schema"] == "edge-agent/convert-onnx/1"
    assert answer["inputs"] == {"image": [1, SIDE, SIDE, 3], "chemistry": [1, 5]}
    assert answer["scores"]["int8"]["class"]["agreement"]["agreement"] >= 0.9
    assert answer["scores"]["int8"]["class"]["agreement"]["max_error"] > 0  # it is not the float file
    found = read(out, "torch")
    check_int8(found, "permute")
    assert found["biases"] == 4  # of two convolutions and two Gemm, as float initialisers
    card = json.loads(found["card"])
    assert card["version"] == "2.0"
    assert card["outputs"][0]["labels"] == ["a", "b", "c", "d"]
    assert card["provenance"]["conversion"]["scheme"] == "int8"
    assert card["provenance"]["conversion"]["source"]["kind"] == "torch"


@pytest.mark.torch
def test_the_same_inputs_give_the_same_int8_file(tmp_path: Path) -> None:
    card = str(write_card(tmp_path))
    for name in "ab":
        out = str(tmp_path / f"{name}.onnx")
        given = ["--int8", "--card", card, "--data", hybrid_rows.ROWS, "--limit", "2"]
        assert main(["onnx", torch_function("hybrid"), "-o", out, *given]) == 0
    assert (tmp_path / "a.onnx").read_bytes() == (tmp_path / "b.onnx").read_bytes()


@pytest.mark.onnx
def test_a_model_that_onnx_runtime_does_not_know_is_refused_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "custom.onnx"
    nodes = [onnx_models.node("Mystery", ["x"], ["y"]) + text_field(7, "com.example")]
    ports = [onnx_models.port("x", [1, 4])], [onnx_models.port("y", [1, 4])]
    path.write_bytes(
        onnx_models.model(nodes, *ports) + bytes_field(8, text_field(1, "com.example") + varint_field(2, 1))
    )
    assert main(["onnx", str(path), "-o", str(tmp_path / "out.onnx")]) == 2
    assert "ONNX Runtime can't load the model" in capsys.readouterr().err


@pytest.mark.onnx
@pytest.mark.parametrize("options", [[], ["--data", hybrid_rows.ROWS], ["--data", hybrid_rows.ROWS, "--int8"]])
def test_a_device_takes_what_the_command_writes(options: list[str], tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime", reason="ONNX Runtime is not installed: pip install '.[onnx]'")
    out = tmp_path / "out.onnx"
    named = ["--name", "hybrid", "--model-version", "2.0.0"]
    card = ["--card", str(write_card(tmp_path))]
    assert main(["onnx", onnx_network("hybrid"), "-o", str(out), *card, *named, *options]) == 0
    evidence = verify_model(out, Requirements())
    assert evidence["delegate"] == "onnx-cpu"
    assert evidence["golden_samples"] >= 2
    assert evidence["golden_worst_lsb"] <= 1  # the same ONNX Runtime, perhaps of another version
    assert main(["golden", str(out)]) == 0


@pytest.mark.onnx
@pytest.mark.parametrize("network", ["hybrid", "sensors_first", "open_batch"])
def test_an_onnx_model_is_the_same_but_for_batch_and_layout(network: str, tmp_path: Path) -> None:
    file = export_onnx(onnx_network(network), images=["image"], work=tmp_path)
    assert {spec.name: spec.shape for spec in (*file.inputs, *file.outputs)} == NAMES
    expected = predict_source(onnx_network(network), rows(), work=tmp_path, images=["image"])["code"]
    found = run_onnx(file.content, rows(), environment="onnx", work=tmp_path)["code"]
    np.testing.assert_array_equal(found, expected)


@pytest.mark.onnx
def test_int8_of_an_onnx_model_with_odd_names(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out, names = tmp_path / "out.onnx", {"image": "input.1", "chemistry": "/sensors/in:0", "code": "output_0"}
    card = ["--card", str(write_card(tmp_path, **names))]
    assert main(["onnx", onnx_network("odd_names"), "-o", str(out), "--int8", "--data", hybrid_rows.ROWS, *card]) == 0
    assert "int8: accuracy" in capsys.readouterr().out
    check_int8(read(out, "onnx"), "input.1_channels_first", "/sensors/in:0")


@pytest.mark.onnx
def test_batch_normalisation_is_folded_before_int8_and_a_constant_is_not_added_in_int8(tmp_path: Path) -> None:
    model = export_onnx(onnx_network("normalised"), images=None, work=tmp_path)
    (tmp_path / "model.onnx").write_bytes(model.content)
    save_arrays(tmp_path, "calibration", {"image": rows()["image"]})
    run_worker("onnx", "onnx_qdq", "quantize", {"pinned": {"image": [0.0, 1.0]}}, tmp_path)
    found = read(tmp_path / "model_qdq.onnx", "onnx")
    assert "BatchNormalization" not in found["ops"]
    assert "offset" not in found["scales"]
    assert found["zero_points"] == [0]


@pytest.mark.onnx
def test_another_opset_is_written_where_that_is_possible(tmp_path: Path) -> None:
    newer = export_onnx(onnx_network("hybrid"), images=["image"], work=tmp_path / "19", opset=19)
    assert newer.opset == 19
    with pytest.raises(ConfigError, match=r"opset 17 can't be brought to 12 \(.*Relu\); leave --opset out"):
        export_onnx(onnx_network("hybrid"), images=["image"], work=tmp_path / "12", opset=12)


@pytest.mark.onnx
def test_an_opset_that_is_too_old_for_int8_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    given = ["--int8", "--card", str(write_card(tmp_path)), "--data", hybrid_rows.ROWS]
    assert main(["onnx", onnx_network("old_opset"), "-o", str(tmp_path / "out.onnx"), *given]) == 2
    assert "int8 needs ONNX opset 13 or later, this model has 12: add --opset 13" in capsys.readouterr().err
    assert main(["onnx", onnx_network("old_opset"), "-o", str(tmp_path / "out.onnx"), *given, "--opset", "13"]) == 0


@pytest.mark.onnx
def test_without_a_card_the_file_is_written_and_a_note_says_what_is_missing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out.onnx"
    assert main(["onnx", onnx_network("hybrid"), "-o", str(out)]) == 0
    said = capsys.readouterr().out
    assert "no card inside" in said
    assert "image (1, 3, 16, 16)" in said
    assert read(out, "onnx")["card"] is None


@pytest.mark.onnx
def test_a_card_that_does_not_fit_is_refused_and_nothing_is_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out.onnx"
    card = str(write_card(tmp_path, code="kode"))
    assert main(["onnx", onnx_network("hybrid"), "-o", str(out), "--card", card]) == 2
    assert "kode" in capsys.readouterr().err
    assert not list(tmp_path.glob("*.onnx"))


@pytest.mark.onnx
def test_an_onnx_file_is_not_run_in_this_process(tmp_path: Path) -> None:
    from converters.jetson.onnx_model import OnnxModel

    file = export_onnx(onnx_network("hybrid"), images=["image"], work=tmp_path)
    model = OnnxModel(file, card=hybrid_rows.card(), where="the card", folder=tmp_path)
    with pytest.raises(ModelError, match="environment of its source"):
        model.invoke({})
