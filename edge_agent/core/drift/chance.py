"""Chance as a value: the same seed and position give the same numbers on every machine and after every restart."""

from __future__ import annotations

from typing import Final

import numpy as np
from msgspec import Struct

from edge_agent.records import Array

_STEP: Final = np.uint64(0x9E3779B97F4A7C15)  # 2**64 over the golden ratio
_MIX: Final = ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB))


class Chance(Struct):
    """SplitMix64 (Steele, Lea, Flood, Fast Splittable Pseudorandom Number Generators, OOPSLA 2014) over a counter.
    ``seed`` and ``position`` below 2**64; not for secrets."""

    seed: int
    position: int = 0

    def uniforms(self, *shape: int) -> Array:
        """float64 in [0, 1), of this shape."""
        size = int(np.prod(shape))
        counter = np.arange(1, size + 1, dtype=np.uint64) + np.uint64(self.position)
        self.position += size
        mixed = np.array(np.uint64(self.seed % 2**64) + counter * _STEP)  # wraps: that is the generator
        for shift, factor in _MIX:
            mixed = (mixed ^ (mixed >> np.uint64(shift))) * np.uint64(factor)
        mixed ^= mixed >> np.uint64(31)
        uniform: Array = (mixed >> np.uint64(11)) * 2.0**-53
        return uniform.reshape(shape)
