"""The sets that the models of this example are trained, calibrated and measured on.

For training, arrays: the picture becomes 96x96 RGB in the way that the card names (bilinear, stretched) and stays
uint8. For ``edge-convert --data examples/conveyor/dataset.py:rows``, whole frames. The readings stay in their units:
scaling is the card's business.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, fields
from functools import partial
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
from drawing import Pixels
from parts import SENSORS
from world import draw_sample

SIDE = 96
TRAIN_SET, TEST_SET = 2026, 2027  # seeds of the sets; evaluate.py has its own
TRAIN_COUNT, TEST_COUNT = 10_000, 2_000
CALIBRATION_COUNT = 300  # the first of the training set


@dataclass(frozen=True, slots=True)
class Dataset:
    """``images`` (n, 96, 96, 3) uint8 RGB, ``readings`` (n, 3) float64 in real units, ``labels`` (n,) int64 indices
    of parts.CLASSES, ``kinds`` (n, 3) text: shape, size, finish."""

    images: npt.NDArray[np.uint8]
    readings: npt.NDArray[np.float64]
    labels: npt.NDArray[np.int64]
    kinds: npt.NDArray[np.str_]

    def sha256(self) -> str:
        digest = hashlib.sha256()
        for field in fields(self):
            digest.update(np.ascontiguousarray(getattr(self, field.name)).tobytes())
        return digest.hexdigest()


def shrink(pixels: Pixels) -> Pixels:
    """(h, w, 3) uint8 BGR -> (96, 96, 3) uint8 RGB."""
    return cv2.cvtColor(cv2.resize(pixels, (SIDE, SIDE), interpolation=cv2.INTER_LINEAR), cv2.COLOR_BGR2RGB)


def rows(split: str) -> Iterator[dict[str, Any]]:
    """The rows of "train", "calibration" or "test": whole frames (240, 320, 3) uint8 BGR, readings in their units."""
    seed, count = {
        "train": (TRAIN_SET, TRAIN_COUNT),
        "calibration": (TRAIN_SET, CALIBRATION_COUNT),
        "test": (TEST_SET, TEST_COUNT),
    }[split]
    for number in range(count):
        sample = draw_sample(seed, number)
        yield {
            "id": f"{seed}-{number}",
            "image": sample.pixels,
            "features": dict(zip(SENSORS, sample.readings.tolist(), strict=True)),
            "label": sample.part.label,
        }


def draw_dataset(seed: int, count: int, workers: int | None = None) -> Dataset:
    """The first ``count`` samples of the set ``seed``, drawn by several processes; the result does not depend on
    how many."""
    workers = workers or os.cpu_count() or 1
    with ProcessPoolExecutor(workers) as pool:
        drawn = list(pool.map(partial(_one, seed), range(count), chunksize=64))
    images, readings, labels, kinds = zip(*drawn, strict=True)
    return Dataset(np.stack(images), np.stack(readings), np.array(labels), np.array(kinds, dtype="<U8"))


def _one(seed: int, number: int) -> tuple[Pixels, npt.NDArray[np.float64], int, tuple[str, str, str]]:
    sample = draw_sample(seed, number)
    part = sample.part
    return shrink(sample.pixels), sample.readings, part.label, (part.shape, part.size, part.finish)
