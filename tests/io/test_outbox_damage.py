"""The outbox's store on damaged files: it always starts, and never gives out a record that was not written."""

from __future__ import annotations

import contextlib
import os
import random
import re
import shutil
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest
from msgspec.structs import replace

from edge_agent.errors import StorageError
from edge_agent.io import outbox_schema
from edge_agent.io.outbox_ledger import read_ledger
from edge_agent.io.outbox_schema import companions
from edge_agent.io.outbox_sqlite import SqliteOutbox
from edge_agent.outgoing import Batch, Count, Kept, Lane, Trim
from tests.simulators.outbox_records import (
    ALL,
    KEY,
    StillClock,
    acknowledge,
    alarm,
    counts_of,
    numbers,
    prediction,
    put,
    reopen,
    rollout,
    unaccounted,
)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state" / "outbox.sqlite"


@pytest.fixture
def store(path: Path) -> Iterator[SqliteOutbox]:
    outbox = SqliteOutbox(path, StillClock())
    outbox.open("run-1")
    yield outbox
    outbox.close()


def filled(path: Path) -> dict[bytes, Kept]:
    """A file with two runs and both lanes, closed. Returns what it holds by body."""
    kept = [prediction(n, body=b"%d:" % n + os.urandom(300)) for n in range(60)]
    first = reopen(path, "run-1")
    first.commit(put(*kept[:30], rollout(60, b"status")))
    first.close()
    second = reopen(path, "run-2")
    later = [replace(item, stamp=replace(item.stamp, boot_id="run-2")) for item in kept[30:]]
    second.commit(put(*later, alarm(61, "run-2")))
    second.close()
    return {item.record.body: item for item in [*kept[:30], *later, rollout(60, b"status"), alarm(61, "run-2")]}


def same(found: Kept, written: Kept) -> bool:
    """Whether a record of an earlier run says what it said when it was written; its number is another."""
    return replace(found, number=0) == Kept(0, replace(written.record, earlier=written.stamp), written.stamp)


def open_damaged(path: Path, written: dict[bytes, Kept]) -> str:
    """What became of a damaged file: it was "set aside", rows are "damaged", or it is "good"."""
    store = SqliteOutbox(path, StillClock())
    outcome = "set aside" if store.open("run-3").set_aside else "good"
    try:
        for lane in Lane:
            loaded = store.load(lane, ALL, 10_000, 2**30)
            assert all(same(kept, written[kept.record.body]) for kept in loaded.records)
            assert len({kept.number for kept in loaded.records}) == len(loaded.records)
            outcome = "damaged" if loaded.damaged else outcome
            store.commit(Batch(delete=list(loaded.damaged)))
        takes_more(store)
    except StorageError as error:
        assert error.damaged, str(error)
        assert store.open("run-3").set_aside
        takes_more(store)
        outcome = "set aside"
    store.close()
    return outcome


def takes_more(store: SqliteOutbox) -> None:
    store.commit(put(prediction(0, "run-3")))
    assert prediction(0, "run-3") in store.load(Lane.PREDICTIONS, -1, 10, 2**20).records


def test_a_file_cut_off_anywhere_never_keeps_the_store_from_starting(tmp_path: Path) -> None:
    written = filled(tmp_path / "whole.sqlite")
    content = (tmp_path / "whole.sqlite").read_bytes()
    outcomes = set()
    for length in range(0, len(content), 512):
        folder = tmp_path / str(length)
        folder.mkdir()
        (folder / "outbox.sqlite").write_bytes(content[:length])
        outcomes.add(open_damaged(folder / "outbox.sqlite", written))
        shutil.rmtree(folder)
    assert outcomes == {"good", "set aside"}  # good: cut to nothing is a new file


