"""``edge-convert inspect`` says the truth of each model, and survives what is damaged in one."""

from __future__ import annotations

import json
import random
import re
import zipfile
from io import BytesIO, TextIOWrapper
from pathlib import Path
from typing import Any

import msgspec
import pytest
from ai_edge_litert import schema_py_generated as schema
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from converters.__main__ import main
from converters.edgetpu.report import edgetpu_report
from converters.inspection import Inspection, inspect
from converters.inspection_text import console, inspection_text
from converters.tflite.archive import bare_model, with_members
from converters.tflite.packing import packed
from edge_agent.core.card_schema import CARD_MEMBER
from edge_agent.errors import ModelError
from edge_agent.io.model_file import read_model, seal
from edge_agent.io.runtimes.choose import CPU_MEMBER
from tests.converters.conveyor import MODEL
from tests.converters.handmade_models import HandmadeModel, dynamic_range_hybrid, float_hybrid


def written(folder: Path, content: bytes, *, measure: bool = False) -> Inspection:
    path = folder / "model.tflite"
    path.write_bytes(content)
    return inspect(path, measure=measure)


def shares(found: Inspection) -> dict[str, tuple[int, int]]:
    return {item.target: (item.taken, item.ops) for item in found.back_ends}


def text(found: Inspection, width: int, *, layers: bool = False) -> str:
    stream = BytesIO()
    out = TextIOWrapper(stream, encoding="utf-8", write_through=True)
    shown = console(out)
    shown.width = width
    shown.print(inspection_text(found, layers=layers))
    return stream.getvalue().decode()


# --- the truth


def test_the_shipped_model() -> None:
    found = inspect(MODEL)
    assert (found.quantisation, found.scheme, found.float_ops) == ("full int8", "int8", ())
    assert (found.card.name, found.card.version, found.card.error) == ("conveyor", "1.1.0", "")
    assert [(port.name, port.role, port.shape) for port in found.inputs] == [
        ("sensors", "3 features", (1, 3)),
        ("image", "image, rgb", (1, 96, 96, 3)),
    ]
    assert found.outputs[0].role == "classification 'fault', 5 labels"
    assert found.inputs[0].scale == pytest.approx(8 / 255)
    members = {"labels.txt", CARD_MEMBER, "edge-agent/golden.npz", "edge-agent/drift.json"}
    assert {member.name for member in found.members} == members
    assert found.flatbuffer_bytes == len(bare_model(MODEL.read_bytes()))
    assert (found.golden, found.drift_reference, found.cpu_build) == (True, True, False)
    assert (found.metadata.name, found.metadata.labels) == ("conveyor", ("labels.txt",))
    assert found.card.provenance["seed"] == 2026
    assert (found.minimum_runtime, found.signatures) == ("1.14.0", ("serving_default",))
    assert shares(found) == {"xnnpack": (14, 15), "edgetpu": (15, 15), "gpu": (15, 15)}
    assert sum(row.count for row in found.operations) == len(found.layers) == 15


def test_a_uint8_classifier_whose_roles_come_from_standard_metadata(shared: Path) -> None:
    found = inspect(shared / "models" / "mobilenet_v1_0.25_128_quant.tflite")
    assert (found.quantisation, found.card.present) == ("full uint8", False)
    assert (found.inputs[0].role, found.inputs[0].scale, found.inputs[0].zero_point) == ("image, rgb", 1 / 128, 128)
    assert found.outputs[0].role == "classification 'class', 1001 labels"
    assert [member.name for member in found.members] == ["imagenet_labels.txt"]
    assert shares(found)["edgetpu"] == (31, 31)


def test_its_build_for_the_edge_tpu_is_recognised_as_compiled(shared: Path) -> None:
    found = inspect(shared / "models" / "mobilenet_v1_0.25_128_quant_edgetpu.tflite")
    assert found.compiled_for_edgetpu and not found.cpu_build
    assert found.quantisation == "compiled for the Edge TPU, no op remains for the CPU"
    assert found.inputs[0].role == "image, rgb"
    assert "edgetpu-custom-op" in found.back_ends[0].problem
    assert "without an Edge TPU it does not run" in text(found, 100)


