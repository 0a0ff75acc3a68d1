"""Rows through a model as the device would run it: what is recorded, what is refused, what is judged, what it costs."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import cv2
import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from converters.device_model import DeviceModel, load_device_model
from converters.evaluation import Evaluation, evaluate, judge, measure_cost, record
from converters.evaluation import memory_child as memory_script
from converters.evaluation.classification import ClassificationResult
from converters.evaluation.detection import DetectionResult
from converters.evaluation.recorded import Recorded
from converters.evaluation.regression import AnomalyResult, RegressionResult
from converters.records import Box, Example
from edge_agent.core.card_schema import Budgets, ClassificationOutput, Golden
from edge_agent.core.decode import Decoder
from edge_agent.core.model_card import ResolvedCard
from edge_agent.errors import ConfigError, ModelError
from edge_agent.records import Crossing, ModelIdentity, TensorSpec
from tests.converters.conveyor import MODEL, draw
from tests.converters.rows import Rows
from tests.simulators.float_models import GraphBuilder

FRESH_SEED = 27182


@pytest.fixture(scope="module")
def conveyor_rows():
    """Samples that are in none of the example's own sets."""
    return draw(200, FRESH_SEED)


@pytest.fixture(scope="module")
def conveyor():
    return load_device_model(MODEL)


def changed(example, **fields):
    return msgspec.structs.replace(example, **fields)


def two_sensors(weights, *outputs, bias=0.0):
    """A model of two plain features ``a`` and ``b`` with one dense output ``y``, and its card."""
    graph = GraphBuilder()
    source = graph.tensor("sensors", (1, 2))
    weights = np.asarray(weights, np.float32)
    result = graph.dense(source, weights, np.full(len(weights), bias, np.float32), "dense", relu=False)
    content = graph.finish({"sensors": source}, {"y": result})
    inputs = [{"role": "features", "tensor": "sensors", "features": [{"name": "a"}, {"name": "b"}]}]
    return DeviceModel(content, card={"inputs": inputs, "outputs": list(outputs)})


def two_sensor_rows(labels, count=20):
    """``labels(a, b)`` makes the labels of a row."""
    draw = np.random.default_rng(4)
    values = draw.normal(0, 1, (count, 2)).tolist()
    return Rows([Example(f"row-{n}", {}, {"a": a, "b": b}, labels(a, b)) for n, (a, b) in enumerate(values)])


def test_the_shipped_model_is_as_good_as_its_example_says(conveyor, conveyor_rows):
    evaluation = evaluate(conveyor, conveyor_rows, conveyor_rows.rows("test"), cost=False)
    fault = evaluation.outputs["fault"]
    assert fault.score >= 0.97
    assert (fault.score_name, fault.labelled, evaluation.rows) == ("accuracy", 200, 200)
    assert fault.result.accuracy == fault.score
    assert [item.label for item in fault.result.classes] == list(conveyor.card.labels["fault"])
    assert sum(map(sum, fault.result.confusion)) == 200
    assert fault.result.log_loss < 0.2


def test_what_is_recorded_is_what_the_device_publishes(conveyor, conveyor_rows):
    recorded = record(conveyor, conveyor_rows, range(20))
    (head,) = recorded.heads
    for place in range(20):
        best = conveyor.predict(conveyor_rows.example(place))["fault"]["classes"][0]
        assert recorded.best(head)[place] == best["index"]
        assert recorded.scores(head)[place].max() == pytest.approx(best["score"])
    assert recorded.ids[:2] == ("0", "1")


