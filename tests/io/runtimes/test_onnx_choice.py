"""An ONNX model among the back-ends: who is asked, in which order, and what is said where none is there."""

from __future__ import annotations

import hashlib
import os
import random
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

onnxruntime = pytest.importorskip("onnxruntime", reason="ONNX Runtime is not installed: pip install '.[onnx]'")

from edge_agent.errors import ConfigError, DeviceError, EdgeAgentError, ModelError  # noqa: E402
from edge_agent.io.runtimes import BACKENDS, create, onnx  # noqa: E402
from edge_agent.io.runtimes.backend import Build  # noqa: E402
from edge_agent.io.runtimes.choose import CPU_MEMBER, Choice, Chosen, choose  # noqa: E402
from edge_agent.io.runtimes.in_child import ChildRuntime  # noqa: E402
from edge_agent.io.runtimes.probe import Probe  # noqa: E402
from edge_agent.io.runtimes.self_test import SHAPE, self_test_model  # noqa: E402
from edge_agent.loading import order_for  # noqa: E402
from edge_agent.records import Form, ModelFile  # noqa: E402
from tests.simulators import onnx_models  # noqa: E402
from tests.simulators.onnx_models import hybrid, whole_hybrid  # noqa: E402

JETSON = ("onnx-tensorrt", "onnx-cuda", "xnnpack", "cpu")
PI = ("xnnpack", "cpu")
NO_GPU = "CUDAExecutionProvider" not in onnxruntime.get_available_providers()


def file(content: bytes = b"", form: Form = "onnx") -> ModelFile:
    content = content or hybrid()
    return ModelFile("m.onnx", content, hashlib.sha256(content).hexdigest(), None, None, {}, form)


def chosen(order: Sequence[str], content: bytes = b"", cache: Path | None = None) -> Chosen:
    return choose(file(content), order, threads=1, external={}, cache_dir=cache)


@pytest.fixture
def not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a device without ONNX Runtime."""
    monkeypatch.setattr(onnx, "_DISTRIBUTIONS", ())
    monkeypatch.setitem(sys.modules, "onnxruntime", None)


@pytest.mark.parametrize(
    ("form", "declared", "order"),
    [
        ("onnx", (), (*PI, "onnx-cpu")),
        ("onnx", PI, (*PI, "onnx-cpu")),
        ("onnx", ("edgetpu", "xnnpack"), ("edgetpu", "xnnpack", "onnx-cpu")),
        ("onnx", JETSON, (*JETSON, "onnx-cpu")),
        ("onnx", ("onnx-cpu", *JETSON), ("onnx-cpu", *JETSON)),
        ("onnx", ("onnx-tensorrt",), ("onnx-tensorrt",)),  # who names one wants no other
        ("tflite", PI, PI),
        ("tflite", JETSON, JETSON),
        ("edgetpu", PI, ("edgetpu", *PI)),
    ],
)
def test_an_order_without_a_back_end_for_onnx_gets_the_processor(
    form: Form, declared: Sequence[str], order: Sequence[str]
) -> None:
    assert order_for(file(form=form), declared) == tuple(order)


def test_tflite_back_ends_are_left_out_without_a_word() -> None:
    found = chosen((*PI, "onnx-cpu"))
    assert (found.runtime.info.delegate, found.runtime.info.reason, found.tried) == ("onnx-cpu", "", ())
    assert found.runtime.invoke({})


@pytest.mark.skipif(not NO_GPU, reason="this machine's ONNX Runtime has CUDA; its absence can't be seen")
def test_a_jetsons_order_ends_at_the_processor_where_there_is_no_gpu() -> None:
    found = chosen(order_for(file(), JETSON))
    assert found.runtime.info.delegate == "onnx-cpu"
    assert [name for name, _ in found.tried] == ["onnx-tensorrt", "onnx-cuda"]
    assert "was built without TensorRT" in found.runtime.info.reason
    assert found.runtime.info.reason.endswith("; using onnx-cpu")
    found.runtime.close()


@pytest.mark.skipif(not NO_GPU, reason="this machine's ONNX Runtime has CUDA; its absence can't be seen")
def test_a_gpu_that_alone_is_declared_and_absent_is_a_device_error() -> None:
    with pytest.raises(DeviceError, match='add "onnx-cpu" to "delegates"') as refused:
        chosen(("onnx-cuda",))
    assert refused.value.exit_code == 3


def test_a_tflite_model_does_not_mind_an_absent_onnx_runtime(not_installed: None, example: Path) -> None:
    content = (example / "model" / "conveyor.tflite").read_bytes()
    found = choose(file(content, "tflite"), JETSON, threads=1, external={})
    assert found.runtime.info.delegate == "xnnpack"
    assert found.runtime.info.reason == ""


def test_without_onnx_runtime_the_error_says_what_to_install(not_installed: None) -> None:
    with pytest.raises(ConfigError, match=r"\.onnx models need ONNX Runtime .*pip install onnxruntime"):
        chosen((*PI, "onnx-cpu"))
    with pytest.raises(DeviceError, match=r"onnx-cuda: \.onnx models need ONNX Runtime"):
        chosen(("onnx-cuda",))


def test_an_onnx_runtime_that_does_not_load_is_no_models_fault(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "onnxruntime.py").write_text('raise ImportError("libcudart.so.12: cannot open shared object file")')
    monkeypatch.syspath_prepend(tmp_path)  # for the children: here it is loaded already
    with pytest.raises(
        ConfigError, match=r"m\.onnx: \.onnx models need ONNX Runtime \(libcudart\.so\.12: .*pip install"
    ):
        chosen((*PI, "onnx-cpu"))


def test_a_compiled_models_cpu_build_does_not_go_to_onnx_runtime(example: Path) -> None:
    """No back-end for ONNX takes it, and one that does not fit must not keep the others away."""
    build = (example / "model" / "conveyor.tflite").read_bytes()
    compiled = ModelFile("m.tflite", b"TFL3", "0" * 64, None, None, {CPU_MEMBER: build}, "edgetpu")
    assert choose(compiled, ("onnx-cpu",), threads=1, external={}).runtime.info.delegate == "xnnpack"


def test_a_model_that_the_processor_refuses_is_at_fault() -> None:
    with pytest.raises(ModelError, match=r"m\.onnx: onnxruntime .* does not run this model: .*; push a sound model"):
        chosen(("onnx-cpu",), hybrid().replace(b"Softmax", b"Softmix"))
    with pytest.raises(ModelError, match="output 'y' is not finite, neither on zeros nor on ones"):
        chosen(("onnx-cpu",), onnx_models.never_finite())


def test_a_gpu_whose_process_dies_makes_way_for_the_processor_and_no_answer_is_lost(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The child is real; in it the processor stands where the GPU would."""

    def start(model: bytes, wanted: Build) -> ChildRuntime:
        return ChildRuntime("edge_agent.io.runtimes.onnx:build_cpu", model, wanted, start_s=60.0)

    monkeypatch.setitem(BACKENDS, "onnx-cuda", BACKENDS["onnx-cuda"]._replace(build=start))
    runtime = chosen(("onnx-cuda", "onnx-cpu")).runtime
    try:
        assert runtime.info.delegate == "onnx-cuda"
        values = {"sensors": np.ones((1, 3), np.float32)}
        before = runtime.invoke(values)["code"]
        os.kill(runtime._runtime.pid, signal.SIGKILL)  # type: ignore[attr-defined]
        np.testing.assert_array_equal(runtime.invoke(values)["code"], before)
        assert runtime.info.delegate == "onnx-cpu"
        assert "SIGKILL" in runtime.info.reason
    finally:
        runtime.close()


