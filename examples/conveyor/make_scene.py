"""Writes what the demo plays: media/frames/*.jpg, media/sensors.csv and media/truth.csv, 24 seconds that can loop.

    python examples/conveyor/make_scene.py

The belt works in steps: a part is in view for 1.2 s, then the belt moves on faster than the camera sees. Frame and
row of the same number belong to the same moment. Every frame can be drawn by its number alone.
"""

from __future__ import annotations

import argparse
import csv
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
from drawing import Pixels, render
from parts import SENSORS, Light, Part, Pose, measure, true_readings

SCENE_SEED = 77
FPS = 10
FRAMES_PER_PART = 12
FIRST_X, STEP_PX = 94.0, 12  # a part comes in on the left
GAP_PX = 208  # how far the belt moves between two parts, unseen
JPEG_QUALITY = 82

# Shape, size, finish, fault. Neighbours are chosen so that the same reading means something else: the hollow large
# bracket weighs what the sound medium nut after it weighs, the hot blue washer is as warm as a brass one should be.
PARTS = (
    ("washer", "medium", "steel", "good"),
    ("nut", "small", "brass", "good"),
    ("bracket", "large", "steel", "hollow"),
    ("nut", "medium", "blue", "good"),
    ("washer", "large", "brass", "scratched"),
    ("washer", "large", "brass", "good"),
    ("washer", "medium", "blue", "overheated"),
    ("washer", "medium", "brass", "good"),
    ("washer", "small", "steel", "worn_bearing"),
    ("nut", "small", "steel", "good"),
    ("nut", "large", "blue", "scratched"),
    ("bracket", "medium", "brass", "good"),
    ("nut", "medium", "brass", "overheated"),
    ("nut", "large", "steel", "good"),
    ("nut", "medium", "steel", "worn_bearing"),
    ("bracket", "small", "blue", "good"),
    ("washer", "medium", "brass", "hollow"),
    ("bracket", "small", "steel", "good"),
    ("bracket", "medium", "blue", "scratched"),
    ("washer", "large", "blue", "good"),
)
FRAMES = len(PARTS) * FRAMES_PER_PART

# Cells that the sensors failed to deliver: row -> column -> what stands there. One silence is longer than any
# reasonable skew, so that the card's fill value has to stand in.
FAULTY_CELLS = {
    30: {"temperature": ""},
    **{row: {"vibration": ""} for row in range(39, 45)},
    101: {"weight": ""},
    150: {"temperature": "nan"},
    171: {"vibration": ""},
}


def scene_part(number: int) -> Part:
    """The part with that number in the order in which they pass."""
    return Part(*PARTS[number], surface_seed=SCENE_SEED * 1000 + number)


def scene_frame(number: int) -> Pixels:
    """(240, 320, 3) uint8 BGR: frame ``number`` of FRAMES, before it is compressed."""
    place, step = divmod(number, FRAMES_PER_PART)
    lie = np.random.default_rng([SCENE_SEED, place])
    drift = np.sin(2 * np.pi * number / FRAMES)
    pose = Pose(
        x=FIRST_X + STEP_PX * step,
        y=float(lie.uniform(112, 128)),
        angle=float(lie.uniform(-np.pi, np.pi)),
        belt=number * STEP_PX + place * GAP_PX,
    )
    light = Light(gain=1.0 + 0.08 * drift, tilt=(0.06, -0.04), warmth=0.02 * drift, noise=2.0)
    return render(scene_part(place), pose, light, np.random.default_rng([SCENE_SEED, place, step]))


def sensor_rows() -> Iterator[tuple[str, ...]]:
    """The cells of each row: time, then SENSORS. A part keeps its true values while it is in view."""
    for place in range(len(PARTS)):
        rng = np.random.default_rng([SCENE_SEED, place, FRAMES_PER_PART])
        truth = true_readings(scene_part(place), rng)
        for step in range(FRAMES_PER_PART):
            row = place * FRAMES_PER_PART + step
            weight, temperature, vibration = measure(truth, rng)
            cells = {"weight": f"{weight:.1f}", "temperature": f"{temperature:.1f}", "vibration": f"{vibration:.2f}"}
            cells |= FAULTY_CELLS.get(row, {})
            yield (f"{row / FPS:.1f}", *(cells[name] for name in SENSORS))


def truth_rows() -> Iterator[tuple[str, str]]:
    """Name of each frame's file and its label."""
    for number in range(FRAMES):
        yield f"{number:04d}.jpg", scene_part(number // FRAMES_PER_PART).fault


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "media", help="folder to write to")
    out: Path = parser.parse_args().out
    frames = out / "frames"
    frames.mkdir(parents=True, exist_ok=True)
    for number in range(FRAMES):
        _, content = cv2.imencode(".jpg", scene_frame(number), [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
        (frames / f"{number:04d}.jpg").write_bytes(content.tobytes())
    _write(out / "sensors.csv", ("time", *SENSORS), sensor_rows())
    _write(out / "truth.csv", ("frame", "label"), truth_rows())


def _write(path: Path, header: tuple[str, ...], rows: Iterator[tuple[str, ...]]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(header)
        writer.writerows(rows)


if __name__ == "__main__":
    main()
