"""Where accuracy is lost between training and device, and whether a wrong card is found out."""

from __future__ import annotations

import json
import subprocess

import cv2
import msgspec
import numpy as np
import pytest
from msgspec.structs import replace

from converters.__main__ import main
from converters.device_model import DeviceModel, load_device_model
from converters.environments import python_of
from converters.errors import EnvironmentMissingError
from converters.evaluation import record
from converters.evaluation.as_trained import as_trained
from converters.evaluation.card_search import search_card, with_card
from converters.evaluation.opened import plain_card
from converters.records import Example
from edge_agent.errors import ConfigError
from tests.converters.conveyor import MODEL, draw
from tests.converters.rows import Rows
from tests.simulators.float_models import GraphBuilder

SIDE = 8
PICTURE = 20  # pixels: resized for the model
COUNT = 60
RED_OR_BLUE = [[8.0, 0.0, -8.0, 1.0], [-8.0, 0.0, 8.0, -1.0]]  # by mean red, green, blue, and the sensor


def content():
    """Is the picture more red than blue, helped by a sensor in z-scores: output ``tint``, two probabilities."""
    graph = GraphBuilder()
    image, sensor = graph.tensor("image", (1, SIDE, SIDE, 3)), graph.tensor("sensor", (1, 1))
    both = graph.concat([graph.mean(image, "colour"), sensor], "both")
    logits = graph.dense(both, np.array(RED_OR_BLUE, np.float32), np.zeros(2, np.float32), "logits", relu=False)
    return graph.finish({"image": image, "sensor": sensor}, {"tint": graph.softmax(logits, "probabilities")})


def card(feature=None, **image):
    features = [feature or {"name": "heat", "unit": "degC", "mean": 500.0, "std": 100.0, "clip": 4.0}]
    return {
        "inputs": [
            {"role": "image", "tensor": "image", "mean": [0.0], "std": [255.0], **image},
            {"role": "features", "tensor": "sensor", "features": features},
        ],
        "outputs": [{"task": "classification", "tensor": "tint", "name": "tint", "labels": ["red", "blue"]}],
    }


def pictures():
    """(picture, heat, label): the picture and the heat both lean the way of the label."""
    rng = np.random.default_rng(11)
    for number in range(COUNT):
        label = number % 2
        pixels = rng.integers(0, 200, (PICTURE, PICTURE, 3), np.uint8)
        pixels[..., 0 if label else 2] += 55  # BGR
        yield pixels, 500.0 + (-60.0 if label else 60.0) * rng.uniform(0, 1), label


def trained_inputs(pixels, heat, resize=cv2.INTER_LINEAR):
    """What this model's training fed: RGB, pixel / 255, z-scores."""
    small = cv2.resize(pixels[..., ::-1], (SIDE, SIDE), interpolation=resize)
    return {"image": small.astype(np.float32) / 255, "sensor": np.array([(heat - 500) / 100], np.float32)}


def rows(trained=None):
    """``trained(pixels, heat)``: what to say of the training's inputs."""
    return Rows(
        [
            Example(
                f"row-{n}", {"image": pixels}, {"heat": heat}, {"tint": label}, (), trained and trained(pixels, heat)
            )
            for n, (pixels, heat, label) in enumerate(pictures())
        ]
    )


@pytest.fixture
def source(tmp_path):
    path = tmp_path / "tint.tflite"
    path.write_bytes(content())
    return path


def model(**options):
    return DeviceModel(content(), card=card(**options))


def steps_of(found):
    return {step.name: step for step in found.steps}


def test_with_a_right_card_no_step_costs_anything_and_nothing_is_searched(source, tmp_path):
    found = as_trained(str(source), model(), rows(trained_inputs), range(COUNT), work=tmp_path / "work")
    assert [step.name for step in found.steps] == ["as trained", "converted", "float on the device"]
    assert {step.scores["tint"] for step in found.steps} == {1.0}
    assert {step.lost["tint"] for step in found.steps[1:]} == {0.0}
    assert not any(item.differs for item in found.inputs)
    assert (found.search, found.notes) == (None, ())
    assert found.score_names == {"tint": "accuracy"}


@pytest.mark.parametrize(
    ("wrong", "key", "tried"),
    [
        ({"color": "bgr"}, "color", "rgb"),
        ({"mean": [127.5], "std": [127.5]}, "scaling", "pixel / 255"),
        ({"fit": "letterbox", "resize": "nearest"}, "resize", "bilinear"),
        ({"feature": {"name": "heat", "mean": 0.0, "std": 1.0}}, None, None),
    ],
)
def test_a_wrong_card_is_found_out_by_the_trainings_inputs(source, tmp_path, wrong, key, tried):
    found = as_trained(str(source), model(**wrong), rows(trained_inputs), range(COUNT), work=tmp_path / "work")
    assert any(item.differs for item in found.inputs)
    assert found.search is not None
    if key is None:  # z-scores can't be told from raw values without the card's own numbers
        assert found.search.best is None
        assert "none of" in found.explanation
        return
    best = found.search.best
    assert (best.change.key, best.change.tried) == (key, tried)
    assert best.difference < 0.01
    assert "the device's inputs are not those of the training" in found.explanation


