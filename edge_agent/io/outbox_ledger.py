"""The ledger in the outbox's file: what became of the records of each run, a row per run and stream. It is changed
only inside the transaction that moves the records themselves; and anybody may read it beside a running daemon."""

from __future__ import annotations

import os
import sqlite3
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Final
from urllib.parse import quote

import msgspec
from msgspec import Struct

from edge_agent.errors import ConfigError, StorageError
from edge_agent.io.outbox_schema import BUSY_TIMEOUT_S, DamageError, companions, storage_error
from edge_agent.outgoing import Count, RunRow, SetAside
from edge_agent.records import DiscardReason

RUNS_MOST: Final = 100  # rows of runs that have nothing stored any more, the newest
REFUSED_MOST: Final = 256  # refused messages kept, the newest
REFUSED_BODY_MOST: Final = 16 * 2**10  # bytes kept of each: enough to see what it is
_RUN: Final = "id, boot_id, started_wall_ns, checkpoint_wall_ns, clock_synced, clean"


class Change(Struct):
    """Of one row of the ledger, in one transaction."""

    produced: int = 0
    acknowledged: int = 0
    stored: int = 0
    bytes: int = 0
    discarded: dict[str, int] = msgspec.field(default_factory=dict)

    def count(self, count: Count, sign: int = 1) -> None:
        self.produced += sign * count.produced
        self.acknowledged += sign * count.acknowledged
        for reason, number in count.discarded.items():
            self.discard(reason, sign * number)

    def discard(self, reason: str, number: int) -> None:
        self.discarded[reason] = self.discarded.get(reason, 0) + number


class Changes(defaultdict[tuple[int, str], Change]):
    """By (id of the run, stream)."""

    def __init__(self) -> None:
        super().__init__(Change)

    @property
    def stored(self) -> int:
        return sum(change.stored for change in self.values())

    @property
    def bytes(self) -> int:
        return sum(change.bytes for change in self.values())

    def write(self, connection: sqlite3.Connection) -> None:
        """Add them to the ledger, inside a transaction of the caller. Raises sqlite3.Error, DamageError."""
        for (run, stream), change in self.items():
            row = connection.execute(
                "SELECT produced, acknowledged, stored, bytes, discarded FROM ledger WHERE run = ? AND stream = ?",
                (run, stream),
            ).fetchone()
            produced, acknowledged, stored, size, text = row or (0, 0, 0, 0, "{}")
            discarded = _discarded(text)
            for reason, number in change.discarded.items():
                discarded[reason] = discarded.get(reason, 0) + number
            connection.execute(
                "INSERT OR REPLACE INTO ledger VALUES(?, ?, ?, ?, ?, ?, ?)",
                (
                    run,
                    stream,
                    produced + change.produced,
                    acknowledged + change.acknowledged,
                    stored + change.stored,
                    size + change.bytes,
                    msgspec.json.encode({reason: n for reason, n in discarded.items() if n}).decode(),
                ),
            )


def _discarded(text: str) -> dict[str, int]:
    try:
        return msgspec.json.decode(text, type=dict[str, int])
    except msgspec.DecodeError as error:
        raise DamageError(f"is damaged (the ledger: {error})") from error


def read_runs(connection: sqlite3.Connection) -> list[RunRow]:
    """All rows, the newest run first. Raises sqlite3.Error, DamageError."""
    counts: dict[int, dict[str, Count]] = defaultdict(dict)
    ledger = "SELECT run, stream, produced, acknowledged, stored, discarded FROM ledger ORDER BY run, stream"
    for run, stream, produced, acknowledged, stored, text in connection.execute(ledger):
        _numbers(produced, acknowledged, stored)
        if stream:
            counts[run][stream] = Count(produced, acknowledged, stored, _discarded(text))
    rows = []
    for run, boot_id, started, checkpoint, synced, clean in connection.execute(
        f"SELECT {_RUN} FROM run ORDER BY id DESC"
    ):
        _numbers(started, checkpoint, synced, clean)
        rows.append(RunRow(boot_id, started, checkpoint, bool(synced), bool(clean), counts[run]))
    return rows


def read_totals(connection: sqlite3.Connection) -> tuple[int, int]:
    """Records and bytes that the file holds. Raises sqlite3.Error, DamageError."""
    totals = connection.execute("SELECT coalesce(sum(stored), 0), coalesce(sum(bytes), 0) FROM ledger").fetchone()
    _numbers(*totals)
    return int(totals[0]), int(totals[1])


