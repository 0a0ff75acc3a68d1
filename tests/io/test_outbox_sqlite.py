"""The outbox's store on real files: order, accounting, bounds, errors of the disk."""

from __future__ import annotations

import contextlib
import os
import shutil
import sqlite3
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from edge_agent.errors import ConfigError, StorageError
from edge_agent.io import outbox_ledger
from edge_agent.io.outbox_ledger import read_ledger
from edge_agent.io.outbox_schema import companions
from edge_agent.io.outbox_sqlite import SqliteOutbox
from edge_agent.outgoing import Batch, Count, Kept, Kind, Lane, Record, Schema, SetAside, Stamp, Trim
from tests.simulators.outbox_records import (
    ALL,
    KEY,
    STARTED_NS,
    StillClock,
    acknowledge,
    alarm,
    counts_of,
    everything,
    numbers,
    prediction,
    produced,
    put,
    reopen,
    rollout,
    unaccounted,
)

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state" / "outbox.sqlite"


@pytest.fixture
def store(path: Path) -> Iterator[SqliteOutbox]:
    outbox = SqliteOutbox(path, StillClock())
    outbox.open("run-1")
    yield outbox
    outbox.close()


# --- records in and out ----------------------------------------------------------------------------------------------


def test_what_was_committed_comes_back_as_it_was_in_this_run(store: SqliteOutbox) -> None:
    kept = [prediction(0), replace(prediction(1), record=replace(prediction(1).record, arrival_ns=None)), prediction(2)]
    store.commit(put(*kept, alarm(3)))
    assert everything(store) == kept
    assert everything(store, Lane.EVENTS) == [alarm(3)]


def test_what_an_earlier_run_left_comes_back_stamped_and_with_negative_numbers(path: Path, store: SqliteOutbox) -> None:
    store.commit(put(prediction(0), prediction(1), alarm(2)))
    store.close()
    later = reopen(path, "run-2")
    stamp = prediction(1).stamp
    assert everything(later)[1] == Kept(-2, replace(prediction(1).record, earlier=stamp), stamp)
    assert (numbers(later), numbers(later, Lane.EVENTS)) == ([-3, -2], [-1])
    later.commit(put(prediction(0, "run-2")))
    later.close()
    last = reopen(path, "run-3")
    assert [(kept.number, kept.stamp.boot_id) for kept in everything(last)] == [
        (-4, "run-1"),
        (-3, "run-1"),
        (-1, "run-2"),
    ]
    last.close()


@pytest.mark.parametrize("kind", list(Kind))
@pytest.mark.parametrize("schema", [None, Schema.EVENT])
def test_every_kind_of_record_survives_with_all_that_it_says(store: SqliteOutbox, kind: Kind, schema: Schema) -> None:
    record = Record(kind, "a/ä/b", schema, b"\0\xff", -5, qos=0, expiry_s=None, pipeline="p", arrival_ns=2**63 - 1)
    records = [record, replace(record, expiry_s=7), replace(record, pipeline=None), replace(record, qos=1)]
    kept = [Kept(n, each, Stamp("run-1", -1, False)) for n, each in enumerate(records)]
    store.commit(Batch(insert=kept))
    assert everything(store, Lane.of(kind)) == kept


def test_times_that_no_clock_shows_are_stored_as_the_farthest_that_fits(store: SqliteOutbox) -> None:
    item = prediction(0)
    store.commit(Batch(insert=[replace(item, record=replace(item.record, mono_ns=2**80, arrival_ns=-(2**80)))]))
    (kept,) = everything(store)
    assert (kept.record.mono_ns, kept.record.arrival_ns) == (2**63 - 1, -(2**63))


def test_a_page_ends_at_the_count_or_the_bytes_and_holds_at_least_one(store: SqliteOutbox) -> None:
    kept = [prediction(n, body=bytes(1000)) for n in range(5)]
    size = kept[0].record.size
    store.commit(put(*kept))
    for count, most, expected, end in (
        (2, 2**20, [0, 1], False),
        (5, 2**20, [0, 1, 2, 3, 4], True),
        (9, 3 * size, [0, 1, 2], False),
        (9, 1, [0], False),
        (0, 0, [0], False),
    ):
        page = store.load(Lane.PREDICTIONS, ALL, count, most)
        assert [item.number for item in page.records] == expected
        assert (page.last, page.end) == (expected[-1], end)
    assert store.load(Lane.PREDICTIONS, 4, 9, 1) == store.load(Lane.EVENTS, 4, 9, 1)
    page = store.load(Lane.PREDICTIONS, 4, 9, 1)
    assert (page.records, page.last, page.end) == ([], 4, True)


