"""The outbox's file: its schema, opening and checking it, and putting aside what can't be used.

A file is either good, or it lies aside under another name for a person to look at; it is never mended in place.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable
from datetime import datetime, timezone
from glob import escape
from pathlib import Path
from typing import Final

from edge_agent.errors import StorageError

APPLICATION_ID: Final = 0x65644F42  # "edOB": says whose file it is, also to file(1)
VERSION: Final = 1

# The two lanes are two tables: each is read in the order of its key, whatever the other holds. `rank` is the order of
# all runs together and may be negative. `crc` is of the whole row with its run and route (outbox_rows.py).
_LANE = """CREATE TABLE {}(rank INTEGER PRIMARY KEY, run INTEGER NOT NULL, route INTEGER NOT NULL,
    mono_ns INTEGER NOT NULL, since_ns INTEGER NOT NULL, wall_ns INTEGER NOT NULL, clock_synced INTEGER NOT NULL,
    crc INTEGER NOT NULL, body BLOB NOT NULL)"""
_SCHEMA: Final = (
    # `id` is the order of the runs; `base` the rank of its record number 0
    """CREATE TABLE run(id INTEGER PRIMARY KEY, boot_id TEXT NOT NULL UNIQUE, base INTEGER NOT NULL,
    commits INTEGER NOT NULL, started_wall_ns INTEGER NOT NULL, checkpoint_wall_ns INTEGER NOT NULL,
    clock_synced INTEGER NOT NULL, clean INTEGER NOT NULL)""",
    # stream "": what is stored but not counted; `stored` and `bytes` are what the two lanes hold
    """CREATE TABLE ledger(run INTEGER NOT NULL, stream TEXT NOT NULL, produced INTEGER NOT NULL,
    acknowledged INTEGER NOT NULL, stored INTEGER NOT NULL, bytes INTEGER NOT NULL, discarded TEXT NOT NULL,
    PRIMARY KEY(run, stream)) WITHOUT ROWID""",
    # what is the same for many records
    """CREATE TABLE route(id INTEGER PRIMARY KEY, kind INTEGER NOT NULL, topic TEXT NOT NULL, schema TEXT,
    retain INTEGER NOT NULL, qos INTEGER NOT NULL, expiry_s INTEGER, pipeline TEXT)""",
    _LANE.format("prediction"),
    _LANE.format("event"),
    "CREATE INDEX event_route ON event(route)",  # to find the retained value that a new one replaces
    """CREATE TABLE refused(id INTEGER PRIMARY KEY, boot_id TEXT NOT NULL, topic TEXT NOT NULL, reason TEXT NOT NULL,
    wall_ns INTEGER NOT NULL, size INTEGER NOT NULL, body BLOB NOT NULL)""",
    f"PRAGMA application_id = {APPLICATION_ID}",
    f"PRAGMA user_version = {VERSION}",
)

_SETTINGS: Final = (
    "PRAGMA trusted_schema = OFF",
    "PRAGMA cell_size_check = ON",
    "PRAGMA synchronous = FULL",  # in WAL mode: the log is synced at each commit
    "PRAGMA journal_size_limit = 4194304",  # bytes: a log that grew in one large commit shrinks again
    "PRAGMA secure_delete = OFF",  # Debian's default writes zeros over what is deleted
    "PRAGMA temp_store = MEMORY",
)

BUSY_TIMEOUT_S: Final = 0.5  # nobody else writes; a reader of the ledger never stands in the way of a writer

# All pages of a file up to this are checked at each start; of a larger one, all but the waiting messages, each of
# which has its checksum. A full outbox of 1 GiB would take an SD card (25 MB/s) 40 s to read.
CHECK_BYTES_MOST: Final = 64 * 2**20

SET_ASIDE_MOST: Final = 2  # damaged files kept, the newest: a card that fails must not fill up with them

# SQLite's own texts (sqlite3ErrStr): the same in all versions, where Python 3.10 has no error codes.
_ADVICE: Final = {
    "database or disk is full": "free some space on it, or set a smaller [outbox] disk",
    "attempt to write a readonly database": "is its file system mounted read-only, and the file this user's own?",
    "disk I/O error": "look into dmesg: the disk fails, or is full",
    "unable to open database file": "may this user write into the folder, and is there room on the disk?",
    "database is locked": "another program writes to it; end that program",
}
_DAMAGE: Final = ("malformed", "not a database", "no such table", "no such column", "has no column", "no such index")


class DamageError(Exception):
    """The file can't be used, whatever the disk does. The text says why, to follow "it "."""


def is_damage(error: sqlite3.Error) -> bool:
    """Whether the file itself is at fault, not the room on the disk or who may write there."""
    return type(error) is sqlite3.DatabaseError or any(words in str(error) for words in _DAMAGE)


def is_full(error: sqlite3.Error) -> bool:
    """Whether there is only no room."""
    return "database or disk is full" in str(error)


def storage_error(path: Path, error: sqlite3.Error | OSError, *, readable: bool = False) -> StorageError:
    """In the disk's own words, with the path and what to do."""
    if isinstance(error, OSError):
        return StorageError(f"{path}: {error.strerror or error}; the outbox needs a folder and file that it can write")
    if is_damage(error):
        return StorageError(f"{path}: {error}; the file is damaged, a new one takes its place", damaged=True)
    advice = next((advice for words, advice in _ADVICE.items() if words in str(error)), "is the disk in order?")
    return StorageError(f"{path}: {error}; {advice}", readable=readable)


