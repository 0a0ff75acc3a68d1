"""Preprocessing against a slow floating point reference: the tables must agree with it bit by bit."""

from __future__ import annotations

import tracemalloc
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_agent.core.card_schema import Feature, FeaturesInput, ImageInput
from edge_agent.core.preprocess import FeaturePreprocessor, ImagePreprocessor, initial_state
from edge_agent.errors import ModelError
from edge_agent.records import Array, Crossing, Pixels, TensorSpec
from tests.core.tensors import spec

METHODS = {
    "nearest": cv2.INTER_NEAREST_EXACT,
    "bilinear": cv2.INTER_LINEAR,
    "area": cv2.INTER_AREA,
    "bicubic": cv2.INTER_CUBIC,
}


def picture(height: int, width: int, seed: int = 0) -> Pixels:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def half_up(value: float) -> int:
    return max(1, int(np.floor(value + 0.5)))


def reference(pixels: Pixels, tensor: TensorSpec, card: ImageInput) -> Array:
    """The same in plain steps: crop, grey, resize, bars, order of channels, float64 arithmetic, rounding."""
    height, width = pixels.shape[:2]
    rows, columns, channels = tensor.shape[1:]
    filled = (rows, columns)
    if card.fit == "crop":
        taken_h = min(height, half_up(width * rows / columns))
        taken_w = min(width, half_up(height * columns / rows))
        top, left = (height - taken_h) // 2, (width - taken_w) // 2
        pixels = pixels[top : top + taken_h, left : left + taken_w]
    if card.fit == "letterbox":
        filled = (min(rows, half_up(height * columns / width)), min(columns, half_up(width * rows / height)))
    pixels = np.ascontiguousarray(pixels)
    if card.color == "gray":
        pixels = cv2.cvtColor(pixels, cv2.COLOR_BGR2GRAY)
    resized = cv2.resize(pixels, filled[::-1], interpolation=METHODS[card.resize]).reshape(*filled, channels)
    canvas = np.full((rows, columns, channels), card.pad, np.uint8)
    down, right = (rows - filled[0]) // 2, (columns - filled[1]) // 2
    canvas[down : down + filled[0], right : right + filled[1]] = resized
    if card.color == "rgb":
        canvas = canvas[:, :, ::-1]
    values = canvas.astype(np.float64)
    if card.mean is None and card.std is None:
        values = {"uint8": values, "int8": values - 128, "float32": values / 255}[tensor.dtype.name]
        return values.astype(tensor.dtype)[None]
    real = (values - np.array(card.mean or [0.0])) / np.array(card.std or [1.0])
    if tensor.dtype == np.float32:
        return real.astype(np.float32)[None]
    steps = np.rint(real / (tensor.scale or 1.0) + tensor.zero_point)
    return np.clip(steps, np.iinfo(tensor.dtype).min, np.iinfo(tensor.dtype).max).astype(tensor.dtype)[None]


@st.composite
def cases(draw: st.DrawFn) -> tuple[TensorSpec, ImageInput]:
    color = draw(st.sampled_from(["rgb", "bgr", "gray"]))
    channels = 1 if color == "gray" else 3
    dtype = draw(st.sampled_from(["uint8", "int8", "float32"]))
    quantised = dtype != "float32" and draw(st.booleans())
    numbers = st.floats(0.0078125, 300, width=32)
    per_channel = st.integers(1, 1) if channels == 1 else st.sampled_from([1, channels])

    def values() -> tuple[float, ...] | None:
        if draw(st.booleans()):
            return None
        size = draw(per_channel)
        return tuple(draw(st.lists(numbers, min_size=size, max_size=size)))

    tensor = spec(
        "image",
        (1, draw(st.integers(1, 40)), draw(st.integers(1, 40)), channels),
        dtype,
        draw(st.floats(2.0**-13, 0.5, width=32)) if quantised else 0.0,
        draw(st.integers(*((-128, 127) if dtype == "int8" else (0, 255)))) if quantised else 0,
    )
    card = ImageInput(
        tensor="image",
        color=color,
        resize=draw(st.sampled_from(sorted(METHODS))),
        fit=draw(st.sampled_from(["stretch", "crop", "letterbox"])),
        pad=draw(st.integers(0, 255)),
        mean=values(),
        std=values(),
    )
    return tensor, card


