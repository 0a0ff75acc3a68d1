"""The techniques that train, where no framework is needed: what they refuse, what they say, what they write back."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from benchmarks.converters import world
from converters.__main__ import main as edge_convert
from converters.evaluation.cost import Cost, this_machine
from converters.evaluation.paired import accuracy_drop
from converters.quantization.calibration import Calibration
from converters.quantization.quantize import quantize
from converters.records import Quantized
from converters.steps import calibrated
from converters.techniques.comparison import Comparison, Variant, zero_share
from converters.techniques.distillation import distill
from converters.techniques.jobs import heads_of
from converters.techniques.pruning import prune_channels, prune_magnitude
from converters.techniques.qat import quantization_aware
from converters.techniques.training_graph import learnt_calibration, training_graph, with_constants
from converters.techniques.words import chance, counted, kilobytes, latencies, scores
from converters.tflite.graph import read_graph
from converters.workbench import Workbench, open_workbench
from edge_agent.errors import ConfigError
from tests.converters.rows import Rows
from tests.simulators.float_models import digits_and_wine, examples_of

NETWORK = Path(__file__).with_name("technique_networks.py")


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Workbench:
    """Around a float .tflite: no Keras model is there to be changed."""
    work = tmp_path_factory.mktemp("work")
    (work / "model.tflite").write_bytes(digits_and_wine().content)
    return open_workbench(str(work / "model.tflite"), work=work, card=world.card(), data=Rows(examples_of("train", 40)))


def as_keras(bench: Workbench) -> Workbench:
    """What a check of the numbers alone takes for a Keras model."""
    source = msgspec.structs.replace(bench.source, kind="keras3")
    return Workbench(source, bench.card, bench.float_model, bench.dataset, bench.work)


@pytest.mark.parametrize("technique", [prune_magnitude, prune_channels])
def test_pruning_wants_the_keras_model_and_says_what_takes_any(bench: Workbench, technique: Any) -> None:
    with pytest.raises(ConfigError, match=r"model\.tflite: pruning changes a Keras model .* this is tflite.*qat"):
        technique(bench)


def test_distilling_wants_a_keras_teacher(bench: Workbench) -> None:
    with pytest.raises(ConfigError, match="distillation changes a Keras model"):
        distill(bench, f"{NETWORK}:student")


@pytest.mark.parametrize(
    ("technique", "arguments", "said"),
    [
        (prune_magnitude, {"sparsity": 1.0}, "sparsity = 1: between 0 and 1"),
        (prune_channels, {"keep": 0.0}, "keep = 0: between 0 and 1"),
        (prune_channels, {"scratch_epochs": 0}, "epochs = 0"),
        (prune_magnitude, {"epochs": 0}, "epochs = 0"),
        (prune_magnitude, {"learning_rate": -1.0}, "learning rate = -1"),
    ],
)
def test_number_out_of_range_is_said_before_anything_is_trained(
    bench: Workbench, technique: Any, arguments: dict[str, float], said: str
) -> None:
    with pytest.raises(ConfigError, match=said):
        technique(as_keras(bench), **arguments)


@pytest.mark.parametrize(
    ("student", "arguments", "said"),
    [
        ("nowhere.py:make", {}, "there is no file nowhere.py"),
        ("nowhere.keras", {}, "nowhere.keras does not exist"),
        (f"{NETWORK}:student", {"alpha": 0.0}, "alpha = 0"),
        (f"{NETWORK}:student", {"temperature": 0.0}, "temperature = 0"),
    ],
)
def test_student_and_its_numbers_are_checked_first(
    bench: Workbench, student: str, arguments: dict[str, float], said: str
) -> None:
    with pytest.raises(ConfigError, match=said):
        distill(as_keras(bench), student, **arguments)


def test_student_of_another_kind_is_named(bench: Workbench, tmp_path: Path) -> None:
    student = tmp_path / "student.tflite"
    student.write_bytes(bench.source.content)
    with pytest.raises(ConfigError, match="a student is a Keras file"):
        distill(as_keras(bench), str(student))


def test_too_few_rows_to_train_on_are_counted(bench: Workbench) -> None:
    few = Workbench(bench.source, bench.card, bench.float_model, Rows(examples_of("train", 9)), bench.work)
    with pytest.raises(ConfigError, match="9 rows to train on, at least 16"):
        quantization_aware(few)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["qat", "m.keras", "--epochs", "0"], "whole number above 0"),
        (["qat", "m.keras", "--learning-rate", "2"], "above 0 and at most 1"),
        (["qat", "m.keras", "--seed", "-1"], "whole number from 0"),
        (["prune", "m.keras", "--keep", "1"], "above 0 and below 1"),
        (["distill", "m.keras"], "--student"),
    ],
)
def test_bad_usage_exits_with_2(arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        edge_convert([*arguments, "--data", "d.npz", "-o", "out.tflite"])
    assert stopped.value.code == 2
    assert said in capsys.readouterr().err


@pytest.mark.parametrize("command", [["prune", "m.keras"], ["distill", "m.keras", "--student", "s.py:f"]])
def test_name_of_the_output_decides_what_is_written(
    command: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert edge_convert([*command, "--data", "d.npz", "-o", str(tmp_path / "out.onnx")]) == 2
    assert "end the name in .keras" in capsys.readouterr().err


def test_only_the_trained_weights_differ_in_the_file() -> None:
    content = digits_and_wine().content
    graph, constants = training_graph(content, content)
    dense = next(op for op in graph.ops if op.kind == "FULLY_CONNECTED")
    buffer = graph.tensors[dense.inputs[1]].buffer
    assert buffer is not None
    changed = with_constants(content, {buffer: constants[buffer] + 1})
    assert len(changed) == len(content)
    after, found = training_graph(changed, changed)
    assert after == graph
    for number, values in constants.items():
        np.testing.assert_array_equal(found[number], values + 1 if number == buffer else values)


def test_graph_to_train_has_the_steps_of_the_int8_file_and_gives_them_back(bench: Workbench) -> None:
    calibration = calibrated(bench)
    before = quantize(bench.source, "int8", calibration=calibration)
    graph, _ = training_graph(bench.source.content, before.content)
    sensors = graph.tensors[graph.inputs["chemistry"]]
    assert sensors.scale == (pytest.approx(2 * world.CLIP / 255),)
    dense = next(op for op in graph.ops if op.kind == "FULLY_CONNECTED")
    assert len(graph.tensors[dense.inputs[1]].scale) == 1  # one scale a tensor
    convolution = next(op for op in graph.ops if op.kind == "CONV_2D")
    assert len(graph.tensors[convolution.inputs[1]].scale) == graph.tensors[convolution.inputs[1]].shape[0]
    again = quantize(bench.source, "int8", calibration=learnt_calibration(calibration, graph, {}))
    assert steps_of(again) == steps_of(before)


def steps_of(quantized: Quantized) -> list[Any]:
    tensors = read_graph(quantized.content).main.tensors
    return [(t.name, t.zero_points, *(f"{scale:.5g}" for scale in t.scales)) for t in tensors]


def test_learnt_step_becomes_a_range_around_the_same_zero_point(bench: Workbench) -> None:
    calibration = calibrated(bench)
    graph, _ = training_graph(bench.source.content, quantize(bench.source, "int8", calibration=calibration).content)
    tensor = graph.tensors[graph.ops[0].outputs[0]]
    learnt = learnt_calibration(calibration, graph, {tensor.name: 0.5})
    low, high = learnt.ranges[tensor.name]
    assert (high - low) / 255 == pytest.approx(0.5)
    assert low / 0.5 == -128 - tensor.zero_point
    assert isinstance(learnt, Calibration)
    assert learnt.pinned == calibration.pinned


def test_heads_say_what_each_output_learns(bench: Workbench) -> None:
    assert heads_of(bench) == {"code": {"task": "classification", "activation": "none"}}


def test_zero_weights_are_counted_in_the_int8_file(bench: Workbench) -> None:
    content = bench.source.content
    graph, constants = training_graph(content, content)
    buffers = [graph.tensors[op.inputs[1]].buffer for op in graph.ops if op.kind == "FULLY_CONNECTED"]
    empty = with_constants(content, {b: np.zeros_like(constants[b]) for b in buffers if b is not None})
    source = msgspec.structs.replace(bench.source, content=empty)
    calibration = calibrated(bench)
    assert zero_share(quantize(bench.source, "int8", calibration=calibration).content) < 0.1
    assert zero_share(quantize(source, "int8", calibration=calibration).content) > 0.9


def comparison(right: int, beside: int, rows: int = 400) -> Comparison:
    """Two variants of which so many rows are right; the same rows, as far as they go."""
    answers = {kind: np.arange(rows) < count for kind, count in (("main", right), ("beside", beside))}
    variants = tuple(
        Variant(kind, kind, 10, 0.9, float(found.mean()), 1.0, 0.0, cost(), Quantized(b"", "int8", ""))
        for kind, found in answers.items()
    )
    return Comparison(variants, "main", "accuracy", rows, {"beside": accuracy_drop(answers["beside"], answers["main"])})


def cost(size: int = 1000, p50_ms: float = 0.2) -> Cost:
    return Cost(this_machine("test"), "cpu", p50_ms, p50_ms, 10, None, size, size, size // 2)


def test_difference_that_may_be_chance_is_called_so() -> None:
    near, far = comparison(300, 302), comparison(300, 380)
    assert "may be chance" in chance(near, "beside")
    assert "chance" not in chance(far, "beside")
    (said,) = scores(far, "beside")
    assert said.startswith("accuracy as int8 0.7500, beside 0.9500: -0.2000 (95% interval -0.2")
    assert scores(far, "nobody") == ()


def test_sizes_and_times_are_said_beside_those_of_before() -> None:
    before, after = (
        Variant("a", "a", 1, 0.0, 0.0, 0.0, 0.0, spent, Quantized(b"", "int8", ""))
        for spent in (cost(2000, 0.4), cost(1000, 0.3))
    )
    assert kilobytes(before, after, "model_bytes") == "1.0 kB, before 2.0 kB (-50%)"
    assert latencies(before, after) == "0.300 ms a run on this machine, before 0.400 ms (-25%)"
    assert (counted(1, "epoch"), counted(4, "epoch")) == ("1 epoch", "4 epochs")
