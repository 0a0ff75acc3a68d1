"""What a picture looks like in seven numbers, from the tensor that the model itself gets: there a camera's frame and a
picture of the representative set are comparable, whatever their sizes were.

Some thousand pixels are read, never all of them: on a grid for light and colour, on a few whole rows and columns for
sharpness, which is between neighbours.
"""

from __future__ import annotations

import math
from typing import Final

import numpy as np

from edge_agent.core.card_schema import ImageInput
from edge_agent.records import Array, TensorSpec

NAMES: Final = ("brightness", "contrast", "sharpness", "red", "green", "blue", "clipped")
NAMES_GRAY: Final = ("brightness", "contrast", "sharpness", "clipped")

_GRID: Final = 32  # rows and columns of the grid, at most twice as many where the size is no multiple
_LINES: Final = 4  # rows, and columns, that sharpness is taken from; at most twice as many
_LUMINANCE: Final = (0.299, 0.587, 0.114)  # of red, green, blue: ITU-R BT.601
_FLATTEST: Final = 1.0  # pixel levels: below it a picture has nothing that could be sharp
_DARKEST: Final = 3.0  # pixel levels, of the three channels together


def names_of(card: ImageInput) -> tuple[str, ...]:
    """Of the statistics that ``PictureStatistics`` gives for such an input."""
    return NAMES_GRAY if card.color == "gray" else NAMES


class PictureStatistics:
    """Of one image input. It has scratch buffers: one thread at a time uses it."""

    def __init__(self, spec: TensorSpec, card: ImageInput) -> None:
        """``spec``: (1, height, width, channels) in uint8, int8 or float32, checked against ``card``."""
        height, width, channels = spec.shape[1:]
        levels, offsets = _pixel_scale(spec, card)
        order = [2, 1, 0] if card.color == "bgr" else list(range(channels))  # places of red, green, blue
        self._gray = channels == 1
        self._green = order[1 % channels]
        self._levels = float(abs(levels[self._green]))  # pixel levels in one step of the tensor
        light = np.zeros(channels)
        light[order] = (1.0,) if self._gray else _LUMINANCE
        self._light = (light * levels).astype(np.float32)
        self._light_offset = float((light * offsets).sum())
        self._order, self._scales, self._offsets = order, levels[order].tolist(), offsets[order].tolist()
        self._dark, self._bright = _bounds(spec, levels, offsets)

        self._steps = max(1, height // _GRID), max(1, width // _GRID)
        rows, columns = -(-height // self._steps[0]), -(-width // self._steps[1])
        self._grid: Array = np.empty((rows, columns, channels), np.float32)
        self._ones: Array = np.ones(rows * columns, np.float32)
        # in the middle of their share, not along the border, where a letterbox has its bars
        self._rows = slice(height // _LINES // 2, None, max(1, height // _LINES))
        self._columns = slice(width // _LINES // 2, None, max(1, width // _LINES))

    def of(self, tensor: Array) -> tuple[float, ...]:
        """The statistics of a filled tensor, in the order of ``names_of``; only read. In levels of a pixel, 0 to 255,
        whatever the tensor's scale:

        brightness, contrast: mean and standard deviation of the luminance;
        sharpness: mean absolute second difference between neighbours in a row or a column of green, in standard
        deviations of green, so that less light alone does not change it; 0 where there are not three neighbours;
        red, green, blue: each channel's part of the sum of their means, 0 to 1, so that less light alone changes none;
        clipped: share of the values that are at the darkest or the brightest that a pixel can be.
        """
        picture = tensor.reshape(tensor.shape[1:])
        np.copyto(self._grid, picture[:: self._steps[0], :: self._steps[1]])
        values = self._grid.reshape(-1, self._grid.shape[2])
        count = len(values)

        light = values @ self._light
        mean = float(self._ones @ light) / count
        light -= mean
        contrast = math.sqrt(float(light @ light) / count)

        means = ((self._ones @ values) / count).tolist()
        green = values[:, self._green] - means[self._green]
        spread = math.sqrt(float(green @ green) / count) * self._levels
        sharpness = self._roughness(picture) * self._levels / max(spread, _FLATTEST)

        clipped = int(np.count_nonzero(values <= self._dark) + np.count_nonzero(values >= self._bright))
        tones = () if self._gray else self._tones(means)
        return (mean + self._light_offset, contrast, sharpness, *tones, clipped / values.size)

    def _tones(self, means: list[float]) -> tuple[float, ...]:
        """The sum counts as _DARKEST at least, the rest of it grey: noise in the dark has no colour."""
        colours = zip(self._order, self._scales, self._offsets, strict=True)
        tones = [max(0.0, means[place] * scale + offset) for place, scale, offset in colours]
        total = max(sum(tones), _DARKEST)
        grey = (total - sum(tones)) / len(tones)
        return tuple((tone + grey) / total for tone in tones)

    def _roughness(self, picture: Array) -> float:
        """The mean absolute second difference, in steps of the tensor."""
        channel = picture[:, :, self._green]
        total, count = 0.0, 0
        for lines in (channel[self._rows], channel[:, self._columns].T):
            if lines.shape[1] >= 3:
                line = np.ascontiguousarray(lines, np.float32)  # 8 bits would wrap in what follows
                second = line[:, 1:-1] * 2
                second -= line[:, :-2]
                second -= line[:, 2:]
                total += float(np.abs(second, out=second).sum())
                count += second.size
        return total / count if count else 0.0


def _pixel_scale(spec: TensorSpec, card: ImageInput) -> tuple[Array, Array]:
    """(channels,) each, in the tensor's order: pixel = value * scale + offset. The inverse of what core/preprocess.py
    writes, where that does not saturate."""
    channels = spec.shape[3]
    if card.mean is None and card.std is None:
        scale, offset = {"uint8": (1.0, 0.0), "int8": (1.0, 128.0), "float32": (255.0, 0.0)}[spec.dtype.name]
        return np.full(channels, scale), np.full(channels, offset)
    mean = np.broadcast_to(np.array(card.mean or (0.0,)), (channels,))
    std = np.broadcast_to(np.array(card.std or (1.0,)), (channels,))
    if spec.dtype.kind == "f":
        return std.copy(), mean.copy()
    step = spec.scale or 1.0
    return std * step, mean - spec.zero_point * step * std


def _bounds(spec: TensorSpec, scale: Array, offset: Array) -> tuple[Array, Array]:
    """(channels,) float32 each: what the darkest and what the brightest pixel becomes in the tensor; for float32 half a
    level further in, so that rounding does not hide one."""
    if spec.dtype.kind == "f":
        ends = np.array([[0.5], [254.5]])
        steps = (ends - offset) / scale
    else:
        limits = np.iinfo(spec.dtype)
        steps = np.clip(np.rint((np.array([[0.0], [255.0]]) - offset) / scale), limits.min, limits.max)
    return steps.min(0).astype(np.float32), steps.max(0).astype(np.float32)
