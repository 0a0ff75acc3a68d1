"""The techniques that train, with the real frameworks: what they compute, what they write, what they say."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from benchmarks.converters import world
from converters.__main__ import main as edge_convert
from converters.arrays import real_batch
from converters.device_model import DeviceModel, load_device_model
from converters.quantization.flatbuffer import activations_of, parse
from converters.quantization.quantize import quantize
from converters.records import Quantized, Tensors
from converters.source_kind import kind_of
from converters.steps import calibrated, judged, quantized
from converters.techniques.qat import quantization_aware
from converters.techniques.training_graph import computed_values, training_graph
from converters.workbench import Workbench, open_workbench
from converters.workers.protocol import load_arrays, save_arrays
from edge_agent.errors import ConfigError
from edge_agent.io.runtimes import create
from tests.converters.rows import Rows
from tests.converters.technique_graphs import SAMPLE_SHAPE, every_operation, refused
from tests.converters.trained_models import require, run_in, temporary_folder
from tests.simulators.float_models import digits_and_wine, examples_of

pytestmark = pytest.mark.keras
HERE = Path(__file__).parent
NETWORKS, CHECKS = HERE / "technique_networks.py", HERE / "technique_checks.py"
COUNTS = {"train": 1600, "calibration": 100, "test": 300}
EPOCHS = "14"


@pytest.fixture(autouse=True)
def _environment() -> None:
    require("keras")


@cache
def rows() -> Rows:
    """Fewer of the benchmark's, in the same splits."""
    parts = {split: examples_of(split, count) for split, count in COUNTS.items()}
    starts = dict(zip(parts, np.cumsum([0, *COUNTS.values()]).tolist(), strict=False))
    splits: dict[Any, Any] = {split: range(starts[split], starts[split] + len(part)) for split, part in parts.items()}
    return Rows([example for part in parts.values() for example in part], splits)


@cache
def data_file() -> Path:
    """The same rows for the commands."""
    path = temporary_folder() / "technique_rows.py"
    path.write_text(
        "from benchmarks.converters import world\n"
        f"COUNTS = {COUNTS}\n"
        "def rows():\n"
        "    seen = dict.fromkeys(COUNTS, 0)\n"
        "    for row in world.rows():\n"
        "        seen[row['split']] += 1\n"
        "        if seen[row['split']] <= COUNTS[row['split']]:\n"
        "            yield row\n"
    )
    return path


@cache
def card_file() -> Path:
    path = temporary_folder() / "technique_card.json"
    path.write_text(json.dumps(world.card()))
    return path


@cache
def trained(kind: str) -> Path:
    """The small hybrid, trained by either Keras."""
    out, data = temporary_folder() / f"{kind}.keras", temporary_folder() / "technique-train.npz"
    if not data.exists():
        drawn = world.draw("train")
        mean, std = world.scaling()
        scaled = np.clip((drawn["readings"] - mean) / std, -world.CLIP, world.CLIP)
        np.savez(data, image=drawn["pixels"][..., ::-1], chemistry=scaled, code=drawn["labels"])
    run_in(require("keras"), [str(NETWORKS), kind, str(data), str(out), EPOCHS])
    return out


@cache
def bench_of(kind: str) -> Workbench:
    work = temporary_folder() / f"work-{kind}"
    if kind == "hard":
        model = temporary_folder() / "hard.tflite"
        model.write_bytes(digits_and_wine(hard=True).content)
    else:
        model = trained(kind)
    return open_workbench(str(model), work=work, card=world.card(), data=rows())


@cache
def fine_tuned(kind: str) -> Quantized:
    return quantization_aware(bench_of(kind), epochs=2)


def run_command(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, Any]:
    """What the command answers as JSON."""
    common = ["--card", str(card_file()), "--data", f"{data_file()}:rows", "--json"]
    assert edge_convert([*arguments, *common]) == 0
    answer: dict[str, Any] = json.loads(capsys.readouterr().out)
    return answer


