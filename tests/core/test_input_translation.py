"""What the live model was shown, shown to another model: handed on where it can be, else recovered."""

from __future__ import annotations

import numpy as np
import pytest

from edge_agent.core.card_schema import Budgets, Feature, FeaturesInput, Golden, ImageInput
from edge_agent.core.input_translation import Inputs, InputTranslation
from edge_agent.core.model_card import ResolvedCard
from edge_agent.core.preprocess import ImagePreprocessor
from edge_agent.records import TensorSpec

UINT8, INT8, FLOAT = np.dtype(np.uint8), np.dtype(np.int8), np.dtype(np.float32)


def model(item: ImageInput, dtype=UINT8, size: int = 16, features: tuple[Feature, ...] = (), **spec: float) -> Inputs:
    channels = 1 if item.color == "gray" else 3
    specs = [TensorSpec(item.tensor, 0, (1, size, size, channels), dtype, **spec)]  # type: ignore[arg-type]
    given = (FeaturesInput(tensor="f", features=features),) if features else ()
    return Inputs(ResolvedCard("m", "1", (item,), given, (), (), {}, Budgets(), Golden(), ()), specs)


def shown(inputs: Inputs, pixels: np.ndarray) -> dict[str, np.ndarray]:
    stage = ImagePreprocessor(inputs.specs[0], inputs.card.image_inputs[0])
    slot = stage.slot()
    stage.fill(pixels, slot)
    return {inputs.specs[0].name: slot}


@pytest.fixture(scope="module")
def picture() -> np.ndarray:
    return np.random.default_rng(1).integers(0, 256, (16, 16, 3), dtype=np.uint8)


def test_a_model_with_the_same_input_gets_the_very_tensor(picture: np.ndarray) -> None:
    live = model(ImageInput(tensor="a"))
    tensors = shown(live, picture)
    assert InputTranslation(live, model(ImageInput(tensor="b"))).images(tensors)["b"] is tensors["a"]


@pytest.mark.parametrize(
    ("item", "dtype", "spec"),
    [
        (ImageInput(tensor="a"), UINT8, {}),
        (ImageInput(tensor="a"), INT8, {}),
        (ImageInput(tensor="a", color="bgr"), FLOAT, {}),
        (ImageInput(tensor="a", mean=(123.0, 116.0, 103.0), std=(58.0, 57.0, -57.0)), FLOAT, {}),
        (ImageInput(tensor="a", mean=(127.5,), std=(127.5,)), INT8, {"scale": 1 / 128, "zero_point": 0}),
    ],
)
def test_a_picture_comes_back_from_any_kind_of_tensor(picture: np.ndarray, item, dtype, spec) -> None:
    live, other = model(item, dtype, **spec), model(ImageInput(tensor="b", resize="nearest"), UINT8)
    got = InputTranslation(live, other).images(shown(live, picture))["b"]
    expected = shown(other, picture)["b"]
    # a coarse quantisation makes neighbours of levels; all else is exact
    assert np.abs(got.astype(int) - expected.astype(int)).max() <= (1 if spec else 0)


def test_a_grey_model_shows_a_grey_picture(picture: np.ndarray) -> None:
    live, other = model(ImageInput(tensor="a", color="gray")), model(ImageInput(tensor="b"), size=8)
    got = InputTranslation(live, other).images(shown(live, picture))["b"]
    assert got.shape == (1, 8, 8, 3)
    assert (got[..., 0] == got[..., 2]).all()


def test_features_change_their_units_and_new_ones_are_filled_as_missing_readings_are() -> None:
    known, filled, meant = Feature(name="t", unit="degC"), Feature(name="h", fill=7.0), Feature(name="p", mean=3.0)
    live = model(ImageInput(tensor="a"), features=(Feature(name="t", unit="degF"), Feature(name="x")))
    other = model(ImageInput(tensor="a"), features=(known, filled, meant))
    got = InputTranslation(live, other).features({"t": 212.0, "x": 1.0})
    assert got == {"t": pytest.approx(100.0), "h": 7.0, "p": 3.0}
