"""Cheap looks at a camera's pictures: is it dark, blinded, or stuck on one picture. A tap, never a gate.

Only a grid of at most 48 x 48 pixels is read and kept; nothing refers to the frame's memory after ``check`` returns.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from edge_agent.records import Pixels

_GRID: Final = 48  # rows and columns at most: each picked pixel is a cache miss in a fresh frame
_BLACK_MEAN: Final = 5.0  # of 255
_BLACK_STD: Final = 3.0
_OVEREXPOSED_MEAN: Final = 250.0
# A live sensor has noise: five seconds without any change in two thousand pixels is a stuck driver, not a still scene.
_FROZEN_FRAMES: Final = 25
_FROZEN_NS: Final = 5_000_000_000


class FrameQuality:
    """Words about the pictures that one pipeline sees, for ``Prediction.quality``."""

    def __init__(self) -> None:
        self._grid = b""
        self._same = 0  # successive pictures with this grid
        self._since_ns = 0

    def check(self, pixels: Pixels, mono_ns: int) -> tuple[str, ...]:
        """Which of ``black``, ``overexposed`` and ``frozen`` hold. ``pixels`` is (height, width, 3) uint8, of any
        strides; ``mono_ns`` is its capture time."""
        rows, columns = -(-pixels.shape[0] // _GRID), -(-pixels.shape[1] // _GRID)
        # The slice is a view with the frame's own strides; tobytes copies the few picked pixels, whatever the strides.
        grid = pixels[::rows, ::columns].tobytes()
        if grid != self._grid:
            self._grid, self._same, self._since_ns = grid, 0, mono_ns
        self._same += 1

        words = []
        values = np.frombuffer(grid, np.uint8)
        mean = int(values.sum(dtype=np.uint32)) / values.size
        if mean < _BLACK_MEAN and values.std() < _BLACK_STD:
            words.append("black")
        elif mean > _OVEREXPOSED_MEAN:
            words.append("overexposed")
        if self._same >= _FROZEN_FRAMES and mono_ns - self._since_ns >= _FROZEN_NS:
            words.append("frozen")
        return tuple(words)
