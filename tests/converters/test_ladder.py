"""The climb from float to integers: real models, judged on real rows; and the rules by which it goes on or stops."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from benchmarks.converters import world
from converters.device_model import DeviceModel
from converters.ladder import STEPS, Judge, Ladder, Measured, climb, ladder_text, selection_rows
from converters.quantization.calibration import calibrate
from converters.quantization.quantize import quantize
from converters.records import Quantized
from converters.workbench import Workbench, open_workbench
from edge_agent.errors import ConfigError
from edge_agent.records import Array
from tests.simulators.float_models import digits_and_wine, examples_of, inputs_of, labels_of

ROOT = Path(__file__).resolve().parents[2]
DATA = f"{ROOT}/benchmarks/converters/world.py:rows"
PINS = {"image": (0.0, 1.0), "chemistry": (-4.0, 4.0)}
BOTH = {"chemistry_dense", "chemistry_code"}


@pytest.fixture(scope="module")
def hard(tmp_path_factory: pytest.TempPathFactory) -> Workbench:
    return _bench(digits_and_wine(hard=True).content, tmp_path_factory.mktemp("hard"))


@pytest.fixture(scope="module")
def easy(tmp_path_factory: pytest.TempPathFactory) -> Workbench:
    return _bench(digits_and_wine().content, tmp_path_factory.mktemp("easy"))


wine_card = cache(world.card)  # it draws the training set for its means


def _bench(content: bytes, folder: Path) -> Workbench:
    (folder / "codes.tflite").write_bytes(content)
    return open_workbench(str(folder / "codes.tflite"), work=folder, card=wine_card(), data=DATA)


def _judge(bench: Workbench, split: str, count: int) -> Judge:
    """Accuracy of the rows on the device's arithmetic."""
    examples, labels = examples_of(split, count), labels_of(split, count)

    def best(content: bytes) -> Array:
        device = DeviceModel(content, card=wine_card())
        found = np.array([device.real(device.run(example))["code"][0].argmax() for example in examples])
        device.close()
        return found

    true = best(bench.source.content)

    def evaluate(quantized: Quantized) -> Measured:
        found = best(quantized.content)
        return Measured(float((found == labels).mean()), float((found == true).mean()))

    return Judge(evaluate, float((true == labels).mean()), f"{count} {split} rows", count)


def _by_float_ops(score: Callable[[set[str]], float], rows: str = "rows") -> Judge:
    """A score that follows from which ops are in float, where float scores 1."""
    return Judge(lambda made: Measured(score(set(made.float_ops))), 1.0, rows)


@pytest.fixture(scope="module")
def recovered(hard: Workbench) -> Ladder:
    return climb(hard, max_drop=0.01, selection=_judge(hard, "calibration", 150), final=_judge(hard, "test", 400))


def test_the_hard_case_is_recovered_with_the_two_layers_around_the_huge_range(recovered: Ladder) -> None:
    assert recovered.met
    plain, kept = recovered.rungs[0], recovered.rungs[-1]
    assert (plain.name, plain.outcome) == ("int8, min-max", "missed")
    assert plain.drop is not None
    assert plain.drop > 0.05
    assert kept.final_drop is not None
    assert kept.final_drop <= 0.01
    assert set(kept.float_ops) == BOTH
    assert recovered.chosen == len(recovered.rungs) - 1
    assert recovered.quantized is not None
    assert set(recovered.quantized.float_ops) == BOTH
    assert {layer.name for layer in recovered.layers[:2]} == BOTH


def test_the_ladder_reads_as_a_table_with_the_chosen_rung_marked(recovered: Ladder) -> None:
    lines = ladder_text(recovered).splitlines()
    assert len(lines) == 1 + len(recovered.rungs)
    assert [line.startswith("*") for line in lines] == [False] * len(recovered.rungs) + [True]
    assert "mixed, 2 layers in float" in lines[-1]
    assert lines[-1].endswith("float: within 1 point")
    assert "points under float: not within 1 point" in lines[1]


def test_the_ladder_as_json_has_no_model_in_it(recovered: Ladder) -> None:
    plain = recovered.to_json()
    assert plain["met"] is True
    assert plain["rungs"][0]["name"] == "int8, min-max"
    assert "quantized" not in plain


def test_a_good_model_stops_at_plain_int8(easy: Workbench) -> None:
    ladder = climb(easy, max_drop=0.01, selection=_judge(easy, "calibration", 150), final=_judge(easy, "test", 400))
    assert [(rung.name, rung.outcome, rung.float_ops) for rung in ladder.rungs] == [("int8, min-max", "met", ())]
    assert ladder.quantized is not None
    assert ladder.quantized.scheme == "int8"


