"""Decoding: what the tensors mean in the frame's coordinates and the card's words, and what the real models see."""

from __future__ import annotations

import math
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from edge_agent.core.card_schema import (
    AnomalyOutput,
    Budgets,
    ClassificationOutput,
    DetectionOutput,
    Golden,
    OutputCard,
    RegressionOutput,
)
from edge_agent.core.decode import DecodeError, Decoder
from edge_agent.core.model_card import ResolvedCard, resolve
from edge_agent.core.preprocess import ImagePreprocessor, initial_state
from edge_agent.io.model_file import read_model
from edge_agent.records import Array, Crossing, TensorSpec
from tests.core.tensors import RealModel, model_file, real_data, spec

NO_CROSSING = Crossing()


def card(*outputs: OutputCard, labels: dict[str, tuple[str, ...]] | None = None) -> ResolvedCard:
    return ResolvedCard("m", "1", (), (), (), outputs, labels or {}, Budgets(), Golden(), ())


def classified(
    raw: Array, tensor: TensorSpec, threshold: float | None = None, labels: tuple[str, ...] | None = None, **said: Any
) -> list[dict[str, Any]]:
    head = ClassificationOutput(tensor=tensor.name, **said)
    decoder = Decoder(card(head, labels={"class": labels} if labels else None), [tensor])
    payload = decoder.decode({tensor.name: raw}, NO_CROSSING, threshold)["class"]
    assert payload["task"] == "classification"
    classes: Any = payload["classes"]
    return classes


def row(values: list[float], dtype: str = "float32") -> Array:
    return np.array([values], dtype)


def test_the_best_classes_come_first_and_only_as_many_as_asked() -> None:
    tensor = spec("p", (1, 4), "uint8", 1 / 256, 0)
    found = classified(row([10, 200, 30, 16], "uint8"), tensor, labels=("a", "b", "c", "d"), top_k=2)
    assert found == [
        {"label": "b", "index": 1, "score": 0.78125},
        {"label": "c", "index": 2, "score": 0.1171875},
    ]


def test_without_labels_the_index_is_the_label() -> None:
    assert classified(row([0.25, 0.75]), spec("p", (1, 2), "float32"))[0]["label"] == "1"


def test_scores_below_the_threshold_are_left_out_and_one_from_outside_goes_first() -> None:
    tensor = spec("p", (1, 3), "float32")
    scores = row([0.5, 0.3, 0.2])
    assert [item["index"] for item in classified(scores, tensor, threshold=0.25)] == [0, 1]
    head = ClassificationOutput(tensor="p", threshold=0.4)
    payload = Decoder(card(head), [tensor]).decode({"p": scores}, NO_CROSSING)["class"]
    assert payload["classes"] == [{"label": "0", "index": 0, "score": 0.5}]


def test_softmax_is_taken_over_the_real_values() -> None:
    tensor = spec("logits", (1, 3), "int8", 0.5, 10)
    found = classified(row([12, 14, 10], "int8"), tensor, activation="softmax")
    total = math.exp(1) + math.exp(2) + math.exp(0)
    assert [(item["index"], item["score"]) for item in found] == [
        (1, pytest.approx(math.exp(2) / total, rel=1e-5)),
        (0, pytest.approx(math.exp(1) / total, rel=1e-5)),
        (2, pytest.approx(1 / total, rel=1e-5)),
    ]


def test_softmax_and_sigmoid_survive_huge_logits() -> None:
    tensor = spec("logits", (1, 2), "float32")
    with np.errstate(over="raise", invalid="raise", divide="raise"):
        assert [item["score"] for item in classified(row([3e4, 1e4]), tensor, activation="softmax")] == [1.0, 0.0]
        assert [item["score"] for item in classified(row([3e4, -3e4]), tensor, activation="sigmoid")] == [1.0, 0.0]


def test_a_single_logit_is_a_sigmoid() -> None:
    (found,) = classified(row([0.0]), spec("logit", (1, 1), "float32"), activation="sigmoid", labels=("defect",))
    assert found == {"label": "defect", "index": 0, "score": 0.5}


@settings(max_examples=150, deadline=None)
@given(
    st.sampled_from(["uint8", "int8", "float32"]).flatmap(
        lambda dtype: arrays.arrays(
            dtype,
            st.tuples(st.just(1), st.integers(2, 60)),
            elements=st.floats(-100, 100, width=32) if dtype == "float32" else None,
        )
    ),
    st.integers(1, 70),
)
def test_the_selection_is_that_of_a_full_stable_sort(raw: Array, top_k: int) -> None:
    tensor = spec("p", raw.shape, raw.dtype.name, 0.0 if raw.dtype.kind == "f" else 0.1, 3)
    found = classified(raw, tensor, threshold=-1e9, top_k=top_k)
    values = raw[0].tolist()
    order = sorted(range(len(values)), key=lambda index: (-values[index], index))[:top_k]
    assert [item["index"] for item in found] == order
    real = [value if raw.dtype.kind == "f" else (value - 3) * 0.1 for value in values]
    assert [item["score"] for item in found] == pytest.approx([real[index] for index in order], rel=1e-5, abs=1e-9)


