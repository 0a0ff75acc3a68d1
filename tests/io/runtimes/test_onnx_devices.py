"""ONNX Runtime on a device: what is looked at and kept. No GPU here: the processor and ONNX Runtime's provider for
Azure, which takes nothing of a model, stand where CUDA and TensorRT would."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest

onnxruntime = pytest.importorskip("onnxruntime", reason="ONNX Runtime is not installed: pip install '.[onnx]'")

from edge_agent.errors import DeviceError, DeviceLostError, ModelError  # noqa: E402
from edge_agent.io.runtimes import BACKENDS, create  # noqa: E402
from edge_agent.io.runtimes.backend import Build  # noqa: E402
from edge_agent.io.runtimes.in_child import ChildRuntime  # noqa: E402
from edge_agent.io.runtimes.onnx import OnnxRuntime, version  # noqa: E402
from edge_agent.io.runtimes.onnx_devices import (  # noqa: E402
    CUDA,
    TENSORRT,
    Device,
    elsewhere,
    forget_engines,
    options_of,
    placement,
)
from tests.simulators import onnx_models  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore:Duplicate provider")  # the processor as a device is named twice

PROCESSOR = Device("the processor", ("CPUExecutionProvider",), 60.0)
TAKES_NOTHING = Device("Azure", ("AzureExecutionProvider",), 60.0)
HAS_CUDA = "CUDAExecutionProvider" in onnxruntime.get_available_providers()
WANTED = Build("onnx-cuda")


def profile(*nodes: tuple[str, str]) -> bytes:
    """As ONNX Runtime writes it."""
    kernels = [
        {"cat": "Node", "name": f"{op}_kernel_time", "args": {"op_name": op, "provider": provider}}
        for op, provider in nodes
    ]
    return json.dumps([{"cat": "Session", "name": "model_run", "args": {}}, *kernels]).encode()


def test_a_device_that_runs_all_of_a_model_has_nothing_to_say_and_leaves_no_profile(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    runtime = OnnxRuntime(onnx_models.hybrid(), WANTED, PROCESSOR)
    assert (runtime.info.delegated, runtime.info.reason, runtime.info.delegate) == (True, "", "onnx-cuda")
    assert list(tmp_path.iterdir()) == []
    runtime.invoke({})
    assert list(tmp_path.iterdir()) == []  # it is not written any more


def test_a_device_that_takes_nothing_is_not_believed() -> None:
    if TAKES_NOTHING.providers[0] not in onnxruntime.get_available_providers():
        pytest.skip("this ONNX Runtime has no provider for Azure; the package onnxruntime has")
    with pytest.raises(DeviceError, match="Azure took no part of this model; it ran on CPUExecutionProvider"):
        OnnxRuntime(onnx_models.hybrid(), WANTED, TAKES_NOTHING)


def test_where_no_profile_can_be_written_nothing_is_believed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "absent"))
    with pytest.raises(DeviceError, match="what runs on the processor can't be told"):
        OnnxRuntime(onnx_models.hybrid(), WANTED, PROCESSOR)


def test_what_a_device_leaves_to_others_is_said() -> None:
    cuda, trt, cpu = "CUDAExecutionProvider", "TensorrtExecutionProvider", "CPUExecutionProvider"
    found = placement(profile(("TRTKernel_0", trt), ("NonZero", cuda), ("Loop", cpu), ("Loop", cpu)))
    assert elsewhere(found, TENSORRT) == "TensorRT: 1 of 4 nodes ran on CUDA (NonZero); 2 of 4 nodes ran on CPU (Loop)"
    assert elsewhere(placement(profile(("Conv", cuda))), CUDA) == ""
    assert trt not in placement(profile(("Conv", cuda)))


def test_a_run_that_fails_on_a_device_is_its_loss() -> None:
    nodes = [onnx_models.node("Gather", ["w", "x"], ["y"])]
    ports = [onnx_models.port("x", [1], "int64")], [onnx_models.port("y", [1, 2])]
    model = onnx_models.model(nodes, *ports, {"w": np.ones((3, 2), np.float32)})
    runtime = OnnxRuntime(model, WANTED, PROCESSOR)
    with pytest.raises(DeviceLostError, match="onnx-cuda: the run failed"):
        runtime.invoke({"x": np.array([99])})


def test_a_model_that_does_not_load_is_the_devices_refusal_so_that_the_processor_is_asked_next() -> None:
    with pytest.raises(DeviceError, match=r"the processor does not run this model: .*Softmix"):
        OnnxRuntime(onnx_models.hybrid().replace(b"Softmax", b"Softmix"), WANTED, PROCESSOR)


@pytest.mark.skipif(HAS_CUDA, reason="this machine's ONNX Runtime has CUDA; the refusal can't be seen")
@pytest.mark.parametrize(("name", "title"), [("onnx-cuda", "CUDA"), ("onnx-tensorrt", "TensorRT")])
def test_without_the_device_its_child_says_what_to_install(name: str, title: str) -> None:
    with pytest.raises(DeviceError, match=rf"{version()} was built without {title}: install a build with it .* Jetson"):
        create(onnx_models.hybrid(), name, threads=1, external={})


def test_a_device_runs_in_a_child_and_has_time_to_build_an_engine() -> None:
    for name in ("onnx-cuda", "onnx-tensorrt"):
        assert BACKENDS[name].own_process
        assert BACKENDS[name].device
    assert BACKENDS["onnx-tensorrt"].trial_s == 600
    assert not BACKENDS["onnx-cpu"].device


def test_the_childs_answers_are_those_of_this_process() -> None:
    entry = "edge_agent.io.runtimes.onnx:build_cpu"
    there = ChildRuntime(entry, onnx_models.hybrid(), Build("onnx-cpu"), start_s=60.0)
    here = create(onnx_models.hybrid(), "onnx-cpu", threads=1, external={})
    try:
        rng = np.random.default_rng(2)
        values = {spec.name: rng.random(spec.shape, np.float32) for spec in here.inputs}
        np.testing.assert_array_equal(there.invoke(values)["code"], here.invoke(values)["code"])
        assert there.info == here.info
    finally:
        there.close()
    with pytest.raises(ModelError, match="No graph"):
        ChildRuntime(entry, b"", Build("onnx-cpu"), start_s=60.0)


def test_tensorrt_keeps_the_engines_of_each_model_apart_and_of_few_models(tmp_path: Path) -> None:
    """It names an engine by the graph: one of older weights would be run for the newer."""
    first, second = (options_of("TensorrtExecutionProvider", model, tmp_path) for model in (b"weights 1", b"weights 2"))
    assert first["trt_engine_cache_path"] != second["trt_engine_cache_path"]
    assert first == options_of("TensorrtExecutionProvider", b"weights 1", tmp_path)
    assert "trt_int8_enable" not in first
    assert options_of("TensorrtExecutionProvider", onnx_models.identity() + b"QuantizeLinear", None) == {
        "trt_fp16_enable": "True",
        "trt_int8_enable": "True",
        "trt_max_workspace_size": str(512 * 2**20),
    }
    for number in range(6):
        path = Path(options_of("TensorrtExecutionProvider", b"%d" % number, tmp_path)["trt_engine_cache_path"])
        (path / "a.engine").write_bytes(b"engine")
        os.utime(path, (number, number))
    assert len(list((tmp_path / "tensorrt").iterdir())) == 4


def test_engines_that_may_be_damaged_are_forgotten_once(tmp_path: Path) -> None:
    path = Path(options_of("TensorrtExecutionProvider", b"model", tmp_path)["trt_engine_cache_path"])
    assert not forget_engines(TENSORRT, b"model", tmp_path)
    (path / "a.engine").write_bytes(b"engine")
    assert not forget_engines(CUDA, b"model", tmp_path)
    assert not forget_engines(TENSORRT, b"model", None)
    assert forget_engines(TENSORRT, b"model", tmp_path)
    assert not forget_engines(TENSORRT, b"model", tmp_path)


def test_a_disk_that_takes_no_engine_is_no_reason_to_stay_away(tmp_path: Path) -> None:
    (tmp_path / "tensorrt").write_text("in the way")
    assert "trt_engine_cache_enable" not in options_of("TensorrtExecutionProvider", b"model", tmp_path)
