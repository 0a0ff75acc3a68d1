"""Which column of a table (array of an .npz, key of a record) is what to the card, and a row read through that.

Everything is bound by name. A column's name may end in its unit in brackets, which is converted to the card's.
"""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Callable

from msgspec import Struct

from converters.datasets.labels import read_label
from converters.datasets.rows import Row, number
from converters.datasets.splits import read_split
from converters.records import Label, Split
from edge_agent.core.card_schema import DetectionOutput, OutputCard, RegressionOutput
from edge_agent.core.model_card import ResolvedCard
from edge_agent.core.physical_units import conversion
from edge_agent.errors import ConfigError

RESERVED = ("image", "label", "boxes", "split", "id")  # a feature called so is written "feature/NAME"
_WITH_UNIT = re.compile(r"(?P<name>.*?)\s*\[(?P<unit>[^\[\]]*)\]", re.DOTALL)
_LISTED = 30


class Column(Struct, frozen=True):
    """value in the card's unit = cell * ``scale`` + ``offset``."""

    name: str
    scale: float = 1.0
    offset: float = 0.0

    def convert(self, cell: object) -> float | None:
        """Raises ValueError for what is no finite number; None is missing."""
        value = number(cell)
        return None if value is None else value * self.scale + self.offset


class Columns(Struct, frozen=True):
    """``images`` by input tensor, ``features`` by the card's name, ``labels`` by output name; "" for no column."""

    images: dict[str, str]
    features: dict[str, Column]
    labels: dict[str, Column]
    split: str
    id: str
    unused: tuple[str, ...]


class Names(Struct, frozen=True):
    """The columns that there are. ``source`` names the file, ``noun`` one of them ("column"), in messages."""

    source: str
    noun: str
    all: tuple[str, ...]

    def fail(self, text: str) -> ConfigError:
        listed = ", ".join(map(_quoted, self.all[:_LISTED])) or "none"
        more = f" and {len(self.all) - _LISTED} more" if len(self.all) > _LISTED else ""
        return ConfigError(f"{self.source}: {text}; {self.noun}s found: {listed}{more}")

    def called(self, *names: str) -> list[str]:
        """The columns with one of these names, with or without a unit."""
        return [column for column in self.all if column in names or split_unit(column)[0] in names]

    def near(self, wanted: str) -> str:
        """' (did you mean "x"?)', whatever the case and the unit, or nothing."""
        bare = {split_unit(name)[0].casefold(): name for name in reversed(self.all)}
        match = difflib.get_close_matches(wanted.casefold(), bare, n=1, cutoff=0.5)
        return f" (did you mean {_quoted(bare[match[0]])}?)" if match else ""


def split_unit(name: str) -> tuple[str, str]:
    """'temperature [degF]' -> ('temperature', 'degF'); a name without brackets has the unit ''."""
    match = _WITH_UNIT.fullmatch(name)
    return (match["name"], match["unit"].strip()) if match else (name, "")


def _quoted(name: str) -> str:
    """In one line, whatever is in it."""
    return json.dumps(name, ensure_ascii=False)


def bind(card: ResolvedCard, names: Names) -> Columns:
    """Raises ConfigError for what the card needs and no column has, for two that claim the same, and for a unit that
    does not convert."""
    images = {item.tensor: _image(item.tensor, len(card.image_inputs), names) for item in card.image_inputs}
    features = {
        feature.name: _feature(feature.name, feature.unit, names)
        for item in card.feature_inputs
        for feature in item.features
    }
    labels = _labels(card, names)
    split, identity = (word if word in names.all else "" for word in ("split", "id"))
    used = {*images.values(), split, identity, *(column.name for column in (*features.values(), *labels.values()))}
    unused = tuple(name for name in names.all if name not in used)
    for name in unused:
        # read over, "Label" would silently leave the data set without truth
        if name not in RESERVED and name.casefold() in RESERVED:
            raise names.fail(f"{names.noun} {name!r}: write {name.casefold()!r}")
    return Columns(images, features, labels, split, identity, unused)


def unused_note(columns: Columns, names: Names) -> tuple[str, ...]:
    """What nothing uses: a misspelt label or split would otherwise go unseen."""
    listed = ", ".join(map(_quoted, columns.unused[:_LISTED]))
    return (f"{names.source}: {names.noun}s that nothing uses: {listed}",) if listed else ()


