"""Order, bounds and counts of what waits in memory; test_outbox_and_disk.py has what the disk adds."""

from __future__ import annotations

from edge_agent.core.outbox import BACKLOG_AFTER, PREDICTION_AFTER, Bounds, Outbox
from edge_agent.core.spool import WallClock
from edge_agent.outgoing import Kind, Record, Schema
from edge_agent.records import DiscardReason

FOREVER = 2**62
WALL = WallClock(0, False)
STREAM = "prediction/p"


def record(body: str, kind: Kind = Kind.PREDICTION, retain: bool = False, topic: str = "t", mono_ns: int = 0) -> Record:
    return Record(kind, topic, Schema.PREDICTION, body.encode(), mono_ns, retain=retain, pipeline="p")


def make(memory: int = 2**20, age_ns: int = FOREVER, drain_period_ns: int = 0) -> Outbox:
    return Outbox(Bounds(memory, 0, age_ns, drain_period_ns), "boot", durable=False)


def bodies(outbox: Outbox, now_ns: int = 0) -> list[str]:
    taken = []
    while (entry := outbox.take(now_ns)) is not None:
        taken.append(entry.record.body.decode())
        outbox.sent(-entry.number, entry)
    return taken


def counts(outbox: Outbox) -> dict[str, object]:
    return outbox.ledger.report()[STREAM]


def test_retained_state_goes_first_then_events_then_predictions_in_order() -> None:
    outbox = make()
    for item in (
        record("p1"),
        record("p2"),
        record("e1", Kind.EVENT),
        record("online", Kind.STATE, retain=True, topic="availability"),
        record("p3"),
    ):
        outbox.put(item, 0)
    assert bodies(outbox) == ["online", "e1", "p1", "p2", "p3"]


def test_live_predictions_go_before_the_backlog_and_leave_it_a_share() -> None:
    outbox = make()
    for number in range(4):
        outbox.put(record(f"old{number}"), 0)
    outbox.connected(True)
    for number in range(20):
        outbox.put(record(f"new{number}"), 0)
    order = bodies(outbox)
    assert order[:BACKLOG_AFTER] == [f"new{number}" for number in range(BACKLOG_AFTER)]
    assert order[BACKLOG_AFTER] == "old0"
    assert [name for name in order if name.startswith("old")] == [f"old{number}" for number in range(4)]
    assert [name for name in order if name.startswith("new")] == [f"new{number}" for number in range(20)]


def test_the_backlog_keeps_to_its_rate_and_does_not_hold_up_what_is_new() -> None:
    outbox = make(drain_period_ns=10**9)
    start_ns = 10**12
    for number in range(3):
        outbox.put(record(f"old{number}"), start_ns)
    outbox.connected(True)
    assert bodies(outbox, start_ns) == ["old0"]
    outbox.put(record("new"), start_ns)
    assert bodies(outbox, start_ns) == ["new"]
    due_ns = outbox.next_due_ns()
    assert due_ns is not None and start_ns < due_ns <= start_ns + 10**9
    assert bodies(outbox, due_ns) == ["old1"]


def test_a_flood_of_events_does_not_starve_the_predictions() -> None:
    outbox = make()
    outbox.connected(True)
    outbox.put(record("p"), 0)
    for number in range(2 * PREDICTION_AFTER):
        outbox.put(record(f"e{number}", Kind.EVENT), 0)
    assert bodies(outbox).index("p") == PREDICTION_AFTER


def test_what_was_live_belongs_to_the_backlog_after_the_connection_is_lost() -> None:
    outbox = make()
    outbox.put(record("first"), 0)
    outbox.connected(True)
    outbox.put(record("second"), 0)
    outbox.connected(False)
    outbox.put(record("third"), 0)
    outbox.connected(True)
    outbox.put(record("live"), 0)
    assert bodies(outbox) == ["live", "first", "second", "third"]


