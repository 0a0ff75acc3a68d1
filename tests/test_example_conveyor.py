"""The shipped example: a model that needs both inputs, and a scene that says what the model should answer.

Everything runs on the device's own code and interpreter; TensorFlow is only needed to train.
"""

from __future__ import annotations

import csv
import io
from pathlib import Path

import cv2
import msgspec
import numpy as np
import pytest

from converters.tflite.archive import with_members
from edge_agent.config.schema import Config
from edge_agent.config.units import decode_quantity
from edge_agent.core.card_schema import CARD_MEMBER, GOLDEN_MEMBER, Card
from edge_agent.io.model_file import read_model
from edge_agent.io.tflite_metadata import standard_metadata

EXAMPLE = Path(__file__).resolve().parents[1] / "examples" / "conveyor"
MODEL = EXAMPLE / "model" / "conveyor.tflite"
MODEL_BYTES_MOST = 500_000
MEDIA_BYTES_MOST = 3_000_000


@pytest.fixture(scope="module", autouse=True)
def example_modules():
    """The example's scripts import each other as neighbours, as when one of them is started."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(EXAMPLE))
        yield


@pytest.fixture(scope="module")
def model(example_modules):
    from device import DeviceModel

    return DeviceModel()


@pytest.fixture(scope="module")
def golden(model):
    return dict(np.load(io.BytesIO(model.members[GOLDEN_MEMBER])))


@pytest.fixture(scope="module")
def measured(model):
    from evaluate import measure_model

    return measure_model(model, seed=271828, count=300)


def rows(name):
    with (EXAMPLE / "media" / name).open(newline="") as file:
        return list(csv.DictReader(file))


def test_the_model_is_small_enough_for_the_repository():
    assert MODEL.stat().st_size < MODEL_BYTES_MOST


def test_the_card_is_valid_and_names_every_class(model):
    from parts import CLASSES, SENSORS, UNITS

    card = msgspec.json.decode(model.members[CARD_MEMBER], type=Card)
    assert card.schema == "edge-agent/card/1"
    assert model.labels == CLASSES
    features = model.card.feature_inputs[0].features
    assert [(feature.name, feature.unit) for feature in features] == list(zip(SENSORS, UNITS, strict=True))


def test_inputs_and_outputs_are_int8_and_their_scales_are_exactly_what_the_card_assumes():
    from edge_agent.io.runtimes.litert import LiteRtRuntime

    runtime = LiteRtRuntime(MODEL.read_bytes())
    specs = {spec.name: spec for spec in (*runtime.inputs, *runtime.outputs)}
    assert {spec.dtype.name for spec in specs.values()} == {"int8"}
    assert (specs["image"].scale, specs["image"].zero_point) == (pytest.approx(1 / 255), -128)
    assert specs["sensors"].scale == pytest.approx(8 / 255)


def test_standard_metadata_says_the_same_as_the_card(model):
    metadata = standard_metadata(MODEL.read_bytes())
    image = next(tensor for tensor in metadata.inputs if tensor.content == "image")
    card = model.card.image_inputs[0]
    assert (metadata.name, metadata.version) == (model.card.name, model.card.version)
    assert (image.color, image.mean, image.std) == (card.color, card.mean, card.std)
    assert metadata.outputs[0].labels == "labels.txt"


def test_standard_metadata_lists_the_inputs_in_the_order_of_the_interpreter():
    from edge_agent.io.runtimes.litert import LiteRtRuntime

    content = MODEL.read_bytes()
    assert [tensor.name for tensor in standard_metadata(content).inputs] == [
        spec.name for spec in LiteRtRuntime(content).inputs
    ]


def test_every_large_buffer_of_the_model_is_aligned_as_the_format_asks():
    from ai_edge_litert import schema_py_generated as schema

    content = MODEL.read_bytes()
    parsed = schema.Model.GetRootAsModel(content, 0)
    buffers = [parsed.Buffers(index) for index in range(parsed.BuffersLength())]
    starts = [buffer._tab.Vector(buffer._tab.Offset(4)) for buffer in buffers if buffer.DataLength()]
    assert starts
    assert all(start % 16 == 0 for start in starts)


@pytest.mark.parametrize("default_delegates", [True, False], ids=["xnnpack", "reference"])
def test_the_golden_samples_pass(golden, default_delegates):
    from device import DeviceModel

    model = DeviceModel(default_delegates=default_delegates)
    expected = golden["output/fault"][:, 0].astype(int)
    found = np.stack([model.run(*pair) for pair in zip(golden["input/image"], golden["input/sensors"], strict=True)])
    assert (found.argmax(axis=1) == expected.argmax(axis=1)).all()
    assert np.abs(found - expected).max() <= model.card.golden.tolerance_lsb


def test_there_is_a_golden_sample_of_each_class_and_its_margin_is_wide(golden, model):
    outputs = np.sort(golden["output/fault"][:, 0].astype(int), axis=1)
    assert golden["output/fault"].argmax(axis=2).ravel().tolist() == list(range(len(model.labels)))
    assert (outputs[:, -1] - outputs[:, -2] > 200).all()


def test_the_model_judges_fresh_parts_well_from_both_inputs(measured):
    assert measured["accuracy"]["both"] >= 0.95


@pytest.mark.parametrize("condition", ["sensors_shuffled", "image_shuffled"])
def test_the_model_fails_when_one_input_belongs_to_another_part(measured, condition):
    assert measured["accuracy"][condition] <= 0.6


def test_the_models_trained_without_one_input_are_clearly_insufficient():
    accuracy = msgspec.json.decode((EXAMPLE / "model" / "report.json").read_bytes())["accuracy"]
    assert max(accuracy["image_only"], accuracy["sensors_only"]) <= 0.7
    assert accuracy["hybrid_float"] >= 0.97


@pytest.mark.parametrize("number", [0, 54, 239])
def test_the_shipped_frames_can_be_drawn_again(number):
    from make_scene import scene_frame

    shipped = cv2.imread(str(EXAMPLE / "media" / "frames" / f"{number:04d}.jpg")).astype(int)
    drawn = scene_frame(number)
    assert (drawn == scene_frame(number)).all()
    assert np.abs(shipped - drawn).mean() < 3  # JPEG takes away the camera's noise


def test_the_shipped_tables_are_those_of_the_scene():
    from make_scene import sensor_rows, truth_rows

    assert [tuple(row.values()) for row in rows("sensors.csv")] == list(sensor_rows())
    assert [tuple(row.values()) for row in rows("truth.csv")] == list(truth_rows())


def test_each_frame_has_one_row_of_readings_at_its_own_time():
    frames = sorted(path.name for path in (EXAMPLE / "media" / "frames").iterdir())
    assert frames == [row["frame"] for row in rows("truth.csv")]
    assert [float(row["time"]) for row in rows("sensors.csv")] == [index / 10 for index in range(len(frames))]


def test_the_media_stay_small():
    assert sum(path.stat().st_size for path in (EXAMPLE / "media").rglob("*") if path.is_file()) < MEDIA_BYTES_MOST


def test_the_model_agrees_with_the_truth_of_the_scene(model):
    means = [feature.mean for feature in model.card.feature_inputs[0].features]
    right = []
    for truth, cells in zip(rows("truth.csv"), rows("sensors.csv"), strict=True):
        pixels = cv2.imread(str(EXAMPLE / "media" / "frames" / truth["frame"]))
        values = np.array([float(cells[feature.name] or "nan") for feature in model.card.feature_inputs[0].features])
        answer = model.run(*model.prepare(pixels, np.where(np.isnan(values), means, values)))
        right.append(model.labels[answer.argmax()] == truth["label"])
    assert np.mean(right) >= 0.9


def test_every_class_is_seen_in_the_scene(model):
    assert {row["label"] for row in rows("truth.csv")} == set(model.labels)


def test_the_configuration_fits_the_schema_and_names_files_that_are_there():
    config = msgspec.toml.decode((EXAMPLE / "agent.toml").read_bytes(), type=Config, dec_hook=decode_quantity)
    assert (EXAMPLE / config.model["conveyor"].path).is_file()
    assert (EXAMPLE / config.sensor[0].source.removeprefix("csv:")).is_file()
    assert list(EXAMPLE.glob(config.camera[0].source.removeprefix("images:")))


def test_the_configuration_feeds_every_feature_in_its_own_unit(model):
    config = msgspec.toml.decode((EXAMPLE / "agent.toml").read_bytes(), type=Config, dec_hook=decode_quantity)
    for feature in model.card.feature_inputs[0].features:
        sensor, _, field = config.pipeline[0].features[feature.name].partition(".")
        assert sensor == config.sensor[0].name
        assert config.sensor[0].fields[field].unit == feature.unit


def test_packing_the_same_parts_again_gives_the_same_bytes(model):
    content = MODEL.read_bytes()
    flatbuffer = content[: content.index(b"PK\x03\x04" + b"\x14\x00")]
    packed = with_members(flatbuffer, read_model(MODEL).members)
    assert packed == content
