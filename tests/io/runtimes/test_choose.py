"""Which back-end runs a model, in the declared order, and what is said of those before it."""

import os
import signal
import subprocess
import sys

import msgspec
import pytest

from edge_agent.config.schema import DelegateConfig
from edge_agent.errors import ConfigError, DeviceError, ModelError
from edge_agent.io.runtimes.choose import CPU_MEMBER, Choice, choose
from edge_agent.io.runtimes.litert import load_library
from edge_agent.io.runtimes.probe_cache import Key, ProbeCache
from tests.io.runtimes.real_models import CLASSIFIER, COMPILED

ORDER = ("edgetpu", "xnnpack", "cpu")
NO_EDGE_TPU = {"edgetpu": DelegateConfig(library="libnosuchedgetpu.so.1")}  # whatever this machine has


@pytest.fixture
def cpu_known(tmp_path, model_file):
    """A cache that knows the classifier on the CPU, so that a test pays only for the probe that it is about."""
    key = Key.of(model_file(CLASSIFIER).sha256, "cpu", load_library().version, None)
    ProbeCache(tmp_path).remember(key, "")
    return tmp_path


def names(chosen):
    return [name for name, _ in chosen.tried]


def test_the_first_in_the_order_that_works_is_taken_without_a_word(model_file):
    chosen = choose(model_file(CLASSIFIER), ("xnnpack", "cpu"), threads=1, external={})
    assert chosen.runtime.info.delegate == "xnnpack"
    assert chosen.runtime.info.reason == ""
    assert chosen.tried == ()
    assert chosen.runtime.invoke({})


def test_a_plain_model_does_not_go_to_the_edge_tpu(model_file, npu):
    chosen = choose(model_file(CLASSIFIER), ORDER, threads=1, external=npu(name="edgetpu"))
    assert chosen.runtime.info.delegate == "xnnpack"
    assert chosen.runtime.info.reason == "edgetpu: the model is not compiled for the Edge TPU; using xnnpack"


@pytest.mark.parametrize("mode", ["null", "prepare-error", "kernel-prepare-error", "invoke-error", "abort"])
def test_a_delegate_that_fails_makes_way_for_the_next_with_its_reason(model_file, npu, mode, cpu_known):
    chosen = choose(model_file(CLASSIFIER), ("npu", "cpu"), threads=1, external=npu(mode), cache_dir=cpu_known)
    assert chosen.runtime.info.delegate == "cpu"
    assert names(chosen) == ["npu"]
    assert chosen.runtime.info.reason == f"npu: {chosen.tried[0][1]}; using cpu"


def test_a_delegate_for_another_interpreter_makes_way_too(model_file, misfit_library, cpu_known):
    external = {"npu": DelegateConfig(library=str(misfit_library))}
    chosen = choose(model_file(CLASSIFIER), ("npu", "cpu"), threads=1, external=external, cache_dir=cpu_known)
    assert chosen.runtime.info.reason.startswith("npu: the process died: SIG")
    assert (
        "the library's ABI does not fit this runtime; install a build for it; using cpu" in chosen.runtime.info.reason
    )


def test_a_named_edge_tpu_takes_models_that_are_compiled_for_it_alone(model_file, npu):
    left = {"left": msgspec.structs.replace(npu()["npu"], kind="edgetpu")}
    chosen = choose(model_file(CLASSIFIER), ("left", "xnnpack"), threads=1, external=left)
    assert chosen.runtime.info.reason == "left: the model is not compiled for the Edge TPU; using xnnpack"
    assert choose(model_file(COMPILED), ("left",), threads=1, external=left).runtime.info.delegate == "left"


def test_a_file_that_is_no_delegate_makes_way_too(model_file, tmp_path, cpu_known):
    text = tmp_path / "text.so"
    text.write_text("hello")
    external = {
        name: DelegateConfig(library=library)
        for name, library in {"absent": "/nowhere/x.so", "text": str(text), "libc": "libc.so.6"}.items()
    }
    order = ("absent", "text", "libc", "cpu")
    chosen = choose(model_file(CLASSIFIER), order, threads=1, external=external, cache_dir=cpu_known)
    assert chosen.runtime.info.delegate == "cpu"
    assert names(chosen) == ["absent", "text", "libc"]