@settings(max_examples=150, deadline=None)
@given(cases(), st.integers(1, 70), st.integers(1, 70), st.integers(0, 5))
def test_every_combination_is_bit_identical_to_the_float_route(
    case: tuple[TensorSpec, ImageInput], height: int, width: int, seed: int
) -> None:
    tensor, card = case
    stage = ImagePreprocessor(tensor, card)
    slot = stage.slot()
    for frame in (picture(height, width, seed), picture(width, height, seed), picture(height, width, seed + 1)):
        stage.fill(frame, slot)
        np.testing.assert_array_equal(slot, reference(frame, tensor, card))
    assert (slot.shape, slot.dtype) == (tensor.shape, tensor.dtype)


@pytest.mark.parametrize("dtype", ["uint8", "int8", "float32"])
@pytest.mark.parametrize("color", ["rgb", "bgr", "gray"])
@pytest.mark.parametrize("fit", ["stretch", "crop", "letterbox"])
@pytest.mark.parametrize("std", [(255.0,), (64.0,)])
def test_a_second_frame_of_the_same_size_allocates_nothing_of_its_size(
    dtype: str, color: Any, fit: Any, std: tuple[float, ...]
) -> None:
    tensor = spec("image", (1, 96, 96, 1 if color == "gray" else 3), dtype, 1 / 255, -128 if dtype == "int8" else 0)
    stage = ImagePreprocessor(tensor, ImageInput(tensor="image", color=color, fit=fit, std=std))
    slot = stage.slot()
    frame = picture(120, 160)
    stage.fill(frame, slot)
    slot[:] = 0
    tracemalloc.start()
    try:
        stage.fill(frame, slot)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 4096
    # cv2 allocates by itself where a destination does not suit it: then nothing would have arrived in the slot
    np.testing.assert_array_equal(slot, reference(frame, tensor, stage._card))


@pytest.mark.parametrize(("height", "width"), [(480, 640), (640, 480), (100, 100), (120, 517)])
@pytest.mark.parametrize("fit", ["stretch", "crop", "letterbox"])
def test_the_crossing_leads_from_the_model_back_to_the_frame(height: int, width: int, fit: Any) -> None:
    tensor = spec("image", (1, 120, 160, 3))
    stage = ImagePreprocessor(tensor, ImageInput(tensor="image", fit=fit, resize="area"))
    frame = np.zeros((height, width, 3), np.uint8)
    rows, columns = slice(int(height * 0.4), int(height * 0.6)), slice(int(width * 0.45), int(width * 0.55))
    frame[rows, columns] = 255
    slot = stage.slot()
    crossing = stage.fill(frame, slot)
    ys, xs = np.nonzero(slot[0, :, :, 0] > 127)
    found = (
        xs.min() / 160 * crossing.scale_x + crossing.offset_x,
        (xs.max() + 1) / 160 * crossing.scale_x + crossing.offset_x,
        ys.min() / 120 * crossing.scale_y + crossing.offset_y,
        (ys.max() + 1) / 120 * crossing.scale_y + crossing.offset_y,
    )
    expected = (columns.start / width, columns.stop / width, rows.start / height, rows.stop / height)
    one_pixel = (crossing.scale_x / 160, crossing.scale_x / 160, crossing.scale_y / 120, crossing.scale_y / 120)
    assert np.all(np.abs(np.subtract(found, expected)) <= np.array(one_pixel))


def test_a_letterbox_has_centred_bars_of_the_pad_value() -> None:
    stage = ImagePreprocessor(
        spec("image", (1, 10, 10, 3)), ImageInput(tensor="image", fit="letterbox", pad=7, resize="nearest")
    )
    slot = stage.slot()
    crossing = stage.fill(np.full((50, 100, 3), 200, np.uint8), slot)
    assert slot[0, :, 0, 0].tolist() == [7, 7] + [200] * 5 + [7, 7, 7]
    assert crossing == Crossing(scale_x=1.0, offset_x=0.0, scale_y=2.0, offset_y=-0.4)


def test_bars_of_another_frame_size_do_not_remain() -> None:
    tensor, card = spec("image", (1, 20, 20, 3)), ImageInput(tensor="image", fit="letterbox", pad=1)
    stage = ImagePreprocessor(tensor, card)
    slot = stage.slot()
    for frame in (picture(10, 40), picture(40, 10), picture(20, 20), picture(40, 10)):
        stage.fill(frame, slot)
        np.testing.assert_array_equal(slot, reference(frame, tensor, card))


