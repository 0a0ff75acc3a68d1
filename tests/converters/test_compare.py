"""Two models on the same rows: how far they agree, whether a drop means anything, and what the commands print."""

from __future__ import annotations

import json

import numpy as np
import pytest
from msgspec.structs import replace

from converters.__main__ import main
from converters.device_model import load_device_model
from converters.evaluation import Boxes, Recorded, compare_recorded, record
from converters.records import Box
from edge_agent.core.card_schema import AnomalyOutput, ClassificationOutput, DetectionOutput, RegressionOutput
from edge_agent.errors import ConfigError
from edge_agent.records import ModelIdentity
from tests.converters.conveyor import MODEL, draw

CLASSES = ClassificationOutput(tensor="y", name="y")
ROWS = 40


def recorded(head, values, labels=None, name="m"):
    """What a model with one output answered: ``values`` is an array, or Boxes by row for a detection."""
    detection = isinstance(head, DetectionOutput)
    count = len(values)
    return Recorded(
        model=ModelIdentity(name, "1", name),
        heads=(head,),
        ids=tuple(f"row-{n}" for n in range(count)),
        outputs={} if detection else {"y": np.asarray(values, np.float64).reshape(count, -1)},
        boxes={head.name: tuple(values)} if detection else {},
        labels={head.name: tuple(labels) if labels is not None else (None,) * count},
    )


def probabilities(seed):
    logits = np.random.default_rng(seed).normal(0, 2, (ROWS, 4))
    powers = np.exp(logits)
    return powers / powers.sum(axis=1, keepdims=True)


def only(agreement):
    (head,) = agreement.outputs.values()
    return head


def test_a_model_agrees_with_itself():
    one = recorded(CLASSES, probabilities(1), np.arange(ROWS) % 4)
    head = only(compare_recorded(one, one))
    assert (head.agreement, head.same, head.max_error, head.divergence) == (1.0, 1.0, 0.0, 0.0)
    assert (head.drop.drop, head.drop.p_value, head.worst) == (0.0, 1.0, ())


def test_agreement_and_errors_are_the_same_in_both_directions():
    one, other = (recorded(CLASSES, probabilities(seed), np.arange(ROWS) % 4) for seed in (1, 2))
    there, back = only(compare_recorded(one, other)), only(compare_recorded(other, one))
    assert 0 < there.agreement < 1
    for name in ("agreement", "same", "mean_error", "max_error", "rmse"):
        assert getattr(there, name) == getattr(back, name)
    assert there.drop.drop == -back.drop.drop
    assert (there.drop.low, there.drop.high) == pytest.approx((-back.drop.high, -back.drop.low))


def test_rows_with_another_answer_come_before_rows_that_are_further_apart():
    before = np.array([[0.9, 0.1], [0.51, 0.49], [0.8, 0.2]])
    after = np.array([[0.6, 0.4], [0.49, 0.51], [0.8, 0.2]])
    head = only(compare_recorded(recorded(CLASSES, before), recorded(CLASSES, after)))
    assert [(row.id, row.place) for row in head.worst] == [("row-1", 1), ("row-0", 0)]
    assert (head.worst[0].reference, head.worst[0].other) == ("0 (0.510)", "1 (0.510)")
    assert head.worst[1].distance == pytest.approx(0.3)


def test_at_most_twelve_rows_are_listed():
    one, other = (recorded(CLASSES, probabilities(seed)) for seed in (1, 2))
    assert len(only(compare_recorded(one, other)).worst) == 12


def test_the_drop_counts_the_rows_that_one_model_alone_got_right():
    truth = [0] * 10
    right, wrong = [0.9, 0.1], [0.1, 0.9]
    one = recorded(CLASSES, [right] * 9 + [wrong], truth)
    other = recorded(CLASSES, [wrong] * 3 + [right] * 7, truth)
    drop = only(compare_recorded(one, other)).drop
    assert (drop.only_reference, drop.only_other) == (3, 1)
    assert drop.drop == pytest.approx(0.2)
    assert drop.by_chance


def test_logits_have_no_divergence():
    one, other = (recorded(CLASSES, probabilities(seed) * 9 - 4) for seed in (1, 2))
    assert only(compare_recorded(one, other)).divergence is None


