"""Keras 2, Keras 3 and SavedModel sources, with the real frameworks: every output against the source's own, by name."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
import pytest

from converters.child import run_worker
from converters.records import FloatModel, Tensors
from converters.source_kind import kind_of
from converters.sources import load_source, predict_source
from edge_agent.errors import ConfigError, ModelError
from edge_agent.io.runtimes.litert import LiteRtRuntime
from tests.converters.trained_models import inputs_of, require, run_in, temporary_folder, trained_keras

pytestmark = pytest.mark.keras
MAKE = Path(__file__).with_name("keras_models.py")
CLOSE = 1e-4
ROWS = 70  # more than one batch, and the last one short
SHAPES = {
    "image": (8, 8, 3),
    "chemistry": (5,),
    "reading": (3,),
    "series": (4, 2),
    "a": (2,),
    "b": (3,),
    "c": (3, 4),
}


@pytest.fixture(autouse=True)
def _environment() -> None:
    require("keras")


@cache
def made(version: int) -> Path:
    """The folder with the models of keras_models.py."""
    folder = temporary_folder() / f"made{version}"
    run_in(require("keras"), [str(MAKE), str(version), str(folder)])
    return folder


def rows_for(source: FloatModel) -> Tensors:
    rng = np.random.default_rng(5)
    inputs = LiteRtRuntime(source.content).inputs
    rows = {spec.name: rng.normal(0, 2, (ROWS, *spec.shape[1:])).astype(np.float32) for spec in inputs}
    return {name: values + 100 if name == "chemistry" else values for name, values in rows.items()}


def differences(source: FloatModel, rows: Tensors, expected: Tensors) -> dict[str, float]:
    """By output: the float .tflite, row by row and by name, against ``expected``."""
    runtime = LiteRtRuntime(source.content)
    count = len(next(iter(rows.values())))
    found = [runtime.invoke({name: values[n : n + 1] for name, values in rows.items()}) for n in range(count)]
    return {
        name: float(np.abs(np.concatenate([row[name] for row in found]) - values).max())
        for name, values in expected.items()
    }


def exported(model: Path, work: Path, signature: str | None = None) -> FloatModel:
    """The float model, after its outputs were found equal to the original's."""
    source = load_source(str(model), work=work, signature=signature)
    rows = rows_for(source)
    expected = predict_source(str(model), rows, work=work, signature=signature)
    assert {spec.name for spec in LiteRtRuntime(source.content).outputs} == set(expected)
    worst = differences(source, rows, expected)
    assert max(worst.values()) < CLOSE, worst
    # outputs that do not differ from each other would hide a swap
    assert all(np.abs(values).max() > 10 * CLOSE for values in expected.values())
    return source


def names(source: FloatModel) -> tuple[list[str], list[str]]:
    runtime = LiteRtRuntime(source.content)
    for spec in (*runtime.inputs, *runtime.outputs):
        assert spec.shape[0] == 1
        assert spec.dtype == np.float32
        assert spec.shape[1:] == SHAPES.get(spec.name, spec.shape[1:])
    return sorted(spec.name for spec in runtime.inputs), sorted(spec.name for spec in runtime.outputs)


@pytest.mark.parametrize(("version", "file"), [(2, "list.keras"), (3, "list.keras"), (3, "dict.h5")])
def test_inputs_and_outputs_keep_their_names_whatever_their_order(version: int, file: str, tmp_path: Path) -> None:
    source = exported(made(version) / file, tmp_path)
    assert source.kind == f"keras{version}"
    assert names(source) == (["chemistry", "image"], ["age", "code"])
    assert source.versions["tensorflow"] == "2.21.0"
    assert source.versions["tf-keras" if version == 2 else "keras"].startswith(f"{version}.")


@pytest.mark.parametrize(
    ("version", "file", "expected"),
    [
        (3, "ops.keras", (["chemistry"], ["add", "multiply", "pair"])),
        (2, "ops.keras", (["chemistry"], ["pair", "tf.__operators__.add", "tf.math.multiply"])),
        (3, "recurrent.keras", (["series"], ["memory", "memory_1", "memory_2"])),
        (2, "sequential.keras", (["reading"], ["score"])),
        (3, "built.keras", (["input_layer"], ["score"])),
    ],
)
def test_tensors_without_names_of_their_own_get_their_layers(
    version: int, file: str, expected: tuple[list[str], list[str]], tmp_path: Path
) -> None:
    assert names(exported(made(version) / file, tmp_path)) == expected