def test_a_delegate_that_never_answers_makes_way_too(model_file, npu, cpu_known):
    choice = Choice(model_file(CLASSIFIER), ("npu", "cpu"), threads=1, external=npu("hang"), cache_dir=cpu_known)
    chosen = choice.result(timeout_s=0.5)
    assert chosen.runtime.info.reason == "npu: no answer within 0.5 s, so it was stopped; using cpu"


def test_a_working_delegate_is_taken(model_file, npu):
    chosen = choose(model_file(CLASSIFIER), ("npu", "cpu"), threads=1, external=npu(fill="3"))
    assert chosen.runtime.info.delegate == "npu"
    assert set(chosen.runtime.invoke({})[chosen.runtime.outputs[0].name].ravel()) == {3}


def test_a_compiled_model_runs_on_the_edge_tpu_or_on_a_delegate_that_takes_it(model_file, npu):
    on_edgetpu = choose(model_file(COMPILED), ORDER, threads=1, external=npu(name="edgetpu"))
    assert on_edgetpu.runtime.info.delegate == "edgetpu"
    on_npu = choose(model_file(COMPILED), ("cpu", "edgetpu", "npu"), threads=1, external={**npu(), **NO_EDGE_TPU})
    assert on_npu.runtime.info.delegate == "npu"
    assert names(on_npu) == ["edgetpu"]


def test_a_compiled_model_without_an_edge_tpu_is_a_device_error_that_says_what_to_do(model_file):
    with pytest.raises(DeviceError) as refused:
        choose(model_file(COMPILED), ORDER, threads=1, external=NO_EDGE_TPU)
    message = str(refused.value)
    assert "this model is compiled for the Edge TPU and none is available (edgetpu: no Edge TPU: " in message
    assert "attach one, or use the CPU build of the model" in message
    assert refused.value.exit_code == 3


def test_a_compiled_model_and_an_order_without_an_edge_tpu_says_so(model_file):
    with pytest.raises(DeviceError, match="no declared back-end drives one"):
        choose(model_file(COMPILED), ("xnnpack", "cpu"), threads=1, external={})


@pytest.mark.parametrize("order", [ORDER, ("edgetpu",)])
def test_the_cpu_build_inside_stands_in_for_a_lost_edge_tpu(model_file, model, order):
    file = model_file(COMPILED, members={CPU_MEMBER: model(CLASSIFIER)})
    chosen = choose(file, order, threads=1, external=NO_EDGE_TPU)
    assert chosen.member == CPU_MEMBER
    assert chosen.content == model(CLASSIFIER)
    assert chosen.runtime.info.delegate == "xnnpack"
    assert chosen.runtime.info.reason.endswith("using the CPU build of the model on xnnpack")
    assert chosen.runtime.invoke({})


def test_the_cpu_build_rests_while_the_edge_tpu_works(model_file, model, npu):
    file = model_file(COMPILED, members={CPU_MEMBER: model(CLASSIFIER)})
    chosen = choose(file, ORDER, threads=1, external=npu(name="edgetpu"))
    assert chosen.member is None
    assert chosen.content == file.content


