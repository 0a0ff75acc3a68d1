"""The outbox's store on SQLite: what waits for the broker outlives the process, and the ledger with it.

One process at a time, by a lock on a file beside it. On the disk a record has a *rank*, its place in the order of all
runs: the base of this process plus its number.
"""

from __future__ import annotations

import contextlib
import copy
import fcntl
import os
import sqlite3
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

import msgspec

from edge_agent.errors import StorageError
from edge_agent.io.clock import SystemClock
from edge_agent.io.outbox_lanes import Lanes, highest_rank
from edge_agent.io.outbox_ledger import Changes, forget_old_runs, keep_refused, read_runs, read_totals, write_off
from edge_agent.io.outbox_schema import (
    DamageError,
    companions,
    is_damage,
    is_full,
    open_database,
    set_aside,
    storage_error,
    sync_folder,
)
from edge_agent.outgoing import Batch, Committed, Count, CountKey, Lane, Loaded, Opened
from edge_agent.ports import Clock

Trimmed = Mapping[CountKey, Mapping[str, int]]

EMPTY_BYTES_MOST: Final = 4 * 2**20  # an empty file larger than that gives its pages back


class SqliteOutbox:
    """``ports.OutboxStore`` in the file at ``path``.

    After a StorageError of ``commit`` or ``load`` the file is closed (unless the disk is only full: ``readable``), and
    nothing of the call has happened as far as the ledger can tell: the caller hands the same over again after ``open``,
    which it calls when it sees fit. The lock stays held until ``close``.
    """

    def __init__(self, path: Path, clock: Clock | None = None) -> None:
        self._path = path
        self._clock = clock or SystemClock()
        self._lock: int | None = None
        self._connection: sqlite3.Connection | None = None
        self._lanes: Lanes | None = None
        self._boot_id = ""
        self._aside: str | None = None  # an earlier file was put aside, and nobody has been told yet
        self._damage: str | None = None  # what commit or load found: the check of a large file would not find it again
        self._base = 0  # the rank of this run's number 0
        self._commits = 0  # of this run, as the file has it
        self._records = self._bytes = 0
        # counts whose commit failed and still reached the disk: taken off again by the next one
        self._owed: Mapping[CountKey, Count] = {}
        self._owed_rows: list[int] = []  # and the numbers of its rows: some may have left the outbox since
        self._untold: Trimmed = {}  # what it gave up, for the next answer
        self._doubtful: tuple[int, Mapping[CountKey, Count], list[int], Trimmed] | None = None

    def open(self, boot_id: str) -> Opened:
        """Open or make the file, check it, begin the ledger's row of this run. A file that can't be used is put
        aside. Raises StorageError: the disk, or another process that uses the file."""
        self._disconnect()
        self._boot_id = boot_id
        try:
            self._hold()
            try:
                if self._damage is not None:
                    raise DamageError(self._damage)
                return self._told(self._start())
            except DamageError as error:
                reason = str(error)
            except sqlite3.Error as error:
                if not is_damage(error):
                    raise
                reason = f"is damaged ({error})"
            self._disconnect()
            aside = set_aside(self._path, self._wall_ns)
            self._damage = None
            self._aside = f"{self._path} {reason}; it is kept as {aside}"
            return self._told(self._start())
        except DamageError as error:
            self._disconnect()
            raise StorageError(f"{self._path}: the new file {error}; is the disk in order?", damaged=True) from error
        except (sqlite3.Error, OSError) as error:
            self._disconnect()
            raise storage_error(self._path, error) from error

    def _told(self, opened: Opened) -> Opened:
        """The new file may be made at a later attempt than the one that put the old file aside."""
        aside, self._aside = self._aside, None
        return msgspec.structs.replace(opened, set_aside=aside) if aside else opened

    def commit(self, batch: Batch) -> Committed:
        """The whole batch in one transaction, on the disk when it returns. Raises StorageError."""
        with self._using() as (connection, lanes):
            connection.execute("BEGIN IMMEDIATE")
            changes = Changes()
            lanes.remove(self._owed_rows, changes)
            lanes.insert(batch.insert, changes)
            lanes.remove(batch.delete, changes)
            for sign, counts in ((1, batch.counts), (-1, self._owed)):
                for (boot_id, stream), count in counts.items():
                    if stream:
                        changes[lanes.run(boot_id), stream].count(count, sign)
            trimmed: Trimmed = lanes.trim(batch.trim, self._bytes, changes) if batch.trim else {}
            keep_refused(connection, batch.aside)
            changes.write(connection)
            connection.execute(
                "UPDATE run SET checkpoint_wall_ns = ?, clean = ?, commits = ? WHERE boot_id = ?",
                (self._wall_ns(), batch.clean, self._commits + 1, self._boot_id),
            )
            rows = [kept.number for kept in batch.insert]
            self._doubtful = (self._commits + 1, copy.deepcopy(dict(batch.counts)), rows, trimmed)
            connection.execute("COMMIT")
            trimmed = _sum(self._untold, trimmed)
            self._doubtful, self._owed, self._owed_rows, self._untold = None, {}, [], {}
            self._commits += 1
            self._records += changes.stored
            self._bytes += changes.bytes
        if self._records == 0 and (batch.delete or trimmed):
            self._give_pages_back(connection)
        return Committed(self._records, self._bytes, trimmed)

    def load(self, lane: Lane, after: int, count_most: int, bytes_most: int) -> Loaded:
        """The next records of a lane with numbers above ``after``; at least one where there is one. Raises
        StorageError."""
        with self._using() as (_connection, lanes):
            return lanes.load(lane, after, count_most, bytes_most)

    def close(self) -> None:
        """Never raises; may be called twice."""
        self._disconnect()
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    # --- the file ------------------------------------------------------------------------------------------------

    def _hold(self) -> None:
        """The folder, and the lock on it. Raises StorageError, OSError."""
        folder = self._path.parent
        if not folder.is_dir():
            folder.mkdir(mode=0o700, parents=True)
            sync_folder(folder.parent)
        if self._path.exists() and not self._path.is_file():
            raise StorageError(f"{self._path}: is no file; set [outbox] path to a file, it is made where there is none")
        if self._lock is not None:
            return
        beside = self._path.with_name(self._path.name + ".lock")
        lock = os.open(beside, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            holder = os.pread(lock, 20, 0).decode("ascii", "replace").strip() or "unknown"
            os.close(lock)
            if not isinstance(error, BlockingIOError):
                raise
            raise StorageError(
                f"{self._path} is in use by another edge-agent (pid {holder}); "
                "give each daemon its own [outbox] path or [device] id"
            ) from error
        self._lock = lock
        with contextlib.suppress(OSError):  # the pid is only for that message: a full disk does not matter here
            os.ftruncate(lock, 0)
            os.pwrite(lock, f"{os.getpid()}\n".encode(), 0)

    def _start(self) -> Opened:
        """Open the file, begin or resume this run's row. Raises DamageError, StorageError, sqlite3.Error, OSError."""
        self._connection = connection = open_database(self._path)
        connection.execute("BEGIN IMMEDIATE")
        runs = read_runs(connection)  # raises DamageError where a row of the ledger makes no sense
        known = any(run.boot_id == self._boot_id for run in runs)
        unclean = None
        if known:
            self._resume(connection)
        else:
            self._begin(connection)
            unclean = next((run for run in runs[:1] if not run.clean), None)
        self._records, self._bytes = read_totals(connection)
        if highest_rank(connection) is None:
            write_off(connection)
            connection.execute("DELETE FROM route")
            self._records = self._bytes = 0
        forget_old_runs(connection)
        self._lanes = Lanes(connection, self._boot_id, self._base)
        connection.execute("COMMIT")
        if self._records == 0:
            self._give_pages_back(connection)
        return Opened(self._records, self._bytes, unclean=unclean, bytes_most=self._bytes_most())

    def _bytes_most(self) -> int:
        """Half of the room that there is: the log needs some beside the file, and so does everybody else. Never less
        than what is there already: another program that fills the disk must not cost records."""
        own = sum(file.stat().st_size for file in companions(self._path) if file.exists())
        system = os.statvfs(self._path.parent)
        return max(own, (own + system.f_bavail * system.f_frsize) // 2)

    def _begin(self, connection: sqlite3.Connection) -> None:
        """A new row for this run, which comes after all that the file holds."""
        highest = highest_rank(connection)
        self._base = 0 if highest is None else highest + 1
        self._owed, self._owed_rows, self._untold, self._doubtful, self._commits = {}, [], {}, None, 0
        now = self._wall_ns()
        connection.execute(
            "INSERT INTO run(boot_id, base, commits, started_wall_ns, checkpoint_wall_ns, clock_synced, clean) "
            "VALUES(?, ?, 0, ?, ?, ?, 0)",
            (self._boot_id, self._base, now, now, self._clock.synced()),
        )

    def _resume(self, connection: sqlite3.Connection) -> None:
        """The file is the one that this run used before an error."""
        own = (self._boot_id,)
        row = connection.execute("SELECT base, commits FROM run WHERE boot_id = ?", own).fetchone()
        self._base, self._commits = row
        if self._doubtful is not None and self._doubtful[0] == self._commits:
            # its sync failed, and the log that was read anew holds it all the same
            _, self._owed, self._owed_rows, trimmed = self._doubtful
            self._untold = _sum(self._untold, trimmed)
        self._doubtful = None
        connection.execute("UPDATE run SET clean = 0 WHERE boot_id = ?", own)

    @contextlib.contextmanager
    def _using(self) -> Iterator[tuple[sqlite3.Connection, Lanes]]:
        """What an error interrupts is rolled back with the connection, and what was remembered of it forgotten."""
        if self._connection is None or self._lanes is None:
            raise StorageError(f"{self._path}: the outbox is closed after an error; it must be opened again")
        try:
            yield self._connection, self._lanes
        except BaseException as error:
            if isinstance(error, sqlite3.OperationalError) and is_full(error) and self._rolled_back():
                raise storage_error(self._path, error, readable=True) from error
            self._disconnect()
            if isinstance(error, DamageError):
                self._damage = str(error)
                raise StorageError(f"{self._path} {error}; a new file takes its place", damaged=True) from error
            if isinstance(error, sqlite3.Error):
                self._damage = f"is damaged ({error})" if is_damage(error) else None
                raise storage_error(self._path, error) from error
            raise

    def _rolled_back(self) -> bool:
        """Whether the connection is as it was before the transaction that found no room."""
        connection = self._connection
        assert connection is not None  # for the type checker: _using has looked
        try:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            self._lanes = Lanes(connection, self._boot_id, self._base)
        except sqlite3.Error:
            return False
        self._doubtful = None
        return True

    def _disconnect(self) -> None:
        connection, self._connection, self._lanes = self._connection, None, None
        if connection is not None:
            # first the transaction: a cursor that a traceback still holds would keep it, and the lock, beyond the close
            with contextlib.suppress(sqlite3.Error):
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
            # it also writes the log into the file; where the disk fails the next open does that
            with contextlib.suppress(sqlite3.Error):
                connection.close()

    def _give_pages_back(self, connection: sqlite3.Connection) -> None:
        """An empty file is rewritten at once; one that has rows uses its free pages again."""
        # what is committed stays so, whatever becomes of this: it is tried again when the file is next empty
        with contextlib.suppress(sqlite3.Error):
            (pages,) = connection.execute("PRAGMA page_count").fetchone()
            (page_bytes,) = connection.execute("PRAGMA page_size").fetchone()
            if pages * page_bytes > EMPTY_BYTES_MOST:
                connection.execute("VACUUM")
                connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()

    def _wall_ns(self) -> int:
        return self._clock.wall_ns(self._clock.monotonic_ns())


def _sum(one: Trimmed, other: Trimmed) -> Trimmed:
    return {key: dict(Counter(one.get(key, {})) + Counter(other.get(key, {}))) for key in {**one, **other}}
