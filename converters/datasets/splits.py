"""Which rows train, calibrate and test. By row number where the data set does not say: the same always, and rows that
are appended change nothing for those before."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from msgspec import Struct

from converters.datasets.rows import shown
from converters.records import Split

_WORDS: dict[str, Split] = {
    "train": "train",
    "calibration": "calibration",
    "validation": "calibration",  # chosen on, not trained on: what calibrating needs too
    "val": "calibration",
    "test": "test",
}
EVERY = 5  # one row in five tests
CALIBRATION_MOST = 300  # taken from the training rows: min-max ranges of more hardly differ, and it stays seconds
CALIBRATION_FEW = 30  # below that, ranges follow chance


class Division(Struct, frozen=True):
    """Row numbers, ascending; ``calibration`` may be among ``train``, ``test`` is in neither."""

    train: tuple[int, ...]
    calibration: tuple[int, ...]
    test: tuple[int, ...]
    notes: tuple[str, ...]


def read_split(value: object) -> Split | None:
    """The split that a cell names; None where it is empty. Raises ValueError."""
    if isinstance(value, bytes | np.bytes_):
        value = value.decode(errors="replace")
    text = "" if value is None else str(value).strip()
    if not text:
        return None
    if text.lower() not in _WORDS:
        raise ValueError(f"found {shown(text)}; allowed are {', '.join(_WORDS)}, or nothing")
    return _WORDS[text.lower()]


def divide(splits: Sequence[Split | None]) -> Division:
    """``splits``: what the data set says of each row, None for nothing. Rows without a split: every fifth tests, the
    others train. A data set without test rows gives every fifth of those it has."""
    notes = []
    chosen = [split or ("test" if number % EVERY == EVERY - 1 else "train") for number, split in enumerate(splits)]
    unsaid = sum(split is None for split in splits)
    if 0 < unsaid < len(splits):
        notes.append(f"{unsaid} of {len(splits)} rows have no split: of those, every fifth by row number is for test")
    train, calibration, test = (
        [number for number, split in enumerate(chosen) if split == wanted]
        for wanted in ("train", "calibration", "test")
    )
    if not test:
        name, source = ("train", train) if train else ("calibration", calibration)
        test = source[EVERY - 1 :: EVERY] or source[-1:]
        source[:] = sorted(set(source) - set(test))
        if unsaid < len(splits):
            notes.append(f"no row is for test: {len(test)} of the {name} rows are taken for it")
    if not calibration:
        calibration = list(spread(train, CALIBRATION_MOST))
    if 0 < len(calibration) < CALIBRATION_FEW:
        notes.append(f"only {len(calibration)} rows to calibrate with: ranges may be too narrow, 100 or more are usual")
    return Division(tuple(train), tuple(calibration), tuple(test), tuple(notes))


def spread(rows: Sequence[int], most: int | None) -> Sequence[int]:
    """At most ``most`` of the rows, evenly: data sets are often sorted by class. None: all."""
    if most is None or most >= len(rows):
        return rows
    return [rows[number * len(rows) // most] for number in range(most)]
