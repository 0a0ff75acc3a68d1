"""Samples in a folder: <id>.json and, where pictures are kept, <id>.jpg beside it. The JSON comes last: what has one is
whole. The oldest go where there is no room; damaged files are put into ``damaged/`` for a person to look at.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from pathlib import Path
from typing import Final

import cv2
import msgspec
from msgspec import Struct
from msgspec.structs import replace

from edge_agent.errors import StorageError
from edge_agent.io.durable import make_folder, write_whole
from edge_agent.monitoring import Held, Sample
from edge_agent.records import Pixels

FOLDER: Final = "samples"  # in the folder of what was learnt
DAMAGED: Final = "damaged"
DAMAGED_MOST: Final = 16  # files; older ones of them are deleted
JSON_MOST: Final = 2**20  # bytes: a prediction has some thousands
JPEG_QUALITY: Final = 95  # a fifth of PNG and half a level off in the mean, on the example and on car-detection.mp4


class _Entry(Struct, frozen=True):
    held: Held
    pipeline: str
    bytes: int


class Found(Struct, frozen=True):
    """Whole samples, oldest first, and the names of the files that belong to none of them."""

    samples: list[Sample]
    damaged: list[Path]


def look(folder: Path) -> Found:
    """Changes nothing. A sample that goes meanwhile is left out. Raises StorageError."""
    samples, damaged = [], []
    try:
        files = {path.name: path for path in folder.iterdir() if path.is_file()} if folder.is_dir() else {}
    except OSError as error:
        raise _failed(folder, error) from None
    claimed = set()
    for name, path in files.items():
        if not name.endswith(".json"):
            continue
        sample = _read(path)
        if sample is not None and (not sample.picture or sample.picture in files):
            samples.append(sample)
            claimed |= {name, sample.picture}
    for name, path in files.items():
        if name not in claimed and path.exists():
            damaged.append(path)
    return Found(sorted(samples, key=lambda sample: (sample.held.wall_ns, sample.held.id)), damaged)


class SampleFolder:
    """Implements ``ports.SampleStore``. ``bytes_most``: of all samples together."""

    def __init__(self, folder: Path, bytes_most: int) -> None:
        self.set_aside = 0  # damaged files, since the start
        self._folder = folder
        self._bytes_most = bytes_most
        self._entries: dict[str, _Entry] | None = None  # oldest first; None: not looked at yet

    def held(self, pipeline: str) -> list[Held]:
        return [entry.held for entry in self._known().values() if entry.pipeline == pipeline]

    def put(self, sample: Sample, pixels: Pixels | None) -> list[str]:
        name, picture = sample.held.id, b""
        entries = self._known()
        if pixels is not None:
            sample = replace(sample, picture=f"{name}.jpg")
            done, encoded = cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
            if not done:
                raise StorageError(f"{self._folder / sample.picture}: the picture could not be encoded")
            picture = encoded.tobytes()
        content = _encoded(sample)
        size = len(content) + len(picture)
        gone = self._make_room(size)
        if size > self._bytes_most:
            return [*gone, name]
        try:
            make_folder(self._folder)
            if picture:
                write_whole(self._folder / sample.picture, picture)
            write_whole(self._folder / f"{name}.json", content)
        except OSError as error:
            with contextlib.suppress(StorageError):
                self._delete(name)
            raise _failed(self._folder / name, error) from None
        entries[name] = _Entry(sample.held, sample.pipeline, size)
        return gone

    def get(self, name: str) -> Sample | None:
        return _read(self._folder / f"{name}.json") if name in self._known() else None

    def replace(self, sample: Sample) -> None:
        name = sample.held.id
        entry = self._known().get(name)
        if entry is None:
            return
        path = self._folder / f"{name}.json"
        content = _encoded(sample)
        try:
            before = path.stat().st_size
            write_whole(path, content)
        except OSError as error:
            raise _failed(path, error) from None
        self._known()[name] = replace(entry, held=sample.held, bytes=entry.bytes - before + len(content))

    def remove(self, name: str) -> None:
        if name in self._known():
            self._delete(name)
            del self._known()[name]

    def _make_room(self, size: int) -> list[str]:
        entries, gone = self._known(), []
        used = sum(entry.bytes for entry in entries.values())
        for name in list(entries):
            if used + size <= self._bytes_most or size > self._bytes_most:
                break
            used -= entries[name].bytes
            self.remove(name)
            gone.append(name)
        return gone

    def _delete(self, name: str) -> None:
        """The JSON first: a picture without one is no sample."""
        for suffix in (".json", ".jpg"):
            path = self._folder / f"{name}{suffix}"
            try:
                path.unlink(missing_ok=True)
            except OSError as error:
                raise _failed(path, error) from None

    def _known(self) -> dict[str, _Entry]:
        if self._entries is None:
            found = look(self._folder)
            self._put_aside(found.damaged)
            self._entries = {
                sample.held.id: _Entry(sample.held, sample.pipeline, self._bytes_of(sample)) for sample in found.samples
            }
            self._make_room(0)  # the bound may be lower than at the last start
        return self._entries

    def _bytes_of(self, sample: Sample) -> int:
        names = [f"{sample.held.id}.json", *([sample.picture] if sample.picture else [])]
        try:
            return sum((self._folder / name).stat().st_size for name in names)
        except OSError as error:
            raise _failed(self._folder, error) from None

    def _put_aside(self, paths: Iterable[Path]) -> None:
        """What a cut left half written (a picture without its JSON, a file under its first name) is deleted."""
        aside = self._folder / DAMAGED
        try:
            for path in paths:
                if path.suffix != ".json":
                    path.unlink(missing_ok=True)
                    continue
                make_folder(aside)
                path.replace(aside / path.name)
                self.set_aside += 1
            kept = sorted(aside.glob("*.json"), key=lambda path: path.stat().st_mtime) if aside.is_dir() else []
            for path in kept[:-DAMAGED_MOST]:
                path.unlink(missing_ok=True)
        except OSError as error:
            raise _failed(aside, error) from None


def _encoded(sample: Sample) -> bytes:
    return msgspec.json.format(msgspec.json.encode(sample), indent=1) + b"\n"


def _read(path: Path) -> Sample | None:
    """None: it is no sample, or has gone. Its id must be its name: nothing outside the folder is ever named."""
    try:
        with path.open("rb") as file:
            sample = msgspec.json.decode(file.read(JSON_MOST), type=Sample)
    except (OSError, msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    named = sample.held.id == path.stem and sample.picture in ("", f"{path.stem}.jpg")
    return sample if named else None


def _failed(path: Path, error: OSError) -> StorageError:
    return StorageError(f"{path}: {error.strerror or error}")
