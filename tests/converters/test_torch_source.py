"""Torch models become a float .tflite that computes the same, with the source's own names and pictures as the device
gives them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from converters.child import run_worker
from converters.sources import load_source, predict_source
from edge_agent.errors import ConfigError
from tests.converters.torch_onnx_models import answers, float_model, rows, shapes, torch_function, torch_program

pytestmark = pytest.mark.torch
NAMES = {"image": (1, 16, 16, 3), "chemistry": (1, 5), "code": (1, 4)}


@pytest.mark.parametrize("program", ["by_position", "by_keyword", "open_batch"])
def test_an_exported_program_keeps_its_names_and_its_arithmetic(program: str, tmp_path: Path) -> None:
    model = torch_program(program)
    runtime = float_model(model, tmp_path, ["image"])
    assert shapes(runtime) == NAMES
    expected = predict_source(model, rows(), work=tmp_path, images=["image"])
    assert np.ptp(expected["code"], axis=0).max() > 0.01  # the rows do differ
    np.testing.assert_allclose(answers(runtime, rows())["code"], expected["code"], atol=1e-5)


def test_the_order_of_inputs_in_the_source_and_in_a_call_means_nothing(tmp_path: Path) -> None:
    usual = float_model(torch_function("hybrid"), tmp_path / "1", ["image"])
    swapped = float_model(torch_function("sensors_first"), tmp_path / "2", ["image"])
    assert shapes(swapped) == NAMES
    given = rows()
    turned = dict(reversed(given.items()))
    expected = answers(usual, given)["code"]
    np.testing.assert_array_equal(answers(swapped, turned)["code"], expected)
    original = predict_source(torch_function("sensors_first"), turned, work=tmp_path, images=["image"])
    np.testing.assert_allclose(original["code"], expected, atol=1e-5)


def test_the_same_source_gives_the_same_bytes(tmp_path: Path) -> None:
    first, second = (load_source(torch_function("hybrid"), work=tmp_path / n, images=["image"]) for n in "ab")
    assert first.content == second.content
    assert set(first.versions) == {"torch", "litert-torch", "litert-converter"}


def test_outputs_without_names_are_numbered_and_the_note_says_how_to_name_them(tmp_path: Path) -> None:
    source = load_source(torch_function("pair"), work=tmp_path, images=["image"])
    assert any("output_0, output_1" in note and "dict" in note for note in source.notes)
    expected = predict_source(torch_function("pair"), rows(), work=tmp_path, images=["image"])
    assert expected["output_0"].shape == (6, 4)
    np.testing.assert_allclose(expected["output_1"], 3, atol=1e-5)


def test_a_mean_over_height_and_width_leaves_a_transpose_that_is_reported(tmp_path: Path) -> None:
    pooled = load_source(torch_function("hybrid"), work=tmp_path / "1", images=["image"])
    averaged = load_source(torch_function("with_mean"), work=tmp_path / "2", images=["image"])
    assert not any("TRANSPOSE" in note for note in pooled.notes)
    assert any("1 TRANSPOSE" in note and "adaptive_avg_pool2d" in note for note in averaged.notes)


def test_a_module_in_training_mode_is_converted_in_evaluation_mode(tmp_path: Path) -> None:
    source = load_source(torch_function("in_training"), work=tmp_path, images=["image"])
    assert any("training mode" in note for note in source.notes)
    twice = [
        predict_source(torch_function("in_training"), rows(), work=tmp_path, images=["image"])["code"] for _ in range(2)
    ]
    np.testing.assert_array_equal(*twice)


def test_pictures_that_have_their_channels_last_already_stay_as_they_are(tmp_path: Path) -> None:
    runtime = float_model(torch_function("folded"), tmp_path / "1", ["image"])
    assert shapes(runtime) == NAMES
    usual = float_model(torch_function("hybrid"), tmp_path / "2", ["image"])
    np.testing.assert_allclose(answers(runtime, rows())["code"], answers(usual, rows())["code"], atol=1e-6)


def test_without_a_card_nothing_is_turned_and_a_note_says_so(tmp_path: Path) -> None:
    source = load_source(torch_function("hybrid"), work=tmp_path, images=None)
    assert any("no card says which inputs are pictures" in note for note in source.notes)


@pytest.mark.parametrize(
    ("model", "images", "message"),
    [
        (lambda: torch_program("batch_of_4"), ["image"], "'image' has a fixed batch of 4"),
        (lambda: torch_program("in_training"), ["image"], "call model.eval"),
        (lambda: torch_function("misnamed"), ["picture"], "the examples picture, chemistry don't fit forward"),
        (lambda: torch_function("without_examples"), ["image"], "must return"),
        (lambda: torch_function("nowhere"), ["image"], "has no function nowhere"),
        (lambda: torch_function("hybrid"), ["photo"], "the card has a picture for 'photo', the model has no such"),
        (lambda: torch_function("hybrid"), ["chemistry"], "a picture needs"),
    ],
)
def test_what_cannot_be_converted_is_refused_in_words(
    model: object, images: list[str], message: str, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=message):
        load_source(model(), work=tmp_path, images=images)  # type: ignore[operator]


def test_a_file_that_is_no_exported_program_is_refused_by_the_worker_too(tmp_path: Path) -> None:
    torch_function("hybrid")  # skips where there is no torch
    weights = tmp_path / "weights.pt2"
    weights.write_bytes(b"\x80\x02weights")
    with pytest.raises(ConfigError, match=r"not a program that torch\.export\.save wrote"):
        run_worker("torch", "torch_source", "export", {"path": str(weights), "images": None}, tmp_path / "job")


def test_predicting_names_the_input_that_is_missing(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="missing: chemistry"):
        predict_source(torch_function("hybrid"), {"image": rows()["image"]}, work=tmp_path, images=["image"])