@settings(deadline=None)
@given(
    st.lists(st.integers(-3, 3), min_size=2, max_size=9),
    st.sampled_from(["none", "softmax", "sigmoid"]),
    st.sampled_from([0.25, 12.0]),
)
def test_ties_and_activations_are_the_devices(values, activation, scale):
    spec = TensorSpec("y", 0, (1, len(values)), np.dtype(np.int8), scale, 1)
    head = ClassificationOutput(tensor="y", name="y", activation=activation, top_k=1000)
    card = ResolvedCard("m", "1", (), (), (), (head,), {}, Budgets(), Golden(), ())
    raw = np.array([values], np.int8)
    published = Decoder(card, [spec]).decode({"y": raw}, Crossing())["y"]["classes"]
    reals = (raw.astype(np.float64) - 1) * scale
    recorded = Recorded(ModelIdentity("m", "1", ""), (head,), ("row",), {"y": reals}, {}, {"y": (None,)})
    assert recorded.best(head)[0] == published[0]["index"]
    scores = recorded.scores(head)[0]
    for item in published:
        assert scores[item["index"]] == pytest.approx(item["score"], rel=1e-6)


def test_a_single_logit_is_judged_as_not_so_and_so():
    output = {"task": "classification", "tensor": "y", "name": "y", "labels": ["hot"], "activation": "sigmoid"}
    model = two_sensors([[1.0, 0.0]], output)
    rows = two_sensor_rows(lambda a, b: {"y": int(a > 0)})
    result = evaluate(model, rows, range(20), cost=False).outputs["y"].result
    assert isinstance(result, ClassificationResult)
    assert (result.accuracy, result.auc) == (1.0, 1.0)
    assert [item.label for item in result.classes] == ["not hot", "hot"]
    assert result.log_loss is not None


def test_a_regression_is_judged_in_the_cards_unit():
    output = {"task": "regression", "tensor": "y", "name": "y", "unit": "mm", "scale": 10.0, "offset": 5.0}
    model = two_sensors([[2.0, -1.0]], output)
    rows = two_sensor_rows(lambda a, b: {"y": 10 * (2 * a - b) + 5 - 3})
    head = evaluate(model, rows, range(20), cost=False).outputs["y"]
    assert isinstance(head.result, RegressionResult)
    assert (head.score_name, head.result.unit) == ("R2", "mm")
    assert head.result.bias == pytest.approx(3, abs=1e-4)
    assert head.result.mae == pytest.approx(3, abs=1e-4)
    assert head.score == head.result.r2


def test_an_anomaly_is_judged_at_the_cards_threshold():
    model = two_sensors([[1.0, 0.0]], {"task": "anomaly", "tensor": "y", "name": "y", "threshold": 0.5})
    rows = two_sensor_rows(lambda a, b: {"y": a > 0})
    head = evaluate(model, rows, range(20), cost=False).outputs["y"]
    assert isinstance(head.result, AnomalyResult)
    assert (head.score, head.score_name, head.result.precision) == (1.0, "AUC", 1.0)
    assert head.result.recall < 1  # what is between 0 and the threshold is missed


def test_each_output_of_several_is_judged_by_its_own_name():
    heads = [
        {"task": "regression", "tensor": "y", "name": "sum", "element": 0},
        {"task": "regression", "tensor": "y", "name": "difference", "element": 1},
    ]
    model = two_sensors([[1.0, 1.0], [1.0, -1.0]], *heads)
    rows = two_sensor_rows(lambda a, b: {"sum": a + b, "difference": b - a})
    outputs = evaluate(model, rows, range(20), cost=False).outputs
    assert outputs["sum"].score == pytest.approx(1)
    assert outputs["difference"].score < 0


def test_rows_without_a_label_count_in_no_figure():
    model = two_sensors([[1.0, 0.0]], {"task": "regression", "tensor": "y", "name": "y"})
    rows = two_sensor_rows(lambda a, b: {"y": a} if a > 0 else {})
    head = evaluate(model, rows, range(20), cost=False).outputs["y"]
    assert head.labelled == sum(rows.example(n).features["a"] > 0 for n in range(20))
    assert 0 < head.labelled < 20
    assert head.result.max_error < 1e-6


def test_without_labels_the_score_is_the_agreement_with_the_reference(conveyor, conveyor_rows):
    bare = Rows([changed(conveyor_rows.example(n), labels={}) for n in range(30)])
    alone = evaluate(conveyor, bare, range(30), cost=False).outputs["fault"]
    assert (alone.score, alone.result, alone.labelled) == (None, None, 0)
    reference = record(conveyor, bare, range(30))
    against = evaluate(conveyor, bare, range(30), reference=reference, cost=False).outputs["fault"]
    assert (against.score, against.score_name) == (1.0, "agreement with the reference")


