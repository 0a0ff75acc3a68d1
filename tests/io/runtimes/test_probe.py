"""A back-end tried in a child: whatever happens there, one verdict of one line comes back."""

import importlib
import os
import pickle
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edge_agent.config.schema import DelegateConfig
from edge_agent.errors import ConfigError, DeviceError
from edge_agent.io.priority import BEHIND
from edge_agent.io.runtimes import create
from edge_agent.io.runtimes.probe import Probe
from tests.io.runtimes.real_models import CLASSIFIER, COMPILED
from tests.simulators.waiting import wait_for

PATIENCE_S = 60  # for a child that will answer; a busy machine may take long to start it


def verdict(content, name="npu", external=None, timeout_s=PATIENCE_S):
    return Probe(content, name, threads=1, external=external or {}).result(timeout_s)


@pytest.mark.parametrize(("name", "delegated"), [("xnnpack", True), ("cpu", False)])
def test_a_sound_model_is_usable_on_the_cpu(model, name, delegated):
    result = verdict(model(CLASSIFIER), name)
    assert result.usable
    assert result.delegated == delegated
    assert result.reason == ""


def test_the_model_may_be_a_file(model, tmp_path):
    path = tmp_path / "model.tflite"
    path.write_bytes(model(CLASSIFIER))
    assert verdict(path, "cpu").usable
    with pytest.raises(DeviceError, match=r"absent\.tflite"):
        verdict(tmp_path / "absent.tflite", "cpu")


def test_a_working_delegate_is_usable_and_its_file_is_found(model, npu, delegate_library):
    result = verdict(model(COMPILED), external=npu())
    assert result.usable
    assert result.delegated
    assert result.library_file == str(delegate_library)


def test_an_edge_tpu_answers_to_a_plain_model_of_which_it_takes_nothing(model, npu):
    result = verdict(model(CLASSIFIER), "edgetpu", npu("claims-nothing", name="edgetpu"))
    assert result.usable
    assert not result.delegated


def test_what_a_library_prints_is_not_taken_for_the_verdict(model, npu):
    assert verdict(model(COMPILED), external=npu("chatter")).usable


@pytest.mark.parametrize(
    ("mode", "words"),
    [
        ("null", "made no delegate"),
        ("prepare-error", "no such chip"),
        ("kernel-prepare-error", "the kernel can't be prepared"),
        ("invoke-error", "USB transfer error"),
        ("claims-nothing", "took no part of this model"),
        ("abort", "the process died: SIGABRT; the library's ABI does not fit this runtime"),
        ("abort-at-once", "SIGABRT (test delegate: the firmware is from another age)"),
        ("segfault", "the process died: SIGSEGV"),
    ],
)
def test_each_way_to_fail_is_one_line(model, npu, mode, words):
    result = verdict(model(CLASSIFIER), external=npu(mode))
    assert not result.usable
    assert words in result.reason
    assert "\n" not in result.reason


def test_a_delegate_that_never_answers_is_stopped(model, npu):
    probe = Probe(model(CLASSIFIER), "npu", threads=1, external=npu("hang")).start()
    child = probe._child.pid
    result = probe.result(timeout_s=1)
    assert result.reason == "no answer within 1 s, so it was stopped"
    assert not Path(f"/proc/{child}").exists()
    assert probe.result() == result


def test_a_probe_that_hangs_ends_with_the_process_that_started_it(model, npu, tmp_path):
    path = tmp_path / "model.tflite"
    path.write_bytes(model(CLASSIFIER))
    external = npu("hang")
    program = (
        "import pickle, sys, time; from edge_agent.io.runtimes.probe import Probe; path, external = pickle.load("
        "sys.stdin.buffer); print(Probe(path, 'npu', threads=1, external=external).start()._child.pid, flush=True);"
        "time.sleep(600)"
    )
    parent = subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    parent.stdin.write(pickle.dumps((path, external)))
    parent.stdin.close()
    child = Path(f"/proc/{int(parent.stdout.readline())}/cmdline")
    parent.kill()
    parent.wait()
    parent.stdout.close()
    wait_for(lambda: not child.exists() or not child.read_bytes(), "the probe is gone")


def test_a_probe_that_nobody_waits_for_can_be_cancelled(model, npu):
    probe = Probe(model(CLASSIFIER), "npu", threads=1, external=npu("hang")).start()
    child = probe._child.pid
    probe.cancel()
    probe.cancel()
    assert not Path(f"/proc/{child}").exists()


@pytest.mark.parametrize("behind", [False, True])
def test_a_probe_lets_models_that_run_come_first_where_it_is_told_to(model, npu, behind):
    own = os.getpriority(os.PRIO_PROCESS, 0)
    probe = Probe(model(CLASSIFIER), "npu", threads=1, external=npu("hang"), behind=behind).start()
    try:
        assert os.getpriority(os.PRIO_PROCESS, probe._child.pid) == (BEHIND if behind else own)
    finally:
        probe.cancel()


def test_probes_run_beside_each_other(model):
    probes = [Probe(model(CLASSIFIER), name, threads=1, external={}).start() for name in ("xnnpack", "cpu")]
    assert all(probe.result(PATIENCE_S).usable for probe in probes)


def test_a_missing_library_and_a_file_that_is_none_are_reasons(model, tmp_path):
    text = tmp_path / "text.so"
    text.write_text("hello")
    for library, words in {"/nowhere/x.so": "is not installed", str(text): "can't be loaded"}.items():
        result = verdict(model(CLASSIFIER), external={"npu": DelegateConfig(library=library)})
        assert not result.usable
        assert words in result.reason


def test_a_wrong_name_fails_before_a_child_is_started(model):
    with pytest.raises(ConfigError, match="did you mean"):
        Probe(b"", "xnpack", threads=1, external={})


def test_modules_in_the_working_folder_are_not_run(model, tmp_path, monkeypatch):
    (tmp_path / "numpy.py").write_text("raise SystemExit('a stray file was run')")
    monkeypatch.chdir(tmp_path)
    assert verdict(model(CLASSIFIER), "cpu").usable


def test_no_descriptor_is_left_open(model, npu):
    verdict(model(CLASSIFIER), "cpu")
    before = len(list(Path("/proc/self/fd").iterdir()))
    verdict(model(CLASSIFIER), external=npu("null"))
    verdict(model(CLASSIFIER), external=npu("hang"), timeout_s=0.1)
    assert len(list(Path("/proc/self/fd").iterdir())) == before


def test_outputs_must_be_finite_somewhere():
    tiny = importlib.import_module("tests.io.runtimes.tiny_models")
    assert verdict(tiny.logarithm(), "cpu").usable
    result = verdict(tiny.never_finite(), "cpu")
    assert result.reason == "output 'z' is not finite, neither on zeros nor on ones"


@settings(max_examples=4, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_damaged_models_get_a_verdict_and_what_passed_loads_here(model, data):
    content = bytearray(model(CLASSIFIER))
    if data.draw(st.booleans(), "truncate"):
        del content[data.draw(st.integers(0, len(content) - 1), "length") :]
    else:
        for position in data.draw(st.lists(st.integers(0, len(content) - 1), min_size=1, max_size=20), "positions"):
            content[position] ^= data.draw(st.integers(1, 255), "difference")
    result = verdict(bytes(content), "xnnpack", timeout_s=20)
    assert "\n" not in result.reason
    assert bool(result.reason) != result.usable
    if result.usable:
        create(bytes(content), "xnnpack", threads=1, external={}).invoke({})
