"""Writes what devices said into the file: each message once, whole batches or nothing.

A message that was stored before changes nothing but a counter, so that delivery may repeat itself at will.
"""

from __future__ import annotations

import fcntl
import os
import sqlite3
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct, field

from edge_agent.errors import ConfigError, StorageError
from fleet.database import open_for_writing
from fleet.intake import same_but_the_seal
from fleet.records import (
    EVENTS,
    PREDICTIONS,
    Availability,
    Info,
    Reason,
    Rejected,
    Rollout,
    Row,
    Sequenced,
    Stats,
)

REJECTED_KEPT = 1000  # the newest of them
REJECTED_BYTES = 4096  # of each
STREAMS_CACHED = 100_000


class Item(Struct, frozen=True):
    """``retained``: the broker had kept it, which says nothing of the device now."""

    row: Row | Rejected
    retained: bool = False


class Committed(Struct):
    """What one commit did, as increments."""

    predictions: int = 0
    events: int = 0
    others: int = 0
    duplicates: int = 0
    conflicts: int = 0
    rejected: int = 0
    warnings: list[tuple[str, str, str]] = field(default_factory=list)  # device, time, line; of new events alone


class Store:
    """One writer at a time, held by a lock file beside the database. Not safe for threads."""

    def __init__(self, path: Path) -> None:
        """Raises ConfigError: in use, not writable, not a database, of another program or a newer version."""
        self._lock = _locked(path)
        try:
            self._database = open_for_writing(path)
        except BaseException:
            os.close(self._lock)
            raise
        self._path = path
        self._streams: dict[tuple[str, str, str], int] = {}
        self._done = Committed()
        self._reasons: Counter[Reason] = Counter()
        self._repeated: Counter[tuple[int, str]] = Counter()  # (stream, column)
        self._seen: dict[str, bool] = {}  # device -> it spoke itself
        self._put: dict[type, Callable[[Any, str], None]] = {
            Sequenced: self._sequenced,
            Stats: self._stats,
            Rollout: self._rollout,
            Info: self._info,
            Availability: self._availability,
            Rejected: self._rejected,
        }

    def close(self) -> None:
        self._database.close()
        os.close(self._lock)

    def devices(self) -> int:
        return int(self._database.execute("SELECT count(*) FROM device").fetchone()[0])

    def commit(self, items: Sequence[Item], received: str) -> Committed:
        """All of ``items`` are on the disk when it returns; none when it raises StorageError (a full disk, for
        example: try again; ``damaged``: do not). ``received`` is RFC 3339, UTC."""
        self._done = Committed()
        self._reasons.clear()
        self._repeated.clear()
        self._seen.clear()
        try:
            self._database.execute("BEGIN IMMEDIATE")
            for item in items:
                if not isinstance(item.row, Rejected):
                    self._seen[item.row.device] = self._seen.get(item.row.device, False) or not item.retained
                self._put[type(item.row)](item.row, received)
            self._write_counts(received)
            self._database.execute("COMMIT")
        except sqlite3.Error as error:
            self._undo()
            # Full, read-only, I/O error and busy are OperationalError; a damaged file is DatabaseError itself
            damaged = not isinstance(error, sqlite3.OperationalError)
            raise StorageError(f"{self._path}: {error}", damaged=damaged) from None
        except BaseException:
            self._undo()
            raise
        return self._done

    def _undo(self) -> None:
        self._streams.clear()  # what was made in this transaction is gone
        if self._database.in_transaction:  # a full disk may have rolled back by itself
            self._database.execute("ROLLBACK")

    def _sequenced(self, row: Sequenced, received: str) -> None:
        stream = self._stream(row.device, row.boot_id, row.stream)
        new = self._database.execute(
            "INSERT INTO message (stream, seq, time, clock_synced, buffered, received, payload)"
            " VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING",
            (stream, row.seq, row.time, row.clock_synced, row.buffered, received, row.payload),
        ).rowcount
        if not new:
            self._repeat(stream, row, received)
        elif row.stream == EVENTS:
            self._done.events += 1
            if row.warning:
                self._done.warnings.append((row.device, row.time, row.warning))
        elif row.stream.startswith(PREDICTIONS):
            self._done.predictions += 1
        else:
            self._done.others += 1

    def _repeat(self, stream: int, row: Sequenced, received: str) -> None:
        query = "SELECT payload FROM message WHERE stream = ? AND seq = ?"
        (stored,) = self._database.execute(query, (stream, row.seq)).fetchone()
        if same_but_the_seal(stored, row.payload):
            self._done.duplicates += 1
            self._repeated[stream, "duplicates"] += 1
            return
        self._done.conflicts += 1
        self._repeated[stream, "conflicts"] += 1
        topic = f"{row.device}/{row.stream}"
        detail = f"boot_id {row.boot_id}, seq {row.seq} is stored with other content"
        self._rejected(Rejected(topic, Reason.CONFLICT, detail, row.payload), received)

    def _stream(self, device: str, boot_id: str, name: str) -> int:
        key = (device, boot_id, name)
        if key not in self._streams:
            if len(self._streams) >= STREAMS_CACHED:
                self._streams.clear()
            self._database.execute(
                "INSERT INTO stream (device, boot_id, name) VALUES (?, ?, ?) ON CONFLICT DO NOTHING", key
            )
            query = "SELECT id FROM stream WHERE device = ? AND boot_id = ? AND name = ?"
            self._streams[key] = int(self._database.execute(query, key).fetchone()[0])
        return self._streams[key]

    def _stats(self, row: Stats, received: str) -> None:
        self._once(
            "INSERT INTO stats (device, boot_id, time, uptime_s, received, payload) VALUES (?, ?, ?, ?, ?, ?)",
            (row.device, row.boot_id, row.time, row.uptime_s, received, row.payload),
        )
        if row.ledger:
            self._database.execute(
                "INSERT INTO ledger (device, boot_id, uptime_s, time, streams) VALUES (?, ?, ?, ?, ?)"
                " ON CONFLICT DO UPDATE SET uptime_s = excluded.uptime_s, time = excluded.time,"
                " streams = excluded.streams WHERE excluded.uptime_s >= ledger.uptime_s",
                (row.device, row.boot_id, row.uptime_s, row.time, msgspec.json.encode(row.ledger)),
            )

    def _rollout(self, row: Rollout, received: str) -> None:
        values = (row.device, row.time, received, row.payload)
        self._once("INSERT INTO rollout (device, time, received, payload) VALUES (?, ?, ?, ?)", values)

    def _once(self, insert: str, values: tuple[object, ...]) -> None:
        if self._database.execute(f"{insert} ON CONFLICT DO NOTHING", values).rowcount:
            self._done.others += 1
        else:
            self._done.duplicates += 1

    def _info(self, row: Info, received: str) -> None:
        """Kept where it differs from the last in more than its time: every reconnection publishes it."""
        self._touch(row.device, received)
        (last,) = self._database.execute("SELECT info FROM device WHERE device = ?", (row.device,)).fetchone()
        if last is not None and same_but_the_seal(last, row.payload):
            return
        self._done.others += 1
        self._database.execute("UPDATE device SET info = ? WHERE device = ?", (row.payload, row.device))
        values = (row.device, received, row.boot_id, row.payload)
        self._database.execute("INSERT INTO info_change VALUES (?, ?, ?, ?)", values)

    def _availability(self, row: Availability, received: str) -> None:
        self._touch(row.device, received)
        (last,) = self._database.execute("SELECT availability FROM device WHERE device = ?", (row.device,)).fetchone()
        if last == row.state:
            return
        self._done.others += 1
        self._database.execute("UPDATE device SET availability = ? WHERE device = ?", (row.state, row.device))
        self._database.execute("INSERT INTO availability_change VALUES (?, ?, ?)", (row.device, received, row.state))

    def _rejected(self, row: Rejected, received: str) -> None:
        self._done.rejected += row.reason is not Reason.CONFLICT
        self._reasons[row.reason] += 1
        self._database.execute(
            "INSERT INTO rejected (received, topic, reason, detail, bytes, payload) VALUES (?, ?, ?, ?, ?, ?)",
            (received, row.topic, row.reason.value, row.detail, len(row.payload), row.payload[:REJECTED_BYTES]),
        )

    def _touch(self, device: str, received: str) -> None:
        insert = "INSERT INTO device (device, first_seen) VALUES (?, ?) ON CONFLICT DO NOTHING"
        self._database.execute(insert, (device, received))

    def _write_counts(self, received: str) -> None:
        for device, itself in self._seen.items():
            self._touch(device, received)
            if itself:
                self._database.execute("UPDATE device SET last_seen = ? WHERE device = ?", (received, device))
        for (stream, column), count in self._repeated.items():
            self._database.execute(f"UPDATE stream SET {column} = {column} + ? WHERE id = ?", (count, stream))
        for reason, count in self._reasons.items():
            self._database.execute(
                "INSERT INTO rejected_count VALUES (?, ?) ON CONFLICT DO UPDATE SET count = count + excluded.count",
                (reason.value, count),
            )
        if self._reasons:
            newest = f"SELECT max(id) - {REJECTED_KEPT} FROM rejected"
            self._database.execute(f"DELETE FROM rejected WHERE id <= ({newest})")


def _locked(path: Path) -> int:
    """A descriptor that holds the lock. A file of its own: closing any descriptor of the database itself would drop
    SQLite's locks. It stays behind; only the lock on it counts. Raises ConfigError."""
    lock = path.with_name(path.name + ".lock")
    try:
        descriptor = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except OSError as error:
        raise ConfigError(f"{lock}: {error.strerror}; check the folder of --db and who may write there") from None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        raise ConfigError(f"{path}: in use by another edge-fleet collect; stop it, or give another --db") from None
    return descriptor
