"""One cell of truth, by the task of the output that it belongs to."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from converters.datasets.rows import number, shown
from converters.records import Box, Label
from edge_agent.core.card_rules import nearest
from edge_agent.core.card_schema import (
    AnomalyOutput,
    ClassificationOutput,
    DetectionOutput,
    OutputCard,
    RegressionOutput,
)

_INDEX = re.compile(r"\d+(?:\.0+)?")  # "3.0" is what a table writes whose column has gaps
_WORDS = {"true": True, "false": False}
_LISTED = 20  # labels in a message


def read_label(value: object, output: OutputCard, names: Sequence[str]) -> Label | None:
    """The truth of ``output`` that a cell says; None where it says nothing. ``names`` are the labels of the card, empty
    where it has none. Raises ValueError that says what is allowed."""
    # before "missing": a class may be called "nan"
    if value is None or (isinstance(value, str) and not value.strip()):
        return None
    return _READERS[type(output)](value, names)


def class_index(value: object, names: Sequence[str]) -> int | None:
    """A class by its name, else by its index. Raises ValueError that lists what is allowed."""
    if isinstance(value, str):
        text = value.strip()
        if text in names:
            return _index_of(text, names)
        if text.lower() == "nan":
            return None
        if not _INDEX.fullmatch(text):
            near = nearest(text, names)
            raise ValueError(f"found {shown(text)}, which is no class{near}; {_allowed(names)}")
        value = int(text.partition(".")[0])
    found = number(value)
    if found is None:
        return None
    if found != int(found) or found < 0 or (names and found >= len(names)):
        raise ValueError(f"class {shown(value)} is out of range; {_allowed(names)}")
    return int(found)


def boxes_from(value: object, names: Sequence[str]) -> tuple[Box, ...]:
    """[[label, x0, y0, x1, y1], …] in 0..1 of the picture, as JSON text or as a sequence; an empty one says that the
    picture shows nothing. Raises ValueError."""
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError) as error:
            raise ValueError(f"found {shown(value)}, which is no JSON ({error}); {_BOXES}") from None
    if isinstance(value, np.ndarray):
        value = value.tolist()
    if not isinstance(value, Sequence) or isinstance(value, bytes):
        raise ValueError(f"found {shown(value)}; {_BOXES}")
    return tuple(_box(item, names) for item in value)


_BOXES = '[["label", x0, y0, x1, y1], …] is needed, with corners in 0..1 of the picture and [] for none'


def _box(item: Any, names: Sequence[str]) -> Box:
    if isinstance(item, np.ndarray):
        item = item.tolist()
    if not isinstance(item, Sequence) or isinstance(item, str | bytes) or len(item) != 5:
        raise ValueError(f"found {shown(item)} as a box; {_BOXES}")
    index = class_index(item[0], names)
    corners = [number(corner) for corner in item[1:]]
    if index is None or any(corner is None for corner in corners):
        raise ValueError(f"the box {shown(item)} is not complete; {_BOXES}")
    x0, y0, x1, y1 = (float(corner) for corner in corners if corner is not None)
    if max(x0, y0, x1, y1) > 1 or min(x0, y0, x1, y1) < 0:
        raise ValueError(f"the box {shown(item)} leaves the picture: divide pixels by its width and height; {_BOXES}")
    if x0 >= x1 or y0 >= y1:
        raise ValueError(f"the box {shown(item)} is empty: x0 < x1 and y0 < y1 are needed")
    return Box(index, (x0, y0, x1, y1))


def _index_of(name: str, names: Sequence[str]) -> int:
    places = [index for index, known in enumerate(names) if known == name]
    if len(places) > 1:
        raise ValueError(f'the card has the label "{name}" {len(places)} times, as classes {places}: give the index')
    return places[0]


def _allowed(names: Sequence[str]) -> str:
    if not names:
        return "allowed is a class index from 0 (the card has no labels)"
    listed = ", ".join(f'"{name}"' for name in names[:_LISTED])
    more = f" and {len(names) - _LISTED} more" if len(names) > _LISTED else ""
    return f"allowed are {listed}{more}, or an index from 0 to {len(names) - 1}"


def _value(value: object, _: Sequence[str]) -> float | None:
    return number(value)


def _anomalous(value: object, _: Sequence[str]) -> bool | None:
    word = value.strip().lower() if isinstance(value, str) else ""
    if word in _WORDS:
        return _WORDS[word]
    found = number(value)
    if found is None or math.isnan(found):
        return None
    if found not in (0, 1):
        raise ValueError(f"found {shown(value)}; allowed are 1 or true for anomalous, 0 or false for normal")
    return found == 1


_READERS: dict[type, Callable[[Any, Sequence[str]], Label | None]] = {
    ClassificationOutput: class_index,
    DetectionOutput: boxes_from,
    RegressionOutput: _value,
    AnomalyOutput: _anomalous,
}
