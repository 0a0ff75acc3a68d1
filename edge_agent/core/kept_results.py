"""What was predicted, kept for the labels that come later: the newest results of a pipeline in bounded memory.

A result takes 28 bytes for a classification: at 10 predictions a second BYTES_MOST lasts for a
quarter of an hour, at one in ten seconds for a day. A label with the prediction's own message needs none of it.
"""

from __future__ import annotations

import bisect
import math
from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
from msgspec import Struct

from edge_agent.core.card_schema import (
    AnomalyOutput,
    ClassificationOutput,
    DetectionOutput,
    OutputCard,
)
from edge_agent.core.feedback import CLASSES_MOST, NONE
from edge_agent.core.rounding import FLOAT32_MOST
from edge_agent.records import Array

BYTES_MOST: Final = 250_000
CLASSES_KEPT: Final = 5  # the best of a classification: what is published of it by default, and gives the AUC
SCORE_BINS: Final = 64  # of a probability, evenly in its logit
_LOGIT_MOST: Final = 10.4  # 1 / 32768: what an int8 or int16 output still resolves


class ClassResult(Struct, frozen=True):
    """``classes``: numbers, best first, NONE where there was none; ``bins``: score_bin of their scores."""

    classes: tuple[int, ...]
    bins: tuple[int, ...]


class ValueResult(Struct, frozen=True):
    """A regression's value or an anomaly's score; float32 as kept."""

    value: float
    anomalous: bool = False


HeadResult = ClassResult | ValueResult


class Kept(Struct, frozen=True):
    """``at_s``: when it was predicted, in whole seconds of the caller's timeline."""

    at_s: int
    heads: tuple[HeadResult, ...]


def score_bin(score: float) -> int:
    """0 to SCORE_BINS - 1, ascending with the score; of what lies outside 0..1 the first or the last."""
    if not 0 < score < 1:
        return SCORE_BINS - 1 if score >= 1 else 0
    place = (math.log(score / (1 - score)) / _LOGIT_MOST + 1) / 2
    return min(SCORE_BINS - 1, max(0, int(place * SCORE_BINS)))


def read_result(head: OutputCard, decoded: Mapping[str, Any]) -> HeadResult:
    """From the payload object of one output. Raises ValueError where it is no such thing (somebody else's text)."""
    try:
        if isinstance(head, ClassificationOutput):
            best = [(int(one["index"]), float(one["score"])) for one in decoded["classes"][:CLASSES_KEPT]]
            return _classes(best, CLASSES_KEPT)
        if isinstance(head, DetectionOutput):
            return _classes([(int(one["index"]), float(one["score"])) for one in decoded["boxes"][:1]], 1)
        if isinstance(head, AnomalyOutput):
            return ValueResult(_finite(decoded["score"]), bool(decoded["anomalous"]))
        return ValueResult(_finite(decoded["value"]))
    except (KeyError, TypeError, AttributeError, OverflowError) as error:
        raise ValueError(f'output "{head.name}" is not that of a {head.__struct_config__.tag}: {error}') from None


def _classes(best: Sequence[tuple[int, float]], count: int) -> ClassResult:
    none = (NONE,) * (count - len(best))
    return ClassResult(
        tuple(min(max(index, 0), CLASSES_MOST) for index, _ in best) + none,
        tuple(score_bin(score) for _, score in best) + (0,) * len(none),
    )


def _finite(value: object) -> float:
    number = float(value)  # type: ignore[arg-type]  # what is no number raises, as it should
    if not abs(number) < FLOAT32_MOST:
        raise ValueError(f"{number} is no finite float32")
    return number