@pytest.mark.parametrize("checked", ["all of a small file", "the tables of a large one"])
def test_flipped_bytes_never_get_a_wrong_record_out(
    tmp_path: Path, checked: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if checked == "the tables of a large one":
        monkeypatch.setattr(outbox_schema, "CHECK_BYTES_MOST", 0)
    written = filled(tmp_path / "whole.sqlite")
    content = (tmp_path / "whole.sqlite").read_bytes()
    chance = random.Random(4)
    outcomes: list[str] = []
    for number in range(150):
        damaged = bytearray(content)
        for _ in range(chance.choice([1, 1, 1, 3, 20])):
            damaged[chance.randrange(len(damaged))] = chance.choice([0, 255, chance.randrange(256)])
        folder = tmp_path / str(number)
        folder.mkdir()
        (folder / "outbox.sqlite").write_bytes(damaged)
        outcomes.append(open_damaged(folder / "outbox.sqlite", written))
        shutil.rmtree(folder)
    assert min(outcomes.count("set aside"), outcomes.count("damaged")) > 10


def test_a_row_that_was_changed_on_the_disk_is_named_and_its_neighbours_are_good(tmp_path: Path) -> None:
    path = tmp_path / "outbox.sqlite"
    written = filled(path)
    (body,) = [body for body in written if body.startswith(b"7:")]
    path.write_bytes(path.read_bytes().replace(body, body[:-1] + bytes([body[-1] ^ 1])))
    store = reopen(path, "run-3")
    loaded = store.load(Lane.PREDICTIONS, ALL, 1000, 2**30)
    ((number, key),) = loaded.damaged.items()
    assert (key, len(loaded.records)) == (KEY, 59)
    store.commit(Batch(delete=[number], counts={key: Count(discarded={"damaged": 1})}))
    assert unaccounted(read_ledger(path)) == {}
    store.close()


@pytest.mark.parametrize("column", ["run", "route"])
def test_a_row_of_nobody_is_written_off_when_nothing_else_is_left(tmp_path: Path, column: str) -> None:
    path = tmp_path / "outbox.sqlite"
    filled(path)
    with contextlib.closing(sqlite3.connect(path)) as connection, connection:
        connection.execute(f"UPDATE prediction SET {column} = 77 WHERE rank = 5")
    store = reopen(path, "run-3")
    loaded = [store.load(lane, ALL, 1000, 2**30) for lane in Lane]
    assert len(loaded[0].damaged) == 1
    good = [kept for page in loaded for kept in page.records]
    store.commit(acknowledge(*good))
    store.commit(Batch(delete=list(loaded[0].damaged), counts=dict.fromkeys(loaded[0].damaged.values(), Count())))
    store.open("run-3")
    assert unaccounted(read_ledger(path)) == {}
    assert counts_of(path).discarded == {"damaged": 1}
    assert read_ledger(path).records == 0
    store.close()


def test_a_tree_that_leads_back_to_itself_is_damage_and_no_endless_loop(tmp_path: Path) -> None:
    path = tmp_path / "outbox.sqlite"
    filled(path)
    with contextlib.closing(sqlite3.connect(path)) as connection:
        (root,) = connection.execute("SELECT rootpage FROM sqlite_master WHERE name = 'prediction'").fetchone()
    store = reopen(path, "run-3")
    content = path.read_bytes()
    page = bytearray(content[(root - 1) * 4096 : root * 4096])
    assert page[0] == 5  # an inner page of a table: cells of (left child, key), and the rightmost child at byte 8
    first, second = (int.from_bytes(page[at : at + 2], "big") for at in (12, 14))
    page[second : second + 4] = page[first : first + 4]
    store.close()
    path.write_bytes(content[: (root - 1) * 4096] + page + content[root * 4096 :])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(outbox_schema, "CHECK_BYTES_MOST", 0)
        store.open("run-3")
    for call in (
        lambda: store.load(Lane.PREDICTIONS, ALL, 1000, 2**30),
        lambda: store.commit(Batch(trim=Trim(ALL, 0))),
    ):
        with pytest.raises(StorageError, match=r"record -?\d+ comes after") as caught:
            call()
        assert caught.value.damaged
        store._damage = None  # the same file once more
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(outbox_schema, "CHECK_BYTES_MOST", 0)
            store.open("run-3")
    store.close()


def garbage(path: Path, what: str) -> None:
    filled(path)
    if what == "noise":
        path.write_bytes(random.Random(1).randbytes(40_000))
    elif what == "text":
        path.write_text("[outbox]\npath = 'here'\n" * 50)
    else:
        sql = {
            "newer version": "PRAGMA user_version = 9",
            "other program": "PRAGMA application_id = 9",
            "lost table": "DROP TABLE event",
            "other column": "ALTER TABLE run RENAME COLUMN clean TO tidy",
            "text for a number": "UPDATE ledger SET produced = 'many'",
            "no JSON": "UPDATE ledger SET discarded = '{'",
            "no time": "UPDATE run SET started_wall_ns = 'noon'",
        }[what]
        with contextlib.closing(sqlite3.connect(path)) as connection, connection:
            connection.execute(sql)


@pytest.mark.parametrize(
    ("what", "reason"),
    [
        ("noise", "file is not a database"),
        ("text", "file is not a database"),
        ("lost table", "has other tables"),
        ("other column", "has other tables"),
        ("text for a number", "'many' where a number belongs"),
        ("no JSON", "is damaged"),
        ("no time", "'noon' where a number belongs"),
    ],
)
def test_a_file_that_cannot_be_used_is_put_aside_and_a_new_one_made(tmp_path: Path, what: str, reason: str) -> None:
    path = tmp_path / "outbox.sqlite"
    garbage(path, what)
    content = path.read_bytes()
    store = SqliteOutbox(path, StillClock())
    opened = store.open("run-3")
    aside = tmp_path / "outbox.damaged-20260921T141320Z.sqlite"
    assert opened.set_aside is not None
    assert reason in opened.set_aside
    assert str(aside) in opened.set_aside
    assert (opened.records, opened.bytes, opened.unclean) == (0, 0, None)
    assert aside.read_bytes() == content
    store.commit(Batch(insert=[prediction(-3), prediction(0, "run-3")]))
    assert numbers(store) == [-3, 0]
    store.close()


@pytest.mark.parametrize(
    ("what", "reason"),
    [
        ("newer version", "was made by a later edge-agent (version 9"),
        ("other program", "is another program's database"),
    ],
)
def test_a_file_that_is_somebody_elses_stays_where_it_is(tmp_path: Path, what: str, reason: str) -> None:
    path = tmp_path / "outbox.sqlite"
    garbage(path, what)
    content = path.read_bytes()
    store = SqliteOutbox(path, StillClock())
    for _ in range(2):
        with pytest.raises(StorageError, match=re.escape(reason)):
            store.open("run-3")
    store.close()
    assert path.read_bytes() == content
    assert not list(tmp_path.glob("*damaged*"))


def test_a_log_of_garbage_is_ignored(path: Path, store: SqliteOutbox) -> None:
    store.commit(put(prediction(0)))
    store.close()
    companions(path)[1].write_bytes(random.Random(2).randbytes(60_000))
    companions(path)[2].write_bytes(random.Random(3).randbytes(32_768))
    later = reopen(path, "run-2")
    assert numbers(later) == [-1]
    later.close()


def test_a_log_without_its_file_is_thrown_away(path: Path, store: SqliteOutbox) -> None:
    store.commit(put(prediction(0)))
    shutil.copy(companions(path)[1], path.parent / "log")
    store.close()
    path.unlink()
    shutil.copy(path.parent / "log", companions(path)[1])
    later = reopen(path, "run-2")
    assert numbers(later) == []
    later.close()


def test_a_card_that_damages_file_after_file_does_not_fill_up_with_them(tmp_path: Path) -> None:
    path = tmp_path / "outbox.sqlite"
    clock = StillClock()
    for number in range(5):
        path.write_text(f"garbage number {number} " * 50)
        companions(path)[1].write_text("and its log")
        store = SqliteOutbox(path, clock)
        assert store.open("run").set_aside
        store.close()
    aside = [file.read_text() for file in tmp_path.glob("outbox.damaged-*.sqlite")]
    assert sorted(text.split(" garbage")[0] for text in aside) == ["garbage number 3", "garbage number 4"]
    assert len(list(tmp_path.iterdir())) <= 6  # the file, its lock, two of the others with their logs


def test_damage_that_shows_later_is_said_and_the_next_open_puts_the_file_aside(
    path: Path, store: SqliteOutbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outbox_schema, "CHECK_BYTES_MOST", 0)  # a file that is too large to be read at each start
    store.commit(put(*(prediction(n, body=bytes(2000)) for n in range(3000))))
    store.close()
    store.open("run-2")
    size = path.stat().st_size
    with path.open("r+b") as file:  # behind the back of the open store
        file.seek(size // 2)
        file.write(bytes(size // 2))
    with pytest.raises(StorageError, match=r"malformed; the file is damaged") as caught:
        store.load(Lane.PREDICTIONS, ALL, 10_000, 2**30)
    assert caught.value.damaged
    assert store.open("run-2").set_aside
    store.commit(put(prediction(0, "run-2")))
    assert numbers(store) == [0]
