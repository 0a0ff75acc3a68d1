"""Real input, whole way: a road video with a real temperature series attached, real models, a real broker."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter

from tests.simulators.broker import Mosquitto
from tests.simulators.daemon import Daemon
from tests.simulators.subscriber import Subscriber

FRAMES = 377
FRAME_MS = 80  # 12.5 frames a second

CLASSIFIER = """
[model.m]
path = "{shared}/models/mobilenet_v1_0.25_128_quant.tflite"
[model.m.card]
task = "classification"
labels = "{shared}/labels/imagenet_labels.txt"
"""

DETECTOR = """
[model.m]
path = "{shared}/models/traffic_model.tflite"
[model.m.card]
inputs = [
  {{ role = "image", tensor = "normalized_input_image_tensor" }},
  {{ role = "state", tensor = "raw_inputs/init_lstm_c", source = "raw_outputs/lstm_c" }},
  {{ role = "state", tensor = "raw_inputs/init_lstm_h", source = "raw_outputs/lstm_h" }},
]
[[model.m.card.outputs]]
task = "detection"
boxes = "TFLite_Detection_PostProcess"
classes = "TFLite_Detection_PostProcess:1"
scores = "TFLite_Detection_PostProcess:2"
count = "TFLite_Detection_PostProcess:3"
threshold = 0.3
"""

DAEMON = """
[device]
id = "road"
[mqtt]
port = {port}
[[camera]]
name = "road"
source = "file:{shared}/videos/car-detection.mp4"
pace = "max"
[[sensor]]
name = "ambient"
source = "csv:{shared}/sensors/ambient_temperature_system_failure.csv"
timeline = "media"
speed = 3600
[sensor.fields.temperature]
select = "value"
unit = "degF"
[[pipeline]]
name = "cars"
camera = "road"
model = "m"
attach = ["ambient"]
align = {{ method = "hold", max_age = "5s" }}
"""


def rows(shared: Path) -> list[float]:
    """The series; its first hours have no gap, so row n is at media second n."""
    with (shared / "sensors/ambient_temperature_system_failure.csv").open() as file:
        return [float(row["value"]) for row in csv.DictReader(file)]


def plain_loop(shared: Path, model: str) -> Iterator[dict[str, Any]]:
    """The outputs of an interpreter in the loop that everyone writes, frame by frame, by tensor name."""
    interpreter = Interpreter(str(shared / "models" / model))
    interpreter.allocate_tensors()
    inputs = {item["name"]: item for item in interpreter.get_input_details()}
    outputs = {item["name"]: item["index"] for item in interpreter.get_output_details()}
    image = next(item for name, item in inputs.items() if "lstm" not in name)
    states = {item["index"]: np.zeros(item["shape"], item["dtype"]) for name, item in inputs.items() if "lstm" in name}
    video = cv2.VideoCapture(str(shared / "videos/car-detection.mp4"))
    while True:
        more, frame = video.read()
        if not more:
            return
        picture = cv2.resize(frame, tuple(image["shape"][2:0:-1]), interpolation=cv2.INTER_LINEAR)
        interpreter.set_tensor(image["index"], cv2.cvtColor(picture, cv2.COLOR_BGR2RGB)[None])
        for index, state in states.items():
            interpreter.set_tensor(index, state)
        interpreter.invoke()
        result = {name: interpreter.get_tensor(index) for name, index in outputs.items()}
        for letter in "ch" if states else "":
            states[inputs[f"raw_inputs/init_lstm_{letter}"]["index"]] = result[f"raw_outputs/lstm_{letter}"]
        yield result


def check_class(output: dict[str, Any], raw: dict[str, Any]) -> None:
    scores = raw["MobilenetV1/Predictions/Reshape_1"][0]
    assert output["classes"][0]["index"] == int(scores.argmax())
    assert output["classes"][0]["score"] == pytest.approx(scores.max() / 256, rel=1e-5)


def check_boxes(output: dict[str, Any], raw: dict[str, Any]) -> None:
    scores = raw["TFLite_Detection_PostProcess:2"][0]
    expected = sorted((float(score) for score in scores if score >= 0.3), reverse=True)
    assert [box["score"] for box in output["boxes"]] == pytest.approx(expected, rel=1e-5)
    for box in output["boxes"]:
        x0, y0, x1, y1 = box["box"]
        assert 0 <= x0 < x1 <= 1
        assert 0 <= y0 < y1 <= 1


CASES = {
    "classifier": (CLASSIFIER, "mobilenet_v1_0.25_128_quant.tflite", "class", check_class),
    "stateful detector": (DETECTOR, "traffic_model.tflite", "objects", check_boxes),
}


@pytest.mark.parametrize("case", CASES)
def test_every_frame_arrives_once_in_order_with_its_reading_and_the_outputs_of_a_plain_loop(
    case: str, shared: Path, broker: Mosquitto, subscriber: Subscriber, daemon: Callable[..., Daemon]
) -> None:
    card, model, output, check = CASES[case]
    process = daemon((DAEMON + card).format(shared=shared, port=broker.port))
    predictions = subscriber.wait_predictions(FRAMES, 180)
    assert process.stop() == 0, process.log
    assert [item["frame_seq"] for item in predictions] == list(range(FRAMES))
    assert [item["seq"] for item in predictions] == list(range(FRAMES))
    assert len({item["id"] for item in predictions}) == FRAMES
    assert {item["time_source"] for item in predictions} == {"media"}
    series = rows(shared)
    for item in predictions:
        media_ms = item["frame_seq"] * FRAME_MS
        reading = item["readings"]["ambient.temperature"]
        assert reading["value"] == pytest.approx(series[media_ms // 1000])
        assert reading["age_ms"] == pytest.approx(media_ms % 1000, abs=0.01)
        assert reading["unit"] == "degF"
    for item, raw in zip(predictions, plain_loop(shared, model), strict=True):
        check(item["outputs"][output], raw)
    assert subscriber.raw("availability")[-1][1] == b"offline"
    stats = subscriber.last("/stats")
    assert stats is not None
    counts = stats["pipelines"]["cars"]
    assert (counts["frames"], counts["predictions"], counts["published"]) == (FRAMES, FRAMES, FRAMES)
    assert counts["discards"] == {}
