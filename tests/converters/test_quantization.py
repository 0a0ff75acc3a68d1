"""Ranges from samples, and what the quantiser makes of them: on a real hybrid, and on graphs made for one trap each."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from copy import deepcopy
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema

from benchmarks.converters import world
from converters.device_model import DeviceModel
from converters.quantization.calibration import METHODS, Calibration, calibrate, pins_of, states_of
from converters.quantization.flatbuffer import activations_of, kind_of, ops_of, parse
from converters.quantization.quantize import quantize
from converters.records import FloatModel, Quantized
from edge_agent.errors import ConfigError, ModelError
from edge_agent.io.runtimes import create
from edge_agent.records import Array
from tests.simulators.float_models import digits_and_wine, examples_of, inputs_of, labels_of
from tests.simulators.tflite_graph import GraphBuilder

ROOT = Path(__file__).resolve().parents[2]
PINS = {"image": (0.0, 1.0), "chemistry": (-4.0, 4.0)}


wine_card = cache(world.card)  # it draws the training set for its means


@pytest.fixture(scope="module")
def model() -> FloatModel:
    return digits_and_wine()


@pytest.fixture(scope="module")
def calibration(model: FloatModel) -> Calibration:
    return calibrate(model.content, inputs_of("calibration", 300), pins=PINS)


@pytest.fixture(scope="module")
def int8(model: FloatModel, calibration: Calibration) -> Quantized:
    return quantize(model, "int8", calibration=calibration)


@cache
def answers(content: bytes, raw: bool = False, rows: int = 300) -> Array:
    """(rows, classes) real values of the test rows, as the device computes them. ``raw``: the model itself scales."""
    device = DeviceModel(content, card=raw_card() if raw else wine_card())
    found = [device.real(device.run(example))["code"][0] for example in examples_of("test", rows)]
    device.close()
    return np.array(found)


def accuracy(scores: Array) -> float:
    return float((scores.argmax(axis=1) == labels_of("test", len(scores))).mean())


def raw_card() -> dict[str, Any]:
    """Of a model that scales its readings itself."""
    card = deepcopy(wine_card())
    card["inputs"][1]["features"] = [{"name": name, "unit": unit} for name, unit in world.UNITS.items()]
    return card


def float_model(content: bytes) -> FloatModel:
    return FloatModel(content=content, kind="tflite", path="made.tflite", sha256="0" * 64)


def dtypes(content: bytes) -> dict[str, str]:
    runtime = create(content, "cpu", threads=1, external={})
    return {spec.name: spec.dtype.name for spec in (*runtime.inputs, *runtime.outputs)}


def versions(content: bytes) -> dict[str, int]:
    parsed = parse(content)
    return {
        kind_of(parsed, operator): parsed.operatorCodes[operator.opcodeIndex].version
        for operator in parsed.subgraphs[0].operators
    }


# ranges


def test_min_max_takes_the_ends_of_all_samples_and_the_others_cut_off_more(model: FloatModel) -> None:
    rows = inputs_of("calibration", 60)
    ranges = {method: calibrate(model.content, rows, method=method).ranges for method in METHODS}
    sensors = np.concatenate([row["chemistry"] for row in rows])
    assert ranges["min-max"]["chemistry"] == (float(sensors.min()), float(sensors.max()))
    for method in ("percentile", "mse", "moving-average"):
        assert 0 < ranges[method]["pointwise"][1] < ranges["min-max"]["pointwise"][1], method
    # the moving average forgets rare extremes: this is why it is not the default
    assert ranges["moving-average"]["chemistry"][1] < 0.8 * ranges["min-max"]["chemistry"][1]


def test_a_given_range_overrules_the_measured_one(model: FloatModel, calibration: Calibration, int8: Quantized) -> None:
    measured = calibrate(model.content, inputs_of("calibration", 60)).ranges["chemistry"]
    assert -4 < measured[0] < measured[1] < 4
    assert calibration.ranges["chemistry"] == (-4, 4)
    specs = {spec.name: spec for spec in create(int8.content, "cpu", threads=1, external={}).inputs}
    assert specs["chemistry"].scale == pytest.approx(8 / 255)
    assert (specs["image"].scale, specs["image"].zero_point) == (pytest.approx(1 / 255), -128)


def test_the_card_gives_the_ranges_of_its_inputs(model: FloatModel) -> None:
    assert pins_of(DeviceModel(model.content, card=wine_card()).card) == PINS
    shifted = deepcopy(wine_card())
    shifted["inputs"][0] |= {"mean": [127.5, 127.5, 255.0], "std": [127.5, 127.5, 127.5]}
    del shifted["inputs"][1]["features"][3]["clip"]
    # one feature without a clip has no known end, and all share one range
    assert pins_of(DeviceModel(model.content, card=shifted).card) == {"image": (-2.0, 1.0)}


def test_the_same_samples_give_the_same_ranges(model: FloatModel, calibration: Calibration) -> None:
    assert calibrate(model.content, iter(inputs_of("calibration", 300)), pins=PINS) == calibration


@pytest.mark.parametrize(
    ("rows", "pins", "message"),
    [
        ([], {}, "none were given"),
        ([{"image": np.zeros((1, 32, 32, 3), np.float32)}], {}, "no 'chemistry'"),
        ([{"image": np.zeros((1, 9, 9, 3), np.float32), "chemistry": np.zeros((1, 13), np.float32)}], {}, "'image'"),
        ([], {"chemstry": (-4, 4)}, "chemstry: the model's inputs are image, chemistry"),
    ],
)
def test_samples_that_do_not_fit_are_refused(
    model: FloatModel, rows: list[Any], pins: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        calibrate(model.content, rows, pins=pins)


def test_a_sample_that_is_not_finite_is_named(model: FloatModel) -> None:
    rows = [dict(row) for row in inputs_of("calibration", 3)]
    rows[2]["chemistry"] = np.full((1, 13), np.nan, np.float32)
    with pytest.raises(ModelError, match="sample 2: tensor 'chemistry'"):
        calibrate(model.content, rows)


# schemes


def test_int8_is_all_integer_and_within_half_a_point_of_float(model: FloatModel, int8: Quantized) -> None:
    exact = accuracy(answers(model.content, rows=900))
    assert exact > 0.85
    assert accuracy(answers(int8.content, rows=900)) >= exact - 0.005
    assert (int8.scheme, int8.float_ops, int8.notes) == ("int8", {}, ())
    types = {tensor.type for tensor in parse(int8.content).subgraphs[0].tensors}
    assert types == {schema.TensorType.INT8, schema.TensorType.INT32}
    assert dtypes(int8.content) == {"image": "int8", "chemistry": "int8", "code": "int8"}
    assert {op.kind for op in ops_of(parse(int8.content))}.isdisjoint({"QUANTIZE", "DEQUANTIZE"})


def test_dense_weights_have_one_scale_and_convolutions_one_a_channel(int8: Quantized) -> None:
    tensors = {tensor.name.decode(): tensor for tensor in parse(int8.content).subgraphs[0].tensors}
    assert len(tensors["image_dense/weights"].quantization.scale) == 1
    assert len(tensors["pointwise/weights"].quantization.scale) == 32
    assert len(tensors["depthwise/weights"].quantization.scale) == 16


def test_the_order_of_the_inputs_changes_nothing(int8: Quantized) -> None:
    swapped = digits_and_wine(swapped=True)
    assert list(dtypes(swapped.content)) == ["chemistry", "image", "code"]
    ranges = calibrate(swapped.content, inputs_of("calibration", 300), pins=PINS)
    found = quantize(swapped, "int8", calibration=ranges)
    np.testing.assert_array_equal(answers(found.content), answers(int8.content))


@pytest.mark.parametrize("io", ["uint8", "float32"])
def test_other_borders_give_the_same_answers_under_the_same_names(
    model: FloatModel, calibration: Calibration, int8: Quantized, io: Any
) -> None:
    found = quantize(model, "int8", calibration=calibration, io=io)
    assert found.scheme == "int8"
    assert dtypes(found.content) == dict.fromkeys(("image", "chemistry", "code"), io)
    np.testing.assert_allclose(answers(found.content), answers(int8.content), atol=1e-6)


@pytest.mark.parametrize(
    ("scheme", "runtime", "smaller"), [("dynamic", "2.4.0", 3), ("float16", "1.15.0", 1.9), ("16x8", "2.3.0", 3)]
)
def test_the_other_schemes_keep_float_borders_and_the_answers(
    model: FloatModel, calibration: Calibration, scheme: Any, runtime: str, smaller: float
) -> None:
    found = quantize(model, scheme, calibration=calibration)
    assert found.scheme == scheme
    assert set(dtypes(found.content).values()) == {"float32"}
    assert found.minimum_runtime == runtime
    assert len(found.content) < len(model.content) / smaller
    exact = answers(model.content)
    assert (answers(found.content).argmax(axis=1) == exact.argmax(axis=1)).mean() > 0.97


def test_float32_is_the_model_as_it_is(model: FloatModel) -> None:
    assert quantize(model, "float32").content == model.content


@pytest.mark.parametrize("scheme", ["int8", "mixed", "16x8"])
def test_what_needs_ranges_asks_for_samples(model: FloatModel, scheme: Any) -> None:
    with pytest.raises(ConfigError, match="--data"):
        quantize(model, scheme)


# ops in float


def test_a_kept_op_is_float_and_named_with_the_reason(model: FloatModel, calibration: Calibration) -> None:
    found = quantize(model, "mixed", calibration=calibration, keep_float=["joint"])
    assert found.scheme == "mixed"
    assert found.float_ops == {"joint": "FULLY_CONNECTED, kept in float as asked"}
    assert set(dtypes(found.content).values()) == {"int8"}
    assert set(activations_of(parse(found.content))) == {"both_dequant", "joint"}


def test_an_op_that_does_not_exist_is_refused_with_the_nearest(model: FloatModel, calibration: Calibration) -> None:
    with pytest.raises(ConfigError, match="'joined'; did you mean 'joint'"):
        quantize(model, "mixed", calibration=calibration, keep_float=["joined"])


def test_an_op_without_an_integer_form_stays_float_and_says_so() -> None:
    graph = GraphBuilder()
    source = graph.tensor("x", (1, 8))
    weights = np.eye(8, dtype=np.float32)
    bent = graph.op("EXP", [graph.dense(source, weights, np.zeros(8), "before")], (1, 8), "bent")
    made = float_model(graph.finish({"x": source}, {"y": graph.dense(bent, weights, np.zeros(8), "after")}))
    rows = [{"x": np.linspace(-1, 1, 8, dtype=np.float32).reshape(1, 8)}]
    found = quantize(made, "int8", calibration=calibrate(made.content, rows))
    assert (found.scheme, found.float_ops) == ("mixed", {"bent": "EXP has no integer form here"})
    assert dtypes(found.content) == {"x": "int8", "y": "int8"}


def test_own_normalisation_is_ruined_by_int8_and_saved_by_keeping_it_in_float() -> None:
    made = digits_and_wine(own_normalisation=True)
    exact = accuracy(answers(made.content, raw=True))
    ranges = calibrate(made.content, inputs_of("calibration", 300, raw=True), pins={"image": (0, 1)})
    naive = quantize(made, "int8", calibration=ranges)
    assert accuracy(answers(naive.content, raw=True)) < 0.6
    kept = quantize(made, "mixed", calibration=ranges, keep_float=["centred", "normalised"])
    assert accuracy(answers(kept.content, raw=True)) >= exact - 0.01
    assert dtypes(kept.content) == {"image": "int8", "chemistry": "float32", "code": "int8"}
    assert kept.notes == ("the input 'chemistry' stays float32: its ops are in float",)


def test_a_huge_range_costs_plain_int8_more_than_five_points_and_two_float_layers_give_them_back() -> None:
    hard = digits_and_wine(hard=True)
    np.testing.assert_array_equal(answers(hard.content), answers(digits_and_wine().content))
    exact = accuracy(answers(hard.content))
    ranges = calibrate(hard.content, inputs_of("calibration", 300), pins=PINS)
    assert accuracy(answers(quantize(hard, "int8", calibration=ranges).content)) < exact - 0.05
    kept = quantize(hard, "mixed", calibration=ranges, keep_float=["chemistry_dense", "chemistry_code"])
    assert accuracy(answers(kept.content)) >= exact - 0.01


# what the file says of itself


def test_ops_have_the_version_that_integers_need_and_the_file_names_the_oldest_runtime(int8: Quantized) -> None:
    assert versions(int8.content) == {
        "CONV_2D": 3,
        "DEPTHWISE_CONV_2D": 3,
        "RESHAPE": 1,
        "FULLY_CONNECTED": 4,
        "CONCATENATION": 2,
        "SOFTMAX": 2,
    }
    parsed = parse(int8.content)
    [entry] = [entry for entry in parsed.metadata if entry.name == b"min_runtime_version"]
    assert bytes(parsed.buffers[entry.buffer].data) == b"1.14.0".ljust(16, b"\0")
    assert int8.minimum_runtime == "1.14.0"


def test_float_ops_and_integer_ops_of_one_kind_have_versions_of_their_own(
    model: FloatModel, calibration: Calibration
) -> None:
    parsed = parse(quantize(model, "mixed", calibration=calibration, keep_float=["joint"]).content)
    dense = {
        op.name: parsed.operatorCodes[operator.opcodeIndex].version
        for op, operator in zip(ops_of(parsed), parsed.subgraphs[0].operators, strict=True)
        if op.kind == "FULLY_CONNECTED"
    }
    assert (dense["joint"], dense["logits"]) == (1, 4)


def test_buffers_are_inside_the_file_and_aligned() -> None:
    graph = GraphBuilder()
    source = graph.tensor("x", (1, 640))
    weights = np.random.default_rng(1).standard_normal((640, 640)).astype(np.float32)
    made = float_model(graph.finish({"x": source}, {"y": graph.dense(source, weights, np.zeros(640), "y")}))
    rows = [{"x": np.linspace(-1, 1, 640, dtype=np.float32).reshape(1, 640)}]
    content = quantize(made, "int8", calibration=calibrate(made.content, rows)).content
    packed = schema.Model.GetRootAs(content, 0)
    buffers = [packed.Buffers(number) for number in range(packed.BuffersLength())]
    assert max(buffer.DataLength() for buffer in buffers) == 640 * 640
    assert not any(buffer.Offset() or buffer.Size() for buffer in buffers)
    starts = [buffer._tab.Vector(buffer._tab.Offset(4)) for buffer in buffers if buffer.DataLength()]
    assert [start % 16 for start in starts] == [0] * len(starts)


def test_the_same_inputs_give_the_same_bytes_in_every_process(tmp_path: Path) -> None:
    script = (
        "import sys, hashlib\n"
        "from tests.converters.test_quantization import small_model, small_rows\n"
        "from converters.quantization.calibration import calibrate\n"
        "from converters.quantization.quantize import quantize\n"
        "made = small_model()\n"
        "ranges = calibrate(made.content, small_rows(), method='mse')\n"
        "found = quantize(made, 'mixed', calibration=ranges, keep_float=['b', 'd'], io='uint8')\n"
        "print(hashlib.sha256(found.content).hexdigest())\n"
    )
    digests = {_run(script, seed) for seed in ("1", "2")}
    ranges = calibrate(small_model().content, small_rows(), method="mse")
    here = quantize(small_model(), "mixed", calibration=ranges, keep_float=["d", "b"], io="uint8")
    assert digests == {hashlib.sha256(here.content).hexdigest()}


def _run(script: str, seed: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", script],
        env={**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def small_model() -> FloatModel:
    """Six dense layers, two of which meet."""
    rng = np.random.default_rng(5)
    graph = GraphBuilder()
    source = graph.tensor("x", (1, 12))
    layers = {"a": source}
    for name, before in (("b", "a"), ("c", "b"), ("d", "b")):
        weights = rng.standard_normal((12, 12)).astype(np.float32)
        layers[name] = graph.dense(layers[before], weights, rng.standard_normal(12), name)
    both = graph.concat([layers["c"], layers["d"]], "both")
    last = graph.dense(both, rng.standard_normal((4, 24)), np.zeros(4), "last", relu=False)
    return float_model(graph.finish({"x": source}, {"y": graph.softmax(last, "probabilities")}))


def small_rows() -> list[dict[str, Array]]:
    rng = np.random.default_rng(6)
    return [{"x": rng.standard_normal((1, 12)).astype(np.float32)} for _ in range(20)]


def test_nothing_is_printed_about_a_deep_network_either(capfd: pytest.CaptureFixture[str]) -> None:
    graph = GraphBuilder()
    source = last = graph.tensor("x", (1, 12))
    for number in range(40):  # the quantiser shows bars from 100 tensors on
        last = graph.dense(last, np.eye(12), np.zeros(12), f"layer-{number}")
    made = float_model(graph.finish({"x": source}, {"y": last}))
    quantize(made, "int8", calibration=calibrate(made.content, small_rows()))
    captured = capfd.readouterr()
    assert (captured.out, captured.err) == ("", "")


def test_a_result_that_the_interpreter_refuses_is_an_error_and_no_file() -> None:
    """The 6 of a ReLU6 in steps of a range near zero is more than int32 holds."""
    graph = GraphBuilder()
    source = graph.tensor("x", (1, 2))
    options = schema.FullyConnectedOptionsT()
    options.fusedActivationFunction = schema.ActivationFunctionType.RELU6
    constants = [graph.constant("weights", 1e-9 * np.eye(2)), graph.constant("bias", np.zeros(2))]
    made = float_model(
        graph.finish({"x": source}, {"y": graph.op("FULLY_CONNECTED", [source, *constants], (1, 2), "tiny", options)})
    )
    ranges = calibrate(made.content, [{"x": np.ones((1, 2), np.float32)}])
    with pytest.raises(ModelError, match="the quantised model can't be run"):
        quantize(made, "int8", calibration=ranges)


# traps


def test_the_bias_of_a_channel_without_weights_survives() -> None:
    """After pruning, a channel can be all zeros but for its bias. Steps of input scale x weight scale would be so fine
    that int32 can't hold the bias."""
    graph = GraphBuilder()
    source = graph.tensor("x", (1, 4, 4, 2))
    weights = np.random.default_rng(2).standard_normal((3, 1, 1, 2)).astype(np.float32)
    weights[1] = 0
    bias = np.array([0.0, 0.75, 0.1], np.float32)
    made = float_model(graph.finish({"x": source}, {"y": graph.conv(source, weights, bias, "conv")}))
    rows = [{"x": np.random.default_rng(3).random((1, 4, 4, 2)).astype(np.float32)} for _ in range(8)]
    found = quantize(made, "int8", calibration=calibrate(made.content, rows), io="float32")
    exact, rounded = (
        create(c, "cpu", threads=1, external={}).invoke(rows[0])["y"] for c in (made.content, found.content)
    )
    np.testing.assert_allclose(rounded, exact, atol=0.03)
    assert exact[0, 0, 0, 1] == 0.75


