"""ONNX Runtime on the processor as our Runtime: real sessions on small models."""

from __future__ import annotations

import gc
import threading
import weakref
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("onnxruntime", reason="ONNX Runtime is not installed: pip install '.[onnx]'")

from edge_agent.errors import ModelError, RunError
from edge_agent.io.runtimes import create
from edge_agent.io.runtimes.backend import Build
from edge_agent.io.runtimes.onnx import OnnxRuntime, build_cpu, version
from edge_agent.ports import Runtime
from tests.simulators import onnx_models
from tests.simulators.tflite_graph import GraphBuilder

CPU = Build("onnx-cpu")


def opened(model: bytes) -> Runtime:
    return create(model, "onnx-cpu", threads=1, external={})


def refusal(model: bytes) -> str:
    with pytest.raises(ModelError) as caught:
        opened(model)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_tensors_are_named_and_shaped_as_in_the_file_and_inputs_begin_at_zero() -> None:
    runtime = opened(onnx_models.hybrid())
    side = onnx_models.SIDE
    assert [(spec.name, spec.shape, spec.dtype.name, spec.scale) for spec in runtime.inputs] == [
        ("image", (1, side, side, 3), "float32", 0.0),
        ("sensors", (1, 3), "float32", 0.0),
    ]
    assert [(spec.name, spec.shape) for spec in runtime.outputs] == [("code", (1, 4))]
    info = runtime.info
    assert (info.delegate, info.runtime, info.threads, info.delegated, info.reason) == (
        "onnx-cpu", version(), 1, False, ""
    )  # fmt: skip
    zeros = {spec.name: np.zeros(spec.shape, np.float32) for spec in runtime.inputs}
    np.testing.assert_array_equal(runtime.invoke({})["code"], runtime.invoke(zeros)["code"])


def test_an_input_that_is_not_named_keeps_its_value_and_the_callers_array_is_not_kept() -> None:
    runtime = opened(onnx_models.counter())
    reading = np.array([[3.0]], np.float32)
    assert runtime.invoke({"reading": reading})["value"] == 6
    reading[:] = 100
    assert runtime.invoke({"state": np.array([[1.0]], np.float32)})["value"] == 8


def test_outputs_are_the_callers_to_keep() -> None:
    runtime = opened(onnx_models.identity())
    first = runtime.invoke({"x": np.ones((1, 4), np.float32)})["y"]
    runtime.invoke({"x": np.zeros((1, 4), np.float32)})
    assert (first == 1).all()


@pytest.mark.parametrize("dtype", ["float32", "float16", "int8", "uint8", "int64"])
def test_tensors_of_other_types_go_through(dtype: str) -> None:
    runtime = opened(onnx_models.identity(dtype=dtype))
    values = np.array([[1, 2, 3, 4]], dtype)
    np.testing.assert_array_equal(runtime.invoke({"x": values})["y"], values)


def test_a_tensor_that_does_not_fit_is_refused_before_the_run() -> None:
    runtime = opened(onnx_models.identity())
    for name, array in {"z": np.zeros((1, 4), np.float32), "x": np.zeros((4, 1), np.float32)}.items():
        with pytest.raises(ModelError, match=f"{name!r}"):
            runtime.invoke({name: array})
    with pytest.raises(ModelError, match="takes float32 of shape"):
        runtime.invoke({"x": np.zeros((1, 4), np.float64)})


def test_numbers_that_are_not_finite_come_out_as_they_are() -> None:
    values = np.array([[np.nan, np.inf, -np.inf, 0]], np.float32)
    np.testing.assert_array_equal(opened(onnx_models.identity()).invoke({"x": values})["y"], values)


def test_an_open_batch_is_one() -> None:
    runtime = opened(onnx_models.hybrid(batch="N"))
    assert {spec.shape[0] for spec in (*runtime.inputs, *runtime.outputs)} == {1}
    np.testing.assert_array_equal(runtime.invoke({})["code"], opened(onnx_models.hybrid()).invoke({})["code"])


def test_an_output_that_only_a_run_sizes_is_open() -> None:
    runtime = opened(onnx_models.nonzero())
    assert runtime.outputs[0].shape == (1, -1)
    assert runtime.invoke({})["y"].shape == (1, 0)
    assert runtime.invoke({"x": np.ones(4, np.float32)})["y"].shape == (1, 4)


