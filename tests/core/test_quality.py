"""What is said of dark, blinded and stuck pictures."""

from __future__ import annotations

import numpy as np
import pytest

from edge_agent.core.quality import FrameQuality

SECOND = 10**9


def picture(height=480, width=640, seed=0, low=0, high=256):
    return np.random.default_rng(seed).integers(low, high, (height, width, 3), dtype=np.uint8)


@pytest.mark.parametrize(
    ("pixels", "words"),
    [
        (picture(), ()),
        (picture(low=0, high=4), ("black",)),
        (np.zeros((480, 640, 3), np.uint8), ("black",)),
        (picture(low=251), ("overexposed",)),
        (np.full((480, 640, 3), 128, np.uint8), ()),
    ],
)
def test_dark_and_blinded_pictures_are_named(pixels, words):
    assert FrameQuality().check(pixels, 0) == words


def test_a_dark_picture_with_a_light_in_it_is_not_black():
    pixels = np.zeros((480, 640, 3), np.uint8)
    pixels[::120, :100] = 255
    assert pixels.mean() < 5
    assert FrameQuality().check(pixels, 0) == ()


def test_a_picture_that_stays_the_same_is_frozen_after_25_frames_and_5_seconds():
    quality, pixels = FrameQuality(), picture()
    said = [quality.check(pixels.copy(), at * SECOND // 10) for at in range(60)]
    assert said == [()] * 50 + [("frozen",)] * 10


def test_few_frames_are_not_frozen_however_long_they_take():
    quality, pixels = FrameQuality(), picture()
    said = [quality.check(pixels, at * SECOND) for at in range(30)]
    assert said == [()] * 24 + [("frozen",)] * 6


def test_a_change_anywhere_in_the_grid_ends_the_frozen_state():
    quality, pixels = FrameQuality(), picture()
    for at in range(60):
        quality.check(pixels, at * SECOND)
    assert quality.check(picture(seed=1), 60 * SECOND) == ()
    assert quality.check(pixels, 61 * SECOND) == ()


def test_memory_that_the_camera_reuses_does_not_look_frozen():
    quality, pixels = FrameQuality(), picture()
    for at in range(60):
        pixels[:] = picture(seed=at)
        assert quality.check(pixels, at * SECOND) == ()


def test_words_come_together():
    quality, pixels = FrameQuality(), np.zeros((64, 64, 3), np.uint8)
    said = [quality.check(pixels, at * SECOND) for at in range(25)]
    assert said[-1] == ("black", "frozen")


@pytest.mark.parametrize("shape", [(1, 1), (47, 49), (48, 48), (49, 1), (1080, 1920)])
def test_any_size_and_any_strides_are_taken(shape):
    padded = np.full((shape[0] + 3, shape[1] + 5, 3), 255, np.uint8)
    view = padded[1 : 1 + shape[0], 2 : 2 + shape[1]]
    view[:] = 0
    assert FrameQuality().check(view, 0) == ("black",)
    assert FrameQuality().check(view[::-1, ::-1, ::-1], 0) == ("black",)


def test_another_size_is_another_picture():
    quality = FrameQuality()
    for at in range(60):
        assert quality.check(np.full((48 + at % 2, 48, 3), 99, np.uint8), at * SECOND) == ()
