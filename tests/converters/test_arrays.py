"""Rows as training arrays: what the device's own preprocessing makes of them, and truth in the model's own scale."""

from __future__ import annotations

import json

import cv2
import numpy as np
import pytest

from converters.arrays import NORMALISATION_FILE, calibration_samples, make_arrays, real_batch, save
from converters.datasets import open_dataset
from converters.device_model import DeviceModel, load_device_model, real_values
from converters.records import Example
from converters.workers.protocol import Job
from edge_agent.errors import ConfigError, ModelError
from tests.converters.dataset_folders import picture, write_pictures, write_table
from tests.io.runtimes.tiny_models import Op, build, signature, tensor

LABELS = ["low", "high"]
IMAGE = {"role": "image", "tensor": "image", "resize": "nearest"}
SENSORS = {
    "role": "features",
    "tensor": "sensors",
    "features": [
        {"name": "pressure", "unit": "bar", "mean": 2.0, "std": 0.5, "clip": 3.0},
        {"name": "speed", "unit": "m/s", "mean": 10.0, "std": 2.0, "fill": 14.0},
    ],
}
SCALAR = {"role": "features", "tensor": "load", "features": [{"name": "load"}]}


def float_model(outputs, *, image=IMAGE, sensors=(1, 2)):
    """A float model that negates its inputs: ``classes`` and ``values`` (1, 2) of the sensors, ``score`` (1, 1) of the
    load, ``picture`` of the image."""
    shapes = {"image": [1, 4, 6, 3], "sensors": list(sensors), "load": [1, 1]}
    results = {"picture": "image", "classes": "sensors", "values": "sensors", "score": "load"}
    names = [*shapes, *results]
    tensors = [tensor(name, shapes[results.get(name, name)]) for name in names]
    places = {name: place for place, name in enumerate(names)}
    operators = [(Op.NEG, [places[source]], [places[result]]) for result, source in results.items()]
    named = signature("serving_default", {n: places[n] for n in shapes}, {n: places[n] for n in results})
    content = build(tensors, operators, [0, 1, 2], [places[name] for name in results], [named])
    return DeviceModel(content, card={"inputs": [image, SENSORS, SCALAR], "outputs": outputs})


CLASSES = {"task": "classification", "tensor": "classes", "name": "level", "labels": LABELS}
SCORE = {"task": "anomaly", "tensor": "score", "name": "odd", "threshold": 0.5}
VALUE = {"task": "regression", "tensor": "score", "name": "wear", "scale": 4.0, "offset": 10.0}


class Rows:
    """A data set that is a list of examples."""

    spec = "rows"

    def __init__(self, *examples):
        self.examples = examples

    def __len__(self):
        return len(self.examples)

    def example(self, index):
        return self.examples[index]

    def rows(self, split):
        return range(len(self.examples))

    def sha256(self):
        return ""


def example(number=0, labels=None, **features):
    values = {"pressure": 2.5, "speed": 12.0, "load": 0.25 * number, **features}
    return Example(f"row {number}", {"image": picture(number, 4, 6)}, values, labels or {})


def test_pictures_come_resized_in_the_models_channels_and_features_scaled_and_clipped():
    model = float_model([CLASSES])
    arrays = make_arrays(Rows(example(0), example(1, pressure=9.0)), [1, 0], model)
    np.testing.assert_array_equal(arrays.images["image"], np.stack([picture(n, 4, 6)[..., ::-1] for n in (1, 0)]))
    assert arrays.features["sensors"].tolist() == [[3.0, 1.0], [1.0, 1.0]]
    assert arrays.features["load"].tolist() == [[0.25], [0.0]]
    assert (arrays.ids, arrays.labels) == (("row 1", "row 0"), {})
    assert arrays.features["sensors"].dtype == np.float32


@pytest.mark.parametrize(
    ("said", "wanted"),
    [
        ({}, ((0.0,), (255.0,))),
        ({"std": [2.0]}, ((0.0,), (2.0,))),
        ({"mean": [3.0]}, ((3.0,), (1.0,))),
        ({"mean": [1.0, 2.0, 3.0], "std": [4.0, 5.0, 6.0]}, ((1.0, 2.0, 3.0), (4.0, 5.0, 6.0))),
    ],
)
def test_a_real_batch_is_what_the_float_model_gets_on_the_device(said, wanted):
    model = float_model([CLASSES], image={**IMAGE, **said})
    rows = [example(number, speed=3.0 * number) for number in range(5)]
    arrays = make_arrays(Rows(*rows), range(5), model)
    assert arrays.normalisation == {"image": wanted}
    batch = real_batch(arrays, np.array([4, 1]))
    for place, number in enumerate((4, 1)):
        prepared = model.prepare(rows[number])
        assert set(prepared) == set(batch)
        for name, values in prepared.items():
            assert batch[name].dtype == np.float32
            np.testing.assert_allclose(batch[name][place : place + 1], values, rtol=1e-6, atol=1e-6)