def test_a_run_that_fails_is_an_error_of_the_run() -> None:
    nodes = [onnx_models.node("Gather", ["w", "x"], ["y"])]
    held = {"w": np.ones((3, 2), np.float32)}
    ports = [onnx_models.port("x", [1], "int64")], [onnx_models.port("y", [1, 2])]
    runtime = opened(onnx_models.model(nodes, *ports, held))
    with pytest.raises(RunError, match=r"onnx-cpu: the run failed: .*out of data bounds") as caught:
        runtime.invoke({"x": np.array([99])})
    assert "\n" not in str(caught.value)
    assert runtime.invoke({"x": np.array([2])})["y"].shape == (1, 2)


@pytest.mark.parametrize(
    ("model", "words"),
    [
        (b"", "No graph"),
        (onnx_models.hybrid()[:500], "protobuf parsing failed"),
        (onnx_models.hybrid().replace(b"Softmax", b"Softmix"), "Softmix"),
        (onnx_models.identity(dtype="string"), "input 'x' is tensor(string); a device takes tensors of bool, float16"),
        (onnx_models.identity((1, "height")), "input 'x' of shape [1, '?'] has an open dimension"),
    ],
)
def test_a_model_that_does_not_load_says_why(model: bytes, words: str) -> None:
    assert words in refusal(model)


@pytest.mark.parametrize("location", ["weights.bin", "../weights.bin", "{folder}/weights.bin", "absent.bin"])
def test_weights_in_other_files_are_never_read(location: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    for folder in (tmp_path, tmp_path / "here"):
        (folder / "weights.bin").write_bytes(np.ones(4, np.float32).tobytes())
    assert "its weights lie in another file" in refusal(onnx_models.outside(location.format(folder=tmp_path)))


def test_other_threads_go_on_while_it_runs() -> None:
    runtime, beats, stop = opened(onnx_models.products(512, 60)), [0], threading.Event()

    def beat() -> None:
        while not stop.wait(0.0005):
            beats[0] += 1

    ticker = threading.Thread(target=beat)
    ticker.start()
    try:
        before = beats[0]
        runtime.invoke({})  # one run, most of it in the library
        assert beats[0] - before >= 5
    finally:
        stop.set()
        ticker.join()


def test_its_threads_rest_between_two_runs() -> None:
    """By default they spin for a while, and take the cores of other pipelines."""
    runtime = OnnxRuntime(onnx_models.hybrid(), Build("onnx-cpu", threads=3))
    options = runtime._session.get_session_options()
    assert options.get_session_config_entry("session.intra_op.allow_spinning") == "0"
    assert (options.intra_op_num_threads, options.inter_op_num_threads) == (3, 1)


def test_a_closed_runtime_gives_its_memory_back() -> None:
    runtime: Any = build_cpu(onnx_models.hybrid(), CPU)
    session = weakref.ref(runtime._session)
    runtime.close()
    runtime.close()
    gc.collect()
    assert session() is None


def test_the_same_network_answers_as_in_tflite() -> None:
    """Dense layers with the same weights, through both runtimes."""
    w1, b1, w2, b2 = (onnx_models.weights(seed, *shape) for seed, shape in enumerate([(16, 6), (16,), (3, 16), (3,)]))
    nodes = [
        onnx_models.node("Gemm", ["x", "w1", "b1"], ["h"], transB=1),
        onnx_models.node("Relu", ["h"], ["r"]),
        onnx_models.node("Gemm", ["r", "w2", "b2"], ["y"], transB=1),
    ]
    held = {"w1": w1, "b1": b1, "w2": w2, "b2": b2}
    as_onnx = onnx_models.model(nodes, [onnx_models.port("x", [1, 6])], [onnx_models.port("y", [1, 3])], held)
    graph = GraphBuilder()
    x = graph.tensor("x", (1, 6))
    hidden = graph.dense(x, w1, b1, "h", relu=True)
    as_tflite = graph.finish({"x": x}, {"y": graph.dense(hidden, w2, b2, "y", relu=False)})
    first, second = opened(as_onnx), create(as_tflite, "xnnpack", threads=1, external={})
    rng = np.random.default_rng(9)
    for _ in range(20):
        values = {"x": rng.standard_normal((1, 6)).astype(np.float32)}
        np.testing.assert_allclose(first.invoke(values)["y"], second.invoke(values)["y"], atol=1e-5)
