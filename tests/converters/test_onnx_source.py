"""ONNX models become a float .tflite that computes the same, with the names and layouts of ONNX, and no network."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from converters.child import run_worker
from converters.sources import load_source, predict_source
from edge_agent.errors import ConfigError
from edge_agent.io.runtimes.litert import LiteRtRuntime
from tests.converters.torch_onnx_models import ROWS, SIDE, answers, float_model, onnx_network, rows, shapes

pytestmark = pytest.mark.onnx


@pytest.mark.parametrize("network", ["hybrid", "open_batch", "sensors_first"])
def test_a_hybrid_keeps_its_names_and_its_arithmetic_whatever_the_order_of_inputs(network: str, tmp_path: Path) -> None:
    model = onnx_network(network)
    runtime = float_model(model, tmp_path, ["image"])
    assert shapes(runtime) == {"image": (1, SIDE, SIDE, 3), "chemistry": (1, 5), "code": (1, 4)}
    turned = dict(reversed(rows().items()))
    expected = predict_source(model, turned, work=tmp_path, images=["image"])
    assert np.ptp(expected["code"], axis=0).max() > 0.01
    np.testing.assert_allclose(answers(runtime, turned)["code"], expected["code"], atol=1e-5)


def test_names_that_tensorflow_cannot_use_come_out_as_they_went_in(tmp_path: Path) -> None:
    model = onnx_network("odd_names")
    runtime = float_model(model, tmp_path, ["input.1"])
    assert shapes(runtime) == {"input.1": (1, SIDE, SIDE, 3), "/sensors/in:0": (1, 5), "output_0": (1, 4)}
    given = rows("input.1", "/sensors/in:0")
    expected = predict_source(model, given, work=tmp_path, images=["input.1"])
    np.testing.assert_allclose(answers(runtime, given)["output_0"], expected["output_0"], atol=1e-5)


def test_a_model_of_pictures_alone_is_converted_without_a_network_and_keeps_the_layout_of_its_outputs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = onnx_network("several_outputs")
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")  # nobody listens: a download fails at once
    runtime = float_model(model, tmp_path, None)  # the only input takes the picture, as on the device
    assert shapes(runtime) == {
        "image": (1, SIDE, SIDE, 3),
        "map": (1, 8, 8, 8),
        "boxes": (1, 32, 16),
        "code": (1, 4),
    }
    given = {"image": rows()["image"]}
    expected = predict_source(model, given, work=tmp_path)
    found = answers(runtime, given)
    for name, values in expected.items():
        np.testing.assert_allclose(found[name], values, atol=1e-5)


def test_an_input_of_three_axes_that_is_no_picture_keeps_them(tmp_path: Path) -> None:
    model = onnx_network("with_state")
    runtime = float_model(model, tmp_path, [])
    assert shapes(runtime) == {"reading": (1, 1, 6), "state": (1, 4, 6), "next": (1, 4, 6), "value": (1, 4)}
    rng = np.random.default_rng(1)
    given = {
        "reading": rng.standard_normal((ROWS, 1, 6)).astype(np.float32),
        "state": rng.standard_normal((ROWS, 4, 6)).astype(np.float32),
    }
    expected = predict_source(model, given, work=tmp_path, images=[])
    np.testing.assert_allclose(answers(runtime, given)["next"], expected["next"], atol=1e-6)


def test_the_same_source_gives_the_same_bytes(tmp_path: Path) -> None:
    first, second = (load_source(onnx_network("hybrid"), work=tmp_path / name, images=["image"]) for name in "ab")
    assert first.content == second.content
    assert set(first.versions) == {"onnx", "onnx2tf", "onnxruntime", "tensorflow"}


def test_the_worker_says_how_far_it_is_from_the_source_and_keeps_a_saved_model(tmp_path: Path) -> None:
    arguments = {"path": onnx_network("hybrid"), "images": ["image"]}
    result = run_worker("onnx", "onnx_source", "export", arguments, tmp_path)
    assert result["differences"]["code"]["relative"] < 1e-5
    assert (tmp_path / "saved_model" / "saved_model.pb").is_file()
    LiteRtRuntime((tmp_path / "model.tflite").read_bytes()).close()


def test_a_fixed_batch_and_a_damaged_file_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="fixed batch of 4"):
        load_source(onnx_network("batch_of_4"), work=tmp_path, images=["image"])
    damaged = tmp_path / "damaged.onnx"
    damaged.write_bytes(Path(onnx_network("hybrid")).read_bytes()[:-50])
    with pytest.raises(ConfigError, match=r"not an ONNX model|not a valid ONNX model"):
        load_source(str(damaged), work=tmp_path, images=["image"])


def test_predicting_names_the_inputs(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="inputs are image, chemistry; given were image"):
        predict_source(onnx_network("hybrid"), {"image": rows()["image"]}, work=tmp_path, images=["image"])