def inputs_in(model: DeviceModel) -> dict[str, tuple[float, int]]:
    return {spec.name: (spec.scale, spec.zero_point) for spec in model.inputs}


@pytest.mark.parametrize("kind", ["keras3", "keras2"])
def test_fine_tuned_model_is_int8_throughout_and_keeps_the_ranges_of_the_card(kind: str) -> None:
    bench, result = bench_of(kind), fine_tuned(kind)
    assert result.scheme == "int8"
    assert not result.float_ops
    assert not activations_of(parse(result.content))  # no float tensor
    model, plain = bench.device_model(result.content), bench.device_model(quantized(bench, "int8").content)
    assert {spec.dtype.name for spec in (*model.inputs, *model.outputs)} == {"int8"}
    assert inputs_in(model) == inputs_in(plain)
    assert inputs_in(model)["chemistry"][0] == pytest.approx(8 / 255, rel=1e-6)
    assert inputs_in(model)["image"] == (pytest.approx(1 / 255, rel=1e-6), -128)
    assert [spec.name for spec in model.outputs] == ["code"]


@pytest.mark.parametrize("kind", ["keras3", "keras2"])
def test_fine_tuning_changes_weights_and_keeps_what_the_model_answers(kind: str) -> None:
    bench, test = bench_of(kind), rows().rows("test")
    reference = judged(bench, bench.source.content, test)
    before = judged(bench, quantized(bench, "int8").content, test, reference=reference.recorded)
    after = judged(bench, fine_tuned(kind).content, test, reference=reference.recorded)
    assert after.recorded.outputs["code"].tolist() != before.recorded.outputs["code"].tolist()
    assert after.score > before.score - 0.03
    agreement = after.evaluation.outputs["code"].agreement
    assert agreement is not None
    assert agreement.agreement > 0.93


def test_same_seed_gives_the_same_bytes_and_another_seed_others() -> None:
    bench = bench_of("keras3")
    assert quantization_aware(bench, epochs=2).content == fine_tuned("keras3").content
    assert quantization_aware(bench, epochs=2, seed=1).content != fine_tuned("keras3").content


def test_model_with_one_huge_channel_is_rescued_without_any_float_layer() -> None:
    bench, test = bench_of("hard"), rows().rows("test")
    trained_score = judged(bench, bench.source.content, test).score
    post_training = judged(bench, quantized(bench, "int8").content, test).score
    result = quantization_aware(bench, epochs=4)
    assert not activations_of(parse(result.content))
    assert post_training < trained_score - 0.3
    assert judged(bench, result.content, test).score > trained_score - 0.03


def simulated(content: bytes, int8: bytes, inputs: Tensors, folder: Path) -> tuple[dict[str, Any], Tensors, Tensors]:
    """(answer, float outputs, int8 outputs) of the graph as the training process rebuilds it."""
    graph, constants = training_graph(content, int8)
    first = {name: values[:1] for name, values in inputs.items()}
    folder.mkdir(parents=True, exist_ok=True)
    save_arrays(folder, "constants", {str(buffer): values for buffer, values in constants.items()})
    save_arrays(folder, "inputs", inputs)
    save_arrays(folder, "expected", computed_values(content, graph, first))
    (folder / "graph.json").write_text(json.dumps(graph.to_json()))
    run_in(require("keras"), [str(CHECKS), "graph", str(folder)])
    answer: dict[str, Any] = json.loads((folder / "answer.json").read_text())
    if "refused" in answer:
        return answer, {}, {}
    return answer, load_arrays(folder, "float"), load_arrays(folder, "int8")


