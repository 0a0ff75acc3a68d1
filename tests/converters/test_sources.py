"""What a name on the command line is, and a float .tflite as a source: without any framework."""

from __future__ import annotations

import json
import struct
import zipfile
from pathlib import Path

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.interpreter import Interpreter
from hypothesis import given, settings
from hypothesis import strategies as st

from converters.errors import EnvironmentMissingError
from converters.source_kind import kind_of
from converters.sources import load_source, predict_source, sha256_of
from converters.tflite.archive import with_members
from converters.tflite.float_source import float_source
from edge_agent.errors import ConfigError, EdgeAgentError, ModelError
from edge_agent.io.model_file import parse_model
from tests.converters.handmade_models import HandmadeModel, dynamic_range_hybrid, float_hybrid

HDF5 = b"\x89HDF\r\n\x1a\n"


def keras_zip(path: Path, version: str) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("metadata.json", json.dumps({"keras_version": version}))
        archive.writestr("config.json", "{}")
    return path


def zip_of(path: Path, *names: str) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name in names:
            archive.writestr(name, "{}")
    return path


def hdf5_with(version: str) -> bytes:
    """The parts of an HDF5 file that name its Keras version, laid out as h5py does."""
    heap_at = 512
    name = b"keras_version\0"
    attribute = struct.pack("<BBHHH", 1, 0, len(name), 20, 8) + name.ljust(16, b"\0") + bytes(24 + 8)
    attribute += struct.pack("<IQI", len(version), heap_at, 2)
    first, wanted = b"tensorflow\0\0\0\0\0\0", version.encode().ljust(16, b"\0")
    objects = b"".join(
        struct.pack("<HHIQ", index, 0, 0, size) + text
        for index, size, text in ((1, 10, first), (2, len(version), wanted))
    )
    heap = b"GCOL" + struct.pack("<IQ", 1, 16 + len(objects)) + objects
    return (HDF5 + bytes(56) + attribute + b"model_config\0").ljust(heap_at, b"\0") + heap


def refused(model: Path | str) -> str:
    with pytest.raises(EdgeAgentError) as caught:
        kind_of(str(model))
    assert caught.value.exit_code == 2
    assert "\n" not in str(caught.value)
    return str(caught.value)


# -- kinds


@pytest.mark.parametrize(("version", "kind"), [("3.15.1", "keras3"), ("2.21.0", "keras2"), ("2.2.4-tf", "keras2")])
def test_the_keras_version_in_a_file_decides_not_its_name(tmp_path: Path, version: str, kind: str) -> None:
    assert kind_of(str(keras_zip(tmp_path / "a.keras", version))) == kind
    hdf5 = tmp_path / "a.keras.h5"
    hdf5.write_bytes(hdf5_with(version))
    assert kind_of(str(hdf5)) == kind


def test_a_keras_version_that_nobody_knows_is_an_error(tmp_path: Path) -> None:
    assert "Keras 4.0" in refused(keras_zip(tmp_path / "a.keras", "4.0"))


def test_a_saved_model_is_a_folder_with_its_graph(tmp_path: Path) -> None:
    assert "without saved_model.pb" in refused(tmp_path)
    (tmp_path / "saved_model.pb").write_bytes(b"\x08\x01")
    assert kind_of(str(tmp_path)) == "saved_model"
    assert "name the folder that holds it" in refused(tmp_path / "saved_model.pb")


def test_a_float_tflite_is_found_by_its_content(tmp_path: Path) -> None:
    path = tmp_path / "model.bin"
    path.write_bytes(float_hybrid())
    assert kind_of(str(path)) == "tflite"


def test_torch_sources_are_an_exported_program_or_a_function(tmp_path: Path) -> None:
    program = zip_of(tmp_path / "m.pt2", "m/archive_format", "m/models/model.json", "m/data/weights/weight_0")
    assert kind_of(str(program)) == "torch"
    older = zip_of(tmp_path / "old.pt2", "serialized_exported_program.json", "serialized_state_dict.pt")
    assert kind_of(str(older)) == "torch"
    (tmp_path / "net.py").write_text("")
    assert kind_of(f"{tmp_path / 'net.py'}:make") == "torch"
    assert kind_of("package.module:make") == "torch"


