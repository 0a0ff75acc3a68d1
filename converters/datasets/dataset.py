"""The data set that the steps work on: rows of a table, completed by the card, in splits."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import cached_property

from converters.datasets.rows import Table
from converters.datasets.splits import divide
from converters.datasets.training import TrainingPreprocessing
from converters.records import Example, Split
from edge_agent.core.card_schema import DetectionOutput
from edge_agent.core.model_card import ResolvedCard
from edge_agent.errors import ConfigError
from edge_agent.records import Array, Pixels

_NEEDS: dict[Split, str] = {
    "train": "mark some as train, or leave the split out: then four rows of five train",
    "calibration": "mark some as calibration or train, or leave the split out: then they come from the training rows",
    "test": "mark some as test, or leave the split out: then every fifth row tests",
}


class TableDataset:
    """records.Dataset over a Table. ``notes`` says, for a person, what was assumed and what was left unused.

    Raises ConfigError for a table without rows, and for truth that only some of the training or test rows have.
    """

    def __init__(
        self, spec: str, card: ResolvedCard, table: Table, preprocessing: TrainingPreprocessing | None = None
    ) -> None:
        if not table.rows:
            raise ConfigError(f"{spec}: the data set has no rows")
        self.spec = spec
        self._table = table
        self._preprocessing = preprocessing
        self._fills = {
            feature.name: feature.mean if feature.fill is None else feature.fill
            for item in card.feature_inputs
            for feature in item.features
        }
        self._ids = _unique([row.id or f"row-{number + 1}" for number, row in enumerate(table.rows)])
        self._division = divide([row.split for row in table.rows])
        self.notes: tuple[str, ...] = (*table.notes, *(f"{spec}: {note}" for note in self._division.notes))
        for output in card.outputs:
            column = ("boxes" if isinstance(output, DetectionOutput) else "label", output.name)
            for split in ("train", "test"):
                self._check_truth(split, "/".join(column), output.name)

    def __len__(self) -> int:
        return len(self._table.rows)

    def example(self, index: int) -> Example:
        row = self._table.rows[index]
        images = self._table.images(index)
        features = {name: self._fill(name, value) for name, value in row.features.items()}
        filled = tuple(name for name, value in row.features.items() if value is None)
        trained = self._trained(index, row.where, images, features)
        return Example(self._ids[index], images, features, row.labels, filled, trained)

    def rows(self, split: Split) -> Sequence[int]:
        """Raises ConfigError where the data set has no such rows: it names what to mark."""
        chosen: tuple[int, ...] = getattr(self._division, split)
        if not chosen:
            marked = Counter(row.split for row in self._table.rows)
            counts = ", ".join(f"{count} {name}" for name, count in marked.items() if name) or f"{len(self)} in all"
            raise ConfigError(f"{self.spec}: no rows for {split} ({counts}): {_NEEDS[split]}")
        return chosen

    def sha256(self) -> str:
        return self._sha256

    @cached_property
    def _sha256(self) -> str:
        content = self._table.sha256()
        if self._preprocessing is None:
            return content
        return hashlib.sha256((content + self._preprocessing.sha256).encode()).hexdigest()

    def _fill(self, name: str, value: float | None) -> float:
        return self._fills[name] if value is None else value

    def _trained(
        self, index: int, where: str, images: Mapping[str, Pixels], features: Mapping[str, float]
    ) -> Mapping[str, Array] | None:
        if self._preprocessing is not None:
            return self._preprocessing.apply(images, features, where)
        return self._table.trained(index)

    def _check_truth(self, split: Split, column: str, output: str) -> None:
        rows = [self._table.rows[number] for number in getattr(self._division, split)]
        without = [row for row in rows if output not in row.labels]
        if 0 < len(without) < len(rows):
            raise ConfigError(
                f"{self.spec}: {len(without)} of {len(rows)} {split} rows have no {column} (the first: "
                f'{without[0].where}); label them, leave them out, or mark them "calibration", which needs no truth'
            )


def _unique(ids: Sequence[str]) -> list[str]:
    """Ids that stand twice get "#2", "#3" …: a row must be found again by its id."""
    seen: Counter[str] = Counter()
    taken = set(ids)
    unique = []
    for identity in ids:
        seen[identity] += 1
        name = identity if seen[identity] == 1 else f"{identity}#{seen[identity]}"
        while seen[identity] > 1 and name in taken:
            seen[identity] += 1
            name = f"{identity}#{seen[identity]}"
        taken.add(name)
        unique.append(name)
    return unique