def test_training_simulates_what_the_int8_file_computes(tmp_path: Path) -> None:
    bench = bench_of("keras3")
    int8 = quantize(bench.source, "int8", calibration=calibrated(bench)).content
    inputs = real_batch(bench.arrays("test"), slice(0, 200))
    _, floats, steps = simulated(bench.source.content, int8, inputs, tmp_path)
    test = rows().rows("test")[:200]
    on_device = judged(bench, int8, test).recorded.outputs["code"]
    in_float = judged(bench, bench.source.content, test).recorded.outputs["code"]
    assert np.abs(floats["code"] - in_float).max() < 1e-4
    # the device adds in integers and rounds once more in each layer; without any simulation the mean is ten times this
    assert np.abs(steps["code"] - on_device).mean() < np.abs(floats["code"] - on_device).mean() / 3
    assert np.mean(steps["code"].argmax(axis=1) == on_device.argmax(axis=1)) > 0.97


def test_every_operation_computes_in_training_what_the_interpreter_computes(tmp_path: Path) -> None:
    content = every_operation()
    inputs = {"x": np.random.default_rng(1).normal(0, 1.5, (3, *SAMPLE_SHAPE[1:])).astype(np.float32)}
    answer, floats, _ = simulated(content, content, inputs, tmp_path)
    assert "refused" not in answer, answer
    runtime = create(content, "cpu", threads=1, external={})
    for row in range(3):
        found = runtime.invoke({"x": inputs["x"][row : row + 1]})
        for name, values in found.items():
            np.testing.assert_allclose(floats[name][row : row + 1], values, rtol=1e-3, atol=1e-4, err_msg=name)


@pytest.mark.parametrize(("kind", "said"), [("SIN", "SIN"), ("no batch", "batch of 1")])
def test_what_can_not_be_trained_is_refused_by_name(kind: str, said: str, tmp_path: Path) -> None:
    content = refused(kind)
    answer, _, _ = simulated(content, content, {"x": np.ones((2, 4), np.float32)}, tmp_path)
    assert said in answer["refused"]
    assert "post-training quantisation" in answer["refused"]


@cache
def slimmed(version: int) -> dict[str, Any]:
    folder = temporary_folder() / f"channels{version}"
    folder.mkdir()
    run_in(require("keras"), [str(CHECKS), f"channels{version}", str(folder)])
    answer: dict[str, Any] = json.loads((folder / "answer.json").read_text())
    return answer


NETWORKS_TO_SLIM = ("hybrid", "sequential", "squeezed", "separable", "nested", "branches", "recurrent")


@pytest.mark.parametrize("version", [2, 3])
@pytest.mark.parametrize("name", NETWORKS_TO_SLIM)
def test_channels_whose_weights_are_zero_can_go_and_nothing_changes(version: int, name: str) -> None:
    found = slimmed(version)[name]
    before, after = found["parameters"]
    assert after < 0.8 * before
    assert found["erased"] < 1e-5  # made of zeros
    assert found["silenced"] < 1e-5  # read by nobody
    assert found["same_ends"]
    assert found["reloads"]


@pytest.mark.parametrize("version", [2, 3])
def test_layers_that_are_not_understood_see_what_they_always_saw(version: int) -> None:
    assert slimmed(version)["recurrent"]["kept_whole"] == {"memory": "LSTM"}
    assert set(slimmed(version)["branches"]["kept_whole"].values()) == {"Conv2D", "Normalization"}


@pytest.mark.parametrize("version", [2, 3])
@pytest.mark.parametrize(
    ("name", "said"), [("shared", "'twin'"), ("operator", "keras.layers.Add"), ("mixing reshape", "(Reshape)")]
)
def test_channels_that_can_not_be_followed_are_refused_with_the_layer(version: int, name: str, said: str) -> None:
    assert said in slimmed(version)[name]["refused"]