def test_values_of_a_regression_are_compared_in_the_cards_unit():
    head = RegressionOutput(tensor="y", name="y", unit="mm", scale=10.0)
    truth = np.linspace(0, 10, ROWS)
    one, other = recorded(head, truth, truth * 10), recorded(head, truth + 0.5, truth * 10)
    found = only(compare_recorded(one, other))
    assert found.mean_error == pytest.approx(5)
    assert 0.9 < found.agreement < 1
    assert found.worst[0].reference.endswith(" mm")
    assert found.drop.score == "R2"
    assert found.drop.low > 0


def test_verdicts_of_an_anomaly_are_compared():
    head = AnomalyOutput(tensor="y", name="y", threshold=0.5)
    one, other = recorded(head, [0.1, 0.6, 0.9]), recorded(head, [0.1, 0.4, 0.95])
    found = only(compare_recorded(one, other))
    assert found.agreement == pytest.approx(2 / 3)
    assert (found.worst[0].reference, found.worst[0].other) == ("anomalous (0.6)", "normal (0.4)")


def test_boxes_of_two_models_are_matched_in_both_directions_alike():
    head = DetectionOutput(boxes="b", classes="c", scores="s", count="n", name="y", threshold=0.5)
    truth = ((Box(0, (0.0, 0.0, 0.4, 0.4)),),) * 2

    def found(*scored):
        corners = np.array([corners for _, corners in scored], np.float64).reshape(-1, 4)
        return Boxes(np.zeros(len(scored), np.int64), np.array([score for score, _ in scored]), corners)

    here, near = (0.0, 0.0, 0.4, 0.4), (0.0, 0.0, 0.4, 0.3)
    one = recorded(head, [found((0.9, here)), found((0.9, here))], truth)
    # the second box is below the threshold: the device would not publish it
    other = recorded(head, [found((0.8, near)), found((0.4, here))], truth)
    there, back = only(compare_recorded(one, other)), only(compare_recorded(other, one))
    assert there.agreement == back.agreement == pytest.approx(2 / 3)
    assert there.mean_overlap == pytest.approx(0.75)
    assert there.same == 0.5
    assert [row.id for row in there.worst] == ["row-1"]
    assert there.worst[0].other == "nothing"


def test_models_without_a_common_output_are_refused():
    one = recorded(CLASSES, probabilities(1), name="first")
    other = recorded(replace(CLASSES, name="z"), probabilities(1), name="second")
    with pytest.raises(ConfigError, match="first has the outputs y, second has z"):
        compare_recorded(one, other)


def test_another_number_of_classes_is_refused():
    with pytest.raises(ConfigError, match="4 classes in m and 2 in m"):
        compare_recorded(recorded(CLASSES, probabilities(1)), recorded(CLASSES, probabilities(1)[:, :2]))


def test_another_task_is_refused():
    other = recorded(RegressionOutput(tensor="y", name="y"), np.zeros(ROWS))
    with pytest.raises(ConfigError, match="classification in m and a regression in m"):
        compare_recorded(recorded(CLASSES, probabilities(1)), other)


def test_recordings_of_other_rows_are_not_compared():
    one = recorded(CLASSES, probabilities(1))
    with pytest.raises(ValueError, match="different rows"):
        compare_recorded(one, recorded(CLASSES, probabilities(1)[:5]))


def test_the_kernels_of_two_back_ends_agree_on_the_shipped_model():
    rows = draw(60)
    answers = [record(load_device_model(MODEL, delegate=name), rows, range(60)) for name in ("xnnpack", "cpu")]
    head = only(compare_recorded(*answers))
    assert head.agreement >= 0.98
    assert head.mean_error < 0.01


@pytest.fixture(scope="module")
def archive(tmp_path_factory):
    """A data set as an .npz: fifty samples, of which two lack a reading."""
    drawn = draw(50)
    rows = [drawn.example(n) for n in range(50)]
    readings = np.array([list(row.features.values()) for row in rows])
    readings[[3, 7], 1] = np.nan
    path = tmp_path_factory.mktemp("data") / "rows.npz"
    np.savez(
        path,
        image=np.stack([row.images["image"][..., ::-1] for row in rows]),
        features=readings,
        feature_names=np.array(list(rows[0].features)),
        label=np.array([row.labels["fault"] for row in rows]),
        split=np.array(["test"] * 50),
    )
    return path