class RowReader:
    """Turns the cells of one row into a Row: numbers in the card's units, classes as indices."""

    def __init__(self, card: ResolvedCard, names: Names, columns: Columns) -> None:
        self._noun = names.noun
        self._columns = columns
        self._outputs = {output.name: (output, card.labels.get(output.name, ())) for output in card.outputs}

    def read(self, cell: Callable[[str], object], where: str, identity: str = "") -> Row:
        """``cell`` gives the value of a column, None for none; ``where`` names the row, ``identity`` is its id where
        no column says one. Raises ConfigError that names the row and the column."""
        features: dict[str, float | None] = {}
        labels: dict[str, Label] = {}
        reading = ""
        try:
            for name, column in self._columns.features.items():
                reading = column.name
                features[name] = column.convert(cell(reading))
            for name, column in self._columns.labels.items():
                reading = column.name
                label = self._label(name, column, cell(reading))
                if label is not None:
                    labels[name] = label
            reading = self._columns.split
            split: Split | None = read_split(cell(reading)) if reading else None
        except ValueError as error:
            raise ConfigError(f'{where}, {self._noun} "{reading}": {error}') from None
        named = cell(self._columns.id) if self._columns.id else None
        return Row(where, identity if named is None else str(named).strip() or identity, split, features, labels)

    def _label(self, name: str, column: Column, cell: object) -> Label | None:
        output, classes = self._outputs[name]
        return column.convert(cell) if isinstance(output, RegressionOutput) else read_label(cell, output, classes)


def _image(tensor: str, count: int, names: Names) -> str:
    allowed = (f"image/{tensor}", "image") if count == 1 else (f"image/{tensor}",)
    found = [name for name in names.all if name in allowed]
    if not found:
        wanted = " or ".join(f'"{name}"' for name in allowed)
        raise names.fail(
            f"no {names.noun} {wanted} with the pictures for the input {tensor!r}{names.near(allowed[-1])}"
        )
    if len(found) > 1:
        raise names.fail(f"both {found[0]!r} and {found[1]!r} have pictures for the input {tensor!r}: leave one out")
    return found[0]


def _feature(name: str, unit: str, names: Names) -> Column:
    plain = () if name in RESERVED else (name,)
    found = names.called(f"feature/{name}", *plain)
    if not found:
        wanted = f'"{name}"' if plain else f'"feature/{name}" (the name "{name}" alone means something else)'
        raise names.fail(f"no {names.noun} {wanted}, which the model needs{names.near(name)}")
    if len(found) > 1:
        raise names.fail(f"{' and '.join(map(repr, found))} both are the feature {name!r}: leave one out")
    return _column(found[0], "" if found[0] in (name, f"feature/{name}") else split_unit(found[0])[1], unit, names)


def _column(column: str, found: str, wanted: str, names: Names) -> Column:
    try:
        return Column(column, *conversion(found, wanted))
    except ValueError as error:
        raise ConfigError(f'{names.source}, {names.noun} "{column}": {error}; the card has "{wanted}"') from None


def _labels(card: ResolvedCard, names: Names) -> dict[str, Column]:
    """The truth is named label/OUTPUT (boxes/OUTPUT), or label (boxes) where one output can be meant. None at all is
    allowed: then a model is compared with another, not with the truth."""
    found: dict[str, Column] = {}
    for word, detects in (("label", False), ("boxes", True)):
        outputs = {output.name: output for output in card.outputs if isinstance(output, DetectionOutput) == detects}
        for column in names.all:
            said, unit = split_unit(column)
            if said != word and not said.startswith(f"{word}/"):
                continue
            output = _output(column, said.partition("/")[2], word, outputs, names)
            if output.name in found:
                raise names.fail(f"{found[output.name].name!r} and {column!r} are both for the output {output.name!r}")
            found[output.name] = _column(column, unit, _unit(output, unit, column, names), names)
    return found


def _output(column: str, named: str, word: str, outputs: dict[str, OutputCard], names: Names) -> OutputCard:
    if named in outputs:
        return outputs[named]
    if not named and len(outputs) == 1:
        return next(iter(outputs.values()))
    kind = "detection" if word == "boxes" else "classification, regression or anomaly"
    allowed = " or ".join(f'"{word}/{name}"' for name in outputs)
    advice = f"name it {allowed}" if outputs else f"the card has no output of {kind}"
    raise names.fail(f"{names.noun} {column!r} belongs to no single output: {advice}")


def _unit(output: OutputCard, found: str, column: str, names: Names) -> str:
    if isinstance(output, RegressionOutput):
        return output.unit
    if found:
        raise names.fail(f"{names.noun} {column!r} has a unit, but the output {output.name!r} is no regression")
    return ""
