"""How numbers are written into payloads."""

from __future__ import annotations


def significant(value: float) -> float:
    """Seven significant digits: what a float32 holds, the usual multiples of an 8-bit scale to the last digit, and half
    the bytes of a float64 on the wire."""
    return float(f"{value:.7g}")