def test_an_int8_classifier_with_uint8_borders_and_labels(shared: Path) -> None:
    found = inspect(shared / "models" / "tf2_mobilenet_v2_1.0_224_ptq.tflite")
    assert found.quantisation == "full int8, uint8 inputs and outputs"
    assert (found.metadata.present, found.metadata.labels) == (True, ("imagenet_labels.txt",))
    assert found.minimum_runtime == "1.14.0"


def test_a_stateful_detector_that_nothing_describes(shared: Path) -> None:
    found = inspect(shared / "models" / "traffic_model.tflite")
    assert found.quantisation == "mixed: 1 float op: TFLite_Detection_PostProcess"
    assert [op.op for op in found.float_ops] == [184]
    assert {port.role for port in (*found.inputs, *found.outputs)} == {"unknown"}
    assert "edge-convert card" in found.card.error
    assert [port.shape for port in found.outputs[:2]] == [(1, -1, 4), (1, -1)]  # the op says N when it runs
    assert found.outputs[4].shape == (1, 8, 8, 320)
    assert found.members == () and not found.metadata.present


def test_states_and_detection_get_their_roles_from_a_card(shared: Path, tmp_path: Path) -> None:
    path = shared / "models" / "traffic_model.tflite"
    names = [f"TFLite_Detection_PostProcess{suffix}" for suffix in ("", ":1", ":2", ":3")]
    states = [(f"raw_inputs/init_lstm_{letter}", f"raw_outputs/lstm_{letter}") for letter in "ch"]
    card = {
        "inputs": [
            {"role": "image", "tensor": "normalized_input_image_tensor"},
            *({"role": "state", "tensor": tensor, "source": source} for tensor, source in states),
        ],
        "outputs": [{"task": "detection", **dict(zip(("boxes", "classes", "scores", "count"), names, strict=True))}],
    }
    found = written(tmp_path, with_members(path.read_bytes(), {CARD_MEMBER: json.dumps(card).encode()}))
    assert found.card.error == ""
    assert found.inputs[1].role == "state from raw_outputs/lstm_c"
    assert [port.role for port in found.outputs][1::3] == [
        "detection 'objects': classes",
        "state for raw_inputs/init_lstm_c",
    ]


def test_a_dynamic_range_and_a_float_model(tmp_path: Path) -> None:
    dynamic = written(tmp_path, dynamic_range_hybrid())
    assert dynamic.quantisation == "dynamic range (int8 weights, float activations)"
    assert shares(dynamic)["edgetpu"] == (0, 7)
    plain = written(tmp_path, float_hybrid())
    assert plain.quantisation == "float32"
    assert plain.parameters == dynamic.parameters


def test_normalisation_of_its_own_is_told(tmp_path: Path) -> None:
    model = HandmadeModel()
    sensors, centred, made = model.tensor("sensors", (1, 2)), model.tensor("centred", (1, 2)), model.tensor("m", (1, 1))
    model.op("SUB", [sensors, model.constant("mean", [5.0, 300.0])], [centred], options="SubOptions")
    model.op("FULLY_CONNECTED", [centred, model.constant("w", [[1.0, 1.0]]), -1], [made])
    features = [{"name": "speed"}, {"name": "load"}]
    card = {
        "inputs": [{"role": "features", "tensor": "sensors", "features": features}],
        "outputs": [{"task": "regression", "tensor": "m"}],
    }
    content = with_members(model.content([sensors], [made]), {CARD_MEMBER: json.dumps(card).encode()})
    (said,) = written(tmp_path, content).own_normalisation
    assert "'sensors' is normalised inside the model (SUB, mean 5, 300" in said