def test_a_target_for_integers_alone_never_sees_a_float_layer(easy: Workbench) -> None:
    selection = _by_float_ops(lambda floats: 0.5 + len(floats))
    ladder = climb(easy, max_drop=0.01, selection=selection, target_int8_only=True, no_retrain="no labels")
    assert not ladder.met
    reasons = {rung.name: rung.verdict for rung in ladder.rungs if rung.outcome == "skipped"}
    assert reasons == {"mixed": "the target runs integers only", "quantisation-aware training": "no labels"}
    assert ladder.chosen == 0
    assert ladder.quantized is not None
    assert "skipped: the target runs integers only" in ladder_text(ladder)


def test_steps_that_are_not_asked_for_are_skipped(easy: Workbench) -> None:
    ladder = climb(easy, max_drop=0.01, selection=_by_float_ops(lambda floats: 0.5), allow=())
    assert [rung.outcome for rung in ladder.rungs] == ["missed", *["skipped"] * len(STEPS)]


def test_layers_that_are_not_needed_go_back_to_integers(easy: Workbench) -> None:
    ranked: list[str] = []

    def score(floats: set[str]) -> float:
        # only the layer that comes third in the ranking matters
        return 1.0 if len(floats) >= 3 or (ranked and ranked[0] in floats) else 0.5

    first = climb(easy, max_drop=0.01, selection=_by_float_ops(score), allow=("mixed",))
    ranked.append(first.layers[2].name)
    ladder = climb(easy, max_drop=0.01, selection=_by_float_ops(score), allow=("mixed",))
    assert ladder.rungs[-1].outcome == "met"
    assert set(ladder.rungs[-1].float_ops) == {ranked[0]}


def test_a_choice_that_the_test_rows_do_not_confirm_is_a_missed_rung(easy: Workbench) -> None:
    selection = _by_float_ops(lambda floats: 1.0, "selection rows")
    final = _by_float_ops(lambda floats: 0.995 if len(floats) >= 4 else 0.9, "test rows")
    ladder = climb(easy, max_drop=0.01, selection=selection, final=final)
    assert ladder.rungs[0].outcome == "missed"
    assert ladder.rungs[0].drop == 0
    assert ladder.rungs[0].verdict == "0.9000 on test rows, 10 points under float: not within 1 point"
    assert ladder.met
    assert len(ladder.rungs[-1].float_ops) == 4


def test_a_miss_that_chance_explains_is_left_to_the_test_rows(easy: Workbench) -> None:
    """1.3 points on 150 rows, of which 3 % changed: a standard error of 1.4 points."""

    def judge(count: int) -> Judge:
        return Judge(lambda made: Measured(0.987, 0.97), 1.0, "selection rows", count)

    final = Judge(lambda made: Measured(0.995, 0.99), 1.0, "test rows")
    assert climb(easy, max_drop=0.01, selection=judge(150), final=final).chosen == 0
    assert climb(easy, max_drop=0.01, selection=judge(150), final=final).met
    assert not climb(easy, max_drop=0.01, selection=judge(15000), final=final, allow=()).met
    assert not climb(easy, max_drop=0.01, selection=judge(150), allow=()).met  # nobody else decides


def test_ops_that_must_stay_float_do_so_on_every_rung(easy: Workbench) -> None:
    ladder = climb(easy, max_drop=0.01, selection=_by_float_ops(lambda floats: 0.5), keep_float=["joint"])
    tried = [rung for rung in ladder.rungs if rung.outcome != "skipped"]
    assert all("joint" in rung.float_ops for rung in tried)


def test_retraining_is_the_last_rung(easy: Workbench) -> None:
    content = easy.source.content
    retrained = quantize(easy.source, "int8", calibration=calibrate(content, inputs_of("calibration", 50), pins=PINS))
    selection = Judge(lambda made: Measured(1.0 if made is retrained else 0.5), 1.0, "rows")
    ladder = climb(easy, max_drop=0.01, selection=selection, allow=("qat",), retrain=lambda: retrained)
    assert ladder.met
    assert ladder.rungs[-1].name == "quantisation-aware training"
    assert ladder.quantized is retrained


def test_retraining_that_fails_leaves_the_nearest_rung_and_its_reason(easy: Workbench) -> None:
    def fails() -> Quantized:
        raise ConfigError("no labels in the training rows")

    ladder = climb(easy, max_drop=0.01, selection=_by_float_ops(lambda floats: 0.5), allow=("qat",), retrain=fails)
    assert not ladder.met
    assert ladder.rungs[-1].verdict == "no labels in the training rows"
    assert ladder.chosen == 0


def test_rows_are_selected_on_that_measured_no_range_where_there_are_enough() -> None:
    chosen = selection_rows(range(1000), range(0, 900, 3))
    assert len(chosen) == 600
    assert not set(chosen) & set(range(0, 900, 3))
    assert list(selection_rows(range(400), range(300))) == list(range(400))
