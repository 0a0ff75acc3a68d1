"""What is said of a picture's light, colour and sharpness, from the tensor that the model gets."""

from __future__ import annotations

import math
from typing import Any

import cv2
import numpy as np
import pytest

from edge_agent.core.card_schema import ImageInput
from edge_agent.core.picture import NAMES, NAMES_GRAY, PictureStatistics, names_of
from edge_agent.core.preprocess import ImagePreprocessor
from edge_agent.records import Array, Pixels, TensorSpec
from tests.core.tensors import spec

# Tensors in which every level of a pixel is told from the next.
FINE: list[tuple[TensorSpec, dict[str, Any]]] = [
    (spec("x", (1, 96, 128, 3), "uint8", 1 / 255, 0), {}),
    (spec("x", (1, 96, 128, 3), "int8", 1 / 255, -128), {}),
    (spec("x", (1, 96, 128, 3), "float32"), {}),
    (spec("x", (1, 96, 128, 3), "float32"), {"mean": (127.5,), "std": (127.5,)}),
    (spec("x", (1, 96, 128, 3), "float32"), {"mean": (123.7, 116.3, 103.5), "std": (58.4, 57.1, 57.4)}),
    (spec("x", (1, 96, 128, 3), "int8", 1 / 127.5, 0), {"mean": (127.5,), "std": (127.5,)}),
    (spec("x", (1, 96, 128, 3), "uint8"), {"mean": (0.0,), "std": (1.0,)}),
]