def test_a_cpu_build_and_a_drift_reference_inside_are_told(tmp_path: Path) -> None:
    members = {CPU_MEMBER: b"x", "edge-agent/drift.json": b"{}"}
    found = written(tmp_path, with_members(float_hybrid(), members))
    assert (found.cpu_build, found.drift_reference, found.golden) == (True, True, False)
    assert found.drift is not None
    assert "edge-convert baseline" in found.drift.error


# --- damage


def with_card(card: bytes) -> bytes:
    file = read_model(MODEL)
    return with_members(bare_model(file.content), {**file.members, CARD_MEMBER: card})


@pytest.mark.parametrize("card", [b"", b"not json", b"[1, 2]", b'{"schema": ', b"\xff\xfe"])
def test_a_card_that_is_no_json_is_reported_and_the_rest_is_still_shown(tmp_path: Path, card: bytes) -> None:
    found = written(tmp_path, with_card(card))
    assert CARD_MEMBER in found.card.error and found.card.present
    assert found.quantisation == "full int8"
    assert found.golden and "labels.txt" in {member.name for member in found.members}
    assert found.sha256 != inspect(MODEL).sha256
    assert found.inputs[0].role == "unknown"


def test_a_card_with_an_unknown_key_or_tensor_is_reported(tmp_path: Path) -> None:
    raw: dict[str, Any] = json.loads(read_model(MODEL).members[CARD_MEMBER])
    assert "colour" in written(tmp_path, with_card(json.dumps({**raw, "colour": 1}).encode())).card.error
    raw["inputs"][0]["tensor"] = "sensor"
    found = written(tmp_path, with_card(json.dumps(raw).encode()))
    assert '"sensor"' in found.card.error
    assert found.card.provenance["seed"] == 2026


def test_a_zip_that_lost_its_end_is_said_and_the_model_still_shown(tmp_path: Path) -> None:
    content = MODEL.read_bytes()
    assert any("digest" in note for note in written(tmp_path, content[:-10]).notes)  # only the comment lost its end
    found = written(tmp_path, content[: -len(seal(b"")) - 10])
    assert found.flatbuffer_bytes is None and found.members == ()
    assert any("the zip after the model" in note for note in found.notes)
    assert found.quantisation == "full int8"
    assert "nobody knows" in text(found, 100)


def test_damaged_standard_metadata_is_said_and_the_model_still_shown(tmp_path: Path) -> None:
    model = schema.ModelT.InitFromPackedBuf(float_hybrid(), 0)
    entry, buffer = schema.MetadataT(), schema.BufferT()
    entry.name, entry.buffer = "TFLITE_METADATA", len(model.buffers)
    buffer.data = list(b"\x10\0\0\0M001" + b"\xff" * 40)
    model.metadata, model.buffers = [entry], [*model.buffers, buffer]
    found = written(tmp_path, packed(model))
    assert found.metadata.present and "damaged" in found.metadata.error
    assert "standard metadata" in text(found, 100)


@pytest.mark.parametrize("name", ["tf2_mobilenet_v2_1.0_224_ptq"])
def test_a_public_model_with_a_damaged_zip_keeps_its_metadata(shared: Path, tmp_path: Path, name: str) -> None:
    content = bytearray((shared / "models" / f"{name}.tflite").read_bytes())
    content[-22:-18] = b"xxxx"  # the signature of the zip's end
    found = written(tmp_path, bytes(content))
    assert found.notes and found.metadata.labels == ("imagenet_labels.txt",)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(st.floats(0, 1), st.integers(0, 255)), min_size=1, max_size=6), st.floats(0, 0.3))
def test_bytes_flipped_or_cut_behind_the_flatbuffer_never_end_the_inspection(
    tmp_path: Path, flips: list[tuple[float, int]], cut: float
) -> None:
    card = read_model(MODEL).members[CARD_MEMBER]
    bare = float_hybrid()
    content = bytearray(with_members(bare, {"labels.txt": b"a\nb\n" * 9, CARD_MEMBER: card}))
    behind = len(content) - len(bare)
    for place, value in flips:
        content[len(bare) + int(place * (behind - 1))] = value
    found = written(tmp_path, bytes(content[: len(content) - int(cut * behind)]))
    assert found.quantisation == "float32"