@pytest.fixture
def adder():
    """Answers the sum of all ``a`` since its first state."""
    graph = GraphBuilder()
    inputs = {"sensors": graph.tensor("sensors", (1, 1)), "sum": graph.tensor("sum", (1, 1))}
    both = graph.concat(list(inputs.values()), "both")
    outputs = {
        name: graph.dense(both, np.ones((1, 2), np.float32), np.zeros(1, np.float32), name, relu=False)
        for name in ("y", "new_sum")
    }
    card = {
        "inputs": [
            {"role": "features", "tensor": "sensors", "features": [{"name": "a"}]},
            {"role": "state", "tensor": "sum", "source": "new_sum"},
        ],
        "outputs": [{"task": "regression", "tensor": "y", "name": "y"}],
    }
    return DeviceModel(graph.finish(inputs, outputs), card=card)


def test_a_stateful_model_runs_in_row_order_from_its_first_state(adder):
    rows = Rows([Example(f"row-{n}", {}, {"a": a}, {}) for n, a in enumerate([1.0, 2.0, 4.0])])
    for order, sums in (([0, 1, 2], [1, 3, 7]), ([2, 0], [4, 5])):
        recorded = record(adder, rows, order)
        assert recorded.values(recorded.heads[0]).tolist() == sums


def test_measuring_the_cost_leaves_a_stateful_model_at_its_first_state(adder):
    example = Example("row", {}, {"a": 1.0}, {})
    measure_cost({"adder": adder}, example)
    assert adder.predict(example)["y"]["value"] == 1.0


def test_missing_features_are_counted(conveyor, conveyor_rows):
    rows = [conveyor_rows.example(n) for n in range(5)]
    rows[1] = changed(rows[1], filled=("weight",))
    rows[3] = changed(rows[3], filled=("weight", "vibration"))
    evaluation = evaluate(conveyor, Rows(rows), range(5), cost=False)
    assert (evaluation.filled_rows, evaluation.filled) == (2, {"vibration": 1, "weight": 2})


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"images": {}}, r"odd-one: the model takes a picture for 'image'.*none"),
        ({"features": {"weight": 1.0}}, r"odd-one: no value for feature 'temperature'"),
        ({"labels": {"fault": 5}}, r"odd-one: label 5 for output 'fault', which has classes 0 to 4"),
        ({"labels": {"fault": (Box(0, (0.0, 0.0, 1.0, 1.0)),)}}, r"odd-one: label .* classes 0 to 4"),
    ],
)
def test_a_row_that_can_not_be_measured_is_an_error_with_its_id(conveyor, conveyor_rows, fields, says):
    rows = Rows([conveyor_rows.example(0), changed(conveyor_rows.example(1), id="odd-one", **fields)])
    with pytest.raises(ConfigError, match=says):
        record(conveyor, rows, range(2))


def test_an_answer_that_is_not_finite_is_an_error_with_the_rows_id():
    model = two_sensors([[np.inf, 0.0]], {"task": "regression", "tensor": "y", "name": "y"})
    with pytest.raises(ModelError, match=r"row-0: .*not finite"):
        record(model, two_sensor_rows(lambda a, b: {}), range(2))


def test_no_rows_at_all_are_an_error(conveyor, conveyor_rows):
    with pytest.raises(ConfigError, match="no rows"):
        record(conveyor, conveyor_rows, [])


def test_an_evaluation_survives_json(conveyor, conveyor_rows):
    reference = record(conveyor, conveyor_rows, range(20))
    evaluation = evaluate(conveyor, conveyor_rows, range(20), reference=reference)
    assert msgspec.json.decode(msgspec.json.encode(evaluation), type=Evaluation) == evaluation
    assert evaluation.to_json()["outputs"]["fault"]["result"]["task"] == "classification"