def test_a_state_goes_round_as_integers_with_one_range_at_both_ends() -> None:
    graph = GraphBuilder()
    x, state = graph.tensor("x", (1, 2)), graph.tensor("state_in", (1, 2))
    weights = np.array([[0.5, 0, 0.9, 0], [0, 0.25, 0, 0.8]], np.float32)
    after = graph.dense(graph.concat([x, state], "both"), weights, np.zeros(2), "after", relu=False)
    last = graph.dense(after, np.eye(2), np.zeros(2), "last", relu=False)
    made = float_model(graph.finish({"x": x, "state": state}, {"next": after, "y": last}))
    card = {
        "inputs": [
            {"role": "features", "tensor": "x", "features": [{"name": "a"}, {"name": "b"}]},
            {"role": "state", "tensor": "state", "source": "next"},
        ],
        "outputs": [{"task": "regression", "tensor": "y"}],
    }
    rng = np.random.default_rng(4)
    rows = [{"x": rng.random((1, 2)).astype(np.float32), "state": np.zeros((1, 2), np.float32)} for _ in range(60)]
    device = DeviceModel(made.content, card=card)
    states = states_of(device.card)
    assert states == {"state": "next"}
    ranges = calibrate(made.content, rows, pins={"x": (0, 1)}, states=states)
    assert ranges.ranges["state_in"] == ranges.ranges["after"]
    assert ranges.ranges["after"][1] > 2  # the loop was run, not 60 first steps
    found = DeviceModel(quantize(made, "int8", calibration=ranges).content, card=card)
    ends = {spec.name: (spec.scale, spec.zero_point) for spec in (*found.inputs, *found.outputs)}
    assert ends["state"] == ends["next"]
    for row in rows:
        features = dict(zip("ab", row["x"][0].tolist(), strict=True))
        exact, rounded = (d.real(d.engine.invoke({}, features))["y"] for d in (device, found))
    np.testing.assert_allclose(rounded, exact, atol=0.15)


