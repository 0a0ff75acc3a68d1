"""How numbers are written into payloads."""

from __future__ import annotations

import numpy as np


def shortest(value: float) -> float:
    """The shortest decimal that names the same float32, which is what interpreters compute in: 0.3 and not
    0.30000001192092896, and 0.32421875 to its last digit."""
    return float(str(np.float32(value)))