def open_database(path: Path) -> sqlite3.Connection:
    """Open or make the file at ``path``, whose folder exists, and check it.

    Raises DamageError, and sqlite3.Error and OSError where it is the disk.
    """
    if not path.exists() or path.stat().st_size == 0:
        _make_file(path)
    # isolation_level None: transactions begin and end where the code says so
    connection = sqlite3.connect(path, timeout=BUSY_TIMEOUT_S, isolation_level=None, check_same_thread=False)
    try:
        # a damaged letter must give a wrong checksum, not an exception of Python's
        connection.text_factory = lambda text: text.decode("utf-8", "replace")
        for setting in _SETTINGS:
            connection.execute(setting)
        _check_owner(connection, path)
        (mode,) = connection.execute("PRAGMA journal_mode = WAL").fetchone()
        if mode != "wal":
            raise StorageError(f"{path}: this file system can't hold SQLite's log; put [outbox] path on a local disk")
        if connection.execute("SELECT count(*) FROM sqlite_master").fetchone() == (0,):
            _make_schema(connection)
        _check(connection, path)
    except UnicodeDecodeError as error:  # SQLite names a table, and its name is damaged
        connection.close()
        raise DamageError("is damaged (a name in its schema is no text)") from error
    except BaseException:
        connection.close()
        raise
    return connection


def _make_file(path: Path) -> None:
    """An empty file that survives a power cut by its name, too. A log without its file is worth nothing."""
    for companion in companions(path)[1:]:
        companion.unlink(missing_ok=True)
    os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))
    sync_folder(path.parent)


def _make_schema(connection: sqlite3.Connection) -> None:
    connection.execute("BEGIN IMMEDIATE")
    for statement in _SCHEMA:
        connection.execute(statement)
    connection.execute("COMMIT")


def _check_owner(connection: sqlite3.Connection, path: Path) -> None:
    """Before anything is written: whose file it is, and of which version. A new file has neither. Another program's
    stays where it is, and so does a later version's, whose records a later edge-agent will deliver."""
    (tables,) = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
    (application,) = connection.execute("PRAGMA application_id").fetchone()
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if (tables, application, version) == (0, 0, 0):
        return
    if application != APPLICATION_ID:
        raise StorageError(f"{path} is another program's database; set [outbox] path to a file of its own")
    if version > VERSION:
        raise StorageError(
            f"{path} was made by a later edge-agent (version {version}, this one knows {VERSION}); "
            "install that one, or set [outbox] path to another file"
        )
    if version != VERSION:
        raise DamageError(f"has version {version} of the outbox's schema, this program knows {VERSION}")


def _check(connection: sqlite3.Connection, path: Path) -> None:
    whole = path.stat().st_size <= CHECK_BYTES_MOST
    for table in ("",) if whole else ("(run)", "(ledger)", "(route)", "(refused)"):
        (verdict,) = connection.execute(f"PRAGMA quick_check{table}").fetchone()
        if verdict != "ok":
            raise DamageError(f"is damaged ({' '.join(verdict.split())})")
    _check_tables(connection)


def _check_tables(connection: sqlite3.Connection) -> None:
    """Whether the tables are the ones that we made: the version may be right and the text of the schema not."""
    with sqlite3.connect(":memory:", isolation_level=None) as model:
        for statement in _SCHEMA:
            model.execute(statement)
        names = "SELECT type, name, sql FROM sqlite_master WHERE type IN ('table', 'index') ORDER BY type, name"
        expected = model.execute(names).fetchall()
    if connection.execute(names).fetchall() != expected:
        raise DamageError("has other tables than this program makes")


def companions(path: Path) -> list[Path]:
    """The file and what SQLite may have put beside it."""
    return [path.with_name(path.name + ending) for ending in ("", "-wal", "-shm", "-journal")]


def set_aside(path: Path, now: Callable[[], int]) -> Path:
    """Rename the file with its companions; returns its new name. ``now``: wall clock in ns. Raises OSError."""
    stamp = datetime.fromtimestamp(now() / 1e9, timezone.utc).strftime("%Y%m%dT%H%M%SZ")
    number = 0
    aside = path.with_name(f"{path.stem}.damaged-{stamp}{path.suffix}")
    while aside.exists():
        number += 1
        aside = path.with_name(f"{path.stem}.damaged-{stamp}-{number}{path.suffix}")
    # the file first: what a power cut leaves of a log without its file is thrown away, the other way round it isn't
    for old, new in zip(companions(path), companions(aside), strict=True):
        if old.exists():
            old.rename(new)
    earlier = sorted(
        path.parent.glob(f"{escape(path.stem)}.damaged-*{escape(path.suffix)}"),
        key=lambda file: file.stat().st_mtime_ns,
    )
    for old in [file for file in earlier if file != aside][: -(SET_ASIDE_MOST - 1)]:
        for companion in companions(old):
            companion.unlink(missing_ok=True)
    sync_folder(path.parent)
    return aside


def sync_folder(folder: Path) -> None:
    """So that names made or changed in it survive a power cut. Raises OSError."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
