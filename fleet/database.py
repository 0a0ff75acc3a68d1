"""The file: its tables, how it is told from other files, and the views that a person queries."""

from __future__ import annotations

import sqlite3
from pathlib import Path

from edge_agent.errors import ConfigError

APPLICATION = 0x45464C43  # "EFLC" in the header of the file
VERSION = 2  # 1 had a table of drift reports without their seq

TABLES = """
CREATE TABLE stream (
    id INTEGER PRIMARY KEY,
    device TEXT NOT NULL,
    boot_id TEXT NOT NULL,
    name TEXT NOT NULL,  -- prediction/<pipeline>, drift/<pipeline> or event
    duplicates INTEGER NOT NULL DEFAULT 0,
    conflicts INTEGER NOT NULL DEFAULT 0,  -- the same seq with other content: kept out
    UNIQUE (device, boot_id, name));
CREATE TABLE message (
    id INTEGER PRIMARY KEY,
    stream INTEGER NOT NULL REFERENCES stream (id),
    seq INTEGER NOT NULL,
    time TEXT NOT NULL,
    clock_synced INTEGER NOT NULL,
    buffered INTEGER,
    received TEXT NOT NULL,
    payload BLOB NOT NULL,
    UNIQUE (stream, seq));
CREATE TABLE stats (
    device TEXT NOT NULL, boot_id TEXT NOT NULL, time TEXT NOT NULL, uptime_s REAL NOT NULL,
    received TEXT NOT NULL, payload BLOB NOT NULL, UNIQUE (device, boot_id, time));
CREATE TABLE ledger (  -- the last word of each run
    device TEXT NOT NULL, boot_id TEXT NOT NULL, uptime_s REAL NOT NULL, time TEXT NOT NULL, streams BLOB NOT NULL,
    UNIQUE (device, boot_id));
CREATE TABLE rollout (
    device TEXT NOT NULL, time TEXT NOT NULL, received TEXT NOT NULL, payload BLOB NOT NULL, UNIQUE (device, time));
CREATE TABLE device (
    device TEXT PRIMARY KEY, first_seen TEXT NOT NULL,
    last_seen TEXT,  -- of what it said itself; what the broker retained says nothing of now
    availability TEXT, info BLOB) WITHOUT ROWID;
CREATE TABLE availability_change (device TEXT NOT NULL, received TEXT NOT NULL, state TEXT NOT NULL);
CREATE TABLE info_change (device TEXT NOT NULL, received TEXT NOT NULL, boot_id TEXT NOT NULL, payload BLOB NOT NULL);
CREATE TABLE rejected (
    id INTEGER PRIMARY KEY, received TEXT NOT NULL, topic TEXT NOT NULL, reason TEXT NOT NULL, detail TEXT NOT NULL,
    bytes INTEGER NOT NULL, payload BLOB NOT NULL);
CREATE TABLE rejected_count (reason TEXT PRIMARY KEY, count INTEGER NOT NULL) WITHOUT ROWID;
CREATE VIEW prediction AS
    SELECT device, boot_id, substr(name, 12) AS pipeline, seq, time, clock_synced, buffered, received, payload
    FROM message JOIN stream ON stream.id = message.stream WHERE name LIKE 'prediction/%';
CREATE VIEW drift AS
    SELECT device, boot_id, substr(name, 7) AS pipeline, seq, time, clock_synced, received, payload
    FROM message JOIN stream ON stream.id = message.stream WHERE name LIKE 'drift/%';
CREATE VIEW event AS
    SELECT device, boot_id, seq, time, clock_synced, received,
        json_extract(CAST(payload AS TEXT), '$.kind') AS kind,
        json_extract(CAST(payload AS TEXT), '$.severity') AS severity,
        json_extract(CAST(payload AS TEXT), '$.subject') AS subject,
        json_extract(CAST(payload AS TEXT), '$.detail') AS detail, payload
    FROM message JOIN stream ON stream.id = message.stream WHERE name = 'event';
"""


def open_for_writing(path: Path) -> sqlite3.Connection:
    """The file, made where it is not there. Raises ConfigError that says why it can't be used."""
    try:
        database = sqlite3.connect(path, isolation_level=None, timeout=10)
        try:
            prepare(database, path)
        except BaseException:
            database.close()
            raise
    except sqlite3.Error as error:
        raise unusable(path, error) from None
    return database


def prepare(database: sqlite3.Connection, path: Path) -> None:
    if not _is_new(database):
        check(database, path, oldest=1)
    # FULL: a commit in WAL mode is on the disk before it returns. NORMAL loses acknowledged rows in a power cut.
    database.execute("PRAGMA journal_mode = WAL")
    database.execute("PRAGMA synchronous = FULL")
    database.execute("PRAGMA cache_size = -65536")
    database.execute("BEGIN IMMEDIATE")
    if _is_new(database):
        for statement in TABLES.split(";\n"):
            database.execute(statement)
        database.execute(f"PRAGMA application_id = {APPLICATION}")
        database.execute(f"PRAGMA user_version = {VERSION}")
    elif _version(database) == 1:
        database.execute("ALTER TABLE drift RENAME TO drift_of_version_1")
        database.execute(next(view for view in TABLES.split(";\n") if view.startswith("CREATE VIEW drift")))
        database.execute(f"PRAGMA user_version = {VERSION}")
    database.execute("COMMIT")


def _version(database: sqlite3.Connection) -> int:
    return int(database.execute("PRAGMA user_version").fetchone()[0])


def _is_new(database: sqlite3.Connection) -> bool:
    return bool(database.execute("SELECT count(*) FROM sqlite_master").fetchone()[0] == 0)


def open_for_reading(path: Path) -> sqlite3.Connection:
    """Raises ConfigError that says why the file can't be used."""
    if not path.is_file():
        raise ConfigError(f"{path}: no such file; edge-fleet collect --db writes it")
    try:
        database = sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True, isolation_level=None, timeout=10)
        try:
            check(database, path)
        except BaseException:
            database.close()
            raise
    except sqlite3.Error as error:
        raise unusable(path, error) from None
    return database


def check(database: sqlite3.Connection, path: Path, *, oldest: int = VERSION) -> None:
    """Raises ConfigError for a database of another program, of a newer version or one before ``oldest``; sqlite3.Error
    for none at all."""
    if database.execute("PRAGMA application_id").fetchone()[0] != APPLICATION:
        raise ConfigError(f"{path}: a SQLite database, but not one of edge-fleet collect; give another --db")
    version = _version(database)
    if version < oldest:
        raise ConfigError(f"{path}: its schema is {version}; edge-fleet collect --db brings it to {VERSION}")
    if version > VERSION:
        raise ConfigError(
            f"{path}: its schema is {version}, this edge-fleet knows {VERSION}: use the version that wrote it"
        )


def unusable(path: Path, error: sqlite3.Error) -> ConfigError:
    if "not a database" in str(error):
        return ConfigError(f"{path}: not a SQLite database; give another --db")
    return ConfigError(f"{path}: can't be used as database ({error}); check the path, its folder and who may write")
