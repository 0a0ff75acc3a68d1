"""Photographs through public ImageNet classifiers: what everybody would see in them, and the very numbers of a plain
interpreter loop."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter

from tests.simulators.asyncapi import AsyncApi
from tests.simulators.command_line import edge_agent

MODELS = ("mobilenet_v1_0.25_128_quant", "tf2_mobilenet_v2_1.0_224_ptq")
FAMILIES = {
    "cat": {"tabby, tabby cat", "tiger cat", "Egyptian cat"},
    "sunflower": {"daisy"},
    "grace_hopper": {"military uniform"},
}
OWN_LABELS = "own_labels.txt"


def plain_scores(model: Path, picture: Path) -> list[tuple[int, float]]:
    """Index and score of the five best classes by the loop that everyone writes; equal scores in order of the index."""
    interpreter = Interpreter(str(model))
    interpreter.allocate_tensors()
    (image,), (output,) = interpreter.get_input_details(), interpreter.get_output_details()
    pixels = cv2.resize(cv2.imread(str(picture)), tuple(image["shape"][2:0:-1]), interpolation=cv2.INTER_LINEAR)
    interpreter.set_tensor(image["index"], cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB)[None])
    interpreter.invoke()
    scale, zero_point = output["quantization"]
    scores = (interpreter.get_tensor(output["index"])[0].astype(np.float64) - zero_point) * scale
    best = np.argsort(-scores, kind="stable")[:5]
    return [(int(index), float(scores[index])) for index in best]


def predicted(cache: Path, model: Path, picture: Path, *arguments: str | Path) -> list[dict[str, Any]]:
    ended = edge_agent(cache, "predict", model, "--image", picture, "--json", *arguments)
    assert (ended.returncode, ended.stderr) == (0, "")
    AsyncApi().check("edge-agent/any/prediction/any", ended.stdout.encode())
    classes: list[dict[str, Any]] = json.loads(ended.stdout)["outputs"]["class"]["classes"]
    return classes


@pytest.mark.parametrize("picture", FAMILIES)
@pytest.mark.parametrize("model", MODELS)
def test_a_photograph_shows_its_family_with_the_numbers_of_a_plain_loop(
    model: str, picture: str, shared: Path, tmp_path: Path
) -> None:
    files = shared / "models" / f"{model}.tflite", shared / "images" / f"{picture}.bmp"
    classes = predicted(tmp_path, *files)
    expected = plain_scores(*files)
    assert [found["index"] for found in classes] == [index for index, _ in expected]
    assert [found["score"] for found in classes] == pytest.approx([score for _, score in expected], abs=1e-6)
    assert FAMILIES[picture] <= {found["label"] for found in classes}


@pytest.mark.parametrize("model", MODELS)
def test_labels_come_from_the_model_unless_a_file_says_others(model: str, shared: Path, tmp_path: Path) -> None:
    (tmp_path / OWN_LABELS).write_text("".join(f"number {index}\n" for index in range(1001)))
    files = shared / "models" / f"{model}.tflite", shared / "images" / "cat.bmp"
    own = predicted(tmp_path, *files, "--labels", tmp_path / OWN_LABELS)
    assert [found["label"] for found in own] == [f"number {found['index']}" for found in own]
    public = predicted(tmp_path, *files, "--labels", shared / "labels" / "imagenet_labels.txt")
    assert public == predicted(tmp_path, *files)
