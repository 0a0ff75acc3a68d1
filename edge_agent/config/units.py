"""Quantities written with their unit in the configuration ("200ms", "64MiB", "10/s") as plain numbers.

Each is a subclass of int or float so that the rest of the program computes with it directly.
"""

from __future__ import annotations

import re
from typing import Any

_DURATION_NS = {"ns": 1, "us": 10**3, "ms": 10**6, "s": 10**9, "m": 60 * 10**9, "h": 3600 * 10**9, "d": 86400 * 10**9}
_SIZE = {"B": 1, "kB": 10**3, "MB": 10**6, "GB": 10**9, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30}
_RATE_NS = {"s": 10**9, "m": 60 * 10**9, "h": 3600 * 10**9}
_NOT_A_QUANTITY = -1.0
_MOST = 2.0**80  # far over what any check admits, far under what a float can hold
_NUMBER = r"(\d+(?:\.\d+)?)"


class Duration(int):
    """Nanoseconds, at least 0."""

    allowed = 'a time with its unit as text, such as "200ms", "5s", "10m", "24h"'

    @classmethod
    def parse(cls, text: str) -> Duration:
        """Raises ValueError that says what is allowed."""
        return cls(round(_quantity(text, _DURATION_NS, cls.allowed)))

    @property
    def seconds(self) -> float:
        return self / 1e9


class Size(int):
    """Bytes, at least 0."""

    allowed = 'a size with its unit as text, such as "512kB", "64MiB"'

    @classmethod
    def parse(cls, text: str) -> Size:
        """Raises ValueError that says what is allowed."""
        return cls(round(_quantity(text, _SIZE, cls.allowed)))


class Rate(float):
    """Frames per second, above 0; infinity is "max"."""

    allowed = '"max", or a number of frames over a time, such as "10/s", "0.5/s", "6/m", "1/h"'

    @classmethod
    def parse(cls, text: str) -> Rate:
        """Raises ValueError that says what is allowed."""
        if text.strip() == "max":
            return cls("inf")
        match = re.fullmatch(rf"\s*{_NUMBER}\s*/\s*(s|m|h)\s*", text)
        if not match or float(match[1]) == 0:
            raise ValueError(f"Expected {cls.allowed}")
        return cls(float(match[1]) * 1e9 / _RATE_NS[match[2]])

    @property
    def period_ns(self) -> int:
        """Time between two frames; 0 for "max"."""
        return 0 if self == float("inf") else round(1e9 / self)

    def __str__(self) -> str:
        return "max" if self == float("inf") else f"{float(self):g}/s"


QUANTITIES = (Duration, Size, Rate)


def decode_quantity(kind: type, value: Any) -> Any:
    """msgspec's hook for the types above. Raises ValueError with what is allowed."""
    if kind in QUANTITIES:
        if not isinstance(value, str):
            raise ValueError(f"Expected {kind.allowed}, got the {type(value).__name__} {value!r}")
        return kind.parse(value)
    raise NotImplementedError(kind)


def _quantity(text: str, units: dict[str, int], allowed: str) -> float:
    match = re.fullmatch(rf"\s*{_NUMBER}\s*([A-Za-z]+)\s*", text)
    quantity = float(match[1]) * units[match[2]] if match and match[2] in units else _NOT_A_QUANTITY
    if not 0 <= quantity < _MOST:
        raise ValueError(f"Expected {allowed}")
    return quantity