def test_int8_of_scale_one_over_255_is_the_pixel_minus_128() -> None:
    scale = float(np.float32(1 / 255))
    stage = ImagePreprocessor(
        spec("image", (1, 16, 16, 3), "int8", scale, -128), ImageInput(tensor="image", mean=(0.0,), std=(255.0,))
    )
    frame = np.arange(256, dtype=np.uint8).reshape(16, 16)[:, :, None].repeat(3, axis=2)
    slot = stage.slot()
    stage.fill(frame, slot)
    assert slot[0, :, :, 0].reshape(-1).tolist() == list(range(-128, 128))


def test_the_frame_is_only_read() -> None:
    frame = picture(32, 32)
    frame.setflags(write=False)
    stage = ImagePreprocessor(spec("image", (1, 32, 32, 3)), ImageInput(tensor="image", color="bgr"))
    stage.fill(frame, slot := stage.slot())
    np.testing.assert_array_equal(slot[0], frame)


@pytest.mark.parametrize("dtype", ["float16", "int16", "int32", "uint16"])
def test_a_tensor_that_takes_no_pixels_is_refused_by_its_dtype(dtype: str) -> None:
    with pytest.raises(ModelError, match=f'"image" is {dtype} .*uint8, int8, float32 are allowed'):
        ImagePreprocessor(spec("image", (1, 8, 8, 3), dtype), ImageInput(tensor="image"))


def features(*items: Feature) -> FeaturesInput:
    return FeaturesInput(tensor="sensors", features=items)


def test_features_are_scaled_clipped_and_quantised_in_the_cards_order() -> None:
    card = features(
        Feature(name="temperature", mean=20.0, std=5.0, clip=4.0),
        Feature(name="vibration", mean=0.5, std=0.25),
        Feature(name="load"),
    )
    stage = FeaturePreprocessor(spec("sensors", (1, 3), "int8", 8 / 255, 0), card)
    out = stage.slot()
    stage.fill({"load": -0.1, "vibration": 0.75, "temperature": 1000.0, "other": 9.0}, out)
    assert out.tolist() == [[127, 32, -3]]


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.floats(-1e6, 1e6), min_size=4, max_size=4),
    st.sampled_from(["uint8", "int8", "int16", "float32"]),
    st.floats(1e-4, 1.0),
    st.integers(0, 127),
    st.sampled_from([None, 0.5, 4.0]),
)
def test_each_feature_follows_the_formula(
    values: list[float], dtype: str, scale: float, zero_point: int, clip: float | None
) -> None:
    card = features(*(Feature(name=f"f{i}", mean=i * 3.0, std=i + 0.5, clip=clip) for i in range(4)))
    stage = FeaturePreprocessor(spec("sensors", (1, 4), dtype, scale, zero_point), card)
    out = stage.slot()
    stage.fill({f"f{i}": value for i, value in enumerate(values)}, out)
    for i, value in enumerate(values):
        z = (value - i * 3.0) / (i + 0.5)
        z = z if clip is None else min(clip, max(-clip, z))
        if dtype == "float32":
            assert out[0, i] == np.float32(z)
        else:
            bounds = np.iinfo(dtype)
            assert out[0, i] == min(bounds.max, max(bounds.min, np.rint(z / scale + zero_point)))


def test_features_do_not_go_into_a_dtype_that_nobody_asked_for() -> None:
    with pytest.raises(ModelError, match=r'"sensors" is int32 and can.t take features'):
        FeaturePreprocessor(spec("sensors", (1, 1), "int32"), features(Feature(name="a")))


@pytest.mark.parametrize(
    ("dtype", "scale", "zero_point", "expected"),
    [("uint8", 0.02, 128, 128), ("int8", 0.02, -5, -5), ("float32", 0.0, 0, 0.0), ("int32", 0.0, 0, 0)],
)
def test_a_state_starts_as_real_zero(dtype: str, scale: float, zero_point: int, expected: float) -> None:
    state = initial_state(spec("state", (1, 2, 3), dtype, scale, zero_point))
    assert (state.shape, state.dtype) == ((1, 2, 3), np.dtype(dtype))
    assert (state == expected).all()