def test_records_committed_out_of_order_are_read_in_the_order_of_their_numbers(store: SqliteOutbox) -> None:
    store.commit(put(prediction(9), alarm(10)))
    store.commit(put(prediction(3), prediction(1), alarm(2)))
    assert numbers(store) == [1, 3, 9]
    assert numbers(store, Lane.EVENTS) == [2, 10]


def test_a_record_that_is_put_in_twice_is_there_and_counted_once(path: Path, store: SqliteOutbox) -> None:
    first = store.commit(put(prediction(0), prediction(1)))
    again = store.commit(Batch(insert=[prediction(1), prediction(1), prediction(0)]))
    assert (first.records, first.bytes) == (again.records, again.bytes)
    assert (again.records, again.bytes) == (2, 2 * prediction(0).record.size)
    assert counts_of(path) == Count(produced=2, stored=2)


def test_a_retained_report_replaces_the_one_before_it_and_only_that(store: SqliteOutbox) -> None:
    store.commit(put(rollout(0, b"downloading"), alarm(1), rollout(2, b"verifying")))
    assert numbers(store, Lane.EVENTS) == [1, 2]
    done = store.commit(put(rollout(3, b"committed")))
    assert numbers(store, Lane.EVENTS) == [1, 3]
    assert done.bytes == alarm(1).record.size + rollout(3, b"committed").record.size
    store.commit(put(rollout(2, b"verifying")))  # late: an older value replaces nothing
    assert [kept.record.body for kept in everything(store, Lane.EVENTS)][-1] == b"committed"


def test_numbers_that_are_not_there_are_no_error(path: Path, store: SqliteOutbox) -> None:
    store.commit(put(prediction(0)))
    done = store.commit(Batch(delete=[5, -5, 0, 0], counts={KEY: Count(acknowledged=1)}))
    assert (done.records, done.bytes) == (0, 0)
    assert counts_of(path) == Count(produced=1, acknowledged=1)


# --- runs ------------------------------------------------------------------------------------------------------------


def test_a_run_that_did_not_stop_cleanly_is_reported_once_by_the_next(path: Path, store: SqliteOutbox) -> None:
    store.commit(put(prediction(0)))
    store.close()
    later = SqliteOutbox(path, StillClock(STARTED_NS + 10**9))
    unclean = later.open("run-2").unclean
    assert unclean is not None
    assert (unclean.boot_id, unclean.clean, unclean.counts) == ("run-1", False, {KEY[1]: Count(1, 0, 1)})
    assert later.open("run-2").unclean is None
    later.commit(Batch(clean=True))
    later.close()
    last = SqliteOutbox(path)
    assert last.open("run-3").unclean is None
    last.close()


def test_a_batch_after_the_clean_one_makes_the_run_unclean_again(path: Path, store: SqliteOutbox) -> None:
    clean = []
    for batch in (Batch(clean=True), Batch()):
        store.commit(batch)
        clean.append(read_ledger(path).runs[0].clean)
    assert clean == [True, False]


def test_the_row_of_a_run_says_when_it_began_and_was_last_written(path: Path) -> None:
    clock = StillClock()
    store = SqliteOutbox(path, clock)
    store.open("run-1")
    clock.now_ns += 5 * 10**9
    store.commit(Batch())
    (run,) = read_ledger(path).runs
    assert (run.started_wall_ns, run.checkpoint_wall_ns, run.clock_synced) == (STARTED_NS, STARTED_NS + 5 * 10**9, True)
    store.close()


