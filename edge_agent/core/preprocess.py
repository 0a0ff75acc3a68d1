"""Pixels and sensor values into ready tensors: resize, colour, then one look-up table for each channel.

For 8-bit pixels "normalise, then quantise" has only 256 results in each channel, so a table gives what the floating
point route gives, bit by bit. All is written into the caller's slot: nothing is allocated while the frame size stays.
"""

from __future__ import annotations

from collections.abc import Mapping

import cv2
import numpy as np
from msgspec import Struct

from edge_agent.core.card_schema import FeaturesInput, ImageInput
from edge_agent.errors import ModelError
from edge_agent.records import Array, Crossing, Pixels, TensorSpec

# nearest: the exact one takes the pixel under the centre, as Pillow and TensorFlow 2 do; INTER_NEAREST does not.
# bilinear does not average when it shrinks (TensorFlow's default); Pillow's bilinear is nearer to "area".
_RESIZE = {
    "nearest": cv2.INTER_NEAREST_EXACT,
    "bilinear": cv2.INTER_LINEAR,
    "area": cv2.INTER_AREA,
    "bicubic": cv2.INTER_CUBIC,
}
_IMAGE_DTYPES = ("uint8", "int8", "float32")
_FEATURE_DTYPES = ("uint8", "int8", "int16", "float32")
_SIGN = 0x80  # XOR with it turns a uint8 into the int8 that is 128 less


def initial_state(spec: TensorSpec) -> Array:
    """A state's first value: real zero, as the tensor represents it."""
    return np.full(spec.shape, _quantised(np.zeros(1), spec)[0], spec.dtype)


class _Plan(Struct, frozen=True):
    """Where the pixels of one frame size go: which (rows, columns) of the frame, to which of the tensor."""

    frame: tuple[int, int]  # height, width
    source: tuple[slice, slice]
    target: tuple[slice, slice]
    crossing: Crossing


class ImagePreprocessor:
    """Fills one image tensor. It has scratch buffers: one thread at a time uses it."""

    def __init__(self, spec: TensorSpec, card: ImageInput) -> None:
        """``card`` has been checked against ``spec``. Raises ModelError for a dtype that takes no pixels."""
        _require_dtype(spec, _IMAGE_DTYPES, "a picture")
        self._spec = spec
        self._card = card
        self._shape = spec.shape[1:]
        table = _table(spec, card)
        self._identity = bool((table == np.arange(256)[:, None]).all())
        self._flips_sign = bool((table == np.arange(-128, 128)[:, None]).all())
        if (table == table[:, :1]).all():
            table = table[:, :1]  # the same for all channels: twice as fast
        table = np.ascontiguousarray(table).reshape(256, 1, -1)
        self._table = table if spec.dtype == np.float32 else table.view(np.uint8)
        self._canvas: Pixels = np.empty(self._shape, np.uint8)  # resized, in the camera's order of channels
        self._ordered: Pixels = np.empty(self._shape, np.uint8)  # in the model's order; for float32 only
        self._gray: Pixels = np.empty((0, 0), np.uint8)  # the frame in grey, for a grey model
        self._plan: _Plan | None = None

    def slot(self) -> Array:
        """A new buffer for ``fill``, of the tensor's shape and dtype."""
        return np.zeros(self._spec.shape, self._spec.dtype)

    def fill(self, pixels: Pixels, slot: Array) -> Crossing:
        """Write ``pixels`` (height, width, 3; uint8 BGR; only read), resized and quantised, into ``slot``.

        Returns how the model's coordinates map to the frame's.
        """
        plan = self._plan
        if plan is None or plan.frame != pixels.shape[:2]:
            plan = self._plan = self._prepare(pixels.shape[0], pixels.shape[1])
        tensor = slot.reshape(self._shape)
        # cv2 silently allocates anew for an int8 destination, so one-byte tensors are written as uint8
        ordered = tensor.view(np.uint8) if tensor.itemsize == 1 else self._ordered
        swaps = self._card.color == "rgb"
        resized = self._canvas if swaps or self._card.fit == "letterbox" else ordered
        self._resize(pixels, plan, resized)
        if swaps:
            cv2.cvtColor(resized, cv2.COLOR_BGR2RGB, dst=ordered)
            resized = ordered
        self._look_up(resized, ordered, tensor)
        return plan.crossing

    def _resize(self, pixels: Pixels, plan: _Plan, canvas: Pixels) -> None:
        region: Array = pixels[plan.source]
        if self._card.color == "gray":
            # grey first, as a training pipeline that loads grey pictures does
            region = cv2.cvtColor(region, cv2.COLOR_BGR2GRAY, dst=self._gray)
        part = canvas[plan.target]
        cv2.resize(region, (part.shape[1], part.shape[0]), dst=part, interpolation=_RESIZE[self._card.resize])

    def _look_up(self, pixels: Pixels, ordered: Pixels, tensor: Array) -> None:
        if tensor.dtype == np.float32:
            cv2.LUT(pixels, self._table, dst=tensor)
        elif self._flips_sign:
            np.bitwise_xor(pixels, _SIGN, out=ordered)
        elif not self._identity:
            cv2.LUT(pixels, self._table, dst=ordered)
        elif pixels is not ordered:
            np.copyto(ordered, pixels)

    def _prepare(self, height: int, width: int) -> _Plan:
        """Plan for a new frame size, scratch buffers included."""
        plan = _planned(self._card.fit, (height, width), (self._shape[0], self._shape[1]))
        self._canvas[:] = self._card.pad
        if self._card.color == "gray":
            rows, columns = plan.source
            self._gray = np.empty((rows.stop - rows.start, columns.stop - columns.start), np.uint8)
        return plan


