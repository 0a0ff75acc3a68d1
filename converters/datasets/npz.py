"""Arrays in an .npz. Large ones are unpacked into a temporary file and mapped, so that they need no memory."""

from __future__ import annotations

import tempfile
import zipfile
import zlib
from pathlib import Path

import cv2
import numpy as np

from converters.datasets.columns import Names, RowReader, bind, unused_note
from converters.datasets.rows import Row, picture
from converters.datasets.spool import CHUNK, files_sha256, room_on_disk
from converters.datasets.training import input_tensors, trained_arrays
from converters.progress import Progress
from edge_agent.core.model_card import ResolvedCard
from edge_agent.errors import ConfigError
from edge_agent.records import Array, Pixels

_MATRIX = ("features", "feature_names", "feature_units")
_TRAINED = "trained/"


class Archive:
    """The arrays of an .npz by name; pickled objects are never loaded. Raises ConfigError."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self._zip = zipfile.ZipFile(path)
        except (zipfile.BadZipFile, OSError) as error:
            raise ConfigError(f"{path}: not an .npz that can be read: {error}") from error
        self.names = tuple(name.removesuffix(".npy") for name in self._zip.namelist() if name.endswith(".npy"))

    def load(self, name: str) -> Array:
        """The array, mapped from a copy on the disk that has no name any more."""
        try:
            with self._zip.open(f"{name}.npy") as packed, tempfile.NamedTemporaryFile() as copy:
                with room_on_disk(str(self.path)):
                    while chunk := packed.read(CHUNK):
                        copy.write(chunk)
                    copy.flush()
                array: Array = np.load(copy.name, mmap_mode="r", allow_pickle=False)
        except (zipfile.BadZipFile, zlib.error, EOFError, ValueError, NotImplementedError) as error:
            raise ConfigError(
                f"{self.path}: the array {name!r} can't be read: {error}; save plain arrays of numbers or text"
            ) from error
        return array


class NpzTable:
    """``pictures``: (n, h, w, 3) uint8 RGB, (n, h, w) or (n, h, w, 1) uint8 grey, by input tensor."""

    def __init__(
        self, path: Path, rows: list[Row], pictures: dict[str, Array], trained: dict[str, Array], notes: tuple[str, ...]
    ) -> None:
        self.rows = rows
        self.notes = notes
        self._path = path
        self._pictures = pictures
        self._trained = trained

    def images(self, index: int) -> dict[str, Pixels]:
        return {tensor: _bgr(pixels[index]) for tensor, pixels in self._pictures.items()}

    def trained(self, index: int) -> dict[str, Array] | None:
        if not self._trained:
            return None
        rows = {tensor: array[index] for tensor, array in self._trained.items()}
        return trained_arrays(rows, tuple(self._trained), self.rows[index].where)

    def sha256(self) -> str:
        return files_sha256([(self._path.name, self._path)])


def is_npz(spec: str) -> bool:
    return spec.lower().endswith(".npz")


def read_npz(spec: str, card: ResolvedCard, progress: Progress) -> NpzTable:
    """Raises ConfigError: names the array, its shape and dtype, what is expected, and the arrays found."""
    path = Path(spec)
    if not path.is_file():
        raise ConfigError(f"{path}: no such file")
    archive = Archive(path)
    with progress.step(f"reading {path}"):
        matrix = _matrix(archive, card)
        arrays = [name for name in archive.names if not name.startswith(_TRAINED) and name not in _MATRIX]
        names = Names(str(path), "array", (*arrays, *matrix))
        columns = bind(card, names)
        pictures = {tensor: _pictures(archive, name) for tensor, name in columns.images.items()}
        trained = _trained(archive, card)
        used = [column.name for column in (*columns.features.values(), *columns.labels.values())]
        used += filter(None, (columns.split, columns.id))
        cells = {name: matrix[name] if name in matrix else _column(archive, name) for name in used}
        lengths = {
            **{columns.images[tensor]: len(array) for tensor, array in pictures.items()},
            **{f"{_TRAINED}{tensor}": len(array) for tensor, array in trained.items()},
            **{name: len(values) for name, values in cells.items()},
        }
        if len(set(lengths.values())) > 1:
            listed = ", ".join(f"{name!r} {length}" for name, length in lengths.items())
            raise ConfigError(f"{path}: the arrays have different numbers of rows: {listed}")
        reader = RowReader(card, names, columns)
        rows = [
            reader.read({name: values[row] for name, values in cells.items()}.get, f"{path}, row {row}")
            for row in range(next(iter(lengths.values()), 0))
        ]
    return NpzTable(path, rows, pictures, trained, unused_note(columns, names))


def _matrix(archive: Archive, card: ResolvedCard) -> dict[str, list[object]]:
    """The columns of ``features`` (n, k) under the names that ``feature_names`` gives, or those of the card in its
    order; with ``feature_units`` in brackets."""
    if "features" not in archive.names:
        return {}
    matrix = archive.load("features")
    own = [feature.name for item in card.feature_inputs for feature in item.features]
    said = _texts(archive, "feature_names")
    units = _texts(archive, "feature_units")
    names = own if said is None else said
    if matrix.ndim != 2 or matrix.shape[1] != len(names) or (units is not None and len(units) != len(names)):
        order = "the card" if said is None else "feature_names"
        given = "" if units is None else f", feature_units has {len(units)}"
        raise ConfigError(
            f"{archive.path}: 'features' has the shape {matrix.shape}{given}; (n, {len(names)}) is needed, one column "
            f"for each feature of {order}: {', '.join(names) or 'none'}"
        )
    doubled = sorted({name for name in names if names.count(name) > 1})
    if doubled:
        raise ConfigError(
            f"{archive.path}: 'feature_names' has {', '.join(doubled)} twice: give each column its own name"
        )
    headers = names if units is None else [f"{name} [{unit}]" for name, unit in zip(names, units, strict=True)]
    return {f"feature/{header}": matrix[:, place].tolist() for place, header in enumerate(headers)}


def _texts(archive: Archive, name: str) -> list[str] | None:
    """A short array of text; None where it is not there."""
    if name not in archive.names:
        return None
    array = archive.load(name)
    if array.ndim != 1 or array.dtype.kind not in "US":
        raise ConfigError(f"{archive.path}: {name!r} is {array.dtype} {array.shape}; text of the shape (k,) is needed")
    return [str(text) for text in _plain(array)]


def _column(archive: Archive, name: str) -> list[object]:
    """One value for each row."""
    array = archive.load(name)
    if array.ndim == 2 and array.shape[1] == 1:
        array = array[:, 0]  # as Keras's own data sets have their labels
    if array.ndim != 1 or array.dtype.kind not in "biufUS":
        hint = "; for one-hot labels use .argmax(axis=1)" if name.startswith("label") and array.ndim == 2 else ""
        raise ConfigError(
            f"{archive.path}: {name!r} is {array.dtype} {array.shape}; numbers or text of the shape (n,) are needed"
            f"{hint}"
        )
    return _plain(array)


def _plain(array: Array) -> list[object]:
    values: list[object] = array.tolist()
    if array.dtype.kind == "S":
        return [value.decode(errors="replace") if isinstance(value, bytes) else value for value in values]
    return values


def _pictures(archive: Archive, name: str) -> Array:
    array = archive.load(name)
    where = f"{archive.path}: {name!r} {array.shape}"
    if array.ndim not in (3, 4) or (array.ndim == 4 and array.shape[3] not in (1, 3)) or 0 in array.shape[1:]:
        raise ConfigError(f"{where}: (n, height, width, 3) uint8 RGB, or (n, height, width) uint8 grey, is needed")
    if array.dtype != np.uint8:
        # an example of the right shape, so that only what is wrong is told
        picture(np.zeros((1, 1, 3), array.dtype), where, order="RGB")
    return array


def _trained(archive: Archive, card: ResolvedCard) -> dict[str, Array]:
    inputs = input_tensors(card)
    found = {}
    for name in archive.names:
        if name.startswith(_TRAINED):
            array = archive.load(name)
            tensor = name.removeprefix(_TRAINED)
            if array.ndim < 2:
                raise ConfigError(f"{archive.path}: {name!r} has the shape {array.shape}; (n, …) is needed")
            trained_arrays({tensor: array[:1]}, inputs, str(archive.path))  # cheap, and before the work begins
            found[tensor] = array
    return found


def _bgr(pixels: Array) -> Pixels:
    if pixels.ndim == 2 or pixels.shape[2] == 1:
        return np.asarray(cv2.cvtColor(np.ascontiguousarray(pixels), cv2.COLOR_GRAY2BGR), np.uint8)
    return np.ascontiguousarray(pixels[..., ::-1])
