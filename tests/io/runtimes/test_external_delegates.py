"""A delegate in a shared library: each way in which it can fail to load is one line that names it."""

import pytest

from edge_agent.config.schema import DelegateConfig
from edge_agent.errors import ConfigError, DeviceError, ModelError
from edge_agent.io.runtimes import backend, backends, create, plugins_of
from tests.io.runtimes.real_models import CLASSIFIER, COMPILED


def test_a_delegate_takes_the_graph_and_its_results_come_out(model, npu):
    runtime = create(model(CLASSIFIER), "npu", threads=1, external=npu(fill="9"))
    assert runtime.info.delegate == "npu"
    assert runtime.info.delegated
    assert set(runtime.invoke({})[runtime.outputs[0].name].ravel()) == {9}


def test_a_model_compiled_for_the_edge_tpu_runs_on_a_library_configured_as_edgetpu(model, npu):
    runtime = create(model(COMPILED), "edgetpu", threads=1, external=npu(name="edgetpu"))
    assert runtime.info.delegate == "edgetpu"
    assert set(runtime.invoke({})[runtime.outputs[0].name].ravel()) == {7}


def test_a_delegate_that_takes_nothing_is_not_reported_as_at_work(model, npu):
    assert not create(model(CLASSIFIER), "npu", threads=1, external=npu("claims-nothing")).info.delegated


@pytest.mark.parametrize(
    ("mode", "words"),
    [
        ("null", "made no delegate: it gave no reason"),
        ("null-with-message", "made no delegate: no chip answers on the bus"),
        ("prepare-error", "does not run this model: test delegate: no such chip"),
        ("kernel-prepare-error", "the kernel can't be prepared"),
    ],
)
def test_a_delegate_that_refuses_is_a_device_error_with_its_reason(model, npu, delegate_library, mode, words, capfd):
    with pytest.raises(DeviceError) as refused:
        create(model(CLASSIFIER), "npu", threads=1, external=npu(mode))
    assert words in str(refused.value)
    assert str(delegate_library) in str(refused.value)
    assert "\n" not in str(refused.value)
    assert capfd.readouterr().err == ""


def test_a_delegate_that_fails_in_a_run_is_a_model_error(model, npu):
    runtime = create(model(CLASSIFIER), "npu", threads=1, external=npu("invoke-error"))
    with pytest.raises(ModelError, match="npu: the run failed: test delegate: USB transfer error device unplugged"):
        runtime.invoke({})


def test_files_that_are_no_delegate_are_told_apart(model, tmp_path, capfd):
    text = tmp_path / "text.so"
    text.write_text("hello")
    cases = {
        str(tmp_path / "absent.so"): "is not installed",
        "libnosuchdelegate.so.1": "is not installed",
        str(text): "can't be loaded",
        "libc.so.6": "is no TFLite delegate: it has no tflite_plugin_create_delegate",
    }
    for library, words in cases.items():
        with pytest.raises(DeviceError) as refused:
            create(model(CLASSIFIER), "npu", threads=1, external={"npu": DelegateConfig(library=library)})
        assert words in str(refused.value)
        assert library in str(refused.value)
    assert capfd.readouterr().err == ""


def test_an_edge_tpu_without_its_library_says_what_to_install(model):
    absent = {"edgetpu": DelegateConfig(library="libnosuchedgetpu.so.1")}
    with pytest.raises(DeviceError, match=r"^no Edge TPU: libnosuchedgetpu.so.1 is not installed; install libedgetpu1"):
        create(model(COMPILED), "edgetpu", threads=1, external=absent)


def test_an_edge_tpu_that_does_not_answer_says_what_to_attach(model, npu):
    with pytest.raises(DeviceError, match=r"^no Edge TPU: .* made no delegate.*attach an Edge TPU"):
        create(model(COMPILED), "edgetpu", threads=1, external=npu("null", name="edgetpu"))


def test_an_edge_tpu_of_another_name_is_one_all_the_same():
    given = {"left": DelegateConfig(kind="edgetpu", options={"device": "usb:1"})}
    known = backends(plugins_of({**given, "edgetpu": DelegateConfig(options={"device": "pci"})}))
    assert known["left"].plugin == ("libedgetpu.so.1", {"device": "usb:1"}, "edgetpu")
    assert known["edgetpu"].plugin == ("libedgetpu.so.1", {"device": "pci"}, "edgetpu")
    assert known["left"].forms == {"edgetpu"}


def test_an_edge_tpu_that_does_not_answer_says_which_the_system_sees(model, npu):
    external = npu("null", name="edgetpu", device="usb:7")
    with pytest.raises(DeviceError, match=r'the system sees (none|usb .*|pci .*); "usb:7" was asked for$'):
        create(model(COMPILED), "edgetpu", threads=1, external=external)


def test_a_built_in_name_can_not_be_given_to_a_library(npu):
    with pytest.raises(ConfigError, match=r"\[delegate.xnnpack\]"):
        backends(plugins_of(npu(name="xnnpack")))


def test_an_unknown_back_end_is_an_error_with_the_names_and_the_nearest(npu):
    known = backends(plugins_of(npu()))
    with pytest.raises(
        ConfigError, match=r'"xnpack"; allowed are xnnpack, cpu, edgetpu, .*npu; did you mean "xnnpack"'
    ):
        backend("xnpack", known)
    with pytest.raises(ConfigError, match=r"add \[delegate.NAME\]"):
        backend("zzz", known)


def test_a_relative_path_means_the_same_to_a_child_in_another_folder(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    given = {"npu": DelegateConfig(library="./lib/x.so"), "other": DelegateConfig(library="libx.so.1")}
    known = backends(plugins_of(given))
    assert known["npu"].plugin.library == str(tmp_path / "lib/x.so")
    assert known["other"].plugin.library == "libx.so.1"