@pytest.fixture(scope="module")
def noisy(tmp_path_factory):
    """The shipped model, worse: the sign of one in eight of its largest layer's weights is turned."""
    content = bytearray(MODEL.read_bytes())
    weights = _largest_weights(bytes(content))
    for place in np.random.default_rng(2).choice(weights, len(weights) // 8, replace=False).tolist():
        content[place] ^= 0x80
    path = tmp_path_factory.mktemp("model") / "noisy.tflite"
    path.write_bytes(bytes(content))
    return path


def _largest_weights(content):
    """The places of the bytes of the largest buffer."""
    from ai_edge_litert import schema_py_generated as schema

    parsed = schema.Model.GetRootAsModel(content, 0)
    buffers = [parsed.Buffers(n).DataAsNumpy() for n in range(parsed.BuffersLength())]
    largest = max((b for b in buffers if not isinstance(b, int)), key=len).tobytes()
    start = content.index(largest)
    return range(start, start + len(largest))


def answer(capsys, *arguments):
    code = main([*map(str, arguments), "--json"])
    out = capsys.readouterr().out
    assert code == 0
    return json.loads(out)


def test_compare_answers_in_json_with_what_a_person_must_know(capsys, archive, noisy):
    found = answer(capsys, "compare", MODEL, noisy, "--data", archive)
    assert found["schema"] == "edge-agent/convert-compare/1"
    fault = found["agreement"]["fault"]
    assert fault["rows"] == 50
    assert fault["agreement"] < 1
    assert fault["drop"]["method"].startswith("Newcombe")
    for side in ("a", "b"):
        evaluation = found[side]["evaluation"]
        assert (evaluation["rows"], evaluation["filled_rows"]) == (50, 2)
        assert evaluation["cost"]["p50_ms"] > 0
    assert found["a"]["evaluation"]["outputs"]["fault"]["score"] >= 0.9


def test_compare_prints_both_models_side_by_side(capsys, archive, noisy):
    assert main(["compare", str(MODEL), str(noisy), "--data", str(archive), "--limit", "30"]) == 0
    out = capsys.readouterr().out
    assert "30 rows" in out
    assert "95% interval" in out
    assert any(line.split()[0] == "accuracy" and len(line.split()) == 3 for line in out.splitlines() if line.strip())
    assert "not on the device" in out
    assert max(map(len, out.splitlines())) <= 100


def test_evaluate_answers_in_json(capsys, archive, noisy):
    found = answer(capsys, "evaluate", noisy, "--data", archive, "--against", MODEL)
    assert found["schema"] == "edge-agent/convert-evaluate/1"
    fault = found["evaluation"]["outputs"]["fault"]
    assert fault["result"]["accuracy"] == fault["score"]
    assert fault["agreement"]["drop"]["reference"] >= 0.9
    assert (found["as_trained"], found["card_search"]) == (None, None)
    assert found["evaluation"]["filled"] == {"temperature": 2}


def test_evaluate_prints_what_was_missing_and_every_class(capsys, archive):
    assert main(["evaluate", str(MODEL), "--data", str(archive)]) == 0
    out = capsys.readouterr().out
    assert "features missing in 2 of 50 rows" in out
    for name in ("good", "scratched", "hollow", "overheated", "worn_bearing"):
        assert sum(line.startswith(name) for line in out.splitlines()) == 2  # by class, and confused
    assert max(map(len, out.splitlines())) <= 100


def test_evaluate_on_the_reference_kernels_says_so(capsys, archive):
    found = answer(capsys, "evaluate", MODEL, "--data", archive, "--limit", "10", "--delegate", "cpu")
    assert found["evaluation"]["cost"]["delegate"] == "cpu"
    assert found["evaluation"]["rows"] == 10


@pytest.mark.parametrize(
    "arguments",
    [
        ("evaluate", "absent.tflite", "--data", "absent.npz"),
        ("evaluate", MODEL, "--data", "absent.npz"),
        ("compare", MODEL, "absent.tflite", "--data", "absent.npz"),
    ],
)
def test_what_can_not_be_used_is_one_line_and_exit_code_two(capsys, arguments):
    assert main([*map(str, arguments)]) == 2
    error = capsys.readouterr().err.strip()
    assert error.count("\n") == 0
    assert "absent" in error


@pytest.mark.parametrize(
    "arguments", [("evaluate", MODEL), ("compare", MODEL, "--data", "x"), ("evaluate", "--limit", "0")]
)
def test_bad_usage_ends_with_exit_code_two(capsys, arguments):
    with pytest.raises(SystemExit) as ended:
        main([*map(str, arguments)])
    assert ended.value.code == 2
