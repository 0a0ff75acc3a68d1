"""Data sets: rows as the device would see them, from whatever form the training data has (docs/datasets.md)."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from msgspec import Struct

from converters.datasets.dataset import TableDataset
from converters.datasets.drawn_rows import read_function
from converters.datasets.example_records import is_records, read_records
from converters.datasets.npz import is_npz, read_npz
from converters.datasets.picture_folder import is_csv, is_folder, read_class_folders, read_csv_folder
from converters.datasets.rows import Table
from converters.datasets.training import TrainingPreprocessing
from converters.datasets.user_code import is_function
from converters.progress import Progress, Silent
from edge_agent.core.model_card import ResolvedCard
from edge_agent.errors import ConfigError

__all__ = ["TableDataset", "open_dataset"]


class Form(Struct, frozen=True):
    """A form of data set: ``text`` for a person, ``fits`` whether a spec is one."""

    text: str
    fits: Callable[[str], bool]
    read: Callable[[str, ResolvedCard, Progress], Table]


# The first that fits is taken: a folder with a CSV may hold anything else too.
FORMS = (
    Form("a folder with samples.csv, or its CSV", is_csv, read_csv_folder),
    Form("a file .npz", is_npz, read_npz),
    Form("TFRecord files (.tfrecord, .tfrecord.gz, a folder or a pattern of them)", is_records, read_records),
    Form("a folder with a folder of pictures for each class", is_folder, read_class_folders),
    Form("FILE.py:FUNCTION or module:function that yields rows", is_function, read_function),
)


def open_dataset(
    spec: str, card: ResolvedCard, *, preprocess: str | None = None, progress: Progress | None = None
) -> TableDataset:
    """The data set that ``spec`` names. Everything but the pictures themselves is read and checked against the card.

    ``preprocess``, FILE.py:FUNCTION, is the training's own preprocessing: it makes what Example.trained holds, also
    where the data set brings that itself. Raises ConfigError that names file, row, column and what to do.
    """
    try:
        form = next((form for form in FORMS if form.fits(spec)), None)
        table = form.read(spec, card, progress or Silent()) if form else None
    except OSError as error:  # what the readers did not expect: no permission, a name that is too long
        raise ConfigError(f"{spec}: can't be read: {error}") from error
    if table is None:
        found = "this file is none of the known forms" if Path(spec).exists() else "no such file or folder"
        raise ConfigError(f"{spec}: {found}; a data set is {'; '.join(form.text for form in FORMS)}")
    preprocessing = TrainingPreprocessing(preprocess, card) if preprocess else None
    return TableDataset(spec, card, table, preprocessing)