def scene(height: int = 96, width: int = 128, seed: int = 0) -> Pixels:
    """Soft shapes, fine texture and a little noise, BGR; nothing of it near black or white."""
    rng = np.random.default_rng(seed)
    coarse = cv2.resize(rng.uniform(70, 160, (5, 6, 3)), (width, height), interpolation=cv2.INTER_CUBIC)
    texture = np.kron(rng.uniform(-12, 12, (height // 2, width // 2, 1)), np.ones((2, 2, 1)))
    return np.clip(coarse + texture + rng.normal(0, 2, coarse.shape), 5, 250).astype(np.uint8)


def statistics(pixels: Pixels, tensor: TensorSpec = FINE[0][0], **said: Any) -> dict[str, float]:
    card = ImageInput(tensor=tensor.name, **said)
    preprocessor = ImagePreprocessor(tensor, card)
    slot = preprocessor.slot()
    preprocessor.fill(pixels, slot)
    return dict(zip(names_of(card), PictureStatistics(tensor, card).of(slot), strict=True))


def relative(after: dict[str, float], before: dict[str, float]) -> dict[str, float]:
    return {name: after[name] / before[name] for name in before if before[name]}


@pytest.mark.parametrize(("tensor", "said"), FINE)
@pytest.mark.parametrize("color", ["rgb", "bgr"])
def test_the_same_picture_has_the_same_numbers_in_any_tensor(tensor: TensorSpec, said: dict[str, Any], color: str):
    if color == "bgr":
        said = {key: value[::-1] for key, value in said.items()}
    expected = statistics(scene())
    found = statistics(scene(), tensor, color=color, **said)
    assert found == pytest.approx(expected, rel=0.01, abs=0.01)


def test_the_numbers_are_those_of_the_whole_picture():
    pixels = scene()
    found = statistics(pixels)
    luminance = pixels[:, :, ::-1].astype(np.float64) @ (0.299, 0.587, 0.114)
    assert found["brightness"] == pytest.approx(luminance.mean(), rel=0.01)
    assert found["contrast"] == pytest.approx(luminance.std(), rel=0.03)
    blue, green, red = pixels.astype(np.float64).mean((0, 1))
    assert found["red"] == pytest.approx(red / (red + green + blue), abs=0.003)
    assert found["blue"] == pytest.approx(blue / (red + green + blue), abs=0.003)
    assert found["red"] + found["green"] + found["blue"] == pytest.approx(1)
    assert found["clipped"] == 0


def test_less_light_changes_brightness_and_contrast_alone():
    moved = relative(statistics((scene() * 0.6).astype(np.uint8)), statistics(scene()))
    assert moved["brightness"] == pytest.approx(0.6, abs=0.02)
    assert moved["contrast"] == pytest.approx(0.6, abs=0.02)
    for name in ("sharpness", "red", "green", "blue"):
        assert moved[name] == pytest.approx(1, abs=0.05), name


def test_blur_changes_sharpness_most():
    moved = relative(statistics(cv2.GaussianBlur(scene(), (0, 0), 1.5)), statistics(scene()))
    assert moved["sharpness"] < 0.4
    for name in ("brightness", "red", "green", "blue"):
        assert moved[name] == pytest.approx(1, abs=0.02), name


def test_blur_along_a_column_alone_is_seen_too():
    smeared = cv2.blur(scene(), (1, 5))
    assert relative(statistics(smeared), statistics(scene()))["sharpness"] < 0.8


def test_a_tint_changes_the_colours_most():
    tinted = np.clip(scene() * np.array([1.3, 1.0, 0.8]), 0, 255).astype(np.uint8)  # BGR
    moved = relative(statistics(tinted), statistics(scene()))
    assert moved["blue"] > 1.2
    assert moved["red"] < 0.85
    assert moved["sharpness"] == pytest.approx(1, abs=0.02)


def test_noise_is_more_sharpness():
    noisy = np.clip(scene() + np.random.default_rng(1).normal(0, 12, scene().shape), 0, 255).astype(np.uint8)
    assert relative(statistics(noisy), statistics(scene()))["sharpness"] > 1.3


@pytest.mark.parametrize(("tensor", "said"), FINE)
def test_clipped_is_the_share_of_values_at_either_end(tensor: TensorSpec, said: dict[str, Any]):
    pixels = scene()
    pixels[:24] = 0
    pixels[-24:] = 255
    assert statistics(pixels, tensor, **said)["clipped"] == pytest.approx(0.5, abs=0.04)


def test_a_tensor_that_saturates_before_the_pixels_do_is_clipped_there():
    coarse = spec("x", (1, 96, 128, 3), "int8", 1 / 64, 0)  # real -2 to 1.98 of what goes from -2.1 to 2.6
    found = statistics(np.full((96, 128, 3), 240, np.uint8), coarse, mean=(116.0,), std=(54.0,))
    assert found["clipped"] == 1


@pytest.mark.parametrize("level", [0, 128, 255])
def test_a_flat_picture_has_no_contrast_no_sharpness_and_no_colour(level: int):
    found = statistics(np.full((96, 128, 3), level, np.uint8))
    assert found == pytest.approx(
        {
            "brightness": level,
            "contrast": 0,
            "sharpness": 0,
            "red": 1 / 3,
            "green": 1 / 3,
            "blue": 1 / 3,
            "clipped": float(level in (0, 255)),
        },
        abs=1e-3,
    )


def test_the_noise_of_a_black_picture_has_no_colour():
    dark = np.random.default_rng(0).integers(0, 2, (96, 128, 3), dtype=np.uint8)
    dark[:, :, 0] = 0
    found = statistics(dark)
    assert all(0.2 < found[name] < 0.4 for name in ("red", "green", "blue"))
    assert found["sharpness"] < 3


@pytest.mark.parametrize(("dtype", "quantised"), [("uint8", (1 / 255, 0)), ("int8", (1 / 255, -128)), ("float32", ())])
def test_a_grey_input_has_no_colours(dtype: str, quantised: tuple[float, int]):
    tensor = spec("x", (1, 96, 128, 1), dtype, *quantised)
    found, coloured = statistics(scene(), tensor, color="gray"), statistics(scene())
    assert tuple(found) == NAMES_GRAY
    assert set(NAMES_GRAY) <= set(NAMES)
    assert found["brightness"] == pytest.approx(coloured["brightness"], abs=1)
    assert found["contrast"] == pytest.approx(coloured["contrast"], rel=0.05)


@pytest.mark.parametrize("size", [(1, 1), (1, 9), (2, 2), (3, 1), (31, 65), (33, 7), (64, 64), (640, 640)])
def test_any_size_has_finite_numbers(size: tuple[int, int]):
    for color, channels in (("rgb", 3), ("gray", 1)):
        found = statistics(scene(480, 640), spec("x", (1, *size, channels), "uint8"), color=color)
        assert all(type(value) is float and math.isfinite(value) for value in found.values())


def test_the_tensor_is_only_read():
    tensor, card = FINE[1][0], ImageInput(tensor="x")
    preprocessor = ImagePreprocessor(tensor, card)
    slot: Array = preprocessor.slot()
    preprocessor.fill(scene(), slot)
    before = slot.copy()
    slot.flags.writeable = False
    first = PictureStatistics(tensor, card)
    assert first.of(slot) == first.of(slot)
    assert (slot == before).all()