def test_an_onnx_file_begins_with_its_version(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    path.write_bytes(b"\x08\x0a\x12\x07pytorch")
    assert kind_of(str(path)) == "onnx"
    path.write_bytes(b"something else")
    assert "no ONNX model" in refused(path)


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("m.keras", b"", "is empty"),
        ("m.keras", b"\n<!DOCTYPE html><html>", "web page"),
        ("m.h5", b"version https://git-lfs.github.com/spec/v1\n", "git lfs pull"),
        ("m.keras", b"PK\x03\x04 cut", "damaged"),
        ("m.keras", b"nonsense", "damaged, or no .keras file"),
        ("m.pt", b"\x80\x02}q", "torch.export.save"),
        ("m.safetensors", b"12345678{}", "weights without a graph"),
        ("m.py", b"import torch", "FILE.py:FUNCTION"),
        ("m.json", b"{}", "architecture without weights"),
        ("m.what", b"12345678", "not a model of a known kind"),
        ("m.h5", HDF5 + bytes(100), "weights only"),
        ("m.h5", hdf5_with("3.0")[:520], "weights only"),
    ],
)
def test_a_file_that_is_no_source_says_what_it_is(tmp_path: Path, name: str, content: bytes, said: str) -> None:
    (tmp_path / name).write_bytes(content)
    assert said in refused(tmp_path / name)


def test_weights_without_a_graph_and_torchscript_say_what_to_give_instead(tmp_path: Path) -> None:
    assert "torch.export.save" in refused(zip_of(tmp_path / "m.pth", "m/data.pkl", "m/data/0"))
    assert "TorchScript" in refused(zip_of(tmp_path / "ts.pt", "ts/data.pkl", "ts/constants.pkl"))
    assert "neither .keras nor .pt2" in refused(zip_of(tmp_path / "z.zip", "readme"))


def test_what_is_not_there_is_named(tmp_path: Path) -> None:
    assert "does not exist" in refused(tmp_path / "m.keras")
    assert "there is no file" in refused(f"{tmp_path}/net.py:make")


@settings(max_examples=200, deadline=None)
@given(
    start=st.sampled_from([b"", HDF5, HDF5 + hdf5_with("3.1")[8:400], b"PK\x03\x04", b"\x08\x01", b"1234TFL3"]),
    rest=st.binary(max_size=400),
    suffix=st.sampled_from([".keras", ".h5", ".onnx", ".tflite", ".pt2", ".pt", ""]),
)
def test_whatever_a_file_holds_it_is_a_kind_or_a_refusal(
    tmp_path_factory: pytest.TempPathFactory, start: bytes, rest: bytes, suffix: str
) -> None:
    path = tmp_path_factory.getbasetemp() / f"any{suffix}"
    path.write_bytes(start + rest)
    try:
        assert kind_of(str(path)) in ("keras2", "keras3", "onnx")
    except (ConfigError, ModelError) as error:
        assert str(path) in str(error)


# -- a .tflite that is quantised already


def test_a_model_with_integer_activations_is_refused(example: Path) -> None:
    assert "already quantised" in refused(example / "model" / "conveyor.tflite")


def test_a_model_with_integer_or_half_precision_weights_is_refused(tmp_path: Path) -> None:
    (tmp_path / "dynamic.tflite").write_bytes(dynamic_range_hybrid())
    assert "are int8" in refused(tmp_path / "dynamic.tflite")
    model = HandmadeModel()
    a, y = model.tensor("a", (1, 2)), model.tensor("y", (1, 2))
    half, whole = model.constant("w", [1.0, 2.0], "float16"), model.tensor("w whole", (2,))
    model.op("DEQUANTIZE", [half], [whole])
    model.op("ADD", [a, whole], [y], options="AddOptions")
    (tmp_path / "half.tflite").write_bytes(model.content([a], [y]))
    assert "are float16" in refused(tmp_path / "half.tflite")


def test_public_quantised_models_are_refused_for_what_they_are(shared: Path) -> None:
    assert "compiled for the Edge TPU" in refused(shared / "models" / "mobilenet_v1_0.25_128_quant_edgetpu.tflite")
    for name in ("tf2_mobilenet_v2_1.0_224_ptq.tflite", "traffic_model.tflite"):
        assert "already quantised" in refused(shared / "models" / name)


# -- a float .tflite as a source


def two_signatures() -> bytes:
    model = HandmadeModel()
    a, y = model.tensor("a:0", (1, 3), signature=(-1, 3)), model.tensor("y:0", (1, 3), signature=(-1, 3))
    model.op("ADD", [a, model.constant("w", [1.0, 2.0, 3.0])], [y], options="AddOptions")
    model.signature({"first": a}, {"result": y}, "one")
    model.signature({"second": a}, {"answer": y}, "two")
    return model.content([a], [y])


