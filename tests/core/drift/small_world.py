"""A world for ``benchmarks.drift_streams`` that needs no data set: four sensors, a camera and a classifier."""

from __future__ import annotations

import numpy as np

from benchmarks.drift_streams import LIGHTS, World

NAMES = (
    *("temperature", "pressure", "humidity", "current"),
    *("image.brightness", "image.contrast", "image.sharpness", "digit.confidence", "digit.class"),
)
PICTURES, DRAWS = 400, 8


def small_world() -> World:
    random = np.random.default_rng(11)
    truth = random.integers(0, 10, PICTURES)
    own = random.normal(0, 1, (PICTURES, 1, 4)) + random.normal(0, 0.7, (10, 4))[truth][:, None]
    drawn = own + random.normal(0, 0.3, (PICTURES, DRAWS, 4))  # brightness, contrast, sharpness, confidence

    def seen(brightness: float = 0, contrast: float = 0, sharpness: float = 0, confidence: float = 0) -> np.ndarray:
        moved = drawn + np.array([brightness, contrast, sharpness, confidence])
        wrong = moved[..., 3] < -2
        classes = np.where(wrong, (truth[:, None] + 3) % 10, truth[:, None])
        return np.concatenate([moved, classes[..., None]], 2).astype(np.float32)

    tables = {
        "clean": seen(),
        "blur": seen(contrast=-0.4, sharpness=-1.5, confidence=-0.2),
        "noise": seen(sharpness=0.8, confidence=-0.5),
        "dark": seen(brightness=-0.8, contrast=-0.4),
    }
    for level, light in enumerate(np.linspace(-1, 0.5, LIGHTS)):
        tables[f"light{level}"] = seen(brightness=light, contrast=light / 2)
    values = np.sort(random.normal([20, 1013, 50, 4], [2, 6, 8, 0.5], (500, 4)), 0)
    mixing = np.linalg.cholesky(np.full((4, 4), 0.3) + 0.7 * np.eye(4))
    return World(NAMES, tables, values, mixing, truth)
