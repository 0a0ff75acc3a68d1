"""The interpreter behind the Runtime port: names, copies, shapes and refusals."""

import importlib
import subprocess
import sys

import numpy as np
import pytest

from edge_agent.errors import ModelError
from edge_agent.io.runtimes import create
from edge_agent.io.runtimes.litert import LiteRtRuntime, load_library, one_line
from tests.io.runtimes.real_models import CLASSIFIER, COMPILED, DETECTOR


def test_a_real_classifier_is_described_by_its_own_tensors(model):
    runtime = LiteRtRuntime(model(CLASSIFIER), threads=2)
    (image,) = runtime.inputs
    (scores,) = runtime.outputs
    assert (image.name, image.shape, image.dtype, image.scale, image.zero_point) == (
        "input",
        (1, 128, 128, 3),
        np.dtype(np.uint8),
        1 / 128,
        128,
    )
    assert (scores.shape, scores.scale) == ((1, 1001), 1 / 256)
    assert runtime.info.delegate == "xnnpack"
    assert runtime.info.threads == 2
    assert runtime.info.runtime == load_library().version


def test_outputs_are_bit_identical_to_the_bare_interpreter(model):
    content = model(CLASSIFIER)
    bare = load_library().module.Interpreter(model_content=content, num_threads=1)
    bare.allocate_tensors()
    runtime = create(content, "xnnpack", threads=1, external={})
    random = np.random.default_rng(1)
    for _ in range(3):
        picture = random.integers(0, 256, (1, 128, 128, 3), np.uint8)
        bare.set_tensor(bare.get_input_details()[0]["index"], picture)
        bare.invoke()
        expected = bare.get_tensor(bare.get_output_details()[0]["index"])
        (got,) = runtime.invoke({"input": picture}).values()
        if load_library().name == "litert":  # tflite-runtime's bare interpreter has other kernels
            assert np.array_equal(got, expected)
        assert got.argmax() == expected.argmax()


def test_outputs_are_copies_that_later_runs_do_not_touch_or_wait_for(model):
    runtime = LiteRtRuntime(model(CLASSIFIER))
    name = runtime.outputs[0].name
    first = runtime.invoke({"input": np.zeros((1, 128, 128, 3), np.uint8)})[name]
    before = first.copy()
    second = runtime.invoke({"input": np.full((1, 128, 128, 3), 200, np.uint8)})[name]
    assert np.array_equal(first, before)
    assert not np.array_equal(first, second)
    assert first.flags.owndata
    assert first.flags.writeable


def test_an_input_that_is_not_named_keeps_its_last_value_and_starts_at_real_zero(model):
    runtime = LiteRtRuntime(model(CLASSIFIER))
    name = runtime.outputs[0].name
    untouched = runtime.invoke({})[name]
    zero = runtime.invoke({"input": np.full((1, 128, 128, 3), 128, np.uint8)})[name]
    assert np.array_equal(untouched, zero)
    bright = runtime.invoke({"input": np.full((1, 128, 128, 3), 255, np.uint8)})[name]
    assert np.array_equal(runtime.invoke({})[name], bright)


def test_an_array_in_any_memory_order_is_taken(model):
    runtime = LiteRtRuntime(model(CLASSIFIER))
    name = runtime.outputs[0].name
    wide = np.random.default_rng(2).integers(0, 256, (1, 128, 256, 3), np.uint8)
    strided = wide[:, :, ::2]
    assert np.array_equal(
        runtime.invoke({"input": strided})[name], runtime.invoke({"input": np.ascontiguousarray(strided)})[name]
    )