def without_signature(*, open_batch: bool = False, shape: tuple[int, ...] = (1, 3)) -> bytes:
    model = HandmadeModel()
    signature = (-1, *shape[1:]) if open_batch else None
    a, y = model.tensor("a:0", shape, signature=signature), model.tensor("y:0", shape, signature=signature)
    model.op("ADD", [a, model.constant("w", [1.0, 2.0, 3.0])], [y], options="AddOptions")
    return model.content([a], [y])


def test_a_model_that_is_as_wanted_stays_the_same_to_the_bit() -> None:
    assert float_source(float_hybrid(), "m.tflite") == float_hybrid()


def test_a_model_without_a_signature_gets_its_tensor_names_and_can_be_quantised() -> None:
    from ai_edge_quantizer import quantizer, recipe

    content = float_source(without_signature(), "m.tflite")
    signatures = Interpreter(model_content=content).get_signature_list()
    assert signatures == {"serving_default": {"inputs": ["a:0"], "outputs": ["y:0"]}}
    quantize = quantizer.Quantizer(bytearray(content), recipe.static_wi8_ai8())
    rows = [{"a:0": np.full((1, 3), value, np.float32)} for value in (-1, 1)]
    quantised = quantize.quantize(quantize.calibrate({"serving_default": rows})).quantized_model
    assert Interpreter(model_content=bytes(quantised)).get_input_details()[0]["name"] == "a:0"


def test_an_open_batch_becomes_one() -> None:
    content = float_source(without_signature(open_batch=True), "m.tflite")
    interpreter = Interpreter(model_content=content)
    for detail in (*interpreter.get_input_details(), *interpreter.get_output_details()):
        assert detail["shape_signature"].tolist() == [1, 3]


def test_constants_of_a_rewritten_model_are_aligned() -> None:
    content = float_source(without_signature(open_batch=True), "m.tflite")
    model = schema.Model.GetRootAsModel(content, 0)
    offsets = [model.Buffers(number).DataAsNumpy() for number in range(model.BuffersLength())]
    starts = [content.index(data.tobytes()) for data in offsets if isinstance(data, np.ndarray)]
    assert starts
    assert all(start % 16 == 0 for start in starts)


def test_a_signature_is_chosen_by_name(tmp_path: Path) -> None:
    (tmp_path / "m.tflite").write_bytes(two_signatures())
    name = str(tmp_path / "m.tflite")
    source = load_source(name, work=tmp_path, signature="two")
    signatures = Interpreter(model_content=source.content).get_signature_list()
    assert signatures == {"two": {"inputs": ["second"], "outputs": ["answer"]}}
    with pytest.raises(ConfigError, match="several signatures; choose with --signature one of one, two"):
        load_source(name, work=tmp_path)
    with pytest.raises(ConfigError, match="no such signature; choose with --signature one of one, two"):
        load_source(name, work=tmp_path, signature="three")


def test_files_behind_a_rewritten_model_stay() -> None:
    content = float_source(with_members(without_signature(), {"labels.txt": b"a\nb"}), "m.tflite")
    assert parse_model(content, Path("m.tflite")).members == {"labels.txt": b"a\nb"}


@pytest.mark.parametrize(
    ("model", "said"),
    [
        (without_signature(shape=(4, 3)), "first axis must be a batch of 1"),
        (float_hybrid()[:2000], "damaged|does not run"),
    ],
)
def test_a_model_that_a_device_could_not_take_is_refused(tmp_path: Path, model: bytes, said: str) -> None:
    (tmp_path / "m.tflite").write_bytes(model)
    with pytest.raises(ModelError, match=said):
        load_source(str(tmp_path / "m.tflite"), work=tmp_path)


@settings(max_examples=300, deadline=None)
@given(changes=st.lists(st.tuples(st.integers(0, 1200), st.integers(0, 255)), min_size=1, max_size=6))
def test_a_damaged_model_is_refused_or_read_but_never_ends_in_a_traceback(changes: list[tuple[int, int]]) -> None:
    content = bytearray(two_signatures())
    for position, value in changes:
        content[position % len(content)] = value
    try:
        assert float_source(bytes(content), "m.tflite", "two")
    except (ConfigError, ModelError) as error:
        assert "m.tflite" in str(error)