def test_the_explanation_names_what_the_card_says_and_what_would_be_better(source, tmp_path):
    found = as_trained(str(source), model(color="bgr"), rows(trained_inputs), range(COUNT), work=tmp_path / "work")
    as_is = steps_of(found)["float on the device"].scores["tint"]
    assert as_is < 0.6
    says = f'the card says bgr as the color of "image"; with rgb accuracy would be 1.0000 instead of {as_is:.4f}'
    assert says in found.explanation
    assert steps_of(found)["float on the device"].lost["tint"] == pytest.approx(1 - as_is)


def test_the_way_of_resizing_is_found_out_by_the_inputs_where_the_score_does_not_show_it(source, tmp_path):
    def by_area(pixels, heat):
        return trained_inputs(pixels, heat, cv2.INTER_AREA)

    found = as_trained(str(source), model(), rows(by_area), range(COUNT), work=tmp_path / "work")
    assert steps_of(found)["float on the device"].lost["tint"] == 0.0
    assert (found.search.best.change.key, found.search.best.change.tried) == ("resize", "area")
    assert found.search.best.difference == 0.0


def test_raw_sensors_are_found_out(tmp_path, source):
    # the training fed raw values, the card scales them
    def raw(pixels, heat):
        return {**trained_inputs(pixels, heat), "sensor": np.array([heat], np.float32)}

    found = as_trained(str(source), model(), rows(raw), range(COUNT), work=tmp_path / "work")
    assert [item.tensor for item in found.inputs if item.differs] == ["sensor"]
    assert (found.search.best.change.tensor, found.search.best.change.tried) == ("sensor", "raw values")


def test_without_the_trainings_inputs_the_score_finds_the_wrong_card_out(source, tmp_path):
    found = as_trained(str(source), model(color="bgr"), rows(), range(COUNT), work=tmp_path / "work")
    assert [step.name for step in found.steps] == ["as trained", "converted"]
    assert "does not hold what the training fed for" in found.notes[0]
    assert (found.search.best.change.key, found.search.best.change.tried) == ("color", "rgb")
    assert found.search.best.scores["tint"] == 1.0


def test_a_change_that_helps_by_chance_alone_is_not_named():
    # ten rows: one more right row says nothing
    right = search_card(model(), rows(), range(10))
    assert right.best is None
    assert right.sentence == f"none of {len(right.tried)} single changes of the card helps (10 rows)"


def test_every_single_change_is_tried_once():
    tried = [(t.change.tensor, t.change.key, t.change.tried) for t in search_card(model(), rows(), range(4)).tried]
    assert len(tried) == len(set(tried))
    assert tried == [
        ("image", "resize", "nearest"),
        ("image", "resize", "area"),
        ("image", "resize", "bicubic"),
        ("image", "fit", "crop"),
        ("image", "fit", "letterbox"),
        ("image", "color", "bgr"),
        ("image", "scaling", "pixel / 127.5 - 1"),
        ("image", "scaling", "pixel as it is"),
        ("image", "scaling", "ImageNet's mean and std"),
        ("sensor", "feature scaling", "raw values"),
    ]


def test_the_quantised_model_is_the_last_step(source, tmp_path):
    shipped = load_device_model(MODEL)
    drawn = draw(30)
    float_rows, quantised = rows(), record(model(), rows(), range(COUNT))
    found = as_trained(str(source), model(), float_rows, range(COUNT), work=tmp_path / "work", quantised=quantised)
    assert found.steps[-1].name == "as deployed"
    assert found.steps[-1].agreement == {"tint": 1.0}
    with pytest.raises(ValueError, match="different rows"):
        as_trained(
            str(source),
            model(),
            float_rows,
            range(COUNT),
            work=tmp_path / "again",
            quantised=record(shipped, drawn, range(30)),
        )


def test_a_training_input_of_another_shape_is_refused_with_both_shapes(source, tmp_path):
    def large(pixels, heat):
        return {"image": np.zeros((PICTURE, PICTURE, 3), np.float32)}

    says = r"row-0: the training's input for 'image' has shape \[20, 20, 3\], the model takes \[8, 8, 3\]"
    with pytest.raises(ConfigError, match=says):
        as_trained(str(source), model(), rows(large), range(COUNT), work=tmp_path / "work")


def test_training_inputs_for_some_rows_only_are_refused(source, tmp_path):
    known = rows(trained_inputs)
    partly = Rows([known.example(0), replace(known.example(1), trained=None)])
    with pytest.raises(ConfigError, match="row-1: this row has no training's input for 'image'"):
        as_trained(str(source), model(), partly, range(2), work=tmp_path / "work")