@pytest.fixture
def detector(shared):
    name = "TFLite_Detection_PostProcess"
    tensors = {"boxes": name, "classes": f"{name}:1", "scores": f"{name}:2", "count": f"{name}:3"}
    card = {
        "inputs": [
            {"role": "image", "tensor": "normalized_input_image_tensor"},
            {"role": "state", "tensor": "raw_inputs/init_lstm_c", "source": "raw_outputs/lstm_c"},
            {"role": "state", "tensor": "raw_inputs/init_lstm_h", "source": "raw_outputs/lstm_h"},
        ],
        "outputs": [{"task": "detection", "threshold": 0.3, "name": "objects", **tensors}],
    }
    return load_device_model(shared / "models" / "traffic_model.tflite", card=card)


@pytest.fixture
def traffic(shared):
    pictures = [cv2.imread(str(path)) for path in sorted((shared / "images").glob("traffic_*.bmp"))]
    return [
        Example(f"frame-{number}", {"normalized_input_image_tensor": pixels}, {}, {})
        for number, pixels in enumerate(pictures)
    ]


def test_a_detector_that_says_the_truth_has_full_precision(detector, traffic):
    found = record(detector, Rows(traffic), range(3)).boxes["objects"]
    truth = [
        tuple(
            Box(int(index), tuple(corners))
            for index, score, corners in zip(row.indices, row.scores, row.corners.tolist(), strict=True)
            if score >= 0.3
        )
        for row in found
    ]
    assert sum(map(len, truth)) > 0
    rows = Rows([changed(example, labels={"objects": label}) for example, label in zip(traffic, truth, strict=True)])
    head = evaluate(detector, rows, range(3), cost=False).outputs["objects"]
    assert isinstance(head.result, DetectionResult)
    assert (head.score, head.score_name) == (1.0, "mAP@[.5:.95]")
    assert (head.result.precision, head.result.recall) == (1.0, 1.0)


def test_boxes_are_those_that_the_device_publishes_at_every_threshold(detector, traffic):
    recorded = record(detector, Rows(traffic), range(3))
    detector.reset()
    for place, example in enumerate(traffic):
        published = detector.predict(example, 0.3)["objects"]["boxes"]
        boxes = recorded.boxes["objects"][place]
        kept = boxes.scores >= 0.3
        assert boxes.scores[kept].tolist() == [box["score"] for box in published]
        assert boxes.corners[kept].tolist() == [box["box"] for box in published]


def test_what_a_model_costs_is_told_with_the_machine_it_was_measured_on(conveyor, conveyor_rows):
    reference = load_device_model(MODEL, delegate="cpu")
    costs = measure_cost({"xnnpack": conveyor, "reference": reference}, conveyor_rows.example(0))
    for delegate, cost in zip(("xnnpack", "cpu"), costs.values(), strict=True):
        assert cost.delegate == delegate
        assert 0 < cost.p50_ms <= cost.p95_ms
        assert cost.file_bytes == (MODEL).stat().st_size
        assert cost.model_bytes < cost.file_bytes
        assert 0 < cost.deflated_bytes < cost.file_bytes
        assert cost.machine.threads == 1
        assert "not on the device" in cost.caveat
    assert costs["xnnpack"].memory_mb > 0


def test_the_memory_of_a_process_does_not_count_what_its_parent_had(tmp_path):
    # getrusage's maximum survives fork and exec: measured from a large parent, every model would weigh nothing
    script = Path(memory_script.__file__)
    parent = (
        "import subprocess, sys; block = bytes(range(256)) * 2_000_000; "
        f"print(subprocess.check_output([sys.executable, {str(script)!r}, 'xnnpack'], text=True))"
    )
    done = subprocess.run([sys.executable, "-c", parent], capture_output=True, text=True, check=True)
    assert int(done.stdout) < 300_000  # kB; the parent had half a gigabyte


def test_judging_again_gives_the_same(conveyor, conveyor_rows):
    recorded = record(conveyor, conveyor_rows, range(30))
    assert judge(recorded) == judge(recorded)
