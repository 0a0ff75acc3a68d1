"""The Edge TPU: what is predicted and why, what the compiler's log says, and the file that carries both builds."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema

from converters.__main__ import main
from converters.edgetpu.compiler import find_compiler, parse_log
from converters.edgetpu.names import with_names_of
from converters.edgetpu.report import edgetpu_report
from converters.golden import check_golden
from converters.tflite.archive import bare_model
from converters.tflite.graph import read_graph
from converters.tflite.packing import packed
from converters.tflite.placement import Placement
from converters.tflite.placement_edgetpu import predict_edgetpu
from edge_agent.errors import ConfigError, ModelError
from edge_agent.io.model_file import read_model
from edge_agent.io.runtimes.choose import CPU_MEMBER, choose
from edge_agent.io.tflite_metadata import standard_metadata
from tests.converters.conveyor import MODEL
from tests.converters.handmade_models import HandmadeModel, dynamic_range_hybrid, float_hybrid, one_op

ROOT = Path(__file__).resolve().parents[2]
PICTURE = (1, 8, 8, 4)
INT32 = np.int32
KERNEL, BIAS = np.zeros((4, 3, 3, 4), np.int8), np.zeros(4, INT32)
CONV = {"options": "Conv2DOptions", "dilationWFactor": 1, "dilationHFactor": 1}


def predicted(content: bytes) -> Placement:
    return predict_edgetpu(read_graph(content))


# --- prediction


def test_the_shipped_int8_model_is_predicted_to_run_there_entirely() -> None:
    found = predicted(MODEL.read_bytes())
    assert (found.share, found.macs_share, found.first_left, found.measured) == (1, 1, None, False)


def test_a_dynamic_range_model_is_predicted_to_run_there_not_at_all_and_each_op_says_why() -> None:
    found = predicted(dynamic_range_hybrid())
    assert (found.taken, found.macs_share) == (0, 0)
    assert {place.reason for place in found.places} == {"float32 activations, it takes int8 and uint8"}
    assert all("quantize --scheme int8" in place.fix for place in found.places)


@pytest.mark.parametrize("name", ["mobilenet_v1_0.25_128_quant", "tf2_mobilenet_v2_1.0_224_ptq"])
def test_public_models_that_are_known_to_compile_entirely_are_predicted_to(shared: Path, name: str) -> None:
    assert predicted((shared / "models" / f"{name}.tflite").read_bytes()).share == 1


def test_of_the_public_detector_only_the_postprocessing_stays(shared: Path) -> None:
    found = predicted((shared / "models" / "traffic_model.tflite").read_bytes())
    assert [left.name for left in found.left()] == ["TFLite_Detection_PostProcess"]


def test_a_compiled_model_is_recognised(shared: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = shared / "models" / "mobilenet_v1_0.25_128_quant_edgetpu.tflite"
    found = predicted(path.read_bytes())
    assert (found.measured, found.taken, len(found.places)) == (True, 1, 1)
    assert main(["edgetpu", str(path)]) == 0
    assert "compiled for the Edge TPU, no op remains for the CPU" in " ".join(capsys.readouterr().out.split())
    assert main(["edgetpu", str(path), "-o", str(path.with_name("x.tflite")), "--compiler", sys.executable]) == 2


REFUSED: list[tuple[str, str, list[Any], list[tuple[int, ...]], dict[str, Any]]] = [
    ("not among", "LEAKY_RELU", [PICTURE], [PICTURE], {"options": "LeakyReluOptions"}),
    ("not among", "GATHER", [(1, 8), np.array([1], INT32)], [(1, 1)], {}),
    ("a custom op", "Ours", [PICTURE], [PICTURE], {}),
    ("3 inner dimensions", "RELU", [(2, 8, 8, 4)], [(2, 8, 8, 4)], {}),
    ("activation TANH", "ADD", [PICTURE, PICTURE], [PICTURE], {"options": "AddOptions", "fusedActivationFunction": 4}),
    ("it takes none", "MAX_POOL_2D", [PICTURE], [PICTURE], {"options": "Pool2DOptions", "fusedActivationFunction": 1}),
    ("not constant", "CONV_2D", [PICTURE, (1, 3, 3, 4), BIAS], [PICTURE], CONV),
    ("float32 weights", "CONV_2D", [PICTURE, KERNEL.astype(np.float32), BIAS], [PICTURE], CONV),
    ("dilation", "CONV_2D", [PICTURE, KERNEL, BIAS], [PICTURE], {**CONV, "dilationWFactor": 2}),
    ("more than one dim", "FULLY_CONNECTED", [(1, 5, 4), np.zeros((3, 4), np.int8)], [(1, 5, 3)], {}),
    (
        "a format of their own",
        *("FULLY_CONNECTED", [(1, 4), np.zeros((3, 4), np.int8)], [(1, 3)]),
        {"options": "FullyConnectedOptions", "weightsFormat": 1},
    ),
    ("over the batch", "MEAN", [PICTURE, np.array([0], INT32)], [(8, 8, 4)], {}),
    ("5 channels", "MEAN", [(1, 2, 2, 5), np.array([3], INT32)], [(1, 2, 2)], {}),
    ("pads the batch", "PAD", [PICTURE, np.array([[1, 0]] + [[0, 0]] * 3, INT32)], [(1, 8, 8, 4)], {}),
    ("softmax of", "SOFTMAX", [(1, 3, 4)], [(1, 3, 4)], {}),
    ("softmax of", "SOFTMAX", [(1, 20_000)], [(1, 20_000)], {}),
    ("along the batch", "SPLIT", [np.array(0, INT32), (2, 4)], [(1, 4), (1, 4)], {}),
    ("along the batch", "PACK", [(1, 4), (1, 4)], [(1, 1, 4)], {"options": "PackOptions", "axis": 0}),
    ("strides other", "STRIDED_SLICE", [(1, 8), [0, 0], [1, 8], [1, 2]], [(1, 4)], {}),
    ("a slope for each", "PRELU", [PICTURE, np.zeros((8, 8, 4), np.int8)], [PICTURE], {}),
    (
        "zero padding",
        *("CONCATENATION", [(1, 4), np.ones((1, 4), np.int8)], [(1, 8)]),
        {"options": "ConcatenationOptions", "axis": 1},
    ),
]


@pytest.mark.parametrize(("why", "name", "inputs", "outputs", "rest"), REFUSED)
def test_each_documented_limit_keeps_the_op_on_the_cpu_with_its_reason_and_what_to_do(
    why: str, name: str, inputs: list[Any], outputs: list[tuple[int, ...]], rest: dict[str, Any]
) -> None:
    (place,) = predicted(one_op(name, inputs, outputs, **rest)).places
    assert not place.taken
    assert why in place.reason
    assert place.fix


ACCEPTED: list[tuple[str, list[Any], list[tuple[int, ...]], dict[str, Any]]] = [
    ("CONV_2D", [PICTURE, KERNEL, BIAS], [PICTURE], {**CONV, "fusedActivationFunction": 3, "version": 3}),
    ("CONV_2D", [PICTURE, KERNEL, BIAS], [PICTURE], {**CONV, "dilationWFactor": 2, "dilationHFactor": 2}),
    ("FULLY_CONNECTED", [(1, 4), np.zeros((3, 4), np.int8), np.zeros(3, INT32)], [(1, 3)], {"version": 4}),
    ("MEAN", [PICTURE, np.array([1, 2], INT32)], [(1, 4)], {"version": 2}),
    ("MEAN", [PICTURE, np.array([-1], INT32)], [(1, 8, 8)], {}),
    ("SOFTMAX", [(1, 1001)], [(1, 1001)], {}),
    ("SPLIT", [np.array(3, INT32), PICTURE], [(1, 8, 8, 2)] * 2, {}),
    ("PAD", [PICTURE, np.array([[0, 0], [1, 1], [1, 1], [0, 0]], INT32)], [(1, 10, 10, 4)], {}),
    ("STRIDED_SLICE", [(1, 8), [0, 2], [1, 6], [1, 1]], [(1, 4)], {}),
    ("PRELU", [PICTURE, np.zeros((1, 1, 4), np.int8)], [PICTURE], {}),
    (
        *("CONCATENATION", [(1, 4), np.zeros((1, 4), np.int8)], [(1, 8)]),
        {"options": "ConcatenationOptions", "axis": 1},
    ),
]


@pytest.mark.parametrize(("name", "inputs", "outputs", "rest"), ACCEPTED)
def test_the_same_ops_within_their_limits_are_taken(
    name: str, inputs: list[Any], outputs: list[tuple[int, ...]], rest: dict[str, Any]
) -> None:
    assert predicted(one_op(name, inputs, outputs, **rest)).taken == 1


def test_a_size_that_a_run_decides_keeps_the_op_on_the_cpu() -> None:
    model = HandmadeModel()
    x, y = (model.tensor(name, (1, 4), "int8", signature=(-1, 4)) for name in "xy")
    model.op("RELU", [x], [y])
    assert "a size that only a run decides" in predicted(model.content([x], [y])).places[0].reason


def test_a_dense_layer_with_a_scale_for_each_row_is_assumed_to_be_refused() -> None:
    model = HandmadeModel()
    x, y = model.tensor("x", (1, 4), "int8"), model.tensor("y", (1, 3), "int8")
    weights = model.constant("w", np.ones((3, 4)), "int8", scale=[0.1, 0.2, 0.3])
    model.op("FULLY_CONNECTED", [x, weights, -1], [y], options="FullyConnectedOptions")
    (place,) = predicted(model.content([x], [y])).places
    assert "assumed" in place.reason and "per tensor" in place.fix


def test_an_op_version_that_the_compiler_does_not_know_costs_the_whole_file() -> None:
    model = HandmadeModel()
    x, y, z = (model.tensor(name, (1, 4), "int8") for name in "xyz")
    model.op("RELU", [x], [y])
    model.op("ADD", [y, y], [z], options="AddOptions", version=5)
    found = predicted(model.content([x], [z]))
    assert found.taken == 0
    assert all("refuses the whole file: ADD version 5" in place.reason for place in found.places)


def test_what_depends_on_an_op_on_the_cpu_stays_there_and_a_branch_beside_it_does_not() -> None:
    model = HandmadeModel()
    x, left, right, after, joined = (model.tensor(name, (1, 4), "int8") for name in ("x", "l", "r", "a", "j"))
    model.op("RELU", [x], [left])
    model.op("LEAKY_RELU", [x], [right])
    model.op("TANH", [right], [after])
    model.op("ADD", [left, after], [joined], options="AddOptions")
    places = predicted(model.content([x], [joined])).places
    assert [place.taken for place in places] == [True, False, False, False]
    assert places[2].reason == places[3].reason == "comes after op 1 LEAKY_RELU, which stays on the CPU"


def test_conversions_of_a_float_input_and_output_are_no_obstacle() -> None:
    model = HandmadeModel()
    x, quantised, made, y = (
        model.tensor(name, (1, 4), dtype)
        for name, dtype in (("x", "float32"), ("q", "int8"), ("m", "int8"), ("y", "float32"))
    )
    model.op("QUANTIZE", [x], [quantised])
    model.op("RELU", [quantised], [made])
    model.op("DEQUANTIZE", [made], [y])
    found = predicted(model.content([x], [y]))
    assert [place.taken for place in found.places] == [False, True, False]
    assert found.first_left is None


def test_the_advice_begins_with_what_concerns_most_ops(tmp_path: Path) -> None:
    path = tmp_path / "model.tflite"
    path.write_bytes(float_hybrid())
    report = edgetpu_report(path, compiler=None)
    assert [(one.fix.startswith("quantise the model fully"), one.ops) for one in report.advice] == [(True, 7)]
    assert "Debian on x86-64" in report.no_compiler


# --- the compiler's log

PARTLY = """Edge TPU Compiler version 16.0.384591198
Number of Edge TPU subgraphs: 1
Total number of operations: 100
Number of operations that will run on Edge TPU: 78
Number of operations that will run on CPU: 22

