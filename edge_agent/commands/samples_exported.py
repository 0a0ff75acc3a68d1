"""Samples as the folder of docs/datasets.md: samples.csv, the pictures, and predictions.jsonl to label with.

The rows with all labels train and test, the others calibrate: truth that only some of the rows have is refused there.
"""

from __future__ import annotations

import csv
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import msgspec
from msgspec import Struct

from edge_agent.errors import ConfigError, StorageError
from edge_agent.io.image_file import decode_image
from edge_agent.monitoring import Sample

TABLE: Final = "samples.csv"
PICTURES: Final = "images"
PREDICTIONS: Final = "predictions.jsonl"
_MEANT: Final = ("image", "label", "boxes", "split", "id", "feature")  # what begins like these is no feature's name


class Exported(Struct, frozen=True):
    """``left_out``: how many samples for each reason."""

    rows: int
    labelled: int
    left_out: dict[str, int]


def export(source: Path, samples: Sequence[Sample], folder: Path) -> Exported:
    """``source``: where the samples lie. Raises ConfigError for a folder that has something in it and for samples of
    several pipelines, StorageError where the disk fails."""
    pipelines = sorted({sample.pipeline for sample in samples})
    if len(pipelines) > 1:
        raise ConfigError(f"these are samples of {', '.join(pipelines)}: choose one with --pipeline")
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ConfigError(f"{folder}: it has something in it; name a new folder")
    left_out: Counter[str] = Counter()
    try:
        (folder / PICTURES).mkdir(parents=True, exist_ok=True)
        rows = [sample for sample in samples if _written(sample, samples[-1], source, folder, left_out)]
        if not rows:
            (folder / PICTURES).rmdir()
            return Exported(0, 0, dict(left_out))
        labels = _label_columns(rows)
        _write_table(folder / TABLE, rows, labels)
        with (folder / PREDICTIONS).open("wb") as file:
            for sample in rows:
                file.write(msgspec.json.format(msgspec.json.encode(sample), indent=-1) + b"\n")  # one line each
    except OSError as error:
        raise StorageError(f"{folder}: {error.strerror or error}") from None
    labelled = sum(_has_all(sample, labels) for sample in rows) if labels else 0
    return Exported(len(rows), labelled, dict(left_out))


def _written(sample: Sample, newest: Sample, source: Path, folder: Path, left_out: Counter[str]) -> bool:
    """Whether it can be a row; its picture is in the folder then."""
    if (sample.tensors, sample.units) != (newest.tensors, newest.units):
        left_out["of a model with other inputs than the newest one's"] += 1
    elif len(sample.tensors) > 1:
        left_out[f"of a model that takes {len(sample.tensors)} pictures: one is kept of each sample"] += 1
    elif sample.tensors and not sample.picture:
        left_out["without a picture: set images = true in [drift.samples]"] += 1
    elif not sample.tensors or _copied(source / sample.picture, folder / PICTURES / sample.picture):
        return True
    else:
        left_out["whose picture has gone or is damaged"] += 1
    return False


def _copied(picture: Path, target: Path) -> bool:
    try:
        content = picture.read_bytes()
        decode_image(content, picture.name)
    except (OSError, ConfigError):
        return False
    target.write_bytes(content)
    return True


def _write_table(path: Path, rows: Sequence[Sample], labels: Sequence[str]) -> None:
    units = rows[-1].units
    pictures, split = bool(rows[-1].tensors), bool(labels)
    header = ["id", *(["image"] if pictures else []), *(_column(name, unit) for name, unit in units.items())]
    header += [*(f"label/{name}" for name in labels), *(["split"] if split else [])]
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(header)
        for sample in rows:
            whole = _has_all(sample, labels)
            cells = [sample.held.id, *([f"{PICTURES}/{sample.picture}"] if pictures else [])]
            cells += [_cell(sample.features.get(name)) for name in units]
            cells += [_cell(sample.labels[name]) if whole else "" for name in labels]
            writer.writerow([*cells, *(["" if whole else "calibration"] if split else [])])


def _column(name: str, unit: str) -> str:
    """A feature that is called like a column of another meaning is marked as one."""
    marked = f"feature/{name}" if name.partition("/")[0].casefold() in _MEANT else name
    return f"{marked} [{unit}]" if unit else marked


def _cell(value: Any) -> str:
    if value is None:
        return ""
    return value if isinstance(value, str) else json.dumps(value)


def _label_columns(rows: Sequence[Sample]) -> list[str]:
    """The outputs whose labels become truth: the most often labelled first, as long as some row has all of them. The
    label of a detection is a class, which is no truth for its boxes."""
    counts = Counter(name for sample in rows for name in sample.labels if _task(sample, name) != "detection")
    chosen: list[str] = []
    for name, _ in counts.most_common():
        if any(_has_all(sample, [*chosen, name]) for sample in rows):
            chosen.append(name)
    return chosen


def _has_all(sample: Sample, labels: Sequence[str]) -> bool:
    return all(name in sample.labels for name in labels)


def _task(sample: Sample, output: str) -> str:
    prediction: Mapping[str, Any] = msgspec.json.decode(sample.prediction)
    return str(prediction.get("outputs", {}).get(output, {}).get("task", ""))