def test_of_retained_state_only_the_last_value_of_a_topic_is_kept() -> None:
    outbox = make()
    for number in range(3):
        outbox.put(record(str(number), Kind.STATE, retain=True), 0)
    assert bodies(outbox) == ["2"]


def test_the_oldest_predictions_make_room_and_events_stay() -> None:
    outbox = make(3 * record("p0").size)
    outbox.put(record("e0", Kind.EVENT), 0)
    for number in range(4):
        outbox.put(record(f"p{number}"), 0)
    assert counts(outbox)["discarded"] == {"outbox_full": 2}
    assert outbox.ledger.take_losses() == [(STREAM, "outbox_full", 1)] * 2
    assert bodies(outbox) == ["e0", "p2", "p3"]


def test_what_is_older_than_the_bound_is_discarded_when_it_would_leave() -> None:
    outbox = make(age_ns=100)
    outbox.put(record("old", mono_ns=0), 0)
    outbox.put(record("new", mono_ns=60), 60)
    assert bodies(outbox, 120) == ["new"]
    assert counts(outbox)["discarded"] == {"expired": 1}


def test_a_record_given_back_goes_out_first_again() -> None:
    outbox = make()
    for name in ("a", "b"):
        outbox.put(record(name), 0)
    first = outbox.take(0)
    assert first is not None
    outbox.give_back(first, 0)
    assert bodies(outbox) == ["a", "b"]


def test_one_given_back_stays_with_what_is_live_until_the_connection_is_lost() -> None:
    outbox = make()
    outbox.put(record("old"), 0)
    outbox.connected(True)
    for name in ("a", "b"):
        outbox.put(record(name), 0)
    first = outbox.take(0)
    assert first is not None
    outbox.give_back(first, 0)
    taken = outbox.take(0)
    assert taken is first
    assert not taken.buffered
    outbox.connected(False)
    outbox.give_back(first, 0)
    outbox.reset(0)
    outbox.connected(True)
    assert [(entry.record.body, entry.buffered) for entry in iter(lambda: outbox.take(0), None)] == [
        (b"old", True),
        (b"a", True),
        (b"b", True),
    ]


def test_after_a_reset_all_that_was_on_its_way_goes_out_again_in_order() -> None:
    outbox = make()
    for name in "abcd":
        outbox.put(record(name), 0)
    assert bodies(outbox) == list("abcd")
    assert outbox.acknowledged(-1, 0) is not None  # b
    outbox.reset(0)
    assert bodies(outbox) == list("acd")
    assert counts(outbox)["acknowledged"] == 1


def test_a_retained_record_given_back_does_not_replace_a_newer_value() -> None:
    outbox = make()
    outbox.put(record("old", Kind.STATE, retain=True), 0)
    old = outbox.take(0)
    assert old is not None
    outbox.put(record("new", Kind.STATE, retain=True), 0)
    outbox.give_back(old, 0)
    assert bodies(outbox) == ["new"]
    assert outbox.bytes == record("new").size


def test_a_refused_record_is_counted_and_never_goes_out_again() -> None:
    outbox = make()
    outbox.put(record("a"), 0)
    entry = outbox.take(0)
    assert entry is not None
    outbox.refuse(entry, "too large", WALL, 0)
    assert bodies(outbox) == []
    assert counts(outbox) == {
        "produced": 1,
        "published": 0,
        "acknowledged": 0,
        "stored": 0,
        "memory": 0,
        "discarded": {"refused": 1},
    }


def test_what_is_left_at_the_end_is_counted_as_such() -> None:
    outbox = make()
    for number in range(3):
        outbox.put(record(str(number)), 0)
    entry = outbox.take(0)
    assert entry is not None
    outbox.sent(1, entry)
    outbox.drain(DiscardReason.SHUTDOWN, 0)
    assert counts(outbox)["discarded"] == {"shutdown": 3}
    assert outbox.bytes == 0
