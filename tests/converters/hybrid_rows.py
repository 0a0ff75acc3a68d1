"""Rows and a card for the small hybrids of torch_networks.py and onnx_networks.py; the labels mean nothing."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

ROWS = f"{Path(__file__)}:rows"
COUNTS = {"train": 4, "calibration": 40, "test": 60}
CLIP = 4.0
FEATURES = [{"name": f"s{n}", "mean": 10.0 * n, "std": 2.0 + n, "clip": CLIP} for n in range(5)]


def card(image: str = "image", chemistry: str = "chemistry", code: str = "code") -> dict[str, Any]:
    """Pictures from -1 to 1, z-scores, four classes."""
    return {
        "name": "small",
        "inputs": [
            {"role": "image", "tensor": image, "mean": [127.5], "std": [127.5]},
            {"role": "features", "tensor": chemistry, "features": FEATURES},
        ],
        "outputs": [{"task": "classification", "tensor": code, "name": "class", "labels": ["a", "b", "c", "d"]}],
    }


def rows() -> Iterator[dict[str, Any]]:
    rng = np.random.default_rng(5)
    for split, count in COUNTS.items():
        for number in range(count):
            yield {
                "id": f"{split}-{number}",
                "split": split,
                "image": (rng.random((24, 20, 3)) * rng.uniform(20, 255, 3)).astype(np.uint8),
                "features": {item["name"]: float(rng.normal(item["mean"], item["std"])) for item in FEATURES},
                "label": int(rng.integers(0, 4)),
            }