@pytest.mark.parametrize("io", ["int8", "uint8", "float32"])
@pytest.mark.parametrize("kept", [(), ("last",), ("first",), ("other", "last")])
def test_an_output_that_other_ops_read_too_is_given_and_read_as_before(io: Any, kept: tuple[str, ...]) -> None:
    rng = np.random.default_rng(9)
    graph = GraphBuilder()
    source = graph.tensor("x", (1, 5))
    first = graph.dense(source, rng.standard_normal((5, 5)), np.zeros(5), "first")
    other = graph.dense(first, rng.standard_normal((5, 5)), np.zeros(5), "other", relu=False)
    last = graph.concat([first, other], "last")
    made = float_model(graph.finish({"x": source}, {"between": first, "y": last}))
    rows = [{"x": rng.standard_normal((1, 5)).astype(np.float32)} for _ in range(40)]
    ranges = calibrate(made.content, rows)
    found = quantize(made, "mixed", calibration=ranges, keep_float=kept, io=io)
    features = [{"name": name} for name in "abcde"]
    card = {
        "inputs": [{"role": "features", "tensor": "x", "features": features}],
        "outputs": [{"task": "regression", "tensor": "y"}],
    }
    given = "float32" if "first" in kept else io
    assert dtypes(found.content)["between"] == given
    before, after = (DeviceModel(content, card=card) for content in (made.content, found.content))
    for row in rows[:10]:
        values = dict(zip("abcde", row["x"][0].tolist(), strict=True))
        exact, rounded = (d.real(d.engine.invoke({}, values)) for d in (before, after))
        for name in ("between", "y"):
            np.testing.assert_allclose(rounded[name], exact[name], atol=0.25)


def test_tensors_of_one_name_are_told_apart() -> None:
    rng = np.random.default_rng(8)
    graph = GraphBuilder()
    source = graph.tensor("x", (1, 6))
    hidden = graph.dense(source, rng.standard_normal((6, 6)), np.zeros(6), "dense")
    last = graph.dense(hidden, 30 * rng.standard_normal((6, 6)), np.zeros(6), "dense", relu=False)
    made = float_model(graph.finish({"x": source}, {"y": last}))
    rows = [{"x": rng.standard_normal((1, 6)).astype(np.float32)} for _ in range(30)]
    found = quantize(made, "int8", calibration=calibrate(made.content, rows), io="float32")
    exact, rounded = (
        create(c, "cpu", threads=1, external={}).invoke(rows[0])["y"] for c in (made.content, found.content)
    )
    np.testing.assert_allclose(rounded, exact, atol=0.03 * np.abs(exact).max() + 1)


def test_a_file_that_is_no_model_is_refused() -> None:
    with pytest.raises(ModelError, match=r"not a \.tflite file"):
        quantize(float_model(b"PK\3\4 and so on"), "int8")
