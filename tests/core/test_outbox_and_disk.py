"""The outbox over a store that fills up, fails, is damaged, answers late, and outlives the process."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from edge_agent import limits
from edge_agent.core.outbox import Bounds, Outbox
from edge_agent.core.spool import WallClock
from edge_agent.errors import StorageError
from edge_agent.outgoing import Batch, Kind, Lane, Record, Schema
from tests.simulators.store_model import StoreModel

WALL = WallClock(0, False)
STREAM = "prediction/p"
SECOND = 10**9


def record(body: str, kind: Kind = Kind.PREDICTION, retain: bool = False, mono_ns: int = 0) -> Record:
    return Record(kind, "t", Schema.PREDICTION, body.encode(), mono_ns, retain=retain, pipeline="p")


class Site:
    """An outbox and its store, with the answers in between held back until ``step``."""

    def __init__(self, bounds: Bounds, store: StoreModel, boot_id: str) -> None:
        self.store, self.boot_id, self.now_ns = store, boot_id, 0
        self.outbox = Outbox(bounds, boot_id, durable=True)
        self.jobs: list[Callable[[], None]] = []

    def open(self) -> None:
        try:
            self.outbox.opened(self.store.open(self.boot_id))
        except StorageError:
            self.outbox.disk_failed()

    def ask(self, *, clean: bool = False) -> None:
        batch = self.outbox.batch(WALL, self.now_ns, clean=clean)
        if batch is not None:
            self.jobs.append(lambda: self._commit(batch))
        while (wanted := self.outbox.wanted_page()) is not None:
            lane, after, _bytes = wanted
            self.jobs.append(lambda lane=lane, after=after: self._load(lane, after))

    def step(self) -> None:
        """Do the oldest job, and answer."""
        try:
            self.jobs.pop(0)()
        except StorageError as error:
            if error.readable:
                self.outbox.disk_full()
                return
            self.jobs.clear()
            self.outbox.disk_failed()

    def settle(self) -> None:
        self.ask()
        while self.jobs:
            self.step()
            self.ask()

    def send(self) -> list[str]:
        """Hand over and acknowledge all that goes."""
        sent = []
        while (entry := self.outbox.take(self.now_ns)) is not None:
            self.outbox.sent(1, entry)
            assert self.outbox.acknowledged(1, self.now_ns) is not None
            sent.append(entry.record.body.decode())
            self.settle()
        return sent

    def later(self, seconds: float) -> None:
        self.now_ns += round(seconds * SECOND)

    def _commit(self, batch: Batch) -> None:
        self.outbox.committed(self.store.commit(batch), self.now_ns)

    def _load(self, lane: Lane, after: int) -> None:
        self.outbox.page(lane, self.store.load(lane, after, 3, 2**20), self.now_ns)


def site(store: StoreModel | None = None, boot_id: str = "boot", **bounds: int) -> Site:
    whole = {"memory": 2**20, "disk": 2**20, "age_ns": 2**62, "drain_period_ns": 0, "every": False, **bounds}
    made = Site(Bounds(**whole), store or StoreModel(), boot_id)
    made.open()
    made.settle()
    return made


def put(to: Site, *names: str, kind: Kind = Kind.PREDICTION) -> None:
    for name in names:
        to.outbox.put(record(name, kind), to.now_ns)


def test_batch_what_is_acknowledged_in_time_never_touches_the_disk() -> None:
    here = site()
    here.outbox.connected(True)
    put(here, "a", "b")
    assert here.send() == ["a", "b"]
    here.later(limits.STORE_AFTER_S + 1)
    here.settle()
    assert here.store.rows == {}


def test_batch_what_is_not_acknowledged_for_four_seconds_is_written_connected_or_not() -> None:
    here = site()
    here.outbox.connected(True)
    put(here, "a")
    entry = here.outbox.take(0)
    assert entry is not None
    here.outbox.sent(1, entry)
    here.later(limits.STORE_AFTER_S - 0.5)
    put(here, "b")
    here.settle()
    assert here.store.rows == {}
    here.later(0.5)
    here.settle()
    assert [kept.record.body for kept in here.store.rows.values()] == [b"a", b"b"]
    assert here.store.adds_up()
    here.outbox.acknowledged(1, here.now_ns)
    here.later(limits.DELETE_AFTER_S)
    here.settle()
    assert [kept.record.body for kept in here.store.rows.values()] == [b"b"]


def test_an_alarm_is_written_at_once() -> None:
    here = site()
    put(here, "wait")
    put(here, "alarm", kind=Kind.ALARM)
    here.settle()
    assert len(here.store.rows) == 2
    assert here.store.adds_up()


def test_every_nothing_is_sent_before_the_disk_has_it() -> None:
    here = site(every=True)
    here.outbox.connected(True)
    put(here, "a", "b")
    assert here.outbox.take(0) is None
    here.settle()
    assert [kept.record.body for kept in here.store.rows.values()] == [b"a", b"b"]
    assert here.send() == ["a", "b"]


def test_every_a_disk_that_fails_holds_nothing_back() -> None:
    here = site(every=True)
    here.outbox.connected(True)
    here.store.broken = True
    put(here, "a", "b")
    here.settle()
    assert here.send() == ["a", "b"]
    assert here.outbox.report()["disk"] == "failed"


def test_the_backlog_leaves_the_memory_and_comes_back_in_order() -> None:
    here = site()
    names = [f"{number:02}" for number in range(20)]
    for name in names:
        put(here, name)
        here.later(1)
        here.settle()
    assert here.outbox.bytes < 7 * record("00").size
    here.outbox.connected(True)
    put(here, "live")
    here.settle()
    assert here.send() == ["live", *names]
    here.later(limits.DELETE_AFTER_S)
    here.settle()
    assert here.store.rows == {}
    assert here.store.adds_up()


def test_what_was_handed_over_came_back_and_left_the_memory_is_published_once() -> None:
    here = site()
    here.outbox.connected(True)
    put(here, "a", "b")
    for token in (1, 2):
        entry = here.outbox.take(0)
        assert entry is not None
        here.outbox.sent(token, entry)
    here.outbox.connected(False)
    here.outbox.reset(here.now_ns)
    here.later(limits.STORE_AFTER_S)
    put(here, "c")
    here.settle()
    spilled = here.outbox.bytes
    here.outbox.connected(True)
    here.settle()
    assert here.send() == ["a", "b", "c"]
    counts = here.outbox.ledger.report()[STREAM]
    assert (counts["produced"], counts["published"], counts["acknowledged"]) == (3, 3, 3)
    assert spilled < 3 * record("a").size


def test_a_later_run_delivers_what_an_earlier_one_left_with_its_time_and_counts_it_there() -> None:
    before = site()
    put(before, "a", "b", "c")
    before.ask(clean=True)
    before.settle()
    assert before.store.clean
    after = site(before.store, "second")
    after.outbox.connected(True)
    put(after, "new")
    after.settle()
    first = after.outbox.take(0)
    assert first is not None and first.record.body == b"new"
    old = after.outbox.take(0)
    assert old is not None and old.record.earlier is not None and old.record.earlier.boot_id == "boot"
    after.outbox.sent(7, first)
    after.outbox.sent(8, old)
    after.outbox.acknowledged(7, 0)
    after.outbox.acknowledged(8, 0)
    assert after.send() == ["b", "c"]
    after.later(2)
    after.settle()
    assert after.store.counts["boot", STREAM].acknowledged == 3
    assert after.store.adds_up()


def test_a_full_disk_gives_up_its_oldest_predictions_and_the_counts_say_so() -> None:
    here = site(disk=10 * record("00").size)
    for number in range(30):
        put(here, f"{number:02}")
        here.later(1)
        here.settle()
    here.later(limits.STORE_AFTER_S)
    here.settle()
    here.outbox.connected(True)
    here.settle()
    assert here.send() == [f"{number:02}" for number in range(20, 30)]
    assert here.outbox.ledger.report()[STREAM]["discarded"] == {"outbox_full": 20}
    assert here.store.adds_up()


def test_a_disk_that_fails_for_a_while_costs_nothing() -> None:
    here = site()
    put(here, "a")
    here.later(limits.STORE_AFTER_S)
    here.settle()
    here.store.broken = True
    put(here, "b")
    here.later(limits.STORE_AFTER_S)
    here.settle()
    put(here, "c")
    here.store.broken = False
    here.open()
    here.settle()
    here.outbox.connected(True)
    here.settle()
    assert here.send() == ["a", "b", "c"]
    here.later(2)
    here.settle()
    assert here.store.adds_up()


def test_what_only_a_damaged_file_had_is_counted_as_damaged_and_the_rest_goes_on() -> None:
    here = site()
    put(here, "a", "b")
    here.later(limits.STORE_AFTER_S)
    here.settle()
    put(here, "c")
    here.store.damaged = True
    here.outbox.disk_failed()
    here.open()
    here.settle()
    here.outbox.connected(True)
    here.settle()
    assert here.send() == ["c"]
    here.later(2)
    here.settle()
    assert here.outbox.ledger.report()[STREAM]["discarded"] == {"damaged": 2}
    assert here.store.counts["boot", STREAM].produced == 3
    assert here.store.adds_up()


def test_a_refused_message_leaves_the_disk_and_is_set_aside() -> None:
    here = site(every=True)
    here.outbox.connected(True)
    put(here, "a")
    here.settle()
    entry = here.outbox.take(0)
    assert entry is not None
    here.outbox.refuse(entry, "not authorised", WALL, 0)
    here.later(2)
    here.settle()
    assert here.store.refused == ["not authorised"]
    assert here.store.rows == {}
    assert here.store.adds_up()


def test_what_is_in_memory_does_not_wait_for_a_disk_that_fails() -> None:
    here = site()
    put(here, "early")
    here.later(limits.STORE_AFTER_S)
    here.settle()
    here.store.broken = True
    put(here, "a", "b")
    put(here, "alarm", kind=Kind.ALARM)
    here.later(limits.STORE_AFTER_S)
    here.settle()
    here.outbox.connected(True)
    put(here, "live")
    assert sorted(here.send()) == ["a", "alarm", "b", "live"]
    here.store.broken = False
    here.open()
    here.settle()
    assert here.send() == ["early"]
    assert here.store.adds_up()


def test_what_lies_on_a_full_disk_is_delivered_in_order() -> None:
    here = site()
    put(here, "a", "b")
    here.later(limits.STORE_AFTER_S)
    here.settle()
    here.store.full = True
    put(here, "c", "d")
    here.later(limits.STORE_AFTER_S)
    here.settle()
    assert here.outbox.report()["disk"] == "failed"
    here.outbox.connected(True)
    here.settle()
    assert here.send() == ["a", "b", "c", "d"]
    assert sorted(here.store.rows) == [0, 1]  # there is no room to say that they are gone
    here.store.full = False
    here.outbox.disk_may_have_room()
    here.settle()
    assert here.store.rows == {}
    assert here.store.adds_up()


@pytest.mark.parametrize("every", [False, True])
def test_the_memory_is_bounded_while_a_commit_hangs(every: bool) -> None:
    size = record("00000").size
    here = site(memory=20 * size, every=every)
    here.outbox.connected(True)
    for number in range(200):
        put(here, f"{number:05}")
        here.later(0.05)
        here.ask()
        assert here.outbox.bytes <= 20 * size
    here.settle()
    counts = here.outbox.ledger.report()[STREAM]
    assert counts["discarded"]["outbox_full"] + counts["memory"] + counts["stored"] == 200
    assert here.store.adds_up()


def test_large_records_of_the_backlog_fit_into_the_memory_and_keep_their_order() -> None:
    here = site(memory=20 * 1024)
    for number in range(100):
        put(here, f"{number:05}" + 1000 * "x")
        here.later(limits.STORE_AFTER_S)
        here.settle()
    here.outbox.connected(True)
    here.settle()
    assert here.outbox.bytes <= 20 * 1024
    assert [body[:5] for body in here.send()] == [f"{number:05}" for number in range(100)]


def test_a_file_that_is_damaged_twice_still_knows_what_earlier_runs_left() -> None:
    before = site()
    put(before, "a", "b")
    before.ask(clean=True)
    before.settle()
    here = site(before.store, "second")
    here.outbox.connected(True)
    here.settle()
    for _ in range(2):  # the second time before the first commit
        here.store.damaged = True
        here.outbox.disk_failed()
        here.open()
    here.settle()
    assert here.store.counts["boot", STREAM].produced == 2
    assert here.store.adds_up()


def test_the_backlog_keeps_its_order_when_the_broker_forgets_what_was_under_way() -> None:
    here = site()
    put(here, *(f"old{number}" for number in range(6)))
    here.later(limits.STORE_AFTER_S)
    here.settle()
    here.outbox.connected(True)
    here.settle()
    put(here, "live6", "live7")
    for token in range(4):
        entry = here.outbox.take(here.now_ns)
        assert entry is not None
        here.outbox.sent(token, entry)
    here.outbox.connected(False)
    here.outbox.reset(here.now_ns)
    here.outbox.connected(True)
    here.settle()
    assert here.send() == ["old0", "old1", "old2", "old3", "old4", "old5", "live6", "live7"]


def test_one_that_the_network_gave_back_goes_behind_those_that_were_under_way_before_it() -> None:
    here = site()
    here.outbox.connected(True)
    put(here, *(f"{number}" for number in range(6)))
    for token in range(3):
        entry = here.outbox.take(here.now_ns)
        assert entry is not None
        here.outbox.sent(token, entry)
    lost = here.outbox.take(here.now_ns)
    assert lost is not None
    here.outbox.give_back(lost, here.now_ns)
    here.outbox.connected(False)
    here.outbox.reset(here.now_ns)
    here.outbox.connected(True)
    here.settle()
    assert here.send() == ["0", "1", "2", "3", "4", "5"]


class Life(RuleBasedStateMachine):
    """Anything may happen in any order. Every prediction is acknowledged or discarded exactly once by one run, and what
    the store's ledger has counted adds up at each commit; after a crash nothing that was stored is missing."""

    def __init__(self) -> None:
        super().__init__()
        self.store = StoreModel()
        self.runs = 0
        self.names = 0
        self.acknowledged: Counter[str] = Counter()
        self.crashed = False
        self.start(every=False)

    def start(self, every: bool) -> None:
        self.runs += 1
        bounds = Bounds(12 * record("0000").size, 40 * record("0000").size, 2**62, 0, every=every)
        self.here = Site(bounds, self.store, f"boot{self.runs}")
        self.flying: list[int] = []
        self.tokens = 0

    @rule(
        kind=st.sampled_from([Kind.PREDICTION] * 4 + [Kind.EVENT, Kind.ALARM, Kind.RESPONSE, Kind.DRIFT]),
        count=st.integers(1, 5),
    )
    def put(self, kind: Kind, count: int) -> None:
        for _ in range(count):
            retain = kind is Kind.DRIFT  # and yet every one is delivered
            self.here.outbox.put(record(f"{self.names:04}", kind, retain=retain), self.here.now_ns)
            self.names += 1

    @rule(kind=st.sampled_from([Kind.STATE, Kind.ROLLOUT]))
    def put_retained(self, kind: Kind) -> None:
        self.here.outbox.put(record("r", kind, retain=True), self.here.now_ns)

    @rule(up=st.booleans())
    def connection(self, up: bool) -> None:
        self.here.outbox.connected(up)

    @rule(seconds=st.sampled_from([0.1, 1.0, 4.0]))
    def time_passes(self, seconds: float) -> None:
        self.here.later(seconds)

    @rule()
    def open(self) -> None:
        if not self.here.jobs and not self.here.outbox._spool.usable:
            self.here.open()

    @rule()
    def ask(self) -> None:
        self.here.ask()

    @precondition(lambda self: self.here.jobs)
    @rule()
    def disk_works(self) -> None:
        self.here.step()

    @rule()
    def take(self) -> None:
        entry = self.here.outbox.take(self.here.now_ns)
        if entry is not None:
            self.tokens += 1
            self.here.outbox.sent(self.tokens, entry)
            self.flying.append(self.tokens)

    @precondition(lambda self: self.flying)
    @rule(choice=st.integers(0, 100), what=st.sampled_from(["ack", "ack", "ack", "give back", "refuse"]))
    def answer(self, choice: int, what: str) -> None:
        token = self.flying.pop(choice % len(self.flying))
        if what == "ack":
            taken = self.here.outbox.acknowledged(token, self.here.now_ns)
            if taken is not None and taken.kind is Kind.PREDICTION:
                self.acknowledged[taken.body.decode()] += 1
            return
        entry = self.here.outbox.returned(token)
        if entry is not None and what == "give back":
            self.here.outbox.give_back(entry, self.here.now_ns)
        elif entry is not None:
            self.here.outbox.refuse(entry, "no", WALL, self.here.now_ns)

    @rule()
    def reset(self) -> None:
        self.here.outbox.reset(self.here.now_ns)
        self.flying.clear()

    @rule(broken=st.booleans())
    def disk_fails_or_works_again(self, broken: bool) -> None:
        self.store.broken = broken

    @rule(full=st.booleans())
    def disk_fills_or_has_room(self, full: bool) -> None:
        self.store.full = full
        if not full:
            self.here.outbox.disk_may_have_room()

    @precondition(lambda self: not self.here.jobs)
    @rule()
    def damage(self) -> None:
        self.store.damaged = True
        self.here.outbox.disk_failed()

    @rule(every=st.booleans())
    def crash(self, every: bool) -> None:
        self.crashed = True
        self.store.broken = self.store.full = False
        self.start(every)

    @invariant()
    def the_store_adds_up(self) -> None:
        assert self.store.adds_up()

    @invariant()
    def the_ledger_adds_up(self) -> None:
        for stream, count in self.here.outbox.ledger.report().items():
            assert min(count["memory"], count["stored"], count["produced"]) >= 0, (stream, count)

    @invariant()
    def what_is_flagged_as_buffered_is_what_goes_with_the_backlog(self) -> None:
        for lane in self.here.outbox._lanes.values():
            assert not any(entry.buffered for entry in lane.live)
            assert all(entry.buffered for entry in [*lane.recent, *lane.loaded])

    @invariant()
    def the_memory_is_bounded_and_counted(self) -> None:
        outbox = self.here.outbox
        waiting = [entry for lane in outbox._lanes.values() for entry in lane]
        held = [*waiting, *outbox._held, *outbox._retained.values(), *outbox._flying.values()]
        assert outbox.bytes == sum(entry.record.size for entry in held if not entry.gone)

    def teardown(self) -> None:
        """All goes well from here on: everything that was not discarded arrives, once for each run."""
        here = self.here
        self.store.broken = self.store.full = False
        here.outbox.disk_may_have_room()
        while here.jobs:
            here.step()
        if not here.outbox._spool.usable:
            here.open()
        here.outbox.reset(here.now_ns)
        here.outbox.connected(True)
        here.later(5)
        for _ in range(200):
            here.settle()
            for name in here.send():
                self.acknowledged[name] += 1
            here.later(5)
            if not len(here.outbox) and not here.outbox.report()["waiting"]:
                break
        here.settle()
        assert here.outbox.bytes == 0
        assert self.store.rows == {}
        assert self.store.adds_up()
        for stream, count in here.outbox.ledger.report().items():
            assert count["stored"] == count["memory"] == 0, (stream, count)
        if not self.crashed:
            assert set(self.acknowledged.values()) <= {1}


Life.TestCase.settings = settings(max_examples=150, stateful_step_count=60, deadline=None)
TestLife = pytest.mark.filterwarnings("ignore")(Life.TestCase)