def test_magnitude_pruning_shrinks_the_download_and_claims_no_more(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "pruned.tflite"
    answer = run_command(capsys, "prune", str(trained("keras3")), "--epochs", "3", "--sparsity", "0.6", "-o", str(out))
    original, pruned, tuned = answer["comparison"]["variants"]
    assert [one["kind"] for one in (original, pruned, tuned)] == ["original", "pruned", "tuned"]
    assert answer["facts"]["sparsity"] == pytest.approx(0.6, abs=0.01)
    assert pruned["zero_share"] > 0.5
    assert original["zero_share"] < 0.1
    assert abs(pruned["cost"]["model_bytes"] - original["cost"]["model_bytes"]) < 200
    assert pruned["cost"]["deflated_bytes"] < 0.9 * original["cost"]["deflated_bytes"]
    said = " ".join(answer["said"])
    assert "the file is not smaller" in said
    assert "no speed-up is claimed" in said
    model = load_device_model(out)
    assert model.card.name == "wine-codes"
    assert model.file.card is not None
    assert model.file.card["provenance"]["conversion"]["technique"]["sparsity"] == 0.6


def test_channel_pruning_writes_a_smaller_keras_model_beside_its_honest_baselines(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "pruned.keras"
    options = ["--method", "channels", "--keep", "0.7", "--epochs", "4", "-o", str(out)]
    answer = run_command(capsys, "prune", str(trained("keras2")), *options)
    original, pruned, scratch = answer["comparison"]["variants"]
    assert [one["kind"] for one in (original, pruned, scratch)] == ["original", "pruned", "scratch"]
    assert pruned["parameters"] == scratch["parameters"] < 0.7 * original["parameters"]
    assert pruned["cost"]["model_bytes"] < original["cost"]["model_bytes"]
    assert answer["facts"]["channels"]["hidden"] == [48, 34]
    assert kind_of(str(out)) == "keras2"
    assert pruned["score"] > scratch["score"] + 0.1  # it began with trained weights
    assert set(answer["comparison"]["losses"]) == {"original", "scratch"}


def test_distilling_trains_the_student_with_and_without_its_teacher(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "student.tflite"
    options = ["--student", f"{NETWORKS}:student", "--epochs", "3", "-o", str(out)]
    answer = run_command(capsys, "distill", str(trained("keras3")), *options)
    teacher, taught, alone = answer["comparison"]["variants"]
    assert taught["parameters"] == alone["parameters"] < teacher["parameters"]
    assert taught["float_score"] != alone["float_score"]
    better = "taught" if taught["score"] > alone["score"] else "alone"
    assert answer["better"] == answer["written"] == better
    assert "teacher" in " ".join(answer["said"])
    assert load_device_model(out).file.card["provenance"]["conversion"]["technique"]["student"] == better  # type: ignore[index]


def test_error_in_the_students_own_code_is_told_with_its_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    student = tmp_path / "student.py"
    student.write_text("def make():\n    return 1 / 0\n")
    options = ["--student", f"{student}:make", "--card", str(card_file()), "--data", f"{data_file()}:rows"]
    code = edge_convert(["distill", str(trained("keras3")), *options, "-o", str(tmp_path / "x.tflite")])
    assert code == 2
    assert "line 2: ZeroDivisionError" in capsys.readouterr().err
    assert not (tmp_path / "x.tflite").exists()


def test_model_without_labels_learns_to_answer_as_it_did_in_float() -> None:
    bench = bench_of("keras3")
    unlabelled = Rows(
        [msgspec.structs.replace(rows().example(row), labels={}) for row in range(len(rows()))],
        {split: rows().rows(split) for split in COUNTS},  # type: ignore[misc, arg-type]
    )
    blind = Workbench(bench.source, bench.card, bench.float_model, unlabelled, temporary_folder() / "work-blind")
    reference = judged(bench, bench.source.content, rows().rows("test")).recorded
    result = judged(bench, quantization_aware(blind, epochs=1).content, rows().rows("test"), reference=reference)
    agreement = result.evaluation.outputs["code"].agreement
    assert agreement is not None
    assert agreement.agreement > 0.95


def test_loss_that_is_no_number_is_refused() -> None:
    with pytest.raises(ConfigError, match="lower learning rate"):
        quantization_aware(bench_of("keras3"), epochs=1, learning_rate=1.0)