class KeptResults:
    """A ring of results. Their keys (the run's number, then seq) ascend, so that one is found by halving."""

    def __init__(self, heads: Sequence[OutputCard], bytes_most: int = BYTES_MOST) -> None:
        self._heads = [_columns(head) for head in heads]
        kinds = [("u8", ()), ("u4", ()), ("?", ()), *(column for columns in self._heads for column in columns)]
        self._size = bytes_most // sum(np.dtype(kind).itemsize * math.prod(shape) for kind, shape in kinds)
        # a column for each: an element of a structured array takes ten times as long to write
        self._all: list[Array] = [np.zeros((self._size, *shape), kind) for kind, shape in kinds]
        self._keys, self._at_s, self._labelled = self._all[:3]
        self._start = self._count = 0

    def __len__(self) -> int:
        return self._count

    @property
    def nbytes(self) -> int:
        return sum(column.nbytes for column in self._all)

    def add(self, run: int, seq: int, at_s: int, heads: Sequence[HeadResult]) -> None:
        """Keep one, for the oldest where there is no room. Raises ValueError where the keys do not ascend."""
        key = run << 32 | seq
        if self._count and key <= self._key(self._count - 1):
            raise ValueError(f"seq {seq} of run {run} does not follow what is kept")
        place = self._place(self._count)
        if self._count == self._size:
            self._start = self._place(1)
        else:
            self._count += 1
        self._keys[place], self._at_s[place], self._labelled[place] = key, at_s, False
        column = 3
        for head in heads:
            both = (head.classes, head.bins) if isinstance(head, ClassResult) else (head.value, head.anomalous)
            self._all[column][place], self._all[column + 1][place] = both
            column += 2

    def find(self, run: int, seq: int) -> int | None:
        """The place of a result, for ``get``, ``labelled`` and ``mark``; until the next ``add``."""
        key = run << 32 | seq
        at = bisect.bisect_left(range(self._count), key, key=self._key)
        return self._place(at) if at < self._count and self._key(at) == key else None

    def get(self, place: int) -> Kept:
        heads = tuple(self._head(number, place) for number in range(len(self._heads)))
        return Kept(int(self._at_s[place]), heads)

    def labelled(self, place: int) -> bool:
        return bool(self._labelled[place])

    def mark(self, place: int) -> None:
        """Its label has come."""
        self._labelled[place] = True

    def before(self, run: int, seq: int) -> bool:
        """Whether the result, if there was one, is older than all that is kept; not where nothing is."""
        return self._count > 0 and (run << 32 | seq) < self._key(0)

    def oldest_s(self) -> int | None:
        """When the oldest was predicted."""
        return int(self._at_s[self._start]) if self._count else None

    def dump(self) -> list[bytes]:
        """All columns, each with the oldest first."""
        return [np.roll(column, -self._start, axis=0)[: self._count].tobytes() for column in self._all]

    def load(self, content: Sequence[bytes]) -> None:
        """Take up what ``dump`` gave. Raises ValueError where that is not of these outputs."""
        count = len(content[0]) // 8 if content else 0
        sizes = [count * column[:1].nbytes for column in self._all]
        if count > self._size or [len(part) for part in content] != sizes:
            raise ValueError("the kept results are not of these outputs")
        keys = np.frombuffer(content[0], np.uint64)
        if (keys[1:] <= keys[:-1]).any():
            raise ValueError("the kept results are not in their order")
        self._start, self._count = 0, count
        for column, part in zip(self._all, content, strict=True):
            column[:count] = np.frombuffer(part, column.dtype).reshape(column[:count].shape)

    def _place(self, at: int) -> int:
        return (self._start + at) % self._size

    def _key(self, at: int) -> int:
        return int(self._keys[self._place(at)])

    def _head(self, number: int, place: int) -> HeadResult:
        first, second = (self._all[3 + 2 * number + part][place].tolist() for part in range(2))
        if self._heads[number] is _VALUE:
            return ValueResult(first, second)
        return ClassResult(tuple(first), tuple(second))


_Columns = tuple[tuple[str, tuple[int, ...]], ...]
_VALUE: Final[_Columns] = (("f4", ()), ("?", ()))
_CLASSES: Final[_Columns] = (("u2", (CLASSES_KEPT,)), ("u1", (CLASSES_KEPT,)))
_BEST: Final[_Columns] = (("u2", (1,)), ("u1", (1,)))


def _columns(head: OutputCard) -> _Columns:
    """dtype and shape of an element of the two columns of an output."""
    if isinstance(head, ClassificationOutput):
        return _CLASSES
    return _BEST if isinstance(head, DetectionOutput) else _VALUE