def test_a_second_start_needs_no_child(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    chosen(("onnx-cpu",), cache=tmp_path)
    monkeypatch.setattr(sys, "executable", "/nonexistent")
    assert chosen(("onnx-cpu",), cache=tmp_path).runtime.info.delegate == "onnx-cpu"


def test_who_waits_hears_how_long_a_trial_may_take() -> None:
    heard = []
    choice = Choice(file(), order_for(file(), JETSON), threads=1, external={})
    choice.result(trying=lambda name, seconds: heard.append((name, seconds))).runtime.close()
    assert heard[0] == ("onnx-tensorrt", 600)


def test_doctor_asks_onnx_runtime_with_a_model_that_it_takes() -> None:
    add = onnx_models.node("Add", ["input", "input"], ["output"])
    ports = [onnx_models.port("input", SHAPE)], [onnx_models.port("output", SHAPE)]
    assert self_test_model("onnx") == onnx_models.model([add], *ports)
    assert Probe(self_test_model("onnx"), "onnx-cpu", threads=1, external={}).result(60).usable


def damaged(count: int) -> list[bytes]:
    content, chance, copies = whole_hybrid(), random.Random(3), []
    for number in range(count):
        copy = bytearray(content)
        if number % 5 == 0:
            del copy[chance.randrange(len(copy)) :]
        for _ in range(chance.choice((1, 2, 20))):
            if copy:
                copy[chance.randrange(len(copy))] ^= chance.randrange(1, 256)
        copies.append(bytes(copy))
    return copies


def check_verdicts(copies: Sequence[bytes]) -> None:
    """Whatever is wrong with them, a child finds out; what it found good loads here, and gives answers or an error."""
    for copy in copies:
        result = Probe(copy, "onnx-cpu", threads=1, external={}).result(60)
        assert bool(result.reason) != result.usable
        assert "\n" not in result.reason
        if result.usable:
            try:
                create(copy, "onnx-cpu", threads=1, external={}).invoke({})
            except EdgeAgentError as error:
                raise AssertionError("it ran in the child") from error


def test_damaged_models_get_a_verdict_in_a_child() -> None:
    check_verdicts(damaged(3))


@pytest.mark.soak
def test_200_damaged_models_get_a_verdict_in_a_child() -> None:
    check_verdicts(damaged(200))
