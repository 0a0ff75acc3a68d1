"""A hybrid task on real data: a handwritten digit (picture) and the chemistry of a wine (13 sensors).

The answer is (digit + 3 x cultivar) mod 10: neither input is enough. Digits and wines are scikit-learn's; a picture and
a wine are put together at random, and those of the test set occur in no other set. Features stay in their raw units,
whose ranges differ by a factor of a thousand (proline 278 to 1680 mg/L, nonflavanoid phenols 0.13 to 0.66).

``rows`` is a data set for ``edge-convert --data benchmarks/converters/world.py:rows``.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from typing import Any

import cv2
import numpy as np
from sklearn.datasets import load_digits, load_wine

SIDE = 32
SEED = 2026
COUNTS = {"train": 6000, "calibration": 300, "test": 900}
TEST_SHARE = 0.25
CLIP = 4.0
UNITS = {
    "alcohol": "%",
    "malic_acid": "g/L",
    "ash": "g/L",
    "alcalinity_of_ash": "meq/L",
    "magnesium": "mg/L",
    "total_phenols": "g/L",
    "flavanoids": "g/L",
    "nonflavanoid_phenols": "g/L",
    "proanthocyanins": "g/L",
    "color_intensity": "AU",
    "hue": "",
    "od280_od315": "",
    "proline": "mg/L",
}
LABELS = tuple(f"code-{number}" for number in range(10))


def draw(split: str) -> dict[str, Any]:
    """The set ``split`` as arrays: ``pixels`` (n, 32, 32, 3) uint8 BGR, ``readings`` (n, 13) float64 in raw units,
    ``labels`` (n,) int64. Same arguments, same arrays."""
    digits, wine = load_digits(), load_wine()
    rng = np.random.default_rng([SEED, list(COUNTS).index(split)])
    images = _of_split(digits.images, split, 1)
    digit = _of_split(digits.target, split, 1)
    chemistry = _of_split(wine.data, split, 2)
    cultivar = _of_split(wine.target, split, 2)
    count = COUNTS[split]
    left, right = rng.integers(0, len(images), count), rng.integers(0, len(chemistry), count)
    pixels = np.stack([_picture(images[index], rng) for index in left])
    return {
        "pixels": pixels,
        "readings": chemistry[right],
        "labels": ((digit[left] + 3 * cultivar[right]) % 10).astype(np.int64),
    }


@functools.cache
def scaling() -> tuple[Any, Any]:
    """(mean, std) of each feature in the training set, with the digits that a card shows."""
    readings = draw("train")["readings"]
    return readings.mean(axis=0).round(4), readings.std(axis=0).round(4)


def rows() -> Iterator[dict[str, Any]]:
    """Every row of all three sets."""
    for split in COUNTS:
        drawn = draw(split)
        for number, (pixels, readings, label) in enumerate(
            zip(drawn["pixels"], drawn["readings"], drawn["labels"], strict=True)
        ):
            yield {
                "id": f"{split}-{number}",
                "split": split,
                "image": pixels,
                "features": dict(zip(UNITS, readings.tolist(), strict=True)),
                "label": int(label),
            }


def card() -> dict[str, Any]:
    """The card of every model trained on this: inputs ``image`` and ``chemistry``, output ``code``."""
    mean, std = (side.tolist() for side in scaling())
    features = [
        {"name": name, "unit": unit, "mean": m, "std": s, "clip": CLIP}
        for (name, unit), m, s in zip(UNITS.items(), mean, std, strict=True)
    ]
    return {
        "schema": "edge-agent/card/1",
        "name": "wine-codes",
        "version": "1.0.0",
        "inputs": [
            {"role": "image", "tensor": "image", "mean": [0.0], "std": [255.0]},
            {"role": "features", "tensor": "chemistry", "features": features},
        ],
        "outputs": [{"task": "classification", "tensor": "code", "name": "code", "labels": list(LABELS)}],
    }


def _of_split(values: Any, split: str, seed: int) -> Any:
    order = np.random.default_rng([SEED, seed]).permutation(len(values))
    tested = round(TEST_SHARE * len(values))
    return values[order[:tested]] if split == "test" else values[order[tested:]]


def _picture(image: Any, rng: Any) -> Any:
    """(8, 8) of 0 to 16 -> (32, 32, 3) uint8 BGR, shifted a little and tinted."""
    large = cv2.resize((image * 15.9).astype(np.float32), (SIDE - 4, SIDE - 4), interpolation=cv2.INTER_CUBIC)
    top, left = rng.integers(0, 5, 2)
    canvas = np.full((SIDE, SIDE), rng.uniform(0, 30), np.float32)
    canvas[top : top + SIDE - 4, left : left + SIDE - 4] += large
    tinted = canvas[..., None] * rng.uniform(0.7, 1.0, 3)
    return np.clip(tinted + rng.normal(0, 6, tinted.shape), 0, 255).astype(np.uint8)