@pytest.mark.parametrize(
    ("version", "file", "said"),
    [
        (3, "own_layer.keras", r"'Doubled' is a class or function of your own: .*model\.export"),
        (2, "own_layer.keras", r"'Doubled' is a class or function of your own: .*model\.export"),
        (3, "subclassed.keras", r"'Subclassed' is a class or function of your own"),
        (3, "lambda.keras", r"a Lambda layer's code is not run"),
        (3, "integers.keras", r"input 'counts' takes uint8"),
        (3, "any_size.keras", r"input 'picture' has shape \(None, None, None, 3\)"),
    ],
)
def test_a_keras_model_that_can_not_be_taken_says_why(version: int, file: str, said: str, tmp_path: Path) -> None:
    model = made(version) / file
    with pytest.raises(ConfigError, match=said) as caught:
        load_source(str(model), work=tmp_path)
    assert str(model) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_class_of_ones_own_goes_through_a_saved_model(tmp_path: Path) -> None:
    source = exported(made(3) / "exported", tmp_path)
    assert source.kind == "saved_model"
    assert [spec.shape for spec in LiteRtRuntime(source.content).inputs] == [(1, 3)]


def test_a_signature_of_a_saved_model_is_chosen_by_name(tmp_path: Path) -> None:
    model = made(3) / "two_signatures"
    # its inputs stand in the order b, a
    assert names(exported(model, tmp_path, "small")) == (["a", "b"], ["y", "z"])
    assert names(exported(model, tmp_path, "large")) == (["c"], ["w"])
    with pytest.raises(ConfigError, match="several signatures; choose with --signature one of large, small"):
        load_source(str(model), work=tmp_path)
    with pytest.raises(ConfigError, match="no signature 'medium'; choose with --signature one of large, small"):
        load_source(str(model), work=tmp_path, signature="medium")


@pytest.mark.parametrize(
    ("name", "error", "said"),
    [
        ("no_signature", ConfigError, "has no signatures"),
        ("fixed_batch", ConfigError, r"input 'a' has shape \(8, 3\): save it with a batch of 1"),
        ("determinant", ConfigError, "can't hold without TensorFlow: MatrixDeterminant"),
        ("best", ModelError, "output 'y' is int64"),
    ],
)
def test_a_saved_model_that_can_not_be_taken_says_why(
    name: str, error: type[Exception], said: str, tmp_path: Path
) -> None:
    with pytest.raises(error, match=said) as caught:
        load_source(str(made(3) / name), work=tmp_path)
    assert name in str(caught.value)


def test_a_saved_model_that_is_damaged_is_named(tmp_path: Path) -> None:
    (tmp_path / "saved_model.pb").write_bytes(b"\x08\x01 damaged")
    with pytest.raises(ConfigError, match=r"TensorFlow 2\.21\.0 can't load it"):
        load_source(str(tmp_path), work=tmp_path / "work")


@pytest.mark.parametrize(("version", "file"), [(3, "model.keras"), (2, "model.h5"), (3, "saved_model")])
def test_a_trained_hybrid_is_exported_the_same_to_the_bit_each_time(version: int, file: str, tmp_path: Path) -> None:
    model = trained_keras(version) / file
    first, second = (load_source(str(model), work=tmp_path / folder) for folder in ("first", "second"))
    assert first.content == second.content
    assert first.sha256 == second.sha256
    rows = inputs_of("test", ROWS)
    expected = predict_source(str(model), rows, work=tmp_path)
    assert expected.keys() == {"code"}
    assert expected["code"].shape == (ROWS, 10)
    worst = differences(first, rows, expected)
    assert worst["code"] < CLOSE
    swapped = {**rows, "chemistry": rows["chemistry"][::-1]}
    assert differences(first, swapped, expected)["code"] > 100 * CLOSE


def test_inputs_that_the_model_does_not_have_are_refused(tmp_path: Path) -> None:
    model = made(3) / "sequential.keras"
    with pytest.raises(ConfigError, match="the model's inputs are reading; given were pressure"):
        predict_source(str(model), {"pressure": np.zeros((2, 3), np.float32)}, work=tmp_path)


def test_the_version_in_real_files_is_found() -> None:
    for version in (2, 3):
        for file in ("list.h5", "list.keras"):
            assert kind_of(str(made(version) / file)) == f"keras{version}"


def test_a_model_of_the_other_keras_is_refused_by_the_worker_itself(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"can't load it|of your own"):
        run_worker("keras", "keras3", "export", {"path": str(made(2) / "list.keras")}, tmp_path)