def test_the_wrong_colour_order_of_the_shipped_model_is_found_out():
    shipped = load_device_model(MODEL)
    (image,) = shipped.card.image_inputs
    wrong = with_card(shipped, replace(shipped.card, image_inputs=(replace(image, color="bgr"),)))
    found = search_card(wrong, draw(100), range(100))
    assert found.as_is.scores["fault"] < 0.8
    assert (found.best.change.key, found.best.change.now, found.best.change.tried) == ("color", "bgr", "rgb")
    assert found.best.scores["fault"] >= 0.95


def test_a_card_for_the_float_model_writes_out_what_the_quantised_one_means_by_pixels():
    shipped = load_device_model(MODEL)
    (image,) = shipped.card.image_inputs
    unsaid = with_card(shipped, replace(shipped.card, image_inputs=(replace(image, mean=None, std=None),)))
    (written, _) = plain_card(unsaid)["inputs"]
    # int8 takes pixels minus 128, at a scale of 1/255 and a zero point of -128: pixel / 255
    assert written["mean"] == pytest.approx((0.0,) * 3)
    assert written["std"] == pytest.approx((255.0,) * 3)


@pytest.fixture
def archive(tmp_path):
    drawn = list(pictures())
    path = tmp_path / "rows.npz"
    np.savez(
        path,
        image=np.stack([pixels[..., ::-1] for pixels, _, _ in drawn]),
        heat=np.array([heat for _, heat, _ in drawn]),
        label=np.array([label for _, _, label in drawn]),
        split=np.array(["test"] * COUNT),
    )
    return path


def written(path, value):
    path.write_bytes(msgspec.json.encode(value))
    return path


def written_training(folder):
    path = folder / "training.py"
    path.write_text(
        "import cv2\n"
        "def inputs(images, features):\n"
        "    small = cv2.resize(images['image'], (8, 8), interpolation=cv2.INTER_LINEAR)\n"
        "    return {'image': small / 255, 'sensor': [(features['heat'] - 500) / 100]}\n"
    )
    return path


def test_evaluate_explains_a_wrong_card(capsys, source, archive, tmp_path):
    wrong = written(tmp_path / "card.json", card(color="bgr"))
    arguments = ["evaluate", str(source), "--data", str(archive), "--card", str(wrong), "--explain"]
    assert main(arguments) == 0
    out = " ".join(capsys.readouterr().out.split())
    assert 'the card says bgr as the color of "image"; with rgb accuracy would be 1.0000 instead of' in out
    assert main([*arguments, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)["card_search"]
    assert found["best"]["change"] == {"tensor": "image", "key": "color", "now": "bgr", "tried": "rgb"}


def test_evaluate_compares_the_inputs_with_the_trainings_where_it_is_told_what_training_did(
    capsys, source, archive, tmp_path
):
    right, prepare = written(tmp_path / "card.json", card()), written_training(tmp_path)
    arguments = ["evaluate", source, "--data", archive, "--card", right, "--preprocess", f"{prepare}:inputs", "--json"]
    assert main([*map(str, arguments)]) == 0
    found = json.loads(capsys.readouterr().out)["card_search"]
    assert found["best"] is None
    assert {item["tensor"]: round(item["mean"], 6) for item in found["inputs"]} == {"image": 0, "sensor": 0}


KERAS = """
import sys, keras, numpy as np
image, sensor = keras.Input((8, 8, 3), name="image"), keras.Input((1,), name="sensor")
both = keras.layers.Concatenate()([keras.layers.GlobalAveragePooling2D()(image), sensor])
dense = keras.layers.Dense(2, activation="softmax", name="tint")
model = keras.Model({"image": image, "sensor": sensor}, {"tint": dense(both)})
dense.set_weights([np.array(eval(sys.argv[2])).T, np.zeros(2)])
model.save(sys.argv[1])
"""


@pytest.fixture
def keras_model(tmp_path):
    try:
        python = python_of("keras")
    except EnvironmentMissingError as error:
        pytest.skip(str(error))
    path = tmp_path / "tint.keras"
    subprocess.run([python, "-c", KERAS, path, repr(RED_OR_BLUE)], check=True, capture_output=True)
    return path


@pytest.mark.keras
def test_a_keras_model_is_followed_from_its_training_to_the_device(capsys, keras_model, source, archive, tmp_path):
    prepare = written_training(tmp_path)
    wrong = written(tmp_path / "card.json", card(color="bgr"))
    arguments = ["--data", archive, "--card", wrong, "--preprocess", f"{prepare}:inputs", "--json"]
    assert main([*map(str, ["evaluate", source, "--against", keras_model, *arguments])]) == 0
    found = json.loads(capsys.readouterr().out)["as_trained"]
    scores = {step["name"]: step["scores"]["tint"] for step in found["steps"]}
    assert scores["as trained"] == scores["converted"] == 1.0
    assert scores["float on the device"] == scores["as deployed"] < 0.6
    assert found["steps"][1]["max_error"]["tint"] < 1e-5
    assert found["search"]["best"]["change"]["tried"] == "rgb"