DETECTION = DetectionOutput(boxes="b", classes="c", scores="s", count="n", threshold=0.5)
DETECTION_SPECS = [
    spec("b", (1, 4, 4), "float32"),
    spec("c", (1, 4), "float32"),
    spec("s", (1, 4), "float32"),
    spec("n", (1,), "float32"),
]


def detected(
    boxes: list[list[float]],
    classes: list[float],
    scores: list[float],
    count: float,
    crossing: Crossing = NO_CROSSING,
    threshold: float | None = None,
) -> list[dict[str, Any]]:
    decoder = Decoder(card(DETECTION, labels={"objects": ("car", "person")}), DETECTION_SPECS)
    tensors = {"b": np.array([boxes]), "c": np.array([classes]), "s": np.array([scores]), "n": np.array([count])}
    payload = decoder.decode({name: value.astype(np.float32) for name, value in tensors.items()}, crossing, threshold)[
        "objects"
    ]
    assert payload["task"] == "detection"
    found: Any = payload["boxes"]
    return found


BOX = [0.25, 0.125, 0.75, 0.5]  # y0, x0, y1, x1


def test_detections_are_sorted_cut_by_the_threshold_and_written_x_first() -> None:
    found = detected([BOX] * 4, [0, 1, 7, 0], [0.6, 0.9, 0.8, 0.4], 4)
    assert found == [
        {"label": "person", "index": 1, "score": 0.9, "box": [0.125, 0.25, 0.5, 0.75]},
        {"label": "7", "index": 7, "score": 0.8, "box": [0.125, 0.25, 0.5, 0.75]},
        {"label": "car", "index": 0, "score": 0.6, "box": [0.125, 0.25, 0.5, 0.75]},
    ]
    assert len(detected([BOX] * 4, [0, 1, 7, 0], [0.6, 0.9, 0.8, 0.4], 4, threshold=0.85)) == 1


def test_rows_behind_the_count_are_not_read() -> None:
    nan = math.nan
    assert detected([BOX, [nan] * 4, [nan] * 4, [nan] * 4], [0, nan, nan, nan], [0.9, nan, 0.9, nan], 1) == [
        {"label": "car", "index": 0, "score": 0.9, "box": [0.125, 0.25, 0.5, 0.75]}
    ]
    assert detected([BOX] * 4, [0] * 4, [0.9] * 4, -3) == []
    assert len(detected([BOX] * 4, [0] * 4, [0.9] * 4, 100)) == 4


def test_boxes_are_clipped_to_the_frame_and_empty_ones_dropped() -> None:
    boxes = [[-0.5, -0.5, 0.5, 0.5], [0.2, 0.9, 0.4, 1.7], [0.3, 0.3, 0.3, 0.8], [1.1, 0.1, 1.3, 0.2]]
    assert [item["box"] for item in detected(boxes, [0] * 4, [0.9] * 4, 4)] == [
        [0.0, 0.0, 0.5, 0.5],
        [0.9, 0.2, 1.0, 0.4],
    ]


def test_boxes_are_mapped_back_to_the_original_frame() -> None:
    crossing = Crossing(scale_x=0.5, offset_x=0.25, scale_y=2.0, offset_y=-0.5)
    (found,) = detected([BOX] + [[0.0] * 4] * 3, [0] * 4, [0.9, 0, 0, 0], 4, crossing)
    assert found["box"] == [0.3125, 0.0, 0.5, 1.0]


def test_a_regression_is_scaled_and_has_its_unit() -> None:
    head = RegressionOutput(tensor="v", name="temperature", unit="degC", element=1, scale=2.0, offset=-1.0)
    decoder = Decoder(card(head), [spec("v", (1, 2), "int8", 0.1, -10)])
    payload = decoder.decode({"v": row([0, 25], "int8")}, NO_CROSSING)
    assert payload == {"temperature": {"task": "regression", "value": 6.0, "unit": "degC"}}


def test_an_anomaly_begins_at_its_threshold() -> None:
    decoder = Decoder(card(AnomalyOutput(tensor="a", threshold=3.5)), [spec("a", (1, 1), "float32")])
    expected = {"task": "anomaly", "score": 3.5, "anomalous": True, "threshold": 3.5}
    assert decoder.decode({"a": row([3.5])}, NO_CROSSING)["anomaly"] == expected
    assert decoder.decode({"a": row([3.4])}, NO_CROSSING)["anomaly"]["anomalous"] is False
    assert decoder.decode({"a": row([3.4])}, NO_CROSSING, 0.5)["anomaly"]["anomalous"] is True