def test_a_stateful_detector_takes_its_states_and_gives_them_back_by_name(model):
    runtime = LiteRtRuntime(model(DETECTOR))
    random = np.random.default_rng(3)
    picture = random.integers(0, 256, (1, 256, 256, 3), np.uint8)
    states = {"raw_inputs/init_lstm_c": "raw_outputs/lstm_c", "raw_inputs/init_lstm_h": "raw_outputs/lstm_h"}
    first = runtime.invoke({"normalized_input_image_tensor": picture})
    assert {name: value.shape for name, value in first.items()} == {spec.name: spec.shape for spec in runtime.outputs}
    assert first["TFLite_Detection_PostProcess"].shape == (1, 40, 4)
    fed_back = runtime.invoke(
        {"normalized_input_image_tensor": picture, **{into: first[source] for into, source in states.items()}}
    )
    assert np.isfinite(fed_back["TFLite_Detection_PostProcess:2"]).all()
    invented = {name: random.integers(0, 256, (1, 8, 8, 320), np.uint8) for name in states}
    assert not np.array_equal(
        runtime.invoke(invented)["TFLite_Detection_PostProcess"], fed_back["TFLite_Detection_PostProcess"]
    )


@pytest.mark.parametrize(
    ("array", "words"),
    [
        (np.zeros((1, 64, 64, 3), np.uint8), ["'input'", "(1, 128, 128, 3)", "(1, 64, 64, 3)"]),
        (np.zeros((128, 128, 3), np.uint8), ["'input'", "(128, 128, 3)"]),
        (np.zeros((1, 128, 128, 3), np.float32), ["'input'", "uint8", "float32"]),
    ],
)
def test_a_tensor_that_does_not_fit_is_named_with_what_was_expected_and_found(model, array, words):
    runtime = LiteRtRuntime(model(CLASSIFIER))
    with pytest.raises(ModelError) as refused:
        runtime.invoke({"input": array})
    assert all(word in str(refused.value) for word in words)
    assert runtime.invoke({})  # and the runtime goes on


def test_an_unknown_input_is_refused_with_the_names_that_there_are(model):
    with pytest.raises(ModelError, match=r"no input 'picture'; it has 'input'"):
        LiteRtRuntime(model(CLASSIFIER)).invoke({"picture": np.zeros(1, np.uint8)})


def test_whether_xnnpack_took_a_part_is_seen_in_the_plan(model):
    content = model(CLASSIFIER)
    assert LiteRtRuntime(content).info.delegated
    assert not LiteRtRuntime(content, label="cpu", default_delegates=False).info.delegated


@pytest.mark.parametrize("content", [b"", b"not a model", bytes(1000)])
def test_bytes_that_are_no_model_are_refused_in_one_line(content):
    with pytest.raises(ModelError) as refused:
        LiteRtRuntime(content)
    assert "\n" not in str(refused.value)


def test_an_operator_that_nobody_knows_is_named_in_one_line(model):
    with pytest.raises(ModelError, match="edgetpu-custom-op") as refused:
        LiteRtRuntime(model(COMPILED))
    assert "\n" not in str(refused.value)
    assert "http" not in str(refused.value)


def test_a_model_with_a_zip_behind_it_loads_like_any_other(model):
    assert LiteRtRuntime(model(CLASSIFIER) + b"PK\x05\x06" + bytes(18)).invoke({})


def test_closing_twice_is_harmless(model):
    runtime = LiteRtRuntime(model(CLASSIFIER))
    runtime.close()
    runtime.close()


def test_a_long_message_of_several_lines_becomes_a_short_line():
    text = one_line("a\n  b See instructions: https://example.org/x chip\tNode number 3 (X) failed " + "z" * 500)
    assert text.startswith("a b chip Node number 3 (X) failed zzz")
    assert len(text) <= 240
    assert one_line("unpluggedNode number 3 (X) failed") == "unplugged; Node number 3 (X) failed"