def _numbers(*values: object) -> None:
    """SQLite takes any type in any column: a damaged page may hold a text where a number was."""
    for value in values:
        if not isinstance(value, int):
            raise DamageError(f"is damaged (the ledger holds {value!r} where a number belongs)")


def write_off(connection: sqlite3.Connection) -> None:
    """There is no record left in the file: what the ledger still has as stored was lost in damaged rows."""
    changes = Changes()
    for run, stream, stored, size in connection.execute(
        "SELECT run, stream, stored, bytes FROM ledger WHERE stored != 0 OR bytes != 0"
    ).fetchall():
        change = changes[run, stream]
        change.stored, change.bytes = -stored, -size
        change.discard(DiscardReason.DAMAGED.value, stored)
    changes.write(connection)


def forget_old_runs(connection: sqlite3.Connection) -> None:
    """So that the file stays bounded: the newest runs stay, and those that still have something stored."""
    connection.execute(
        "DELETE FROM run WHERE id NOT IN (SELECT id FROM run ORDER BY id DESC LIMIT ?) "
        "AND id NOT IN (SELECT run FROM ledger WHERE stored != 0)",
        (RUNS_MOST,),
    )
    connection.execute("DELETE FROM ledger WHERE run NOT IN (SELECT id FROM run)")


def keep_refused(connection: sqlite3.Connection, aside: Sequence[SetAside]) -> None:
    """Add messages for a person to look at; the newest stay. Inside a transaction of the caller."""
    if not aside:
        return
    connection.executemany(
        "INSERT INTO refused(boot_id, topic, reason, wall_ns, size, body) VALUES(?, ?, ?, ?, ?, ?)",
        [
            (
                message.stamp.boot_id,
                message.record.topic,
                message.reason,
                message.stamp.wall_ns,
                len(message.record.body),
                message.record.body[:REFUSED_BODY_MOST],
            )
            for message in aside[-REFUSED_MOST:]
        ],
    )
    connection.execute("DELETE FROM refused WHERE id <= (SELECT max(id) FROM refused) - ?", (REFUSED_MOST,))


class RefusedMessage(Struct, frozen=True):
    """A message that the broker refused for good. ``wall_ns``: when it was produced; ``size`` in bytes, the body's."""

    topic: str
    reason: str
    wall_ns: int
    size: int


class LedgerFile(Struct, frozen=True):
    """What the file says. ``runs`` and ``refused``: the newest first; ``file_bytes``: with SQLite's log."""

    path: Path
    runs: list[RunRow]
    records: int
    bytes: int
    file_bytes: int
    refused: list[RefusedMessage]


def read_ledger(path: Path) -> LedgerFile:
    """Read the ledger without writing and without standing in a running daemon's way.

    Raises ConfigError where there is no file, StorageError where it can't be read.
    """
    if not path.is_file():
        raise ConfigError(
            f"{path}: no outbox there; has this device run yet, and is it the configuration of its daemon?"
        )
    try:
        connection = _connect(path)
        try:
            connection.execute("BEGIN")  # all of it as of one moment
            refused = connection.execute("SELECT topic, reason, wall_ns, size FROM refused ORDER BY id DESC").fetchall()
            runs, totals = read_runs(connection), read_totals(connection)
        finally:
            connection.close()
        file_bytes = sum(file.stat().st_size for file in companions(path)[:2] if file.exists())
    except DamageError as error:
        raise StorageError(f"{path} {error}; the daemon puts it aside at its next start", damaged=True) from error
    except (sqlite3.Error, OSError) as error:
        raise storage_error(path, error) from error
    return LedgerFile(path, runs, *totals, file_bytes, [RefusedMessage(*row) for row in refused])


def _connect(path: Path) -> sqlite3.Connection:
    """Read-only. In a folder that can't be written SQLite can't make the index of the log: without a log, none is
    needed."""
    address = f"file:{quote(str(path.absolute()))}?mode=ro"
    connection = sqlite3.connect(address, uri=True, timeout=BUSY_TIMEOUT_S, isolation_level=None)
    try:
        connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
    except sqlite3.OperationalError:
        connection.close()
        log = companions(path)[1]
        if os.access(path.parent, os.W_OK) or (log.exists() and log.stat().st_size):
            raise
        connection = sqlite3.connect(address + "&immutable=1", uri=True, isolation_level=None)
    connection.text_factory = lambda text: text.decode("utf-8", "replace")
    return connection