@pytest.mark.parametrize("damage", [b"TFL3" * 50, "half"])
def test_a_damaged_file_is_a_model_error_in_one_line(model_file, model, damage):
    content = model(CLASSIFIER)
    content = content[: len(content) // 2] if damage == "half" else damage
    with pytest.raises(ModelError) as refused:
        choose(model_file("bad", content=content), ("xnnpack", "cpu"), threads=1, external={})
    assert str(refused.value).startswith("bad.tflite: ")
    assert "\n" not in str(refused.value)


def test_a_broken_cpu_build_is_a_model_error(model_file):
    file = model_file(COMPILED, members={CPU_MEMBER: b"nothing"})
    with pytest.raises(ModelError):
        choose(file, ("edgetpu", "cpu"), threads=1, external=NO_EDGE_TPU)


def test_an_order_of_failing_accelerators_alone_is_a_device_error(model_file, npu):
    with pytest.raises(DeviceError, match=r"npu: .*; add \"xnnpack\" or \"cpu\" to \"delegates\""):
        choose(model_file(CLASSIFIER), ("npu",), threads=1, external=npu("null"))


def test_a_wrong_order_is_a_configuration_error(model_file):
    with pytest.raises(ConfigError, match=r"allowed are xnnpack, cpu, edgetpu, .*; did you mean"):
        choose(model_file(CLASSIFIER), ("xnnpack", "edgtpu"), threads=1, external={})
    with pytest.raises(ConfigError, match="no back-end is declared"):
        choose(model_file(CLASSIFIER), (), threads=1, external={})


def test_a_choice_can_be_given_up(model_file, npu):
    choice = Choice(model_file(CLASSIFIER), ("npu",), threads=1, external=npu("hang"))
    choice.cancel()


class TestMemory:
    """With a cache folder: what ran before is not tried again, what failed is."""

    def test_a_second_start_needs_no_child(self, model_file, tmp_path, monkeypatch):
        arguments = {"threads": 1, "external": {}, "cache_dir": tmp_path}
        choose(model_file(CLASSIFIER), ("xnnpack",), **arguments)
        monkeypatch.setattr(sys, "executable", "/nonexistent")  # a child can't start any more
        chosen = choose(model_file(CLASSIFIER), ("xnnpack",), **arguments)
        assert chosen.runtime.info.delegate == "xnnpack"
        with pytest.raises(DeviceError, match="can't be probed"):
            choose(model_file(CLASSIFIER), ("cpu",), **arguments)

    def test_a_delegate_that_failed_is_tried_at_the_next_start(self, model_file, tmp_path, npu, monkeypatch):
        arguments = {"threads": 1, "external": npu(mode=None), "cache_dir": tmp_path}
        monkeypatch.setenv("TEST_DELEGATE_MODE", "null")
        assert choose(model_file(CLASSIFIER), ("npu", "cpu"), **arguments).runtime.info.delegate == "cpu"
        monkeypatch.setenv("TEST_DELEGATE_MODE", "success")
        assert choose(model_file(CLASSIFIER), ("npu", "cpu"), **arguments).runtime.info.delegate == "npu"
        monkeypatch.setattr(sys, "executable", "/nonexistent")
        assert choose(model_file(CLASSIFIER), ("npu", "cpu"), **arguments).runtime.info.delegate == "npu"

    def test_a_remembered_delegate_that_kills_the_process_is_tried_in_a_child_next(
        self, model, tmp_path, delegate_library
    ):
        (tmp_path / "model.tflite").write_bytes(model(CLASSIFIER))
        script = f"""
import hashlib
from pathlib import Path
from edge_agent.config.schema import DelegateConfig
from edge_agent.io.runtimes.choose import choose
from edge_agent.records import ModelFile
content = Path("model.tflite").read_bytes()
file = ModelFile("model.tflite", content, hashlib.sha256(content).hexdigest(), None, None, {{}})
external = {{"npu": DelegateConfig(library={str(delegate_library)!r})}}
print(choose(file, ("npu", "cpu"), threads=1, external=external, cache_dir=Path.cwd()).runtime.info.delegate)
"""

        def start(mode):
            environment = {**os.environ, "TEST_DELEGATE_MODE": mode}
            return subprocess.run(
                [sys.executable, "-c", script],
                check=False,
                cwd=tmp_path,
                env=environment,
                capture_output=True,
                text=True,
            )

        assert start("success").stdout == "npu\n"
        assert start("abort-at-once").returncode == -signal.SIGABRT
        assert start("abort-at-once").stdout == "cpu\n"


def test_an_order_in_which_nothing_takes_such_a_model_is_a_mistake_of_the_configuration(model_file):
    with pytest.raises(ConfigError, match='takes a model of this form; add "xnnpack" or "cpu" to "delegates"'):
        choose(model_file(CLASSIFIER), ("onnx-cpu", "onnx-cuda"), threads=1, external={})
