"""Samples of the shipped example as a data set, drawn by its own generator."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from converters.records import Example
from tests.converters.rows import Rows

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "conveyor"
MODEL = EXAMPLE / "model" / "conveyor.tflite"


def draw(count: int, seed: int = 99) -> Rows:
    """``count`` samples of a set that nothing else uses."""
    sys.path.insert(0, str(EXAMPLE))
    try:
        from parts import SENSORS
        from world import draw_sample
    finally:
        sys.path.remove(str(EXAMPLE))
    samples = [draw_sample(seed, number) for number in range(count)]
    return Rows(
        [
            Example(
                id=str(number),
                images={"image": sample.pixels},
                features=dict(zip(SENSORS, sample.readings.tolist(), strict=True)),
                labels={"fault": sample.part.label},
            )
            for number, sample in enumerate(samples)
        ]
    )


def rows() -> Iterator[dict[str, Any]]:
    """The first 30 of them, for ``--data conveyor.py:rows``."""
    drawn = draw(30)
    for number in range(len(drawn)):
        example = drawn.example(number)
        yield {"images": dict(example.images), "features": dict(example.features), "labels": dict(example.labels)}