class FeaturePreprocessor:
    """Fills one feature tensor. It has a scratch buffer: one thread at a time uses it."""

    def __init__(self, spec: TensorSpec, card: FeaturesInput) -> None:
        """``card`` has been checked against ``spec``. Raises ModelError for a dtype that takes no features."""
        _require_dtype(spec, _FEATURE_DTYPES, "features")
        self._spec = spec
        self._names = tuple(feature.name for feature in card.features)
        self._mean = np.array([feature.mean for feature in card.features])
        self._std = np.array([feature.std for feature in card.features])
        self._clip = np.array([np.inf if feature.clip is None else feature.clip for feature in card.features])
        self._values = np.zeros(len(self._names))

    def slot(self) -> Array:
        """A new buffer for ``fill``, of the tensor's shape and dtype."""
        return np.zeros(self._spec.shape, self._spec.dtype)

    def fill(self, values: Mapping[str, float], out: Array) -> None:
        """Write (value - mean) / std, clipped and quantised, into ``out``. ``values`` has every feature of the card,
        finite and in its unit."""
        for index, name in enumerate(self._names):
            self._values[index] = values[name]
        scaled = np.clip((self._values - self._mean) / self._std, -self._clip, self._clip)
        out.reshape(-1)[:] = _quantised(scaled, self._spec)


def _require_dtype(spec: TensorSpec, allowed: tuple[str, ...], what: str) -> None:
    if spec.dtype.name not in allowed:
        raise ModelError(
            f'input "{spec.name}" is {spec.dtype.name} and can\'t take {what}: {", ".join(allowed)} are allowed; '
            "convert the model with one of them as its input type"
        )


def _table(spec: TensorSpec, card: ImageInput) -> Array:
    """(256, channels) in the tensor's dtype: what each pixel value becomes, channels in the model's order."""
    pixel = np.arange(256, dtype=np.float64)[:, None].repeat(spec.shape[3], axis=1)
    if card.mean is None and card.std is None:
        plain = {"uint8": pixel, "int8": pixel - 128, "float32": pixel / 255}
        return plain[spec.dtype.name].astype(spec.dtype)
    mean, std = np.array(card.mean or (0.0,)), np.array(card.std or (1.0,))
    return _quantised((pixel - mean) / std, spec)


def _quantised(real: Array, spec: TensorSpec) -> Array:
    """float64 values in the tensor's dtype, saturating. An integer tensor without a scale holds the value itself."""
    if spec.dtype.kind == "f":
        return real.astype(spec.dtype)
    bounds = np.iinfo(spec.dtype)
    steps = np.rint(real / (spec.scale or 1.0) + spec.zero_point)
    return np.clip(steps, bounds.min, bounds.max).astype(spec.dtype)


def _planned(fit: str, frame: tuple[int, int], tensor: tuple[int, int]) -> _Plan:
    """Centred where something is left over; an odd pixel more goes to the right and the bottom. Sizes that do not
    come out whole are rounded half up, and are at least one pixel."""
    (height, width), (rows, columns) = frame, tensor
    taken, filled = frame, tensor
    wider = width * rows > height * columns
    if fit == "crop":
        taken = (height, _ratio(height * columns, rows)) if wider else (_ratio(width * rows, columns), width)
    elif fit == "letterbox":
        filled = (_ratio(height * columns, width), columns) if wider else (rows, _ratio(width * rows, height))
    top, left = (height - taken[0]) // 2, (width - taken[1]) // 2
    down, right = (rows - filled[0]) // 2, (columns - filled[1]) // 2
    scale_y, scale_x = rows / filled[0] * taken[0] / height, columns / filled[1] * taken[1] / width
    return _Plan(
        frame=frame,
        source=(slice(top, top + taken[0]), slice(left, left + taken[1])),
        target=(slice(down, down + filled[0]), slice(right, right + filled[1])),
        crossing=Crossing(
            scale_x=scale_x,
            offset_x=left / width - right / columns * scale_x,
            scale_y=scale_y,
            offset_y=top / height - down / rows * scale_y,
        ),
    )


def _ratio(product: int, divisor: int) -> int:
    return max(1, (2 * product + divisor) // (2 * divisor))
