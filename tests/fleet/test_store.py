"""The file: each message once, whole batches or none, one writer, and a clear line where it can't be used."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from edge_agent.errors import ConfigError, StorageError
from fleet.collected import Collected
from fleet.database import APPLICATION, VERSION
from fleet.records import Availability, Info, Reason, Rejected, Rollout, Sequenced, Stats, Told
from fleet.store import REJECTED_BYTES, REJECTED_KEPT, Item, Store
from tests.fleet.payloads import BOOT, DEVICE, NOW, encoded, info, row
from tests.simulators.waiting import wait_for

LATER = "2026-11-21T12:00:05.000Z"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "collected.sqlite"


@pytest.fixture
def store(path: Path) -> Iterator[Store]:
    opened = Store(path)
    yield opened
    opened.close()


def rows(path: Path, query: str) -> list[tuple[object, ...]]:
    database = sqlite3.connect(path)
    try:
        return database.execute(query).fetchall()
    finally:
        database.close()


def test_a_prediction_that_comes_twice_is_stored_once_and_counted(store: Store, path: Path) -> None:
    first = store.commit([Item(row(0)), Item(row(1)), Item(row(1))], NOW)
    again = store.commit([Item(row(0, buffered=True, clock_synced=False, time=LATER))], LATER)
    assert (first.predictions, first.duplicates, again.predictions, again.duplicates) == (2, 1, 0, 1)
    with Collected(path) as collected:
        stored = list(collected.predictions(DEVICE))
        (gaps,) = collected.missing(DEVICE)
    assert [(one.seq, one.received, one.payload) for one in stored] == [(seq, NOW, encoded_of(seq)) for seq in range(2)]
    assert (gaps.duplicates, gaps.conflicts, gaps.good) == (2, 0, True)


def encoded_of(seq: int) -> bytes:
    return row(seq).payload


def test_a_prediction_with_other_content_is_kept_out_counted_and_shown(store: Store, path: Path) -> None:
    store.commit([Item(row(0))], NOW)
    done = store.commit([Item(row(0, delegate="gpu"))], LATER)
    assert (done.predictions, done.duplicates, done.conflicts, done.rejected) == (0, 0, 1, 0)
    with Collected(path) as collected:
        assert [one.payload for one in collected.predictions()] == [row(0).payload]
        (gaps,) = collected.missing()
        assert (gaps.conflicts, gaps.good, collected.rejected()) == (1, False, {"conflict": 1})
    assert rows(path, "SELECT payload FROM rejected") == [(row(0, delegate="gpu").payload,)]


def test_stats_drift_and_rollout_states_are_kept_once(store: Store, path: Path) -> None:
    items = [
        Item(Stats(DEVICE, BOOT, NOW, 10.0, {}, b"{}")),
        Item(Sequenced(DEVICE, BOOT, "drift/inspect", 0, NOW, True, b"{}")),
        Item(Rollout(DEVICE, NOW, b"{}")),
    ]
    assert store.commit(items, NOW).others == 3
    assert store.commit(items, LATER).duplicates == 3
    for table in ("stats", "drift", "rollout"):
        assert rows(path, f"SELECT received FROM {table}") == [(NOW,)]


def test_the_ledger_is_the_run_s_newest_word_whatever_the_order_of_arrival(store: Store, path: Path) -> None:
    for uptime_s, produced in ((10.0, 5), (30.0, 9), (20.0, 7)):
        word = {"prediction/inspect": Told(produced, acknowledged=produced)}
        store.commit([Item(Stats(DEVICE, BOOT, f"t{uptime_s}", uptime_s, word, b"{}"))], NOW)
    store.commit([Item(Stats(DEVICE, BOOT, "t40", 40.0, {}, b"{}"))], NOW)  # of a version without one
    with Collected(path) as collected:
        (gaps,) = collected.missing()
    assert (gaps.told, gaps.received, gaps.missing) == (Told(9, acknowledged=9), 0, 9)


def test_info_and_availability_are_kept_where_they_change(store: Store, path: Path) -> None:
    online, offline = Availability(DEVICE, "online"), Availability(DEVICE, "offline")
    one = Info(DEVICE, BOOT, encoded(info()))
    same_later = Info(DEVICE, BOOT, encoded(info(time=LATER)))
    other = Info(DEVICE, BOOT, encoded(info(agent="0.2.0")))
    store.commit([Item(kept) for kept in (online, one, online, same_later, offline, other, online)], NOW)
    assert rows(path, "SELECT state FROM availability_change") == [("online",), ("offline",), ("online",)]
    assert rows(path, "SELECT payload FROM info_change") == [(one.payload,), (other.payload,)]
    assert rows(path, "SELECT availability, info FROM device") == [("online", other.payload)]


def test_what_the_broker_retained_is_no_sign_of_life(store: Store, path: Path) -> None:
    store.commit([Item(Availability(DEVICE, "online"), retained=True)], NOW)
    assert rows(path, "SELECT first_seen, last_seen FROM device") == [(NOW, None)]
    store.commit([Item(row(0))], LATER)
    assert rows(path, "SELECT first_seen, last_seen FROM device") == [(NOW, LATER)]


def test_of_rejected_messages_the_newest_are_kept_in_part_and_all_are_counted(store: Store, path: Path) -> None:
    whole = [Item(Rejected(f"t/{n}", Reason.NOT_JSON, "d", b"x" * 10_000)) for n in range(REJECTED_KEPT + 500)]
    assert store.commit(whole[:700], NOW).rejected == 700
    store.commit(whole[700:], NOW)
    query = "SELECT count(*), min(topic = 't/499'), max(length(payload)), max(bytes) FROM rejected"
    assert rows(path, query) == [(REJECTED_KEPT, 0, REJECTED_BYTES, 10_000)]
    assert rows(path, "SELECT topic FROM rejected ORDER BY id LIMIT 1") == [("t/500",)]
    assert rows(path, "SELECT * FROM rejected_count") == [("not_json", REJECTED_KEPT + 500)]


def test_a_batch_that_fails_half_way_leaves_nothing_and_can_be_tried_again(store: Store, path: Path) -> None:
    """The disk fills up in the middle of a batch: SQLite's own limit on the pages stands in for it."""
    store.commit([Item(row(0))], NOW)
    (pages,) = store._database.execute("PRAGMA page_count").fetchone()
    store._database.execute(f"PRAGMA max_page_count = {pages + 5}")
    batch = [Item(row(seq, boot_id="another")) for seq in range(1, 200)]
    with pytest.raises(StorageError, match="full") as caught:
        store.commit(batch, NOW)
    assert not caught.value.damaged
    assert rows(path, "SELECT seq FROM message") == [(0,)]
    store._database.execute("PRAGMA max_page_count = 1000000")
    assert store.commit(batch, NOW).predictions == 199
    assert store.commit(batch, NOW).duplicates == 199


