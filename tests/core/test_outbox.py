"""Every record that goes into the outbox leaves in exactly one way."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from edge_agent.core.outbox import Outbox
from edge_agent.outgoing import Kind, Record, Schema
from edge_agent.records import DiscardReason

FOREVER = 2**62


def record(body: str, kind: Kind = Kind.PREDICTION, retain: bool = False, topic: str = "t", mono_ns: int = 0) -> Record:
    return Record(kind, topic, Schema.PREDICTION, body.encode(), mono_ns, retain=retain)


def bodies(outbox: Outbox) -> list[str]:
    taken = []
    while (item := outbox.take(0)[0]) is not None:
        taken.append(item.body.decode())
    return taken


def test_retained_state_goes_first_then_events_then_predictions_in_order() -> None:
    outbox = Outbox(2**20, FOREVER)
    for item in (
        record("p1"),
        record("p2"),
        record("e1", Kind.EVENT),
        record("online", Kind.EVENT, retain=True, topic="availability"),
        record("p3"),
    ):
        assert outbox.put(item, 0) == []
    assert bodies(outbox) == ["online", "e1", "p1", "p2", "p3"]
    assert outbox.bytes == 0


def test_of_retained_state_only_the_last_value_of_a_topic_is_kept() -> None:
    outbox = Outbox(2**20, FOREVER)
    for number in range(3):
        outbox.put(record(str(number), Kind.STATE, retain=True), 0)
    assert bodies(outbox) == ["2"]


def test_the_oldest_predictions_make_room_and_events_stay() -> None:
    outbox = Outbox(3 * record("p0").size, FOREVER)
    outbox.put(record("e0", Kind.EVENT), 0)
    lost = [item for number in range(4) for item in outbox.put(record(f"p{number}"), 0)]
    assert [(item.record.body, item.reason) for item in lost] == [
        (b"p0", DiscardReason.OUTBOX_FULL),
        (b"p1", DiscardReason.OUTBOX_FULL),
    ]
    assert bodies(outbox) == ["e0", "p2", "p3"]


def test_what_is_older_than_the_bound_is_discarded_when_it_would_leave() -> None:
    outbox = Outbox(2**20, 100)
    outbox.put(record("old", mono_ns=0), 0)
    outbox.put(record("new", mono_ns=60), 60)
    taken, lost = outbox.take(120)
    assert taken is not None and taken.body == b"new"
    assert [(item.record.body, item.reason) for item in lost] == [(b"old", DiscardReason.EXPIRED)]


def test_a_record_given_back_goes_out_first_again() -> None:
    outbox = Outbox(2**20, FOREVER)
    for name in ("a", "b"):
        outbox.put(record(name), 0)
    first = outbox.take(0)[0]
    assert first is not None
    outbox.give_back(first)
    assert bodies(outbox) == ["a", "b"]


def test_a_retained_record_given_back_does_not_replace_a_newer_value() -> None:
    outbox = Outbox(2**20, FOREVER)
    outbox.put(record("old", Kind.STATE, retain=True), 0)
    old = outbox.take(0)[0]
    assert old is not None
    outbox.put(record("new", Kind.STATE, retain=True), 0)
    outbox.give_back(old)
    assert bodies(outbox) == ["new"]
    assert outbox.bytes == 0


actions = st.lists(
    st.one_of(
        st.tuples(st.just("put"), st.sampled_from(list(Kind)), st.booleans(), st.integers(0, 3)),
        st.tuples(st.just("take")),
    ),
    max_size=60,
)


@given(actions, st.integers(1, 12))
def test_put_is_taken_replaced_discarded_or_left(steps: list[tuple], room: int) -> None:
    outbox = Outbox(room * record("00").size, FOREVER)
    put = left_by_discard = taken = replaced = 0
    waiting_topics: set[str] = set()
    for number, step in enumerate(steps):
        if step[0] == "take":
            item, lost = outbox.take(0)
            taken += item is not None
            left_by_discard += len(lost)
            if item is not None and item.retain:
                waiting_topics.discard(item.topic)
            continue
        _, kind, retain, topic = step
        put += 1
        if retain:
            replaced += f"t{topic}" in waiting_topics
            waiting_topics.add(f"t{topic}")
        left_by_discard += len(outbox.put(record(f"{number:02}", kind, retain, f"t{topic}"), 0))
    left = outbox.drain(DiscardReason.SHUTDOWN)
    assert put == taken + replaced + left_by_discard + len(left)
    assert outbox.bytes == 0
