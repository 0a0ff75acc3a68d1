"""Where the roles come from, who wins, and what a person reads when something is missing or wrong."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jsonschema
import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_agent.config.convert import parse_toml
from edge_agent.core.card_schema import (
    AnomalyOutput,
    Budgets,
    Card,
    ClassificationOutput,
    DetectionOutput,
    Feature,
    FeaturesInput,
    Golden,
    ImageInput,
    RegressionOutput,
    StateInput,
)
from edge_agent.core.model_card import ResolvedCard, card_json_schema, checked_card, resolve
from edge_agent.errors import ConfigError, EdgeAgentError, ModelError
from edge_agent.records import ModelFile, StandardMetadata, TensorMetadata, TensorSpec
from tests.core.tensors import model_file, spec

WHERE = "agent.toml: [model.conveyor.card]"
ROOT = Path(__file__).resolve().parents[2]

IMAGE = spec("image", (1, 96, 96, 3), "int8", 1 / 255, -128)
SENSORS = spec("sensors", (1, 2), "int8", 8 / 255, 0)
SCORES = spec("scores", (1, 3), "int8", 1 / 256, -128)
VALUE = spec("value", (1, 1), "float32")
STATE_IN = spec("h_in", (1, 8), "uint8", 0.1, 3)
STATE_OUT = spec("h_out", (1, 8), "uint8", 0.1, 3)
DETECTION = [
    spec("TFLite_Detection_PostProcess", (1, 40, 4), "float32"),
    spec("TFLite_Detection_PostProcess:1", (1, 40), "float32"),
    spec("TFLite_Detection_PostProcess:2", (1, 40), "float32"),
    spec("TFLite_Detection_PostProcess:3", (1,), "float32"),
]

FEATURES = {"role": "features", "tensor": "sensors", "features": [{"name": "a"}, {"name": "b", "unit": "mm/s"}]}
PICTURE = {"role": "image", "tensor": "image", "mean": [0.0], "std": [255.0]}
CLASSES = {"task": "classification", "tensor": "scores"}
LABELS = ["ok", "scratch", "dent"]


def neighbours(**files: str) -> Callable[[str], str]:
    def read_text(name: str) -> str:
        if name not in files:
            raise FileNotFoundError(2, "No such file or directory", name)
        return files[name]

    return read_text


def resolved(
    file: ModelFile | None = None,
    inputs: Sequence[TensorSpec] = (IMAGE,),
    outputs: Sequence[TensorSpec] = (SCORES,),
    said: dict[str, Any] | None = None,
    read_text: Callable[[str], str] | None = None,
    **options: Any,
) -> ResolvedCard:
    return resolve(
        file or model_file(), inputs, outputs, said, where=WHERE, read_text=read_text or neighbours(), **options
    )


def refused(error: type[EdgeAgentError], *args: Any, **kwargs: Any) -> str:
    with pytest.raises(error) as caught:
        resolved(*args, **kwargs)
    assert type(caught.value) is error
    return str(caught.value)


def metadata(
    inputs: Sequence[TensorMetadata] = (), outputs: Sequence[TensorMetadata] = (), name: str = "", version: str = ""
) -> StandardMetadata:
    return StandardMetadata(name, version, tuple(inputs), tuple(outputs))


# --- sources -----------------------------------------------------------------------------------------------------


def test_a_card_in_the_file_is_enough() -> None:
    card = {
        "name": "conveyor",
        "version": "1.2.0",
        "inputs": [FEATURES, PICTURE],
        "outputs": [{**CLASSES, "labels": LABELS}, {"task": "anomaly", "tensor": "value", "threshold": 3.5}],
        "budgets": {"p95_ms": 40},
        "golden": {"tolerance_lsb": 2},
    }
    got = resolved(model_file(card), [IMAGE, SENSORS], [VALUE, SCORES])
    assert (got.name, got.version) == ("conveyor", "1.2.0")
    assert [item.tensor for item in got.image_inputs] == ["image"]
    assert [feature.name for feature in got.feature_inputs[0].features] == ["a", "b"]
    assert got.labels == {"class": ("ok", "scratch", "dent")}
    assert isinstance(got.outputs[1], AnomalyOutput)
    assert (got.budgets.p95_ms, got.golden.tolerance_lsb) == (40, 2)
    assert got.notes == ()


def test_the_configuration_alone_is_enough() -> None:
    said = {"inputs": [PICTURE], "outputs": [CLASSES], "labels": "labels.txt"}
    got = resolved(said=said, read_text=neighbours(**{"labels.txt": "ok\nscratch\ndent\n"}))
    assert got.labels == {"class": ("ok", "scratch", "dent")}
    assert (got.name, got.version) == ("", "")


def test_standard_metadata_gives_the_picture_the_classes_and_the_version() -> None:
    facts = metadata(
        [TensorMetadata("shown as", "image", "rgb", (127.5,), (127.5,))],
        [TensorMetadata("probability", "feature", labels="labels.txt")],
        "ImageClassifier",
        "v1",
    )
    got = resolved(model_file(metadata=facts, members={"labels.txt": b"ok\nscratch\ndent\n"}))
    assert got.image_inputs == (ImageInput(tensor="image", color="rgb", mean=(127.5,), std=(127.5,)),)
    assert got.outputs == (ClassificationOutput(tensor="scores"),)
    assert got.labels == {"class": ("ok", "scratch", "dent")}
    assert (got.name, got.version, got.notes) == ("", "v1", ())  # that name is a kind of model, not this model's


def test_metadata_and_configuration_complete_each_other() -> None:
    facts = metadata(
        [TensorMetadata("picture", "image", "rgb", (0.0,), (250.0,)), TensorMetadata("features", "feature")],
        [TensorMetadata("probability", "feature", labels="labels.txt")],
    )
    got = resolved(
        model_file(metadata=facts, members={"labels.txt": b"a\nb\nc"}), [IMAGE, SENSORS], said={"inputs": [FEATURES]}
    )
    assert got.image_inputs[0].std == (250.0,)
    assert got.feature_inputs[0].tensor == "sensors"


def test_a_configured_picture_without_normalisation_takes_that_of_the_metadata() -> None:
    facts = metadata([TensorMetadata("image", "image", "rgb", (127.5,), (127.5,))])
    said = {"inputs": [{"role": "image", "tensor": "image", "resize": "area"}], "task": "classification"}
    (image,) = resolved(model_file(metadata=facts), said=said).image_inputs
    assert image == ImageInput(tensor="image", resize="area", mean=(127.5,), std=(127.5,))


@pytest.mark.parametrize(
    ("tensor", "mean", "std", "kept"),
    [
        (spec("image", (1, 8, 8, 3), "uint8", float(np.float32(1 / 127.5)), 127), (127.5,), (127.5,), False),
        (spec("image", (1, 8, 8, 3), "uint8", 1 / 128, 128), (127.5,), (127.5,) * 3, False),
        (spec("image", (1, 8, 8, 3), "int8", 1 / 255, -128), (0.0,) * 3, (255.0,), False),
        (spec("image", (1, 8, 8, 3), "int8", 1 / 255, -128), (0.0, 0.0, 2.0), (255.0,), True),
        (spec("image", (1, 8, 8, 3), "uint8", 1 / 64, 128), (127.5,), (127.5,), True),
        (spec("image", (1, 8, 8, 3), "uint8"), (127.5,), (127.5,), True),
        (spec("image", (1, 8, 8, 3), "float32"), (0.0,), (255.0,), True),
    ],
)
def test_normalisation_that_the_quantisation_undoes_leaves_pixels_as_they_are(
    tensor: TensorSpec, mean: tuple[float, ...], std: tuple[float, ...], kept: bool
) -> None:
    facts = metadata([TensorMetadata("picture", "image", "rgb", mean, std)])
    got = resolved(model_file(metadata=facts), [tensor], said={"task": "classification"})
    (image,) = got.image_inputs
    assert (image.mean, image.std) == ((mean, std) if kept else (None, None))
    note = 'the normalisation and the quantisation of "image" cancel out: it takes pixels as they are'
    assert got.notes == (() if kept else (note,))


@pytest.mark.parametrize(
    ("mean", "std", "text"),
    [
        ((0.0,), (0.0,), "0 is not allowed"),
        ((float("nan"),), (255.0,), "finite numbers are allowed"),
        ((1.0, 2.0), (255.0,), "2 values in mean"),
    ],
)
def test_normalisation_in_metadata_that_makes_no_sense_is_refused(
    mean: tuple[float, ...], std: tuple[float, ...], text: str
) -> None:
    facts = metadata([TensorMetadata("picture", "image", "rgb", mean, std)])
    found = refused(ModelError, model_file(metadata=facts), said={"task": "classification"})
    assert found.startswith("models/conveyor.tflite: TFLite metadata: ")
    assert text in found


def test_metadata_that_uses_the_tensors_own_names_is_bound_by_name() -> None:
    facts = metadata([TensorMetadata("sensors", "feature"), TensorMetadata("image", "image", "rgb")])
    said = {"inputs": [FEATURES], "outputs": [CLASSES]}
    got = resolved(model_file(metadata=facts), [IMAGE, SENSORS], said=said)
    assert got.image_inputs[0].tensor == "image"


def test_metadata_for_another_number_of_tensors_is_not_used() -> None:
    facts = metadata([TensorMetadata("x", "image"), TensorMetadata("y", "image")])
    got = resolved(model_file(metadata=facts), said={"task": "classification"})
    assert "TFLite metadata describes 2 inputs, the model has 1: not used for inputs" in got.notes


def test_metadata_of_a_detector_names_its_four_outputs() -> None:
    facts = metadata(
        outputs=[
            TensorMetadata("score", "unknown"),
            TensorMetadata("location", "bounding_box"),
            TensorMetadata("number of detections", "unknown"),
            TensorMetadata("category", "feature", labels="labels.txt", labels_of="values"),
        ]
    )
    outputs = [spec("o0", (1, 9), "float32"), spec("o1", (1, 9, 4), "float32"), spec("o2", (1,), "float32")]
    outputs.append(spec("o3", (1, 9), "float32"))
    got = resolved(model_file(metadata=facts, members={"labels.txt": b"car\nperson\n"}), outputs=outputs)
    assert got.outputs == (DetectionOutput(boxes="o1", classes="o3", scores="o0", count="o2"),)
    assert got.labels == {"objects": ("car", "person")}


def test_labels_of_a_tensors_values_alone_are_no_classification() -> None:
    facts = metadata(outputs=[TensorMetadata("category", "feature", labels="labels.txt", labels_of="values")])
    file = model_file(metadata=facts, members={"labels.txt": b"a\nb\nc\n"})
    assert 'what is output "scores"' in refused(ConfigError, file)


def test_the_configuration_overrides_the_file_and_the_notes_say_so() -> None:
    card = {"name": "a", "version": "1", "inputs": [PICTURE], "outputs": [{**CLASSES, "labels": LABELS}]}
    said = {"version": "2", "inputs": [{**PICTURE, "color": "bgr"}], "labels": ["x", "y", "z"]}
    got = resolved(model_file(card), said=said)
    assert (got.name, got.version, got.image_inputs[0].color) == ("a", "2", "bgr")
    assert got.labels == {"class": ("x", "y", "z")}
    assert got.notes == (f'{WHERE} overrides version, the input "image" of the file\'s own card',)
    replaced = resolved(model_file(card), said={"outputs": [{**CLASSES, "name": "defect", "top_k": 1}]})
    assert replaced.outputs == (ClassificationOutput(tensor="scores", name="defect", top_k=1),)
    assert replaced.labels == {}


def test_inputs_are_completed_tensor_by_tensor() -> None:
    got = resolved(
        model_file({"inputs": [PICTURE], "outputs": [CLASSES]}), [IMAGE, SENSORS], said={"inputs": [FEATURES]}
    )
    assert (got.image_inputs[0].tensor, got.feature_inputs[0].tensor) == ("image", "sensors")


def test_a_task_that_contradicts_the_files_outputs_is_refused() -> None:
    file = model_file({"inputs": [PICTURE], "outputs": [CLASSES]})
    assert resolved(file, said={"task": "classification"}).outputs == (ClassificationOutput(tensor="scores"),)
    text = refused(ConfigError, file, said={"task": "regression"})
    assert text == f'{WHERE}: task is "regression", but the file\'s own card has classification: write outputs'


# --- what may be left out ----------------------------------------------------------------------------------------


def test_a_single_input_takes_the_picture_of_a_pipeline_with_a_camera() -> None:
    got = resolved(said={"task": "classification"})
    assert got.image_inputs == (ImageInput(tensor="image"),)
    assert got.notes == (
        '"image" is the only input and takes the picture',
        'nothing says how to normalise "image": int8 takes pixels minus 128',
    )
    gray = resolved(inputs=[spec("g", (1, 8, 8, 1), "float32")], said={"task": "classification"})
    assert gray.image_inputs == (ImageInput(tensor="g", color="gray"),)


def test_without_a_camera_or_with_another_shape_a_single_input_needs_its_role() -> None:
    said = {"task": "classification"}
    assert 'what is input "image"' in refused(ConfigError, said=said, single_input_is_image=False)
    assert 'what is input "sensors"' in refused(ConfigError, inputs=[SENSORS], said=said)
    text = refused(ConfigError, inputs=[IMAGE, SENSORS], said=said)
    assert 'what is input "image", input "sensors"' in text


@pytest.mark.parametrize(("task", "tensor"), [("classification", SCORES), ("regression", VALUE)])
def test_a_task_alone_is_enough_for_a_single_output(task: str, tensor: TensorSpec) -> None:
    (head,) = resolved(outputs=[tensor], said={"task": task}).outputs
    assert (type(head), head.tensor) == (  # type: ignore[union-attr]
        {"classification": ClassificationOutput, "regression": RegressionOutput}[task],
        tensor.name,
    )


@pytest.mark.parametrize(
    ("task", "outputs"),
    [
        ("regression", [SCORES]),
        ("anomaly", [VALUE]),
        ("detection", [SCORES]),
        ("classification", [SCORES, VALUE]),
        ("detection", [spec(f"out{n}", item.shape, "float32") for n, item in enumerate(DETECTION)]),
    ],
)
def test_a_task_alone_is_not_enough_where_it_leaves_a_choice(task: str, outputs: list[TensorSpec]) -> None:
    assert f'(task = "{task}" alone does not say it of these outputs)' in refused(
        ConfigError, outputs=outputs, said={"task": task}
    )


def test_as_many_labels_as_elements_make_a_classification() -> None:
    assert resolved(said={"labels": LABELS}).outputs == (ClassificationOutput(tensor="scores"),)
    assert 'what is output "scores"' in refused(ConfigError, said={"labels": ["one"]})


def test_detection_by_name_also_beside_the_sources_of_states() -> None:
    state = {"role": "state", "tensor": "h_in", "source": "h_out"}
    said = {"task": "detection", "inputs": [{"role": "image", "tensor": "image"}, state]}
    got = resolved(inputs=[STATE_IN, IMAGE], outputs=[STATE_OUT, *reversed(DETECTION)], said=said)
    boxes, classes, scores, count = (item.name for item in DETECTION)
    assert got.outputs == (DetectionOutput(boxes=boxes, classes=classes, scores=scores, count=count),)
    assert got.state_inputs == (StateInput(tensor="h_in", source="h_out"),)


def test_an_output_that_nobody_uses_is_noted() -> None:
    got = resolved(model_file({"inputs": [PICTURE], "outputs": [CLASSES]}), outputs=[SCORES, VALUE])
    assert got.notes == ('outputs that nothing uses: "value"',)


def test_what_was_wrong_with_the_file_is_noted_and_said_with_a_missing_role() -> None:
    file = model_file(notes=("the zip after the model is damaged",))
    assert "the zip after the model is damaged" in resolved(file, said={"task": "classification"}).notes
    assert "(the zip after the model is damaged)" in refused(ConfigError, file).splitlines()[0]


# --- a missing role ----------------------------------------------------------------------------------------------


def test_a_missing_role_shows_lines_that_work_once_pasted() -> None:
    odd = spec('scores "of" it', (1, 3), "int8", 1 / 256, -128)
    text = refused(ConfigError, inputs=[IMAGE, SENSORS], outputs=[odd, VALUE])
    summary, _, lines = text.partition("\n")
    assert summary == (
        f"{WHERE}: neither models/conveyor.tflite nor the configuration says what is "
        'input "image", input "sensors", output "scores "of" it", output "value"; add and adapt:'
    )
    assert '[[model.conveyor.card.inputs]]\nrole = "image"  # or "features", "state"' in lines
    assert 'tensor = "image"  # int8 [1, 96, 96, 3]' in lines
    pasted = parse_toml(lines, "agent.toml")["model"]["conveyor"]["card"]
    pasted["inputs"][1]["features"].append({"name": "second"})  # the lines show the first and say how many
    got = resolved(inputs=[IMAGE, SENSORS], outputs=[odd, VALUE], said=pasted)
    assert [type(head) for head in got.outputs] == [ClassificationOutput, RegressionOutput]


def test_the_lines_for_a_stateful_detector_run_it_as_they_are() -> None:
    text = refused(ConfigError, inputs=[IMAGE, STATE_IN], outputs=[*DETECTION, STATE_OUT])
    assert text.endswith("\nthreshold = 0.5  # least score that is published")
    pasted = parse_toml(text.partition("\n")[2], "agent.toml")["model"]["conveyor"]["card"]
    got = resolved(inputs=[IMAGE, STATE_IN], outputs=[*DETECTION, STATE_OUT], said=pasted)
    assert got.state_inputs == (StateInput(tensor="h_in", source="h_out"),)
    assert isinstance(got.outputs[0], DetectionOutput)


def test_lines_for_a_card_in_a_file_of_its_own_have_no_prefix() -> None:
    with pytest.raises(ConfigError) as caught:
        resolve(model_file(), [IMAGE], [SCORES], None, where="--card card.toml", read_text=neighbours())
    assert "\n[[outputs]]\n" in str(caught.value)


# --- labels ------------------------------------------------------------------------------------------------------


def test_labels_of_another_number_than_the_elements_are_refused_with_both_numbers() -> None:
    card = {"inputs": [PICTURE], "outputs": [{**CLASSES, "labels": "l.txt"}]}
    text = refused(ModelError, model_file(card, members={"l.txt": b"ok\nscratch\n"}))
    assert "2 labels" in text
    assert "3 elements" in text


def test_labels_are_lines_whose_blank_ones_hold_their_place() -> None:
    card = {"inputs": [PICTURE], "outputs": [CLASSES], "labels": "l.txt"}
    raw = "\ufeffété\r\n\r\nx\u2028y\n".encode()
    assert resolved(model_file(card, members={"l.txt": raw})).labels == {"class": ("été", "", "x\u2028y")}


def test_a_file_of_labels_beside_the_configuration_goes_before_one_inside_the_model() -> None:
    file = model_file({"inputs": [PICTURE], "outputs": [CLASSES]}, members={"l.txt": b"a\nb\nc\n"})
    mine = resolved(file, said={"labels": "l.txt"}, read_text=neighbours(**{"l.txt": "x\ny\nz\n"}))
    assert mine.labels == {"class": ("x", "y", "z")}
    inside = resolved(file, said={"labels": "l.txt"})
    assert inside.labels == {"class": ("a", "b", "c")}
    assert any('labels "l.txt" are those inside the model' in note for note in inside.notes)


def test_labels_that_can_not_be_read_are_refused_by_who_named_them() -> None:
    text = refused(ConfigError, said={"task": "classification", "labels": "l.txt"})
    assert text.startswith(f'{WHERE}: labels "l.txt" can\'t be read: [Errno 2] No such file')
    card = {"inputs": [PICTURE], "outputs": [{**CLASSES, "labels": "l.txt"}]}
    text = refused(ModelError, model_file(card, members={"other.txt": b""}))
    assert text == (
        'models/conveyor.tflite: edge-agent/card.json: labels "l.txt" are not in the model, which has "other.txt"'
    )
    assert "are not UTF-8 text" in refused(ModelError, model_file(card, members={"l.txt": b"\xff\n"}))


def test_an_error_of_the_caller_about_labels_is_passed_on() -> None:
    def read_text(name: str) -> str:
        raise ConfigError(f"/etc/{name}: no")

    said = {"task": "classification", "labels": "l.txt"}
    assert refused(ConfigError, said=said, read_text=read_text) == "/etc/l.txt: no"


def test_labels_for_the_model_as_a_whole_need_one_output_that_has_labels() -> None:
    two = [{**CLASSES, "name": "a"}, {**CLASSES, "name": "b"}]
    assert "here are 2 of them" in refused(ConfigError, said={"outputs": two, "labels": LABELS})
    one = [{"task": "regression", "tensor": "value"}]
    assert "here are 0 of them" in refused(ConfigError, outputs=[VALUE], said={"outputs": one, "labels": LABELS})
    file = model_file({"inputs": [PICTURE], "labels": LABELS, "task": "classification"})
    assert resolved(file, said={"outputs": two}).labels == {}


# --- rules -------------------------------------------------------------------------------------------------------

HEADS = [DETECTION[0], *DETECTION[1:], SCORES, VALUE, STATE_OUT]


@pytest.mark.parametrize(
    ("inputs", "item", "text"),
    [
        ([IMAGE], {"role": "image", "tensor": "imag"}, 'no input tensor "imag" (did you mean "image"?): the model\'s'),
        ([SENSORS], {"role": "image", "tensor": "sensors"}, "int8 [1, 2] and can't take a picture"),
        ([IMAGE], {**PICTURE, "color": "gray"}, 'has 3 channel(s) and color "gray": "rgb" or "bgr" is allowed'),
        ([spec("image", (1, 8, 8, 1))], PICTURE, 'has 1 channel(s) and color "rgb": "gray" is allowed'),
        ([IMAGE], {**PICTURE, "mean": [1.0, 2.0]}, "2 values in mean: one, or one for each of 3 channel(s)"),
        ([IMAGE], {**PICTURE, "std": [1.0, 0.0, 2.0]}, "0 is not allowed"),
        ([IMAGE], {**PICTURE, "mean": [float("nan")]}, "finite numbers are allowed"),
        ([SENSORS], {**FEATURES, "features": [{"name": "a"}]}, '1 features for "sensors", which has 2 elements'),
        ([SENSORS], {**FEATURES, "features": [{"name": "a"}] * 2}, 'are named "a": each needs a name of its own'),
        (
            [SENSORS],
            {**FEATURES, "features": [{"name": "a"}, {"name": "b", "range": [5, 1]}]},
            'feature "b" has range [5.0, 1.0]: [lowest, highest] is needed',
        ),
        (
            [STATE_IN],
            {"role": "state", "tensor": "h_in", "source": "h_ut"},
            'no output tensor "h_ut" (did you mean "h_out"?)',
        ),
        (
            [STATE_IN],
            {"role": "state", "tensor": "h_in", "source": "value"},
            'state "h_in" is uint8 [1, 8], its source "value" is float32 [1, 1]: they must be the same',
        ),
        (
            [spec("h_in", (1, 8), "uint8", 0.2, 3)],
            {"role": "state", "tensor": "h_in", "source": "h_out"},
            "has scale 0.2 and zero point 3, its source",
        ),
    ],
)
def test_an_input_must_fit_its_tensor(inputs: list[TensorSpec], item: dict[str, Any], text: str) -> None:
    said = {"inputs": [item], "outputs": [CLASSES]}
    assert text in refused(ConfigError, inputs=inputs, outputs=HEADS, said=said).splitlines()[0]
    file = model_file(said)
    by_file = refused(ModelError, file, inputs, HEADS)
    assert by_file.startswith("models/conveyor.tflite: edge-agent/card.json: ")


BOXES = dict(zip(("boxes", "classes", "scores", "count"), (item.name for item in DETECTION), strict=True))


@pytest.mark.parametrize(
    ("item", "text"),
    [
        ({"task": "classification", "tensor": "score"}, 'no output tensor "score" (did you mean "scores"?)'),
        ({"task": "classification", "tensor": "value"}, "needs at least 2"),
        ({"task": "classification", "tensor": DETECTION[0].name}, "one row of scores"),
        ({"task": "regression", "tensor": "scores", "element": 3}, 'takes element 3 of "scores", which has 3'),
        ({"task": "regression", "tensor": "value", "scale": float("inf")}, "not finite"),
        ({"task": "anomaly", "tensor": "scores", "threshold": 1.0}, "an anomaly score is one number"),
        ({"task": "anomaly", "tensor": "value", "threshold": float("nan")}, "a finite number is needed"),
        ({"task": "detection", **BOXES, "boxes": "scores"}, "expected [1, N, 4]"),
        ({"task": "detection", **BOXES, "classes": "scores"}, "expected [1, 40] as the boxes"),
        ({"task": "detection", **BOXES, "count": "scores"}, "expected one number"),
    ],
)
def test_an_output_must_fit_its_tensor(item: dict[str, Any], text: str) -> None:
    found = refused(ConfigError, outputs=HEADS, said={"inputs": [PICTURE], "outputs": [item]})
    assert text in found
    assert "\n" not in found


def test_two_outputs_may_not_share_a_name_nor_two_roles_a_tensor() -> None:
    assert 'two outputs are named "class"' in refused(ConfigError, said={"outputs": [CLASSES, CLASSES]})
    text = refused(ConfigError, said={"inputs": [PICTURE, PICTURE], "outputs": [CLASSES]})
    assert text == f'{WHERE}: inputs gives "image" two roles: one is allowed'


# --- a card as written -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("raw", "text"),
    [
        ({"labls": []}, 'labls is not a key (did you mean "labels"?); allowed: schema, name, version, task, labels'),
        ({"schema": "edge-agent/card/2"}, "schema is 'edge-agent/card/2', allowed: \"edge-agent/card/1\""),
        ({"task": "classify"}, 'task is \'classify\', allowed: "classification", "detection", "regression", "anomaly"'),
        ({"inputs": [PICTURE, {**PICTURE, "colour": "rgb"}]}, 'inputs[1].colour is not a key (did you mean "color"?)'),
        ({"inputs": [{**PICTURE, "role": "imag"}]}, 'inputs[0].role is \'imag\', allowed: "image", "features"'),
        ({"inputs": [{"tensor": "x"}]}, 'inputs[0] lacks role: one of "image", "features", "state"'),
        ({"inputs": [{"role": "image"}]}, "inputs[0] lacks tensor"),
        ({"inputs": [{**PICTURE, "color": "red"}]}, 'inputs[0].color is \'red\', allowed: "rgb", "bgr", "gray"'),
        ({"inputs": [{**PICTURE, "mean": ["a"]}]}, "inputs[0].mean[0] is 'a': expected float, got str"),
        (
            {"inputs": [{**FEATURES, "features": [{"name": "a", "std": 0}]}]},
            "inputs[0].features[0].std is 0: expected float > 0.0",
        ),
        (
            {"inputs": [{**FEATURES, "features": [{"name": "a", "units": "m"}]}]},
            'inputs[0].features[0].units is not a key (did you mean "unit"?)',
        ),
        ({"outputs": [{**CLASSES, "top_k": 0}]}, "outputs[0].top_k is 0: expected int >= 1"),
        ({"outputs": [{**CLASSES, "activation": "relu"}]}, 'allowed: "none", "softmax", "sigmoid"'),
        ({"budgets": {"p95": 3}}, 'budgets.p95 is not a key (did you mean "p95_ms"?)'),
        ({"inputs": {"image": {}}}, "inputs is {'image': {}}: expected array, got object"),
        ({"inputs": ["image"]}, "inputs[0] is 'image': expected object, got str"),
    ],
)
def test_a_card_that_is_wrong_is_explained_in_one_line(raw: dict[str, Any], text: str) -> None:
    with pytest.raises(ModelError) as caught:
        checked_card(raw, "m.tflite: edge-agent/card.json")
    assert str(caught.value).startswith("m.tflite: edge-agent/card.json: ")
    assert text in str(caught.value)
    assert "\n" not in str(caught.value)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=4,
)
KEYS = sorted(card_json_schema()["$defs"]["Card"]["properties"])


@settings(max_examples=80, deadline=None)
@given(st.dictionaries(st.sampled_from(KEYS) | st.text(max_size=6), JSON, max_size=4))
def test_no_card_however_strange_gives_anything_but_a_one_line_error(raw: dict[str, Any]) -> None:
    try:
        checked_card(raw, "x")
    except ModelError as error:
        assert not re.search(r"[\n\r]", str(error))


def test_the_published_schema_is_that_of_the_structs() -> None:
    published = json.loads((ROOT / "docs/card.schema.json").read_text())
    assert published == card_json_schema(), "write json.dumps(card_json_schema(), indent=2) to docs/card.schema.json"


def test_the_published_schema_takes_what_the_program_takes() -> None:
    schema = card_json_schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    good = {"schema": "edge-agent/card/1", "inputs": [FEATURES, PICTURE], "outputs": [CLASSES], "labels": LABELS}
    jsonschema.validate(good, schema)
    for bad in ({**good, "extra": 1}, {**good, "inputs": [{"role": "image"}]}):
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(bad, schema)


@pytest.mark.parametrize(
    ("of", "struct"),
    [
        ("card", Card),
        ("image", ImageInput),
        ("features", FeaturesInput),
        ("feature", Feature),
        ("state", StateInput),
        ("classification", ClassificationOutput),
        ("detection", DetectionOutput),
        ("regression", RegressionOutput),
        ("anomaly", AnomalyOutput),
        ("budgets", Budgets),
        ("golden", Golden),
    ],
)
def test_every_key_of_a_card_is_documented_with_its_default(of: str, struct: type[msgspec.Struct]) -> None:
    text = (ROOT / "docs/models.md").read_text()
    documented = dict(re.findall(rf"^\| {of} \| `(\w+)` \| `?(.*?)`? \|", text, re.MULTILINE))
    assert documented == {field.name: _default(field) for field in msgspec.structs.fields(struct)}


def _default(field: msgspec.structs.FieldInfo) -> str:
    if field.required:
        return "required"
    default = field.default if field.default is not msgspec.NODEFAULT else field.default_factory()  # type: ignore[misc]
    return "none" if default is None else msgspec.json.encode(default).decode()