def test_calibration_samples_are_the_rows_one_by_one_and_the_model_takes_them():
    model = float_model([CLASSES])
    arrays = make_arrays(Rows(example(0), example(1)), range(2), model)
    samples = list(calibration_samples(arrays))
    assert [{name: values.shape for name, values in sample.items()} for sample in samples] == [
        {"image": (1, 4, 6, 3), "sensors": (1, 2), "load": (1, 1)}
    ] * 2
    assert samples[1]["load"].tolist() == [[0.25]]
    np.testing.assert_array_equal(model.invoke(samples[1])["score"], [[-0.25]])


def test_classes_are_indices_and_a_regression_is_in_the_models_own_scale():
    model = float_model([CLASSES, VALUE])
    rows = [example(n, {"level": n % 2, "wear": 10.0 + n}) for n in range(3)]
    labels = make_arrays(Rows(*rows), range(3), model).labels
    assert set(labels) == {"classes", "score"}
    assert (labels["classes"].dtype, labels["classes"].tolist()) == (np.int64, [0, 1, 0])
    assert (labels["score"].dtype, labels["score"].tolist()) == (np.float32, [0.0, 0.25, 0.5])


def test_anomalies_are_zero_or_one():
    rows = Rows(example(0, {"odd": True}), example(1, {"odd": False}))
    assert make_arrays(rows, range(2), float_model([SCORE])).labels["score"].tolist() == [1.0, 0.0]


def test_regressions_of_one_tensor_stand_side_by_side_where_all_have_truth():
    heads = [{"task": "regression", "tensor": "values", "name": f"v{n}", "element": 1 - n} for n in range(2)]
    whole = Rows(example(0, {"v0": 1.0, "v1": 2.0}), example(1, {"v0": 3.0, "v1": 4.0}))
    assert make_arrays(whole, range(2), float_model(heads)).labels["values"].tolist() == [[2.0, 1.0], [4.0, 3.0]]
    assert make_arrays(whole, range(2), float_model(heads[:1])).labels == {}


def test_an_output_that_some_row_has_no_truth_for_has_no_labels():
    rows = Rows(example(0, {"level": 1}), example(1))
    assert make_arrays(rows, range(2), float_model([CLASSES])).labels == {}
    assert make_arrays(rows, [0], float_model([CLASSES])).labels["classes"].tolist() == [1]


def test_a_class_that_the_tensor_does_not_have_is_refused():
    model = float_model([{key: value for key, value in CLASSES.items() if key != "labels"}])
    with pytest.raises(ConfigError, match=r"row 7: class 2 of the output 'level' is out of range: .* 0 to 1"):
        make_arrays(Rows(example(7, {"level": 2})), [0], model)


def test_a_row_without_the_picture_is_refused():
    row = Example("row x", {"other": picture(0)}, {"pressure": 1.0, "speed": 1.0, "load": 1.0}, {})
    with pytest.raises(ConfigError, match=r"row x: no picture for the input 'image'; .*: other"):
        make_arrays(Rows(row), [0], float_model([CLASSES]))


def test_truth_of_a_regression_without_scale_is_refused():
    with pytest.raises(ConfigError, match=r"'wear' has scale 0"):
        make_arrays(Rows(example(0, {"wear": 1.0})), [0], float_model([{**VALUE, "scale": 0.0}]))


def test_arrays_of_no_rows_are_empty():
    arrays = make_arrays(Rows(), [], float_model([CLASSES]))
    assert arrays.images["image"].shape == (0, 4, 6, 3)
    assert (arrays.labels, list(calibration_samples(arrays))) == ({}, [])


