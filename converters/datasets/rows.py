"""What a reader of a data set hands over: every row checked against the card, with its pictures not yet decoded."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np
from msgspec import Struct

from converters.records import Label, Split
from edge_agent.errors import ConfigError
from edge_agent.records import Array, Pixels


class Row(Struct, frozen=True):
    """What is known of a row without its pictures.

    ``where`` names it in messages (file, line). ``id`` and ``split`` are "" and None where the data set says none.
    ``features``: by the card's name, in the card's unit, None where missing. ``labels``: by output name.
    """

    where: str
    id: str
    split: Split | None
    features: Mapping[str, float | None]
    labels: Mapping[str, Label]


class Table(Protocol):
    """Rows, and the way to their pictures. ``notes`` is for a person."""

    rows: list[Row]
    notes: tuple[str, ...]

    def images(self, index: int) -> dict[str, Pixels]:
        """(height, width, 3) uint8 BGR by input tensor. Raises ConfigError."""

    def trained(self, index: int) -> dict[str, Array] | None:
        """What training fed the model, float32 by input tensor without a batch axis, where the data set says it."""

    def sha256(self) -> str:
        """Of the content, read in a fixed order."""


def number(value: object) -> float | None:
    """A cell, an element of an array or a value of a mapping as a finite number; None where it is missing: None, NaN,
    an empty text or "nan". Raises ValueError for anything else."""
    if isinstance(value, str):
        return _number_in_text(value.strip())
    if value is None:
        return None
    if not isinstance(value, bool | int | float | np.number | np.bool_) or isinstance(value, complex):
        raise ValueError(f"found {shown(value)}, a number is needed")
    try:
        return _finite(float(value), value)
    except OverflowError:  # a whole number of hundreds of digits
        raise ValueError(f"found {shown(value)}, a finite number is needed") from None


def shown(value: Any) -> str:
    """A value in a message: one line, cut off."""
    text = " ".join(repr(value).split())
    return text if len(text) <= 80 else text[:80] + "…"


def picture(value: Any, where: str, *, order: str) -> Array:
    """``value`` where it is (height, width, 3) uint8; its channels are in the ``order`` "BGR" or "RGB", which nobody
    can see from the pixels. Raises ConfigError that says how to make it so."""
    if not isinstance(value, np.ndarray):
        raise ConfigError(
            f"{where}: found {shown(value)}; a picture is a numpy array (height, width, 3) uint8 in the order {order}"
        )
    if value.dtype.kind == "f":
        raise ConfigError(
            f"{where}: the picture is {value.dtype}; uint8 in 0..255 is needed: multiply pixels in 0..1 by 255 and "
            "give them .round().astype('uint8'); the card says how the model's own input is normalised"
        )
    if value.dtype != np.uint8:
        raise ConfigError(f"{where}: the picture is {value.dtype}; uint8 in 0..255 is needed: use .astype('uint8')")
    if value.ndim != 3 or value.shape[2] != 3 or 0 in value.shape:
        hint = "repeat a grey one three times along a last axis, drop alpha"
        raise ConfigError(
            f"{where}: the picture has the shape {value.shape}; (height, width, 3) in the order {order} is needed: "
            f"{hint}"
        )
    return value


def _number_in_text(text: str) -> float | None:
    if not text or text.lower() == "nan":
        return None
    try:
        found = float(text)
    except ValueError:
        hint = "; write a decimal point" if _is_decimal_comma(text) else ""
        raise ValueError(
            f"found {shown(text)}, a number is needed (nothing or nan where it is missing){hint}"
        ) from None
    if "_" in text:  # float() also takes 1_000, which no sensor means as a number
        raise ValueError(f"found {shown(text)}, a number is needed (nothing or nan where it is missing)")
    return _finite(found, text)


def _is_decimal_comma(text: str) -> bool:
    whole, comma, fraction = text.lstrip("+-").partition(",")
    return bool(comma) and whole.isdigit() and fraction.isdigit()


def _finite(found: float, value: object) -> float | None:
    if math.isinf(found):
        raise ValueError(f"found {shown(value)}, a finite number is needed (nothing or nan where it is missing)")
    return None if math.isnan(found) else found