def test_an_input_of_open_size_is_refused() -> None:
    model = HandmadeModel()
    a, y = model.tensor("a", (1, 1, 3), signature=(-1, -1, 3)), model.tensor("y", (1, 1, 3), signature=(-1, -1, 3))
    model.op("NEG", [a], [y])
    with pytest.raises(ModelError, match=r"input 'a' has shape \[-1, -1, 3\]: only the batch may be open"):
        float_source(model.content([a], [y]), "m.tflite")


def test_an_output_that_is_no_real_number_is_refused(tmp_path: Path) -> None:
    model = HandmadeModel()
    a, y = model.tensor("a", (1, 3)), model.tensor("best", (1,), "int64")
    axis = model.constant("axis", 1, "int32")
    model.op("ARG_MAX", [a, axis], [y], options="ArgMaxOptions", outputType=schema.TensorType.INT64)
    (tmp_path / "m.tflite").write_bytes(model.content([a], [y]))
    with pytest.raises(ModelError, match="output 'best' is int64"):
        load_source(str(tmp_path / "m.tflite"), work=tmp_path)


def test_predictions_of_a_tflite_are_bound_by_name(tmp_path: Path) -> None:
    (tmp_path / "m.tflite").write_bytes(float_hybrid())
    rng = np.random.default_rng(3)
    rows = {
        "sensors": rng.normal(size=(5, 3)).astype(np.float32),
        "image": rng.random((5, 8, 8, 3)).astype(np.float32),
    }
    found = predict_source(str(tmp_path / "m.tflite"), rows, work=tmp_path)
    run = Interpreter(model_content=float_hybrid()).get_signature_runner()
    expected = [run(image=rows["image"][n : n + 1], sensors=rows["sensors"][n : n + 1])["fault"] for n in range(5)]
    assert list(found) == ["fault"]
    assert np.array_equal(found["fault"], np.concatenate(expected))


def test_inputs_that_do_not_fit_the_model_are_refused(tmp_path: Path) -> None:
    (tmp_path / "m.tflite").write_bytes(without_signature())
    with pytest.raises(ConfigError, match="same number of rows"):
        predict_source(str(tmp_path / "m.tflite"), {"a": np.zeros((2, 3)), "b": np.zeros((3, 3))}, work=tmp_path)
    with pytest.raises(ConfigError, match="the model's inputs are a:0; got b"):
        predict_source(str(tmp_path / "m.tflite"), {"b": np.zeros((2, 3))}, work=tmp_path)


# -- what every kind shares


def test_a_signature_is_asked_of_what_has_signatures_only(tmp_path: Path) -> None:
    model = keras_zip(tmp_path / "m.keras", "3.15.1")
    with pytest.raises(ConfigError, match=r"--signature serve: .* is keras3"):
        load_source(str(model), work=tmp_path, signature="serve")


@pytest.mark.parametrize(("version", "environment"), [("3.15.1", "keras"), ("2.21.0", "keras")])
def test_a_missing_environment_gives_the_command_that_makes_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, version: str, environment: str
) -> None:
    monkeypatch.delenv("EDGE_CONVERT_KERAS", raising=False)
    monkeypatch.setenv("EDGE_CONVERT_HOME", str(tmp_path / "home"))
    with pytest.raises(EnvironmentMissingError, match=f"edge-convert setup {environment}"):
        load_source(str(keras_zip(tmp_path / "m.keras", version)), work=tmp_path)


def test_the_hash_of_a_folder_is_of_every_name_and_byte(tmp_path: Path) -> None:
    for folder in ("a", "b"):
        (tmp_path / folder / "variables").mkdir(parents=True)
        (tmp_path / folder / "saved_model.pb").write_bytes(b"graph")
        (tmp_path / folder / "variables" / "data").write_bytes(b"weights")
    first = sha256_of(str(tmp_path / "a"), b"")
    assert sha256_of(str(tmp_path / "b"), b"other tflite") == first
    (tmp_path / "b" / "variables" / "data").rename(tmp_path / "b" / "variables" / "index")
    assert sha256_of(str(tmp_path / "b"), b"") != first
    (tmp_path / "a" / "saved_model.pb").write_bytes(b"graph!")
    assert sha256_of(str(tmp_path / "a"), b"") != first


def test_the_hash_of_a_function_covers_its_file_and_its_weights(tmp_path: Path) -> None:
    (tmp_path / "net.py").write_text("def make(): ...")
    name = f"{tmp_path / 'net.py'}:make"
    first = sha256_of(name, b"one")
    assert sha256_of(name, b"one") == first
    assert sha256_of(name, b"two") != first
    (tmp_path / "net.py").write_text("def make(): pass")
    assert sha256_of(name, b"one") != first