class TestNames:
    """What the flatbuffer calls its tensors, on models made for the purpose."""

    tiny = staticmethod(lambda: importlib.import_module("tests.io.runtimes.tiny_models"))

    def run(self, content, **inputs):
        runtime = LiteRtRuntime(content)
        return runtime.invoke({name: np.array([value], np.float32) for name, value in inputs.items()})

    def test_without_a_signature_tensors_have_their_own_names(self):
        assert self.run(self.tiny().difference(), b=[1, 1], a=[5, 6])["c"].tolist() == [[4, 5]]

    def test_the_only_signature_gives_the_names_whatever_the_order(self):
        tiny = self.tiny()
        only = tiny.signature("score", {"less": 1, "from": 0}, {"rest": 2})
        assert self.run(tiny.difference(only), less=[1, 1], **{"from": [5, 6]})["rest"].tolist() == [[4, 5]]

    def test_of_several_signatures_serving_default_gives_the_names(self):
        tiny = self.tiny()
        several = (
            tiny.signature("other", {"p": 0, "q": 1}, {"r": 2}),
            tiny.signature("serving_default", {"x": 0, "y": 1}, {"z": 2}),
        )
        assert self.run(tiny.difference(*several), x=[3, 3], y=[1, 2])["z"].tolist() == [[2, 1]]

    def test_several_signatures_without_a_default_leave_the_tensors_names(self):
        tiny = self.tiny()
        several = [tiny.signature(key, {"p": 0, "q": 1}, {"r": 2}) for key in ("one", "two")]
        assert [spec.name for spec in LiteRtRuntime(tiny.difference(*several)).inputs] == ["a", "b"]

    def test_a_tensor_that_the_signature_names_twice_appears_under_both_names(self):
        tiny = self.tiny()
        twice = tiny.signature("serving_default", {"x": 0, "y": 1}, {"z": 2, "again": 2})
        outputs = self.run(tiny.difference(twice), x=[3, 3], y=[1, 2])
        assert outputs["z"].tolist() == outputs["again"].tolist() == [[2, 1]]

    def test_two_inputs_of_one_name_are_refused(self):
        with pytest.raises(ModelError, match="two inputs have the same name"):
            LiteRtRuntime(self.tiny().difference(names=("a", "a", "c")))


class TestShapesThatARunDecides:
    tiny = staticmethod(lambda: importlib.import_module("tests.io.runtimes.tiny_models"))

    def test_each_run_returns_the_shape_that_it_made(self):
        runtime = LiteRtRuntime(self.tiny().reshape())
        x = np.array([[1, 2, 3, 4]], np.float32)
        for shape in ([2, 2], [4, 1], [1, 4]):
            y = runtime.invoke({"x": x, "shape": np.array(shape, np.int32)})["y"]
            assert y.tolist() == x.reshape(shape).tolist()

    def test_an_unknown_dimension_is_minus_one_and_an_empty_result_is_empty(self):
        runtime = LiteRtRuntime(self.tiny().where())
        assert runtime.outputs[0].shape == (-1, 1)
        assert runtime.invoke({})["y"].shape == (0, 1)
        found = runtime.invoke({"x": np.array([True, False, True, True])})["y"]
        assert found.tolist() == [[0], [2], [3]]
        assert runtime.invoke({"x": np.zeros(4, bool)})["y"].shape == (0, 1)

    def test_a_run_that_fails_is_an_error_in_one_line(self):
        runtime = LiteRtRuntime(self.tiny().reshape())
        with pytest.raises(ModelError, match="the run failed") as failed:
            runtime.invoke({"shape": np.array([3, 5], np.int32)})
        assert "\n" not in str(failed.value)
        assert runtime.invoke({"shape": np.array([2, 2], np.int32)})["y"].shape == (2, 2)


def test_building_a_runtime_leaves_the_terminal_clean(model, tmp_path):
    path = tmp_path / "model.tflite"
    path.write_bytes(model(CLASSIFIER))
    script = f"""
from pathlib import Path
from edge_agent.io.runtimes import create
from edge_agent.io.runtimes.litert import LiteRtRuntime
content = Path({str(path)!r}).read_bytes()
QUIET and create(content, "xnnpack", threads=1, external={{}}).invoke({{}})
QUIET or LiteRtRuntime(content).invoke({{}})
"""

    def noise(quiet):
        run = [sys.executable, "-c", script.replace("QUIET", str(quiet))]
        return subprocess.run(run, capture_output=True, check=True).stderr

    assert noise(True) == b""
    if load_library().name == "litert":
        assert b"XNNPACK" in noise(False)  # else the first line would prove nothing


def test_a_library_that_is_not_installed_is_a_configuration_error(monkeypatch):
    from edge_agent.errors import ConfigError

    monkeypatch.setitem(sys.modules, "ai_edge_litert.interpreter", None)
    monkeypatch.setitem(sys.modules, "tflite_runtime.interpreter", None)
    with pytest.raises(ConfigError, match="install ai-edge-litert"):
        load_library()
