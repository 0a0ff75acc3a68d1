"""What the collector takes, what it refuses and under which name; and that no bytes at all make it raise."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fleet.intake import DEPTH_MOST, PAYLOAD_BYTES_MOST, deeper, read, same_but_the_seal
from fleet.records import Availability, Info, Reason, Rejected, Rollout, Sequenced, Stats
from fleet.store import Item, Store
from tests.fleet.payloads import BOOT, DEVICE, NOW, TOPIC, drift, encoded, event, info, prediction, stats

BASE = "edge-agent"
LEDGER = {"prediction/inspect": {"produced": 5, "acknowledged": 4, "stored": 1, "memory": 0, "discarded": {}}}


def of(below: str) -> str:
    return f"{BASE}/{DEVICE}/{below}"


def test_a_prediction_keeps_its_bytes_and_gives_its_identity() -> None:
    payload = encoded(prediction(41, a_key_of_next_year={"x": [1]}))
    row = read(BASE, TOPIC, payload)
    assert row == Sequenced(
        DEVICE, BOOT, "prediction/inspect", 41, "2026-11-21T11:59:59.123Z", True, payload, buffered=False
    )


@pytest.mark.parametrize(
    ("topic", "payload", "kind"),
    [
        (of("event"), encoded(event(0)), Sequenced),
        (of("stats"), encoded(stats(10.0, LEDGER)), Stats),
        (of("stats"), encoded(stats(10)), Stats),
        (of("info"), encoded(info()), Info),
        (of("availability"), b"online", Availability),
        (of("drift/inspect"), encoded(drift(0)), Sequenced),
        (of("update/status"), encoded({"schema": "edge-agent/rollout/1", "time": NOW, "device": DEVICE}), Rollout),
    ],
)
def test_each_topic_of_a_device_has_its_row(topic: str, payload: bytes, kind: type) -> None:
    assert type(read(BASE, topic, payload)) is kind


def test_a_base_topic_of_several_levels_is_taken_off() -> None:
    assert isinstance(read("plant/2", f"plant/2/{DEVICE}/availability", b"offline"), Availability)


def test_an_event_of_severity_warning_is_one_printable_line() -> None:
    row = read(BASE, of("event"), encoded(event(3, detail="two\nlines \x1b[31m")))
    assert isinstance(row, Sequenced)
    assert row.warning == "warning: camera_lost front: two?lines ?[31m"


DEEP = b'{"a":' * 5000 + b"1" + b"}" * 5000
NESTED = encoded(prediction(0, extra=None)).replace(b'"extra":null', b'"extra":' + b"[" * 70 + b"]" * 70)


@pytest.mark.parametrize(
    ("topic", "payload", "reason"),
    [
        (TOPIC, b"", Reason.EMPTY),
        (of("availability"), b"", Reason.EMPTY),
        (of("availability"), b"maybe", Reason.WRONG_TYPE),
        (TOPIC, b"not json", Reason.NOT_JSON),
        (TOPIC, b"\xff\xfe", Reason.NOT_JSON),
        (TOPIC, b'{"schema":"\\ud800"}', Reason.NOT_JSON),
        (TOPIC, encoded(prediction(0)) + b"x", Reason.NOT_JSON),
        (TOPIC, b"[]", Reason.WRONG_TYPE),
        (TOPIC, b"7", Reason.WRONG_TYPE),
        (TOPIC, b"{}", Reason.OTHER_SCHEMA),
        (TOPIC, encoded(prediction(0, schema="edge-agent/prediction/2")), Reason.OTHER_SCHEMA),
        (TOPIC, encoded(prediction(0, schema=["edge-agent/prediction/1"])), Reason.OTHER_SCHEMA),
        (TOPIC, encoded(event(0)), Reason.OTHER_SCHEMA),
        (TOPIC, encoded(prediction(0, device="line3-cam2")), Reason.OTHER_DEVICE),
        (TOPIC, encoded(prediction(0, pipeline="count")), Reason.OTHER_PIPELINE),
        (TOPIC, encoded(prediction(0, device=None)), Reason.WRONG_TYPE),
        (TOPIC, encoded(prediction(-1)), Reason.SEQ),
        (TOPIC, encoded(prediction(2**53 + 1)), Reason.SEQ),
        (TOPIC, encoded(prediction(10**400)), Reason.SEQ),
        (TOPIC, encoded(prediction(0, seq="0")), Reason.WRONG_TYPE),
        (TOPIC, encoded(prediction(0, seq=True)), Reason.WRONG_TYPE),
        (TOPIC, encoded(prediction(0, seq=0.5)), Reason.WRONG_TYPE),
        (TOPIC, encoded(prediction(0, boot_id="")), Reason.WRONG_TYPE),
        (TOPIC, encoded(prediction(0, boot_id="a" * 65)), Reason.WRONG_TYPE),
        (TOPIC, encoded(prediction(0, time="yesterday")), Reason.WRONG_TYPE),
        (TOPIC, encoded(prediction(0, quality=["x" * PAYLOAD_BYTES_MOST])), Reason.TOO_LARGE),
        (TOPIC, DEEP, Reason.TOO_DEEP),
        (TOPIC, NESTED, Reason.TOO_DEEP),
        (of("stats"), encoded(stats(-1.0)), Reason.WRONG_TYPE),
        (of("stats"), encoded(stats(1.0, {"event": {"produced": -1}})), Reason.WRONG_TYPE),
        (of("stats"), encoded(stats(1.0, {"event": {"produced": 2**63}})), Reason.WRONG_TYPE),
        (of("set/inspect/rate"), b"5/s", Reason.UNKNOWN_TOPIC),
        ("edge-agent", b"{}", Reason.UNKNOWN_TOPIC),
        ("", b"{}", Reason.UNKNOWN_TOPIC),
        (f"other/{DEVICE}/availability", b"online", Reason.UNKNOWN_TOPIC),
        ("edge-agent/Line_3/availability", b"online", Reason.BAD_NAME),
        ("edge-agent//availability", b"online", Reason.BAD_NAME),
        (of("prediction/In spect"), encoded(prediction(0)), Reason.BAD_NAME),
    ],
)
def test_what_is_not_ours_is_rejected_under_a_name(topic: str, payload: bytes, reason: Reason) -> None:
    row = read(BASE, topic, payload)
    assert isinstance(row, Rejected)
    assert (row.reason, row.payload) == (reason, payload)
    assert row.detail.isprintable()


def test_many_brackets_are_not_taken_for_deep_ones() -> None:
    boxes = [{"label": "x", "index": 0, "score": 0.5, "box": [0.0, 0.0, 1.0, 1.0]}] * 100
    assert isinstance(read(BASE, TOPIC, encoded(prediction(0, outputs={"o": {"boxes": boxes}}))), Sequenced)
    assert isinstance(read(BASE, TOPIC, encoded(prediction(0, delegate="[" * 100))), Sequenced)


@pytest.mark.parametrize("levels", [DEPTH_MOST - 1, DEPTH_MOST, DEPTH_MOST + 1])
def test_depth_is_counted_in_levels(levels: int) -> None:
    tree: list[object] = []
    for _ in range(levels - 1):
        tree = [tree, {"a": 1}]
    assert deeper(tree, DEPTH_MOST) == (levels > DEPTH_MOST)


def test_only_what_a_later_delivery_may_correct_is_not_compared() -> None:
    one = encoded(prediction(1, big=10**30))
    later = encoded(prediction(1, big=10**30, buffered=True, time="2026-11-21T12:00:00.000Z", clock_synced=False))
    assert same_but_the_seal(one, later)
    assert not same_but_the_seal(one, encoded(prediction(1, big=10**30 + 1)))
    assert not same_but_the_seal(one, encoded(prediction(1, big=10**30, delegate="gpu")))


VALID = [
    (TOPIC, encoded(prediction(7))),
    (of("event"), encoded(event(7))),
    (of("stats"), encoded(stats(7.0, LEDGER))),
    (of("info"), encoded(info())),
]
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


@st.composite
def mutated_bytes(draw: st.DrawFn) -> tuple[str, bytes]:
    topic, payload = draw(st.sampled_from(VALID))
    changed = bytearray(payload)
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, len(changed)))
        changed[at : at + draw(st.integers(0, 3))] = draw(st.binary(max_size=3))
    return topic, bytes(changed)


@st.composite
def mutated_values(draw: st.DrawFn) -> tuple[str, bytes]:
    topic, tree = draw(st.sampled_from([(TOPIC, prediction(7)), (of("event"), event(7)), (of("info"), info())]))
    tree = dict(tree)
    tree[draw(st.sampled_from(sorted(tree)))] = draw(values)
    return topic, encoded(tree)


messages = st.one_of(
    st.tuples(st.text(max_size=40), st.binary(max_size=200)),
    st.tuples(st.sampled_from([topic for topic, _ in VALID]), st.binary(max_size=200)),
    mutated_bytes(),
    mutated_values(),
)


@given(st.lists(messages, max_size=20))
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_whatever_comes_is_a_row_or_a_named_rejection_and_can_be_stored(
    tmp_path_factory: pytest.TempPathFactory, found: list[tuple[str, bytes]]
) -> None:
    rows = [read(BASE, topic, payload) for topic, payload in found]
    store = Store(tmp_path_factory.mktemp("fuzz") / "collected.sqlite")
    try:
        done = store.commit([Item(row) for row in rows], NOW)
        again = store.commit([Item(row) for row in rows], NOW)
    finally:
        store.close()
    assert done.rejected == again.rejected == sum(isinstance(row, Rejected) for row in rows)
    assert (again.predictions, again.events) == (0, 0)


def test_the_views_can_be_read_whatever_was_stored(tmp_path: Path) -> None:
    store = Store(tmp_path / "collected.sqlite")
    nested = encoded(event(1, extra=None)).replace(b'"extra":null', b'"extra":' + b"[" * 60 + b"]" * 60)
    store.commit([Item(read(BASE, of("event"), nested)), Item(read(BASE, TOPIC, VALID[0][1]))], NOW)
    store.close()
    database = sqlite3.connect(tmp_path / "collected.sqlite")
    assert database.execute("SELECT kind, severity FROM event").fetchall() == [("camera_lost", "warning")]
    assert database.execute("SELECT device, pipeline, seq FROM prediction").fetchall() == [(DEVICE, "inspect", 7)]
    database.close()