def test_acknowledgements_by_a_later_run_are_booked_on_the_run_that_made_the_record(path: Path) -> None:
    reopen(path, "run-1").close()
    first = reopen(path, "run-1")
    first.commit(put(prediction(0), prediction(1)))
    first.close()
    later = reopen(path, "run-2")
    later.commit(put(prediction(0, "run-2")))
    later.commit(Batch(delete=[-2], counts={KEY: Count(acknowledged=1)}))
    assert counts_of(path) == Count(produced=2, acknowledged=1, stored=1)
    assert counts_of(path, "run-2") == Count(produced=1, stored=1)
    later.close()


def test_after_an_error_the_same_run_goes_on_with_its_numbers(path: Path, store: SqliteOutbox) -> None:
    store.commit(put(prediction(0), prediction(1)))
    store.close()
    later = reopen(path, "run-2")
    later.commit(put(prediction(0, "run-2")))
    later.open("run-2")
    later.commit(put(prediction(1, "run-2")))
    assert numbers(later) == [-2, -1, 0, 1]
    assert later.open("run-2").records == 4
    later.close()


def test_old_runs_are_forgotten_unless_something_of_theirs_is_stored(path: Path) -> None:
    for number in range(outbox_ledger.RUNS_MOST + 5):
        store = reopen(path, f"run-{number}")
        counts = {(f"run-{number}", "event"): Count(produced=1, acknowledged=1)}
        store.commit(Batch(insert=[prediction(0, "run-1")] if number == 1 else [], counts=counts, clean=True))
        store.close()
    names = [run.boot_id for run in read_ledger(path).runs]
    assert names == [f"run-{number}" for number in range(outbox_ledger.RUNS_MOST + 4, 4, -1)] + ["run-1"]
    with contextlib.closing(sqlite3.connect(path)) as connection:
        assert connection.execute("SELECT count(DISTINCT run) FROM ledger").fetchone() == (len(names),)


def test_counts_of_a_run_that_the_file_does_not_know_get_a_row(path: Path, store: SqliteOutbox) -> None:
    store.commit(Batch(insert=[prediction(-7, "run-0")], counts={("run-0", "event"): Count(acknowledged=3)}))
    newest, unknown = read_ledger(path).runs
    assert (newest.boot_id, unknown.boot_id, unknown.started_wall_ns) == ("run-1", "run-0", 0)
    assert unknown.counts == {"event": Count(acknowledged=3), KEY[1]: Count(stored=1)}
    assert numbers(store) == [-7]


# --- what the ledger says -----------------------------------------------------------------------------------------


def test_what_is_not_counted_takes_room_and_no_row(path: Path, store: SqliteOutbox) -> None:
    done = store.commit(put(rollout(0, b"x")))
    assert (done.records, done.bytes) == (1, rollout(0, b"x").record.size)
    assert read_ledger(path).runs[0].counts == {}


def test_the_ledger_is_read_beside_the_daemon_that_holds_the_file(path: Path, store: SqliteOutbox) -> None:
    store.commit(put(prediction(0)))
    ledger = read_ledger(path)
    assert (ledger.records, ledger.bytes) == (1, prediction(0).record.size)
    assert ledger.file_bytes == sum(file.stat().st_size for file in companions(path)[:2])
    store.commit(put(prediction(1)))
    assert read_ledger(path).records == 2


def test_the_ledger_is_read_where_nothing_may_be_written(path: Path, store: SqliteOutbox) -> None:
    store.commit(put(prediction(0)))
    store.close()
    before = sorted(path.parent.iterdir())
    script = (
        "import os, sys; from pathlib import Path; from edge_agent.io.outbox_ledger import read_ledger\n"
        "os.setuid(65534); print(read_ledger(Path(sys.argv[1])).records)"
    )
    if os.getuid() != 0:
        pytest.skip("needs root to become another user")
    path.chmod(0o644)
    for folder in (path.parent, *path.parents[1:-2]):
        folder.chmod(folder.stat().st_mode | 0o055)
    done = subprocess.run([sys.executable, "-c", script, path], capture_output=True, text=True, check=False, cwd=ROOT)
    assert (done.stdout, done.stderr) == ("1\n", "")
    assert sorted(path.parent.iterdir()) == before


