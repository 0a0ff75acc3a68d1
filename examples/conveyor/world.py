"""Draws samples of the example's world: one frame, the readings that belong to it, and the truth.

A sample is known by its set's seed and its number alone, so any one of them can be drawn again anywhere.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from drawing import Pixels, render
from parts import Part, Readings, draw_light, draw_part, draw_pose, measure, true_readings


@dataclass(frozen=True, slots=True)
class Sample:
    """``pixels`` (240, 320, 3) uint8 BGR; ``readings`` (3,) in the order and the units of parts.SENSORS and UNITS."""

    pixels: Pixels
    readings: Readings
    part: Part


def draw_sample(seed: int, number: int) -> Sample:
    """Sample ``number`` of the set ``seed``; independent of all others and of how many are drawn."""
    rng = np.random.default_rng([seed, number])
    part = draw_part(rng)
    readings = measure(true_readings(part, rng), rng)
    return Sample(render(part, draw_pose(rng), draw_light(rng), rng), readings, part)
