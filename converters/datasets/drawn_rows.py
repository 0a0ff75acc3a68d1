"""Rows that a function of the user's yields: drawn once, checked, and their pixels kept in a spool."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from msgspec.structs import replace

from converters.datasets.columns import Names, RowReader, bind
from converters.datasets.picture_folder import read_picture
from converters.datasets.rows import Row, picture, shown
from converters.datasets.spool import Spool, Stored, files_sha256
from converters.datasets.training import input_tensors, trained_arrays
from converters.datasets.user_code import UserFunction
from converters.progress import Progress
from edge_agent.core.card_rules import nearest
from edge_agent.core.card_schema import DetectionOutput
from edge_agent.core.model_card import ResolvedCard
from edge_agent.errors import ConfigError
from edge_agent.records import Array, Pixels

_KEYS = ("id", "split", "image", "images", "features", "label", "labels", "trained")
_SPLITS = ("train", "calibration", "test")


class DrawnTable:
    """Rows as drawn, in memory; their pixels in a spool or, where the function gave a path, in that file."""

    def __init__(self, spec: str, card: ResolvedCard, folder: Path) -> None:
        self.rows: list[Row] = []
        self.notes: tuple[str, ...] = ()
        self._spool = Spool(spec)
        self._pictures: list[dict[str, Stored | Path]] = []
        self._trained: list[dict[str, Stored] | None] = []
        self._images = tuple(item.tensor for item in card.image_inputs)
        self._inputs = input_tensors(card)
        self._folder = folder
        self._shape = _Shape(spec, card)

    def add(self, value: Any, split: str | None, where: str) -> None:
        """One value that the function yielded; ``split`` is what it was called with. Raises ConfigError."""
        cells = self._shape.cells(value, split, where)
        row = self._shape.reader.read(cells.get, where)
        pictures = {tensor: self._picture(found, f"{where}, {tensor!r}") for tensor, found in self._given(value, where)}
        trained = value.get("trained")
        if trained is not None:
            if not isinstance(trained, Mapping):
                raise ConfigError(f"{where}: 'trained' is {shown(trained)}; a mapping of input tensors is needed")
            trained = {name: self._spool.add(a) for name, a in trained_arrays(trained, self._inputs, where).items()}
        # everything else that the row says goes into the hash beside its pixels
        files = [os.path.relpath(kept, self._folder) for kept in pictures.values() if isinstance(kept, Path)]
        said = (row.id, row.split, files, dict(row.features), dict(row.labels))
        self._spool.note(repr(said).encode())
        self.rows.append(row)
        self._pictures.append(pictures)
        self._trained.append(trained)

    def images(self, index: int) -> dict[str, Pixels]:
        where = self.rows[index].where
        return {
            tensor: read_picture(kept, where) if isinstance(kept, Path) else self._spool.get(kept)
            for tensor, kept in self._pictures[index].items()
        }

    def trained(self, index: int) -> dict[str, Array] | None:
        kept = self._trained[index]
        return None if kept is None else {tensor: self._spool.get(stored) for tensor, stored in kept.items()}

    def sha256(self) -> str:
        paths = dict.fromkeys(kept for row in self._pictures for kept in row.values() if isinstance(kept, Path))
        return files_sha256([(os.path.relpath(path, self._folder), path) for path in paths], then=self._spool.sha256())

    def _given(self, value: Mapping[str, Any], where: str) -> Iterator[tuple[str, Any]]:
        """The pictures of a row by input tensor."""
        images = value.get("images")
        if images is None:
            images = {self._images[0]: value["image"]} if "image" in value and len(self._images) == 1 else {}
        if not isinstance(images, Mapping):
            raise ConfigError(f"{where}: 'images' is {shown(images)}; a mapping of input tensors to pictures is needed")
        for tensor in self._images:
            if tensor not in images:
                wanted = f"images[{tensor!r}]" + (" or image" if len(self._images) == 1 else "")
                raise ConfigError(f"{where}: no picture for the input {tensor!r}: give it as {wanted}")
            yield tensor, images[tensor]

    def _picture(self, found: Any, where: str) -> Stored | Path:
        if not isinstance(found, str | os.PathLike):
            return self._spool.add(picture(found, where, order="BGR"))
        path = self._folder / found
        if not path.is_file():
            raise ConfigError(f"{where}: no such file {path}; paths start at {self._folder}")
        return path


def read_function(spec: str, card: ResolvedCard, progress: Progress) -> DrawnTable:
    """Call the function, once, or once for each split where it has a parameter ``split``. Raises ConfigError."""
    function = UserFunction(spec, "a data set as a function")
    table = DrawnTable(spec, card, function.folder)
    splits: tuple[str | None, ...] = _SPLITS if function.takes("split") else (None,)
    with progress.step(f"drawing rows from {spec}") as advance:
        for split in splits:
            for value in function.iterate(**({} if split is None else {"split": split})):
                table.add(value, split, f"{spec}, row {len(table.rows) + 1}")
                advance(len(table.rows))
    return table


class _Shape:
    """What a yielded mapping must look like; turns it into the cells of a row."""

    def __init__(self, spec: str, card: ResolvedCard) -> None:
        self._features = tuple(feature.name for item in card.feature_inputs for feature in item.features)
        self._outputs = tuple(output.name for output in card.outputs)
        boxes = {output.name for output in card.outputs if isinstance(output, DetectionOutput)}
        self._words = {name: f"{'boxes' if name in boxes else 'label'}/{name}" for name in self._outputs}
        features = (f"feature/{name}" for name in self._features)
        names = Names(spec, "key", (*features, *self._words.values(), "split", "id"))
        # a row's pictures are no cells
        self.reader = RowReader(card, names, bind(replace(card, image_inputs=()), names))

    def cells(self, value: Any, split: str | None, where: str) -> dict[str, object]:
        if not isinstance(value, Mapping):
            raise ConfigError(f"{where}: found {shown(value)}; a mapping with {', '.join(_KEYS)} is needed")
        for key in value:
            if key not in _KEYS:
                raise ConfigError(
                    f"{where}: unknown key {key!r}{nearest(str(key), _KEYS)}; known are {', '.join(_KEYS)}"
                )
        said = value.get("split")
        if split is not None and said not in (None, split):
            raise ConfigError(f"{where}: yielded for split={split!r}, but says split {said!r}: leave one out")
        cells: dict[str, object] = {"split": split or said, "id": value.get("id")}
        features = _mapping(value, "features", where)
        for name in self._features:
            if name not in features:
                raise ConfigError(
                    f"{where}: no feature {name!r}{nearest(name, map(str, features))}: the model needs it (None where "
                    f"it is missing); found: {', '.join(map(str, features)) or 'none'}"
                )
            cells[f"feature/{name}"] = features[name]
        for name, label in self._labels(value, where).items():
            cells[self._words[name]] = label
        return cells

    def _labels(self, value: Mapping[str, Any], where: str) -> dict[str, object]:
        labels = dict(_mapping(value, "labels", where))
        if "label" in value:
            if len(self._outputs) != 1 or labels:
                raise ConfigError(f"{where}: 'label' can't be told from other outputs: give labels = {{OUTPUT: value}}")
            labels[self._outputs[0]] = value["label"]
        for name in labels:
            if name not in self._outputs:
                raise ConfigError(
                    f"{where}: label for the output {name!r}{nearest(str(name), self._outputs)}; the card has "
                    f"{', '.join(self._outputs)}"
                )
        return labels


def _mapping(value: Mapping[str, Any], key: str, where: str) -> Mapping[str, Any]:
    found = value.get(key)
    if found is None:
        return {}
    if not isinstance(found, Mapping):
        raise ConfigError(f"{where}: {key!r} is {shown(found)}; a mapping is needed")
    return found