def test_no_file_is_said_with_its_place(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"nothing/outbox\.sqlite: no outbox there"):
        read_ledger(tmp_path / "nothing" / "outbox.sqlite")


def test_what_is_no_ledger_is_refused_by_name(path: Path) -> None:
    path.parent.mkdir()
    path.write_text("not a database, however long " * 99)
    with pytest.raises(StorageError, match=r"outbox\.sqlite: file is not a database"):
        read_ledger(path)


def test_refused_messages_are_kept_for_a_person_the_newest_first_and_bounded(path: Path, store: SqliteOutbox) -> None:
    large = prediction(1, body=bytes(100_000))
    for first in range(0, 300, 50):
        aside = [SetAside(large.record, large.stamp, f"too large {n}") for n in range(first, first + 50)]
        store.commit(Batch(aside=aside))
    refused = read_ledger(path).refused
    assert [message.reason for message in refused] == [f"too large {n}" for n in range(299, 43, -1)]
    assert (refused[0].topic, refused[0].size, refused[0].wall_ns) == (large.record.topic, 100_000, large.stamp.wall_ns)
    with contextlib.closing(sqlite3.connect(path)) as connection:
        assert connection.execute("SELECT max(length(body)) FROM refused").fetchone() == (
            outbox_ledger.REFUSED_BODY_MOST,
        )


# --- trim ------------------------------------------------------------------------------------------------------------


def test_what_is_too_old_goes_first_and_then_what_is_too_much(path: Path, store: SqliteOutbox) -> None:
    kept = [prediction(n, body=bytes(100)) for n in range(10)]
    size = kept[0].record.size
    store.commit(put(*kept, alarm(10)))
    room = 4 * size + alarm(10).record.size
    done = store.commit(Batch(trim=Trim(0, room, STARTED_NS + 4 * 10**9)))
    assert done.trimmed == {KEY: {"expired": 3, "outbox_full": 3}}
    assert done.bytes == room
    assert numbers(store) == [0, 7, 8, 9]
    assert numbers(store, Lane.EVENTS) == [10]
    assert counts_of(path) == Count(10, 0, 4, {"expired": 3, "outbox_full": 3})


def test_a_trim_stops_at_the_first_that_may_stay(store: SqliteOutbox) -> None:
    kept = [prediction(0), prediction(1, synced=False), prediction(2)]
    store.commit(put(*kept))
    done = store.commit(Batch(trim=Trim(-1, 2**30, STARTED_NS + 10**12)))
    assert done.trimmed == {KEY: {"expired": 1}}
    assert numbers(store) == [1, 2]
    assert store.commit(Batch(trim=Trim(-1, 2**30))).trimmed == {}


def test_a_trim_gives_up_all_behind_its_start_and_nothing_before_it(path: Path, store: SqliteOutbox) -> None:
    store.commit(put(*(prediction(n) for n in range(2500))))
    done = store.commit(Batch(trim=Trim(99, 0)))
    assert (done.records, done.trimmed) == (100, {KEY: {"outbox_full": 2400}})
    assert counts_of(path) == Count(2500, 0, 100, {"outbox_full": 2400})


@pytest.mark.parametrize("spare", [{3}, {0, 1, 2499}, set(range(0, 2500, 2)), set(range(400, 1600)), set(range(2500))])
def test_a_trim_spares_what_is_in_memory_too(path: Path, store: SqliteOutbox, spare: set[int]) -> None:
    store.commit(put(*(prediction(n, body=bytes(9)) for n in range(2500))))
    done = store.commit(Batch(trim=Trim(ALL, 0, STARTED_NS + 10**12, spare)))
    assert numbers(store) == sorted(spare)
    assert sum(done.trimmed.get(KEY, {}).values()) == 2500 - len(spare)
    size = prediction(0, body=bytes(9)).record.size
    store.commit(put(*(prediction(n, body=bytes(9)) for n in range(2500, 2510))))
    store.commit(Batch(trim=Trim(ALL, size * (len(spare) + 3), None, spare)))
    assert numbers(store) == [*sorted(spare), 2507, 2508, 2509]
    assert counts_of(path).stored == len(spare) + 3


# --- accounting, whatever happens ------------------------------------------------------------------------------------

STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("put"), st.integers(1, 5)),
        st.tuples(st.just("again"), st.integers(0, 3)),
        st.tuples(st.just("acknowledge"), st.integers(0, 5)),
        st.tuples(st.just("put and acknowledge"), st.integers(1, 3)),
        st.tuples(st.just("alarm"), st.just(1)),
        st.tuples(st.just("trim"), st.integers(0, 8)),
        st.tuples(st.just("expire"), st.integers(0, 8)),
        st.tuples(st.just("next run"), st.just(0)),
        st.tuples(st.just("reopen"), st.just(0)),
    ),
    max_size=25,
)


class Model:
    """What the file must hold: rank -> (run, record), in plain dictionaries."""

    def __init__(self, path: Path) -> None:
        self.rows: dict[int, Kept] = {}
        self.counts: dict[tuple[str, str], Count] = {}
        self.path, self.run, self.base, self.next = path, 0, 0, 0
        self.store = SqliteOutbox(path, StillClock())
        self.next_run()

    def next_run(self) -> None:
        self.store.close()
        self.run += 1
        self.base, self.next = max(self.rows, default=-1) + 1, 0
        self.store.open(self.boot_id)

    @property
    def boot_id(self) -> str:
        return f"run-{self.run}"

    def new(self, count: int, what: Any = prediction) -> list[Kept]:
        self.next += count
        return [what(n, self.boot_id) for n in range(self.next - count, self.next)]

    def step(self, step: str, amount: int) -> None:
        if step == "next run":
            self.next_run()
        elif step == "reopen":
            self.store.open(self.boot_id)
        else:
            self.commit(step, amount)

    def commit(self, step: str, amount: int) -> None:
        oldest = sorted(rank for rank, kept in self.rows.items() if kept.record.kind is Kind.PREDICTION)
        insert: list[Kept] = []
        gone, trim, trimmed = [], None, {}
        if step in ("put", "put and acknowledge", "alarm"):
            insert = self.new(amount, alarm if step == "alarm" else prediction)
            gone = [self.base + kept.number for kept in insert] if step == "put and acknowledge" else []
        elif step == "again":
            insert = [replace(self.rows[rank], number=rank - self.base) for rank in oldest[:amount]]
        elif step == "acknowledge":
            gone = sorted(self.rows)[:amount]
        elif step == "trim":
            left = sum(kept.record.size for kept in self.rows.values()) - sum(
                self.rows[rank].record.size for rank in oldest[:amount]
            )
            trim, trimmed = Trim(ALL, left), dict.fromkeys(oldest[:amount], "outbox_full")
        else:
            ages = [self.rows[rank].stamp.wall_ns for rank in oldest]
            before = STARTED_NS + amount * 10**9
            first = next((n for n, age in enumerate(ages) if age >= before), len(ages))
            trim, trimmed = Trim(ALL, 2**40, before), dict.fromkeys(oldest[:first], "expired")
        self._book(insert if step != "again" else [], gone, trimmed, insert, trim)

    def _book(
        self, new: list[Kept], gone: list[int], trimmed: dict[int, str], insert: list[Kept], trim: Trim | None
    ) -> None:
        counts = produced(*new)
        self.rows |= {self.base + kept.number: kept for kept in new}
        for rank in gone:
            kept = self.rows.pop(rank)
            counts.setdefault((kept.stamp.boot_id, str(kept.record.stream)), Count()).acknowledged += 1
        for key, count in counts.items():
            mine = self.counts.setdefault(key, Count())
            mine.produced += count.produced
            mine.acknowledged += count.acknowledged
        for rank, reason in trimmed.items():
            kept = self.rows.pop(rank)
            lost = self.counts[kept.stamp.boot_id, str(kept.record.stream)].discarded
            lost[reason] = lost.get(reason, 0) + 1
        delete = [rank - self.base for rank in gone]
        done = self.store.commit(Batch(insert=insert, delete=delete, counts=counts, trim=trim))
        assert done.records == len(self.rows)
        assert done.bytes == sum(kept.record.size for kept in self.rows.values())
        assert sum(n for reasons in done.trimmed.values() for n in reasons.values()) == len(trimmed)

    def check(self) -> None:
        ledger = read_ledger(self.path)
        assert unaccounted(ledger) == {}
        for kept in self.rows.values():
            self.counts[kept.stamp.boot_id, str(kept.record.stream)].stored += 1
        found = {(run.boot_id, stream): count for run in ledger.runs for stream, count in run.counts.items()}
        assert found == self.counts
        for count in self.counts.values():
            count.stored = 0
        for lane in Lane:
            expected = [
                (rank - self.base, self.rows[rank].record.body, self.rows[rank].stamp)
                for rank in sorted(self.rows)
                if Lane.of(self.rows[rank].record.kind) is lane
            ]
            loaded = everything(self.store, lane)
            assert [(kept.number, kept.record.body, kept.stamp) for kept in loaded] == expected


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(STEPS)
def test_the_ledger_adds_up_and_the_order_is_kept_at_each_commit(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[str, int]]
) -> None:
    model = Model(tmp_path_factory.mktemp("model") / "outbox.sqlite")
    try:
        for step, amount in steps:
            model.step(step, amount)
            model.check()
    finally:
        model.store.close()