def test_two_collectors_do_not_share_a_file_and_a_reader_may_look(store: Store, path: Path) -> None:
    store.commit([Item(row(0))], NOW)
    with pytest.raises(ConfigError, match="in use by another edge-fleet collect"):
        Store(path)
    with Collected(path) as collected:
        assert collected.devices() == [DEVICE]


def test_the_lock_of_a_killed_collector_is_gone_and_its_commits_are_there(path: Path) -> None:
    program = (
        "import sys; from pathlib import Path; from fleet.store import Item, Store;"
        "from tests.fleet.payloads import NOW, row; store = Store(Path(sys.argv[1]));"
        "store.commit([Item(row(n)) for n in range(3)], NOW);"
        "store._database.execute('BEGIN IMMEDIATE'); store._sequenced(row(3), NOW);"
        "print('ready', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program, str(path)], stdout=subprocess.PIPE, stdin=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert wait_for(process.stdout.readline, "the child has committed") == "ready\n"
        os.kill(process.pid, signal.SIGKILL)
    store = Store(path)
    try:
        assert store.commit([Item(row(n)) for n in range(4)], NOW).predictions == 1
    finally:
        store.close()


def written(path: Path, content: bytes) -> None:
    path.write_bytes(content)


def of_another_program(path: Path) -> None:
    with sqlite3.connect(path) as database:
        database.execute("CREATE TABLE theirs (x)")


def of_a_newer_version(path: Path) -> None:
    with sqlite3.connect(path) as database:
        database.execute("CREATE TABLE ours (x)")
        database.execute(f"PRAGMA application_id = {APPLICATION}")
        database.execute(f"PRAGMA user_version = {VERSION + 1}")


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda path: written(path, b"no database at all, " * 100), "not a SQLite database"),
        (of_another_program, "not one of edge-fleet collect"),
        (of_a_newer_version, f"its schema is {VERSION + 1}, this edge-fleet knows {VERSION}"),
        (lambda path: path.mkdir(), "can't be used as database"),
    ],
)
def test_a_file_that_can_not_be_used_is_said_and_left_alone(path: Path, make: object, said: str) -> None:
    make(path)  # type: ignore[operator]
    before = path.read_bytes() if path.is_file() else None
    with pytest.raises(ConfigError, match=said):
        Store(path)
    if before is not None:
        assert path.read_bytes() == before
        with pytest.raises(ConfigError, match=said):
            Collected(path)


def test_a_file_of_the_version_before_is_brought_up_to_date_by_its_writer_and_nothing_of_it_is_lost(path: Path) -> None:
    with sqlite3.connect(path) as database:
        database.execute("CREATE TABLE drift (payload BLOB)")
        database.execute("INSERT INTO drift VALUES ('old')")
        database.execute("CREATE TABLE stream (id INTEGER PRIMARY KEY, device, boot_id, name, duplicates, conflicts)")
        database.execute("CREATE TABLE ledger (device, boot_id, uptime_s, time, streams)")
        database.execute("CREATE TABLE message (stream, seq, time, clock_synced, received, payload)")
        database.execute(f"PRAGMA application_id = {APPLICATION}")
        database.execute("PRAGMA user_version = 1")
    with pytest.raises(ConfigError, match="edge-fleet collect --db brings it to"):
        Collected(path)
    Store(path).close()
    assert rows(path, "SELECT payload FROM drift_of_version_1") == [("old",)]
    assert rows(path, "SELECT * FROM drift") == []
    with Collected(path) as collected:
        assert list(collected.missing()) == []


def test_a_folder_that_is_not_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="check the folder of --db"):
        Store(tmp_path / "nowhere" / "collected.sqlite")
    with pytest.raises(ConfigError, match="no such file"):
        Collected(tmp_path / "collected.sqlite")