def test_a_worker_finds_what_was_saved(tmp_path):
    rows = [example(n, {"level": n % 2}) for n in range(4)]
    arrays = make_arrays(Rows(*rows), range(4), float_model([CLASSES]))
    save(arrays, tmp_path)
    (tmp_path / "job.json").write_text(json.dumps({"operation": "x", "arguments": {}, "progress_fd": None}))
    job = Job(tmp_path)
    for name, wanted in (("images", arrays.images), ("features", arrays.features), ("labels", arrays.labels)):
        found = job.arrays(name)
        assert set(found) == set(wanted)
        for tensor_name, values in wanted.items():
            np.testing.assert_array_equal(found[tensor_name], values)
            assert found[tensor_name].dtype == values.dtype
    assert json.loads((tmp_path / NORMALISATION_FILE).read_text()) == {"image": [[0.0], [255.0]]}


# -- real models


def test_the_shipped_models_own_tensors_are_the_arrays_quantised(example_model, tmp_path):
    rng = np.random.default_rng(7)
    names = write_pictures(tmp_path, 3)
    cv2.imwrite(str(tmp_path / names[0]), rng.integers(0, 256, (240, 320, 3), np.uint8))
    readings = [(200.0, "", 104.0), (45.0, 150.0, 50.0), (0.0, -20.0, 0.0)]
    header = ("image", "weight", "temperature [degF]", "vibration", "label")
    write_table(tmp_path, header, [(n, *r, "hollow") for n, r in zip(names, readings, strict=True)])
    dataset = open_dataset(str(tmp_path), example_model.card)
    arrays = make_arrays(dataset, range(3), example_model)
    assert arrays.labels["fault"].tolist() == [2, 2, 2]
    specs = {spec.name: spec for spec in example_model.inputs}
    for row, sample in enumerate(calibration_samples(arrays)):
        prepared = example_model.prepare(dataset.example(row))
        for name, values in prepared.items():
            step = specs[name].scale
            np.testing.assert_allclose(sample[name], real_values(values, specs[name]), atol=0.51 * step)


@pytest.fixture
def example_model(example):
    return load_device_model(example / "model" / "conveyor.tflite")


def test_a_quantised_model_that_takes_pixels_as_they_are_means_what_its_scale_says(shared):
    path = shared / "models" / "mobilenet_v1_0.25_128_quant.tflite"
    head = {"task": "classification", "tensor": "MobilenetV1/Predictions/Reshape_1"}
    model = load_device_model(path, card={"outputs": [head]})
    row = Example("cat", {model.inputs[0].name: cv2.imread(str(shared / "images" / "cat.bmp"))}, {}, {})
    arrays = make_arrays(Rows(row), [0], model)
    (real,) = real_batch(arrays, slice(None)).values()
    prepared = model.prepare(row)[model.inputs[0].name]
    np.testing.assert_allclose(real, real_values(prepared, model.inputs[0]), atol=1e-5)
    assert real.min() < -0.5 < 0.5 < real.max()


def test_states_begin_as_zeros_of_their_tensors_shape(shared):
    card = {
        "inputs": [
            {"role": "image", "tensor": "normalized_input_image_tensor"},
            *(
                {"role": "state", "tensor": f"raw_inputs/init_lstm_{which}", "source": f"raw_outputs/lstm_{which}"}
                for which in "ch"
            ),
        ],
        "outputs": [
            {
                "task": "detection",
                **{
                    key: f"TFLite_Detection_PostProcess{suffix}"
                    for key, suffix in {"boxes": "", "classes": ":1", "scores": ":2", "count": ":3"}.items()
                },
            }
        ],
    }
    model = load_device_model(shared / "models" / "traffic_model.tflite", card=card)
    rows = Rows(*(Example(str(n), {"normalized_input_image_tensor": picture(n, 90, 70)}, {}, {}) for n in range(3)))
    arrays = make_arrays(rows, range(3), model)
    shapes = {spec.name: spec.shape for spec in model.inputs}
    for sample in calibration_samples(arrays):
        assert {name: values.shape for name, values in sample.items()} == shapes
        for which in "ch":
            assert sample[f"raw_inputs/init_lstm_{which}"].dtype == np.float32
            assert not sample[f"raw_inputs/init_lstm_{which}"].any()


def test_an_input_without_a_batch_of_one_is_refused():
    model = float_model([SCORE], sensors=(2,))
    with pytest.raises(ModelError, match=r'input "sensors" has the shape \[2\]: a batch of 1 is needed'):
        make_arrays(Rows(example(0)), [0], model)