def test_flipped_bytes_anywhere_never_end_the_inspection_otherwise_than_as_a_model_error(tmp_path: Path) -> None:
    chance, bases, refused = random.Random(11), (float_hybrid(), dynamic_range_hybrid()), 0
    path = tmp_path / "model.tflite"
    for _ in range(150):
        content = bytearray(chance.choice(bases))
        for _ in range(chance.randint(1, 5)):
            content[chance.randrange(8, len(content))] = chance.choice([0, 1, 2, 4, 255, chance.randrange(256)])
        path.write_bytes(bytes(content))
        try:
            text(inspect(path, measure=False), 100)
            edgetpu_report(path, compiler=None)
        except ModelError:
            refused += 1
    assert 0 < refused < 150


def test_names_in_a_file_can_not_write_to_the_terminal_or_be_taken_for_markup(tmp_path: Path) -> None:
    model = HandmadeModel()
    x, y = model.tensor("\x1b[31mred", (1, 4)), model.tensor("out[/bold] [1]", (1, 4))
    model.op("RELU", [x], [y])
    said = text(written(tmp_path, model.content([x], [y])), 120)
    assert "\x1b" not in said and "out[/bold] [1]" in said


@pytest.mark.parametrize("content", [b"", b"<html>", b"\0" * 100, b"version https://git-lfs"])
def test_what_is_no_model_is_a_usage_error(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "model.tflite"
    path.write_bytes(content)
    assert main(["inspect", str(path)]) == 2
    with pytest.raises(ModelError):
        inspect(path)


def test_a_missing_file_and_a_folder_are_usage_errors(tmp_path: Path) -> None:
    assert main(["inspect", str(tmp_path / "none.tflite")]) == 2
    assert main(["inspect", str(tmp_path)]) == 2


def test_a_graph_that_can_not_be_read_is_a_model_error(tmp_path: Path) -> None:
    path = tmp_path / "model.tflite"
    path.write_bytes(float_hybrid()[:400])
    assert main(["inspect", str(path)]) == 2


# --- what a person and a program see


@pytest.mark.parametrize("width", [100, 160])
def test_the_tables_fit_the_terminal_and_hold_the_facts(width: int) -> None:
    said = text(inspect(MODEL), width)
    assert max(len(line) for line in said.splitlines()) <= width
    for fact in (
        "conveyor 1.1.0; full int8",
        "1x96x96x3",
        "15 of 15",
        "measured here with ai-edge-litert",
        "FULLY_CONN",
    ):
        assert fact in said
    assert "\x1b" not in said


def test_only_the_largest_layers_are_shown_unless_all_are_asked_for() -> None:
    found = inspect(MODEL)
    rows = re.compile(r"^ *\d+  [A-Z_0-9]+ ", re.MULTILINE)
    assert len(rows.findall(text(found, 120))) == 10
    assert len(rows.findall(text(found, 120, layers=True))) == 15


def test_json_has_the_schema_and_all_that_the_struct_has(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["inspect", str(MODEL), "--json"]) == 0
    said = capsys.readouterr().out
    assert said.count("\n") == 1
    assert json.loads(said)["schema"] == "edge-agent/convert-inspect/1"
    assert msgspec.json.decode(said.encode(), type=Inspection) == inspect(MODEL)


def test_the_command_prints_to_a_file_without_colours(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["inspect", str(MODEL), "--layers"]) == 0
    said = capsys.readouterr().out
    assert "Layers" in said and "\x1b" not in said


def test_the_members_are_those_that_unzip_lists() -> None:
    with zipfile.ZipFile(MODEL) as archive:
        listed = {entry.filename: entry.file_size for entry in archive.infolist()}
    assert {member.name: member.bytes for member in inspect(MODEL).members} == listed
