"""How numbers are written into payloads."""

from __future__ import annotations

import numpy as np

FLOAT32_MOST = 3.4e38  # what is larger would become infinite


def shortest(value: float) -> float:
    """The shortest decimal that names the same float32, which is what interpreters compute in: 0.3 and not
    0.30000001192092896, and 0.32421875 to its last digit."""
    if not abs(value) < FLOAT32_MOST:
        return value
    return float(str(np.float32(value)))