# --- the file and its folder -----------------------------------------------------------------------------------------


def test_the_file_belongs_to_its_user_alone(path: Path, store: SqliteOutbox) -> None:
    store.commit(put(prediction(0)))
    modes = {file.name: stat.S_IMODE(file.stat().st_mode) for file in path.parent.iterdir()}
    assert modes == {f"outbox.sqlite{ending}": 0o600 for ending in ("", "-wal", "-shm", ".lock")}
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


def test_a_second_process_is_refused_at_once_and_told_who_has_it(path: Path, store: SqliteOutbox) -> None:
    script = (
        "import sys; from pathlib import Path; from edge_agent.io.outbox_sqlite import SqliteOutbox\n"
        "SqliteOutbox(Path(sys.argv[1])).open('other')"
    )
    done = subprocess.run([sys.executable, "-c", script, path], capture_output=True, text=True, check=False, cwd=ROOT)
    assert f"outbox.sqlite is in use by another edge-agent (pid {os.getpid()}); give each daemon" in done.stderr
    store.commit(put(prediction(0)))
    store.close()
    store.close()
    reopen(path, "other").close()


def test_an_empty_store_gives_the_disk_back_what_it_took(path: Path, store: SqliteOutbox) -> None:
    kept = [prediction(n, body=os.urandom(4000)) for n in range(3000)]
    for first in range(0, 3000, 500):
        store.commit(put(*kept[first : first + 500]))
    assert path.stat().st_size > 4 * 2**20
    store.commit(acknowledge(*kept[1:]))
    large = path.stat().st_size
    store.commit(acknowledge(kept[0]))
    assert large > 4 * 2**20 > path.stat().st_size + companions(path)[1].stat().st_size
    store.commit(put(kept[0]))
    assert everything(store) == [kept[0]]


@pytest.mark.parametrize("what", ["folder", "pipe"])
def test_what_is_no_file_is_refused_with_what_to_do(path: Path, what: str) -> None:
    path.parent.mkdir()
    path.mkdir() if what == "folder" else os.mkfifo(path)
    with pytest.raises(StorageError, match=r"outbox\.sqlite: is no file; set \[outbox\] path to a file") as caught:
        SqliteOutbox(path).open("run-1")
    assert not caught.value.damaged


def test_a_folder_that_cannot_be_made_is_the_operators_to_mend(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match=r"file/state/outbox\.sqlite: Not a directory") as caught:
        SqliteOutbox(tmp_path / "file" / "state" / "outbox.sqlite").open("run-1")
    assert not caught.value.damaged


def test_a_closed_store_says_so(path: Path, store: SqliteOutbox) -> None:
    store.close()
    with pytest.raises(StorageError, match="must be opened again"):
        store.load(Lane.EVENTS, 0, 1, 1)


def test_an_error_of_the_caller_leaves_nothing_behind(path: Path, store: SqliteOutbox) -> None:
    store.commit(put(prediction(0)))
    broken: Any = [prediction(1), None]
    with pytest.raises(AttributeError):
        store.commit(Batch(insert=broken))
    store.open("run-1")
    assert numbers(store) == [0]


