"""A data set from values, for tests that need one without a file."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from converters.records import Example, Split


class Rows:
    """Implements ``records.Dataset`` on examples that are already there; every row is in every split unless
    ``splits`` says which."""

    spec = "rows"

    def __init__(self, examples: Sequence[Example], splits: dict[Split, Sequence[int]] | None = None) -> None:
        self._examples = examples
        self._splits = splits or {}

    def __len__(self) -> int:
        return len(self._examples)

    def example(self, index: int) -> Example:
        return self._examples[index]

    def rows(self, split: Split) -> Sequence[int]:
        return self._splits.get(split, range(len(self._examples)))

    def sha256(self) -> str:
        return hashlib.sha256("".join(example.id for example in self._examples).encode()).hexdigest()
