"""Reads what was collected, also while a collector writes: streams, rows, what is missing.

with Collected(path) as collected:
    for gaps in collected.missing("line3-cam1"):
        print(gaps.key.stream, gaps.ranges, gaps.unexplained)
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any

import msgspec
from msgspec import Struct

from edge_agent.errors import StorageError
from fleet.database import open_for_reading
from fleet.gaps import StreamGaps, StreamKey, find_gaps
from fleet.records import Told

PAGE = 10_000


class Stored(Struct, frozen=True):
    """A prediction as it is in the file."""

    device: str
    boot_id: str
    pipeline: str
    seq: int
    time: str
    clock_synced: bool
    buffered: bool
    received: str
    payload: bytes


class DriftStored(Struct, frozen=True):
    device: str
    pipeline: str
    time: str
    payload: bytes


class Collected:
    """Read-only. Every method raises StorageError where the file is damaged."""

    def __init__(self, path: Path) -> None:
        """Raises ConfigError: not there, not a database, of another program or a newer version."""
        self._path = path
        self._database = open_for_reading(path)

    def __enter__(self) -> Collected:
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self._database.close()

    def devices(self) -> list[str]:
        return [row[0] for row in self._rows("SELECT device FROM device ORDER BY device")]

    def rejected(self) -> dict[str, int]:
        """Reason -> count."""
        return dict(self._rows("SELECT reason, count FROM rejected_count ORDER BY reason"))

    def predictions(self, device: str | None = None, boot_id: str | None = None) -> Iterator[Stored]:
        """By device, run as first heard of, pipeline and seq; one at a time, whatever their number."""
        streams = (
            "SELECT id, device, boot_id, substr(name, 12) FROM stream WHERE name LIKE 'prediction/%'"
            " AND (?1 IS NULL OR device = ?1) AND (?2 IS NULL OR boot_id = ?2) ORDER BY device, id"
        )
        messages = (
            "SELECT seq, time, clock_synced, buffered, received, payload FROM message WHERE stream = ? ORDER BY seq"
        )
        for stream, of_device, of_boot, pipeline in self._rows(streams, device, boot_id):
            for seq, time, synced, buffered, received, payload in self._rows(messages, stream):
                yield Stored(of_device, of_boot, pipeline, seq, time, bool(synced), bool(buffered), received, payload)

    def drift(
        self, since: str, until: str, device: str | None = None, pipeline: str | None = None
    ) -> Iterator[DriftStored]:
        """Reports of ``since`` < time <= ``until``, RFC 3339, oldest first. A device whose clock was not synchronised
        is taken by the time of receipt."""
        when = "CASE WHEN clock_synced THEN time ELSE received END"
        query = (
            f"SELECT device, pipeline, {when}, payload FROM drift WHERE {when} > ?1 AND {when} <= ?2"
            " AND (?3 IS NULL OR device = ?3) AND (?4 IS NULL OR pipeline = ?4) ORDER BY 3, seq"
        )
        for row in self._rows(query, since, until, device, pipeline):
            yield DriftStored(*row)

    def newest_drift(self) -> str | None:
        """When the newest report was received; None: there is none."""
        newest: str | None = next(self._rows("SELECT max(received) FROM drift"))[0]
        return newest

    def missing(self, device: str | None = None, boot_id: str | None = None) -> Iterator[StreamGaps]:
        """Every stream, whole or not, by device and run, with what is missing of it. A stream that the device speaks of
        but of which nothing was received is among them."""
        told = self._told(device, boot_id)
        latest = dict(self._rows("SELECT device, boot_id FROM ledger ORDER BY rowid"))
        query = (
            "SELECT id, device, boot_id, name, duplicates, conflicts FROM stream"
            " WHERE (?1 IS NULL OR device = ?1) AND (?2 IS NULL OR boot_id = ?2) ORDER BY device, id"
        )
        for number, *names, duplicates, conflicts in self._rows(query, device, boot_id):
            key = StreamKey(*names)
            word = told.get((key.device, key.boot_id), {}).pop(key.stream, None)
            ended = latest.get(key.device, key.boot_id) != key.boot_id
            yield find_gaps(key, self._seqs(number), word, duplicates=duplicates, conflicts=conflicts, ended=ended)
        for (of_device, of_boot), streams in told.items():
            for stream, word in streams.items():
                if word.produced:
                    ended = latest[of_device] != of_boot
                    yield find_gaps(StreamKey(of_device, of_boot, stream), (), word, ended=ended)

    def _told(self, device: str | None, boot_id: str | None) -> dict[tuple[str, str], dict[str, Told]]:
        query = (
            "SELECT device, boot_id, streams FROM ledger"
            " WHERE (?1 IS NULL OR device = ?1) AND (?2 IS NULL OR boot_id = ?2) ORDER BY rowid"
        )
        decoder = msgspec.json.Decoder(dict[str, Told])
        return {(row[0], row[1]): decoder.decode(row[2]) for row in self._rows(query, device, boot_id)}

    def _seqs(self, stream: int) -> Iterator[list[int]]:
        """Pages of an index alone: no payload is touched."""
        after = -1
        while page := [
            row[0]
            for row in self._rows(
                f"SELECT seq FROM message WHERE stream = ?1 AND seq > ?2 ORDER BY seq LIMIT {PAGE}", stream, after
            )
        ]:
            yield page
            after = page[-1]

    def _rows(self, query: str, *values: object) -> Iterator[Any]:
        try:
            yield from self._database.execute(query, values)
        except sqlite3.DatabaseError as error:
            raise StorageError(f"{self._path}: {error}", damaged=True) from None