# --- a disk that is full, read-only, or fails ------------------------------------------------------------------------


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 2 MiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", folder]
    if os.getuid() != 0 or subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("needs root and mount")
    yield folder
    subprocess.run(["umount", "-l", folder], check=True)


def test_a_full_disk_costs_the_batch_and_nothing_else(small_disk: Path) -> None:
    path = small_disk / "outbox.sqlite"
    store = reopen(path, "run-1")
    store.commit(put(prediction(0)))
    large = [prediction(n, body=bytes(100_000)) for n in range(1, 40)]
    with pytest.raises(StorageError, match=r"outbox\.sqlite: .*(full|I/O)") as caught:
        store.commit(put(*large))
    assert not caught.value.damaged
    assert store.open("run-1").records == 1
    store.commit(acknowledge(prediction(0)))
    store.commit(put(*large[:3]))
    assert numbers(store) == [1, 2, 3]
    assert unaccounted(read_ledger(path)) == {}
    store.close()


def test_a_disk_that_is_full_from_the_start_is_no_damage(small_disk: Path) -> None:
    filler = small_disk / "filler"
    with contextlib.suppress(OSError), filler.open("wb", buffering=0) as file:
        while True:
            file.write(bytes(4096))
    store = SqliteOutbox(small_disk / "outbox.sqlite")
    with pytest.raises(StorageError, match=r"outbox\.sqlite") as caught:
        store.open("run-1")
    assert not caught.value.damaged
    filler.unlink()
    assert store.open("run-1").set_aside is None
    store.commit(put(prediction(0)))
    store.close()


def test_a_read_only_disk_is_no_damage(small_disk: Path) -> None:
    path = small_disk / "outbox.sqlite"
    store = reopen(path, "run-1")
    store.commit(put(prediction(0)))
    store.close()
    subprocess.run(["mount", "-o", "remount,ro", small_disk], check=True)
    with pytest.raises(StorageError, match="Read-only file system") as caught:
        store.open("run-2")
    assert not caught.value.damaged
    assert read_ledger(path).records == 1
    subprocess.run(["mount", "-o", "remount,rw", small_disk], check=True)
    assert store.open("run-2").records == 1
    store.close()


FAILING_SYNC = """
import sys
from pathlib import Path
from edge_agent.errors import StorageError
from edge_agent.io.outbox_sqlite import SqliteOutbox
from tests.simulators.outbox_records import prediction, put
store = SqliteOutbox(Path(sys.argv[1]))

def opened():
    try:
        return store.open("run-1")
    except StorageError:
        return None

while not opened():
    pass
failed = 0
for number in range(30):
    while True:
        try:
            store.commit(put(prediction(number)))
            break
        except StorageError:
            failed += 1
            while not opened():
                pass
print(failed)
"""


# Two in a row: the commit's, and the one of the close behind it. The log then still holds what was not committed.
@pytest.mark.parametrize("when", ["10..11", "12..13", "7+5"])
def test_a_batch_whose_sync_failed_is_counted_once_when_it_is_handed_over_again(path: Path, when: str) -> None:
    if shutil.which("strace") is None:
        pytest.skip("strace is not installed")
    inject = ["-f", "-qq", "-e", "trace=fdatasync,fsync", "-e", f"inject=fdatasync,fsync:error=EIO:when={when}"]
    command = ["strace", "-o", os.devnull, *inject, sys.executable, "-c", FAILING_SYNC, path]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT, timeout=60)
    if "ptrace" in done.stderr:
        pytest.skip("strace may not trace here")
    assert done.stderr == ""
    assert int(done.stdout) > 0
    assert counts_of(path) == Count(produced=30, stored=30)
    store = reopen(path, "run-2")
    assert [kept.record.body for kept in everything(store)] == [prediction(n).record.body for n in range(30)]
    store.close()


def test_a_store_may_be_opened_in_one_thread_and_used_in_another(path: Path, store: SqliteOutbox) -> None:
    thread = Thread(target=store.commit, args=(put(prediction(0)),))
    thread.start()
    thread.join()
    assert numbers(store) == [0]
