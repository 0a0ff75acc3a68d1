"""Renders a part on the belt as the camera above it sees it: 320x240 BGR.

Shapes are signed distances (negative inside, pixels), so that edges are smooth without a drawing library and the
same seed gives the same picture everywhere.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import numpy.typing as npt
from parts import FRAME_HEIGHT, FRAME_WIDTH, Light, Part, Pose

Pixels = npt.NDArray[np.uint8]
Plane = npt.NDArray[np.float32]

RADIUS_PX = {"small": 46.0, "medium": 56.0, "large": 68.0}  # about the square root of the weights: equal thickness
FINISH_BGR = {"blue": (172.0, 108.0, 52.0), "brass": (78.0, 158.0, 196.0), "steel": (166.0, 164.0, 160.0)}
BELT_BGR = (60.0, 64.0, 61.0)
RAIL_BGR = (120.0, 118.0, 114.0)
RAIL_ROWS = 16
BELT_TILE = 640  # the belt's pattern comes again after that many pixels
SEAM_EVERY = 160
BRACKET_HOLES = ((-0.45, -0.54), (-0.45, 0.53), (0.46, 0.53))  # in radii
LIGHT_FROM = (-0.6, -0.8)
SHADOW_PX = (5.0, 6.0)


def render(part: Part, pose: Pose, light: Light, rng: np.random.Generator) -> Pixels:
    """(240, 320, 3) uint8 BGR. ``rng`` gives only the camera's noise; the part's face comes from its own seed."""
    scene = np.roll(_belt_tile(), pose.belt % BELT_TILE, axis=1)[:, :FRAME_WIDTH].copy()
    scene[:RAIL_ROWS] = scene[-RAIL_ROWS:] = RAIL_BGR
    _place(scene, part, pose)
    across = np.linspace(-1, 1, FRAME_WIDTH, dtype=np.float32)[None, :, None]
    down = np.linspace(-1, 1, FRAME_HEIGHT, dtype=np.float32)[:, None, None]
    colour = np.array([1 - light.warmth, 1, 1 + light.warmth], np.float32)
    scene *= light.gain * (1 + light.tilt[0] * across + light.tilt[1] * down) * colour
    scene += light.noise * rng.standard_normal(scene.shape, dtype=np.float32)
    return np.clip(np.rint(scene), 0, 255).astype(np.uint8)


@lru_cache(maxsize=1)
def _belt_tile() -> npt.NDArray[np.float32]:
    rng = np.random.default_rng(0)
    grain = rng.standard_normal((FRAME_HEIGHT, BELT_TILE))
    for axis in (0, 1):
        grain = sum(np.roll(grain, shift, axis) for shift in range(-2, 3)) / 5
    tile = np.array(BELT_BGR) + 18 * grain[..., None]
    tile[:, np.arange(BELT_TILE) % SEAM_EVERY < 4] *= 0.55
    return tile.astype(np.float32)


def _place(scene: npt.NDArray[np.float32], part: Part, pose: Pose) -> None:
    """Draw the part and its shadow into the scene, in the window that they can reach."""
    radius = RADIUS_PX[part.size]
    reach = int(1.25 * radius) + 10
    top, left = max(int(pose.y) - reach, 0), max(int(pose.x) - reach, 0)
    window = scene[top : int(pose.y) + reach, left : int(pose.x) + reach]
    rows, columns = np.mgrid[: window.shape[0], : window.shape[1]].astype(np.float32)
    x, y = columns + np.float32(left - pose.x), rows + np.float32(top - pose.y)
    shadow = _distance(part.shape, *_turned(x - SHADOW_PX[0], y - SHADOW_PX[1], pose.angle), radius)
    window *= 1 - 0.55 * np.clip(0.5 - shadow / 5, 0, 1)[..., None]
    u, v = _turned(x, y, pose.angle)
    distance = _distance(part.shape, u, v, radius)
    cover = np.clip(0.5 - distance, 0, 1)[..., None]
    window += cover * (_face(part, u, v, distance, radius) - window)


def _turned(x: Plane, y: Plane, angle: float) -> tuple[Plane, Plane]:
    cos, sin = np.float32(np.cos(angle)), np.float32(np.sin(angle))
    return cos * x + sin * y, cos * y - sin * x


def _distance(shape: str, u: Plane, v: Plane, radius: float) -> Plane:
    return {"washer": _washer, "nut": _nut, "bracket": _bracket}[shape](u, v, radius)


def _washer(u: Plane, v: Plane, radius: float) -> Plane:
    centre = np.hypot(u, v)
    return np.maximum(centre - radius, 0.42 * radius - centre)


def _nut(u: Plane, v: Plane, radius: float) -> Plane:
    sides = [np.abs(u * np.float32(np.cos(a)) + v * np.float32(np.sin(a))) for a in (0, np.pi / 3, 2 * np.pi / 3)]
    return np.maximum(np.maximum.reduce(sides) - 0.93 * radius, 0.42 * radius - np.hypot(u, v))


def _bracket(u: Plane, v: Plane, radius: float) -> Plane:
    upright = _box(u + 0.45 * radius, v, 0.33 * radius, 0.86 * radius)
    foot = _box(u, v - 0.53 * radius, 0.78 * radius, 0.33 * radius)
    holes = [0.15 * radius - np.hypot(u - a * radius, v - b * radius) for a, b in BRACKET_HOLES]
    return np.maximum.reduce([np.minimum(upright, foot), *holes])


def _box(u: Plane, v: Plane, half_width: float, half_height: float) -> Plane:
    a, b = np.abs(u) - half_width, np.abs(v) - half_height
    return np.hypot(np.maximum(a, 0), np.maximum(b, 0)) + np.minimum(np.maximum(a, b), 0)


def _face(part: Part, u: Plane, v: Plane, distance: Plane, radius: float) -> npt.NDArray[np.float32]:
    """The lit surface: brushed metal with a bevel, sometimes a smudge (harmless), and the scratch if it has one."""
    rng = np.random.default_rng(part.surface_seed)
    brush = rng.normal(0, 4, 160).astype(np.float32)
    level = np.interp(v, np.arange(160) - 80, brush).astype(np.float32)
    down, across = np.gradient(distance)
    facing = across * LIGHT_FROM[0] + down * LIGHT_FROM[1]
    level += 34 * facing * np.clip(1 + distance / 6, 0, 1)
    if rng.random() < 0.4:
        spot = rng.uniform(-0.7, 0.7, 2) * radius
        level -= rng.uniform(6, 16) * np.exp(-((u - spot[0]) ** 2 + (v - spot[1]) ** 2) / rng.uniform(60, 160))
    if part.fault == "scratched":
        level += _scratch(part, u, v, radius, rng)
    return np.array(FINISH_BGR[part.finish], np.float32) + level[..., None]


def _scratch(part: Part, u: Plane, v: Plane, radius: float, rng: np.random.Generator) -> Plane:
    """A bent groove, dark with one bright edge, from faint to glaring."""
    start, bend, end = _scratch_course(part.shape, radius, rng)
    width = rng.uniform(1.2, 2.2)
    depth = rng.uniform(45, 95)
    groove = np.minimum(_from_segment(u, v, start, bend), _from_segment(u, v, bend, end))
    edge = np.minimum(_from_segment(u - 2, v - 2, start, bend), _from_segment(u - 2, v - 2, bend, end))
    return 0.6 * depth * np.clip(width - edge, 0, 1) - depth * np.clip(width + 0.5 - groove, 0, 1)


def _scratch_course(shape: str, radius: float, rng: np.random.Generator) -> npt.NDArray[np.float64]:
    """(3, 2) start, bend and end in the part's own coordinates: of 40 tries the first that is mostly on the part."""
    best, best_share = np.zeros((3, 2)), -1.0
    for _ in range(40):
        middle = rng.uniform(-0.85, 0.85, 2) * radius
        angle, turn = rng.uniform(-np.pi, np.pi), rng.uniform(-0.4, 0.4)
        half = rng.uniform(0.4, 0.65) * radius
        ends = [middle + half * np.array([np.cos(a), np.sin(a)]) for a in (angle, angle + np.pi + turn)]
        course = np.array([ends[0], middle, ends[1]])
        along = np.concatenate([np.linspace(course[0], course[1], 8), np.linspace(course[1], course[2], 8)])
        share = float(np.mean(_distance(shape, along[:, 0], along[:, 1], radius) < -4))
        if share > best_share:
            best, best_share = course, share
        if best_share > 0.7:
            break
    return best


def _from_segment(u: Plane, v: Plane, start: npt.NDArray[np.float64], end: npt.NDArray[np.float64]) -> Plane:
    (su, sv), (du, dv) = start, end - start
    along = np.clip(((u - su) * du + (v - sv) * dv) / (du * du + dv * dv), 0, 1)
    return np.hypot(u - su - along * du, v - sv - along * dv)