def test_a_threshold_for_scores_does_not_move_the_anomaly_beside_them() -> None:
    heads = (ClassificationOutput(tensor="p"), AnomalyOutput(tensor="a", threshold=3.5))
    decoder = Decoder(card(*heads), [spec("p", (1, 2), "float32"), spec("a", (1, 1), "float32")])
    decoded = decoder.decode({"p": row([0.2, 0.8]), "a": row([1.0])}, NO_CROSSING, 0.5)
    assert decoded["anomaly"] == {"task": "anomaly", "score": 1.0, "anomalous": False, "threshold": 3.5}
    assert decoded["class"]["classes"] == [{"label": "1", "index": 1, "score": 0.8}]


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize(
    ("head", "tensor"),
    [
        (ClassificationOutput(tensor="t"), spec("t", (1, 2), "float32")),
        (ClassificationOutput(tensor="t", activation="softmax"), spec("t", (1, 2), "float32")),
        (RegressionOutput(tensor="t"), spec("t", (1, 2), "float32")),
        (AnomalyOutput(tensor="t", threshold=1.0), spec("t", (1, 1), "float32")),
    ],
)
def test_a_value_that_is_not_finite_is_an_error_that_names_the_output(
    value: float, head: Any, tensor: TensorSpec
) -> None:
    with pytest.raises(DecodeError, match=f'output "{head.name}": tensor "t" is not finite'):
        Decoder(card(head), [tensor]).decode({"t": np.full(tensor.shape, value, np.float32)}, NO_CROSSING)


def test_a_detection_that_is_not_finite_is_an_error() -> None:
    with pytest.raises(DecodeError, match='tensor "s" is not finite'):
        detected([BOX] * 4, [0] * 4, [0.9, math.nan, 0.9, 0.9], 4)
    with pytest.raises(DecodeError, match='tensor "n" is not finite'):
        detected([BOX] * 4, [0] * 4, [0.9] * 4, math.nan)


# --- the real models ---------------------------------------------------------------------------------------------

CLASSIFIERS = ["mobilenet_v1_0.25_128_quant.tflite", "tf2_mobilenet_v2_1.0_224_ptq.tflite"]
FAMILIES = {
    "cat.bmp": {"tabby, tabby cat", "tiger cat", "Egyptian cat", "Persian cat", "Siamese cat, Siamese"},
    "sunflower.bmp": {"daisy", "sunflower"},
    "grace_hopper.bmp": {"military uniform"},
}


def top_five(name: str, picture: str) -> list[dict[str, Any]]:
    model = RealModel(name)
    resolved = resolve(read_model(real_data(f"models/{name}")), model.inputs, model.outputs, None, **FROM_FILE)
    stage = ImagePreprocessor(model.inputs[0], resolved.image_inputs[0])
    slot = stage.slot()
    crossing = stage.fill(cv2.imread(str(real_data(f"images/{picture}"))), slot)
    decoded = Decoder(resolved, model.outputs).decode(model.run({model.inputs[0].name: slot}), crossing)
    classes: Any = decoded["class"]["classes"]
    return classes


def no_neighbours(name: str) -> str:
    raise FileNotFoundError(name)


FROM_FILE: dict[str, Any] = {"where": "agent.toml: [model.m.card]", "read_text": no_neighbours}


@pytest.mark.parametrize("name", CLASSIFIERS)
@pytest.mark.parametrize("picture", FAMILIES)
def test_a_classifier_with_standard_metadata_sees_what_is_in_the_picture(name: str, picture: str) -> None:
    found = top_five(name, picture)
    assert len(found) == 5
    assert {item["label"] for item in found} & FAMILIES[picture]


@pytest.mark.parametrize("picture", ["traffic_0001.bmp", "traffic_0002.bmp", "traffic_0003.bmp"])
def test_a_stateful_detector_finds_boxes_inside_the_frame(picture: str) -> None:
    model = RealModel("traffic_model.tflite")
    said = {
        "task": "detection",
        "inputs": [
            {"role": "image", "tensor": "normalized_input_image_tensor"},
            {"role": "state", "tensor": "raw_inputs/init_lstm_c", "source": "raw_outputs/lstm_c"},
            {"role": "state", "tensor": "raw_inputs/init_lstm_h", "source": "raw_outputs/lstm_h"},
        ],
    }
    resolved = resolve(model_file(), model.inputs, model.outputs, said, **FROM_FILE)
    specs = {item.name: item for item in model.inputs}
    (image,) = resolved.image_inputs
    stage = ImagePreprocessor(specs[image.tensor], image)
    tensors = {image.tensor: stage.slot()}
    tensors |= {item.tensor: initial_state(specs[item.tensor]) for item in resolved.state_inputs}
    frame = cv2.imread(str(real_data(f"images/{picture}")))
    for _ in range(3):
        crossing = stage.fill(frame, tensors[image.tensor])
        outputs = model.run(tensors)
        tensors |= {item.tensor: outputs[item.source] for item in resolved.state_inputs}
    boxes: Any = Decoder(resolved, model.outputs).decode(outputs, crossing, 0.4)["objects"]["boxes"]
    assert boxes
    scores = [item["score"] for item in boxes]
    assert scores == sorted(scores, reverse=True)
    assert min(scores) >= 0.4
    for x0, y0, x1, y1 in (item["box"] for item in boxes):
        assert 0 <= x0 < x1 <= 1
        assert 0 <= y0 < y1 <= 1
