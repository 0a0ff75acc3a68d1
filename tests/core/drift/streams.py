"""Rows as a device would see them, for the tests of drift: the features of a usual model, drawn from a seed."""

from __future__ import annotations

import numpy as np

from edge_agent.core.drift.bins import FeatureSpec
from edge_agent.records import Array

SENSORS = {"temperature": "°C", "vibration": "mm/s", "humidity": "%", "pressure": "hPa"} | {
    "current": "A", "speed": "m/s", "torque": "Nm", "load": "%"}  # fmt: skip
PICTURE = ("brightness", "contrast", "sharpness", "red", "green", "blue", "clipped")
LABELS = tuple("abcdefghij")

SPECS = (
    *(FeatureSpec(name, "sensor", unit=unit) for name, unit in SENSORS.items()),
    *(FeatureSpec(f"image.{name}", "image") for name in PICTURE),
    FeatureSpec("class.confidence", "prediction"),
    FeatureSpec("class.entropy", "prediction"),
    FeatureSpec("class.class", "prediction", "class", labels=LABELS),
    *(FeatureSpec(f"embedding.{part}", "embedding") for part in range(8)),
    FeatureSpec("embedding.distance", "embedding"),
)
"""27 features: what docs/drift.md counts with."""
NAMES = tuple(spec.name for spec in SPECS)


def rows_of(count: int, seed: int) -> Array:
    """(count, 27) float64. Sensors are read every second: at two rows a second each value comes twice."""
    random = np.random.default_rng(seed)
    half = (count + 1) // 2
    means, deviations = np.array([23, 2, 45, 1013, 4, 1.2, 18, 50]), np.array([1.5, 0.8, 5, 6, 0.4, 0.05, 2, 25])
    sensors = np.repeat(random.normal(means, deviations, (half, 8)), 2, axis=0)[:count]
    levels = np.array([118, 52, 240, 120, 117, 112])
    return np.column_stack(
        [
            sensors,
            random.normal(levels, levels / 10, (count, 6)),
            random.beta(1, 50, count),
            random.beta(8, 1, count),
            random.gamma(1, 0.3, count),
            random.integers(0, 10, count),
            random.normal(0, 2, (count, 8)),
            random.gamma(20, 1.7, count),
        ]
    )