Operator                       Count      Status

CONV_2D                        78         Mapped to Edge TPU
RESHAPE                        17         More than one subgraph is not supported
GATHER                         5          Operation not supported
Compilation succeeded!
"""


def test_a_log_of_a_model_that_is_mapped_in_part() -> None:
    log = parse_log(PARTLY)
    assert (log.version, log.taken, log.left) == ("16.0.384591198", 78, 22)
    assert [(row.name, row.count) for row in log.operators] == [("CONV_2D", 78), ("RESHAPE", 17), ("GATHER", 5)]


def test_a_log_of_a_model_that_is_mapped_entirely_has_no_counts_of_its_own() -> None:
    said = "Number of Edge TPU subgraphs: 1\nTotal number of operations: 31\n"
    assert (parse_log(said).taken, parse_log(said).left) == (31, 0)
    table = said + "\nOperator                       Count      Status\n\nCONV_2D      31         Mapped to Edge TPU\n"
    assert (parse_log(table).taken, parse_log(table).left) == (31, 0)


def test_a_log_without_any_subgraph_maps_nothing() -> None:
    said = "Number of Edge TPU subgraphs: 0\nTotal number of operations: 31\n"
    assert (parse_log(said).taken, parse_log(said).left) == (0, 31)


# --- with a stand-in for the compiler


@pytest.fixture
def compiler(tmp_path: Path) -> Path:
    program = tmp_path / "edgetpu_compiler"
    lines = [f"#!{sys.executable}", "import sys", f"sys.path.insert(0, {str(ROOT)!r})"]
    program.write_text("\n".join([*lines, "from tests.converters.standin_compiler import main", "main()", ""]))
    program.chmod(0o755)
    return program


def test_the_build_holds_the_compiled_model_the_card_everything_else_and_the_cpu_build(
    tmp_path: Path, compiler: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "conveyor_edgetpu.tflite"
    assert main(["edgetpu", str(MODEL), "-o", str(out), "--compiler", str(compiler), "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["schema"] == "edge-agent/convert-edgetpu/1"
    assert (said["compiler"]["taken"], said["compiler"]["left"]) == (15, 0)
    before, after = read_model(MODEL), read_model(out)
    assert after.form == "edgetpu" and after.card == before.card
    assert after.members == {**before.members, CPU_MEMBER: bare_model(before.content)}
    assert said["written"]["sha256"] == after.sha256


def test_names_that_the_compiler_lost_are_back_so_that_the_card_fits(tmp_path: Path, compiler: Path) -> None:
    out = tmp_path / "out.tflite"
    edgetpu_report(MODEL, compiler=compiler, output=out)
    new, old = read_graph(out.read_bytes()), read_graph(MODEL.read_bytes())
    assert sorted(new.names()[0].values()) == sorted(old.names()[0].values()) == ["image", "sensors"]
    assert list(new.names()[1].values()) == ["fault"]
    assert standard_metadata(out.read_bytes()) == standard_metadata(MODEL.read_bytes())


def test_a_device_without_an_edge_tpu_runs_the_cpu_build_to_the_same_golden_outputs(
    tmp_path: Path, compiler: Path
) -> None:
    out = tmp_path / "out.tflite"
    edgetpu_report(MODEL, compiler=compiler, output=out)
    chosen = choose(read_model(out), ["edgetpu", "xnnpack"], threads=1, external={})
    assert chosen.member == CPU_MEMBER
    assert chosen.runtime.info.delegate == "xnnpack"
    whole = read_model(MODEL).content
    assert check_golden(whole, MODEL, delegate="xnnpack").ok
    assert chosen.content == bare_model(whole)


def test_the_report_alone_runs_the_compiler_and_writes_nothing(
    tmp_path: Path, compiler: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("STANDIN_LEAVES", "1")
    before = sorted(tmp_path.iterdir())
    assert main(["edgetpu", str(MODEL), "--compiler", str(compiler)]) == 0
    said = capsys.readouterr().out
    assert "edgetpu_compiler 16.0.384591198: 14 ops on the Edge TPU, 1 on the CPU" in said
    assert "the compiler is right" in said
    assert sorted(tmp_path.iterdir()) == before


def test_a_compiler_on_the_path_is_found(compiler: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(compiler.parent))
    assert find_compiler() == compiler


def test_a_compiler_that_maps_nothing_is_a_bad_result_and_no_file(
    tmp_path: Path, compiler: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("STANDIN_MAPS", "none")
    out = tmp_path / "out.tflite"
    assert main(["edgetpu", str(MODEL), "-o", str(out), "--compiler", str(compiler)]) == 1
    assert "mapped nothing" in capsys.readouterr().out
    assert not out.exists()


def test_a_compiler_that_fails_is_quoted(
    tmp_path: Path, compiler: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("STANDIN_FAILS", "Internal compiler error. Aborting!")
    out = tmp_path / "out.tflite"
    assert main(["edgetpu", str(MODEL), "-o", str(out), "--compiler", str(compiler)]) == 1
    assert "Internal compiler error. Aborting!" in capsys.readouterr().err
    assert not out.exists()


def test_without_the_compiler_the_report_is_good_and_says_where_the_compiler_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert main(["edgetpu", str(MODEL)]) == 0
    assert "Google as coral's edgetpu_compiler package for Debian" in " ".join(capsys.readouterr().out.split())
    out = tmp_path / "out.tflite"
    assert main(["edgetpu", str(MODEL), "-o", str(out)]) == 2
    assert "out.tflite is not written" in capsys.readouterr().err
    assert not out.exists()


def test_a_compiler_that_is_named_and_not_there_is_a_usage_error() -> None:
    with pytest.raises(ConfigError, match="not a program"):
        find_compiler("/nowhere/edgetpu_compiler")


# --- names


def stripped() -> tuple[bytes, bytes]:
    """The shipped model bare, and the same without signature and metadata."""
    original = bare_model(MODEL.read_bytes())
    model = schema.ModelT.InitFromPackedBuf(original, 0)
    model.signatureDefs, model.metadata = None, None
    return original, packed(model)


def test_restoring_names_leaves_the_compiled_bytes_as_they_are_and_where_they_are_aligned() -> None:
    original, bare = stripped()
    named = with_names_of(bare, original)
    assert named.endswith(bare)
    assert (len(named) - len(bare)) % 16 == 0
    assert read_graph(named).main.ops == read_graph(bare).main.ops


def test_a_model_with_its_names_restored_runs_as_before() -> None:
    from edge_agent.io.runtimes import create

    original, bare = stripped()
    chance = np.random.default_rng(3)
    tensors = {
        "image": chance.integers(-128, 128, (1, 96, 96, 3)).astype(np.int8),
        "sensors": chance.integers(-128, 128, (1, 3)).astype(np.int8),
    }
    results = [
        create(content, "xnnpack", threads=1, external={}).invoke(tensors)["fault"]
        for content in (original, with_names_of(bare, original))
    ]
    assert np.array_equal(*results)


def test_a_model_that_kept_its_names_is_left_alone() -> None:
    original, _ = stripped()
    assert with_names_of(original, original) == original


def test_other_inputs_than_before_are_refused() -> None:
    original, _ = stripped()
    with pytest.raises(ModelError, match="inputs"):
        with_names_of(one_op("RELU", [(1, 4)], [(1, 4)]), original)
