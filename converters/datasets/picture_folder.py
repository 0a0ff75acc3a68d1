"""A folder of pictures: with a CSV beside them that says the rest, or with the class as the name of the folder."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from converters.datasets.columns import Names, RowReader, bind, unused_note
from converters.datasets.labels import class_index
from converters.datasets.rows import Row, shown
from converters.datasets.splits import read_split
from converters.datasets.spool import files_sha256
from converters.datasets.table_file import Line, read_csv
from converters.progress import Progress
from converters.records import Label, Split
from edge_agent.core.card_schema import ClassificationOutput
from edge_agent.core.model_card import ResolvedCard
from edge_agent.errors import ConfigError
from edge_agent.io.image_file import read_image
from edge_agent.records import Array, Pixels

SAMPLES = "samples.csv"
SUFFIXES = frozenset({".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp"})


class PictureTable:
    """Rows whose pictures are files, by input tensor. ``others`` are the files that the rows themselves come from."""

    def __init__(
        self,
        folder: Path,
        rows: list[Row],
        pictures: list[dict[str, Path]],
        *,
        notes: tuple[str, ...] = (),
        others: tuple[Path, ...] = (),
    ) -> None:
        self.rows = rows
        self.notes = notes
        self._folder = folder
        self._pictures = pictures
        self._others = others

    def images(self, index: int) -> dict[str, Pixels]:
        where = self.rows[index].where
        return {tensor: read_picture(path, where) for tensor, path in self._pictures[index].items()}

    def trained(self, index: int) -> dict[str, Array] | None:
        return None

    def sha256(self) -> str:
        paths = dict.fromkeys([*self._others, *(path for row in self._pictures for path in row.values())])
        return files_sha256([(_name(path, self._folder), path) for path in paths])


def is_csv(spec: str) -> bool:
    """A CSV file, or a folder with one."""
    path = Path(spec)
    return _is_table(path) if path.is_file() else bool(_tables(path))


def is_folder(spec: str) -> bool:
    return Path(spec).is_dir()


def read_csv_folder(spec: str, card: ResolvedCard, progress: Progress) -> PictureTable:
    """``spec``: the folder, or its CSV. Raises ConfigError for whatever does not fit the card, and for pictures that
    are not there; what is in them is seen when they are read."""
    table = Path(spec) if Path(spec).is_file() else _table(Path(spec))
    header, lines = read_csv(table)
    names = Names(str(table), "column", header)
    columns = bind(card, names)
    reader = RowReader(card, names, columns)
    rows, pictures = [], []
    with progress.step(f"checking {table}", len(lines)) as advance:
        for done, line in enumerate(lines):
            where = f"{table}, line {line.number}"
            files = {tensor: _picture(table, line, column, where) for tensor, column in columns.images.items()}
            rows.append(reader.read(line.cells.get, where, line.cells.get(next(iter(columns.images.values()), ""), "")))
            pictures.append(files)
            advance(done + 1)
    return PictureTable(table.parent, rows, pictures, notes=unused_note(columns, names), others=(table,))


def read_class_folders(spec: str, card: ResolvedCard, progress: Progress) -> PictureTable:
    """folder/CLASS/PICTURE or folder/SPLIT/CLASS/PICTURE; pictures straight in the folder have no class.

    Raises ConfigError for a model that needs more than a picture, and for a folder that is no class of the card.
    """
    folder = Path(spec)
    if card.feature_inputs or len(card.image_inputs) != 1:
        features = [feature.name for item in card.feature_inputs for feature in item.features]
        tensors = [item.tensor for item in card.image_inputs]
        raise ConfigError(
            f"{folder}: there is no CSV, and the model needs more than one picture a row (pictures: "
            f"{', '.join(tensors) or 'none'}; features: {', '.join(features) or 'none'}); write {folder / SAMPLES} "
            'with a column "image" and one for each feature'
        )
    with progress.step(f"listing {folder}"):
        files = sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES and path.is_file())
    if not files:
        raise ConfigError(f"{folder}: no {SAMPLES} and no pictures in it ({', '.join(sorted(SUFFIXES))})")
    depths = {len(path.relative_to(folder).parts) for path in files}
    if len(depths) > 1 or max(depths) > 3:
        raise ConfigError(
            f"{folder}: pictures lie at different depths or too deep; either all straight in it, or all in a folder "
            f"for each class, or all in SPLIT/CLASS, or write {folder / SAMPLES}"
        )
    tensor = card.image_inputs[0].tensor
    rows = [_classified(folder, path, card) for path in files]
    return PictureTable(folder, rows, [{tensor: path} for path in files])


def read_picture(path: Path, where: str) -> Pixels:
    """Raises ConfigError that names the row too."""
    try:
        return read_image(path)
    except ConfigError as error:
        raise ConfigError(f"{where}: {error}") from error


def _is_table(path: Path) -> bool:
    return path.suffix.lower() in (".csv", ".tsv")


def _tables(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if _is_table(path)) if folder.is_dir() else []


def _table(folder: Path) -> Path:
    """samples.csv, or the only one."""
    tables = _tables(folder)
    if (folder / SAMPLES) in tables:
        return folder / SAMPLES
    if len(tables) > 1:
        listed = ", ".join(path.name for path in tables)
        raise ConfigError(f"{folder}: {len(tables)} tables ({listed}) and none is {SAMPLES}: give the file itself")
    return tables[0]


def _picture(table: Path, line: Line, column: str, where: str) -> Path:
    text = line.cells[column]
    if not text:
        raise ConfigError(f'{where}, column "{column}": empty; the path of a picture is needed')
    path = table.parent / text
    if not path.is_file():
        hint = "; write / between folders" if "\\" in text else f"; paths start at {table.parent}"
        raise ConfigError(f'{where}, column "{column}": no such file {shown(text)}{hint}')
    return path


def _classified(folder: Path, path: Path, card: ResolvedCard) -> Row:
    parents = path.relative_to(folder).parts[:-1]
    split: Split | None = None
    labels: dict[str, Label] = {}
    try:
        if len(parents) > 1:
            split = read_split(parents[0])
        if parents:
            output = _classification(card)
            index = class_index(parents[-1], card.labels.get(output.name, ()))
            if index is not None:
                labels[output.name] = index
    except ValueError as error:
        raise ConfigError(
            f"{path.parent}: the folder's name is the class of its pictures (SPLIT/CLASS): {error}"
        ) from None
    return Row(str(path), path.relative_to(folder).as_posix(), split, {}, labels)


def _classification(card: ResolvedCard) -> ClassificationOutput:
    outputs: Sequence[ClassificationOutput] = [head for head in card.outputs if isinstance(head, ClassificationOutput)]
    if len(outputs) != 1:
        raise ValueError(f"the card has {len(outputs)} classifications, one is needed; write {SAMPLES} instead")
    return outputs[0]


def _name(path: Path, folder: Path) -> str:
    return path.relative_to(folder).as_posix() if path.is_relative_to(folder) else str(path)
