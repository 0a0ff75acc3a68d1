"""The parts of the example, their faults, and what the scale, the thermometer and the vibration sensor read.

The rules that couple picture and sensors are the three tables below: what a reading means can only be judged by
somebody who sees which part it belongs to. Everything follows from the generator that is handed in.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Readings = npt.NDArray[np.float64]

CLASSES = ("good", "scratched", "hollow", "overheated", "worn_bearing")
CLASS_SHARE = (0.28, 0.18, 0.18, 0.18, 0.18)
SENSORS = ("weight", "temperature", "vibration")
UNITS = ("g", "degC", "mm/s")

# The size in the picture says what the part should weigh (g). A hollow part of one size weighs as much as a sound
# part of the next smaller size, so the scale alone can't tell them apart.
WEIGHT_G = {"small": 80.0, "medium": 120.0, "large": 180.0}
HOLLOW_SHARE = (0.60, 0.74)
WEIGHT_TOLERANCE = 0.02  # of the weight: how well the parts are made
WEIGHT_NOISE_G = 0.8

# The colour of the coating says how warm the part should leave its oven (degC).
TEMPERATURE_C = {"blue": 38.0, "brass": 50.0, "steel": 62.0}
OVERHEATED_BY_C = (9.0, 15.0)
TEMPERATURE_NOISE_C = 1.5

# The shape says how much it rattles on the rollers (mm/s RMS): a washer lies flat, a bracket tilts.
VIBRATION_MM_S = {"washer": 1.6, "nut": 2.4, "bracket": 3.2}
WORN_BEARING_ADDS_MM_S = (0.6, 1.0)
VIBRATION_NOISE_MM_S = 0.1

FRAME_WIDTH, FRAME_HEIGHT = 320, 240
TRAVEL_X = (88.0, 232.0)  # a part is judged while it is wholly in view (pixels, its centre)
TRAVEL_Y = (108.0, 132.0)


@dataclass(frozen=True, slots=True)
class Part:
    """One part and its fault, which is one of CLASSES. ``surface_seed`` fixes its scratches and its brushed face."""

    shape: str
    size: str
    finish: str
    fault: str
    surface_seed: int

    @property
    def label(self) -> int:
        return CLASSES.index(self.fault)


@dataclass(frozen=True, slots=True)
class Pose:
    """Where the part lies: its centre in pixels, its angle in radians, and how far the belt has moved (pixels)."""

    x: float
    y: float
    angle: float
    belt: int


@dataclass(frozen=True, slots=True)
class Light:
    """``gain`` multiplies everything, ``tilt`` is the change of brightness over the width and the height as a share,
    ``warmth`` moves from blue to red as a share, ``noise`` is the camera's, in grey levels."""

    gain: float
    tilt: tuple[float, float]
    warmth: float
    noise: float


def draw_part(rng: np.random.Generator, shares: tuple[float, ...] = CLASS_SHARE) -> Part:
    """A part of any kind; its fault is drawn with the given shares of CLASSES and does not depend on the kind."""
    return Part(
        shape=str(rng.choice(list(VIBRATION_MM_S))),
        size=str(rng.choice(list(WEIGHT_G))),
        finish=str(rng.choice(list(TEMPERATURE_C))),
        fault=str(rng.choice(CLASSES, p=shares)),
        surface_seed=int(rng.integers(2**32)),
    )


def draw_pose(rng: np.random.Generator) -> Pose:
    return Pose(rng.uniform(*TRAVEL_X), rng.uniform(*TRAVEL_Y), rng.uniform(-np.pi, np.pi), int(rng.integers(1 << 16)))


def draw_light(rng: np.random.Generator) -> Light:
    return Light(
        gain=rng.uniform(0.75, 1.2),
        tilt=(rng.uniform(-0.12, 0.12), rng.uniform(-0.12, 0.12)),
        warmth=rng.uniform(-0.05, 0.05),
        noise=rng.uniform(1.5, 5.0),
    )


def true_weight(part: Part, rng: np.random.Generator) -> float:
    """Grams of this very part: it stays the same while the part is weighed again and again."""
    weight = WEIGHT_G[part.size] * rng.normal(1.0, WEIGHT_TOLERANCE)
    return weight * rng.uniform(*HOLLOW_SHARE) if part.fault == "hollow" else weight


def true_temperature(part: Part, rng: np.random.Generator) -> float:
    excess = rng.uniform(*OVERHEATED_BY_C) if part.fault == "overheated" else 0.0
    return TEMPERATURE_C[part.finish] + excess


def true_vibration(part: Part, rng: np.random.Generator) -> float:
    excess = rng.uniform(*WORN_BEARING_ADDS_MM_S) if part.fault == "worn_bearing" else 0.0
    return VIBRATION_MM_S[part.shape] + excess


def true_readings(part: Part, rng: np.random.Generator) -> Readings:
    """(3,) float64, what perfect sensors would say of this part."""
    return np.array([true_weight(part, rng), true_temperature(part, rng), true_vibration(part, rng)])


def measure(truth: Readings, rng: np.random.Generator) -> Readings:
    """(3,) float64: one reading of each sensor, with its noise, in real units."""
    noise = rng.standard_normal(3) * (WEIGHT_NOISE_G, TEMPERATURE_NOISE_C, VIBRATION_NOISE_MM_S)
    return np.maximum(truth + noise, (0.0, -273.15, 0.0))
