"""What the command shows: kept from report to report, bounded, and refused where it can't be read."""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np
import pytest

from edge_agent.core.drift.bins import FeatureSpec, binning_of
from edge_agent.core.drift.counts import Accumulator
from edge_agent.core.drift.payload import Origin, drift_body
from edge_agent.core.drift.snapshot import POINTS_MOST, RECENT_MOST, Snapshot, read_snapshot
from edge_agent.monitoring import Binning, DriftView, FeatureState, Learning, Level
from edge_agent.records import ModelIdentity

SPECS = (FeatureSpec("oven.temperature", "sensor", unit="degC"), FeatureSpec("part.class", "prediction", "class"))
ROWS = np.column_stack([np.arange(100.0), np.arange(100) % 3])


def binning(rows: np.ndarray = ROWS) -> Binning:
    return binning_of(SPECS, rows)


def view(level: Level = Level.OK, tv: float | None = 0.12345) -> DriftView:
    states = tuple(FeatureState(spec.name, level, tv_baseline=tv, tv_reference=0.5) for spec in reversed(SPECS))
    return DriftView(level, None, Learning(True, 7, 7, 900, 0.1, 8), states, 0.5, (1.5, 2.6), 3)


def add(snapshot: Snapshot, seq: int, rows: int, used: Binning | None = None, **said: Any) -> None:
    counted = Accumulator(used or binning())
    counted.add(ROWS[:rows])
    tally, seen = counted.tally(), view(**said)
    origin = Origin("line1", "b", seq, "inspect", ModelIdentity("m", "1", "ab" * 32), 300.0)
    snapshot.add(f"t{seq}", drift_body(origin, used or binning(), tally, seen, {}, {}), tally, used or binning(), seen)
    snapshot.about([None] * len(SPECS), False, "", b"{}")


def test_what_was_seen_last_stays_while_only_heartbeats_come() -> None:
    snapshot = Snapshot(pipeline="inspect")
    add(snapshot, 0, 30)
    add(snapshot, 1, 0, level=Level.CRITICAL)
    assert (snapshot.said().seq, snapshot.said().level) == (1, Level.CRITICAL)
    counted = snapshot.counted()
    assert counted is not None
    assert (counted.seq, counted.rows, counted.level) == (0, 30, Level.OK)


def test_before_the_first_row_there_is_a_report_without_counts() -> None:
    snapshot = Snapshot(pipeline="inspect")
    add(snapshot, 0, 0)
    again = read_snapshot(snapshot.encode())
    assert again.counted() is None
    assert again.now() is None
    assert again.said().seq == 0


def test_the_last_hour_of_reports_is_added_up_and_a_day_is_remembered() -> None:
    snapshot = Snapshot(pipeline="inspect")
    for seq in range(POINTS_MOST + 10):
        add(snapshot, seq, 2)
    total = snapshot.now()
    assert total is not None
    assert total.rows == 2 * RECENT_MOST
    assert len(snapshot.history) == POINTS_MOST
    assert snapshot.history[-1].tv == (0.123, 0.123)
    assert len(snapshot.encode()) < 100_000


def test_sizes_are_of_the_baseline_else_of_the_reference() -> None:
    snapshot = Snapshot(pipeline="inspect")
    add(snapshot, 0, 2, tv=None)
    assert snapshot.history[-1].tv == (0.5, 0.5)


def test_other_bins_begin_anew() -> None:
    snapshot = Snapshot(pipeline="inspect")
    add(snapshot, 0, 9)
    other = binning(ROWS * 2)
    add(snapshot, 1, 0, other)
    assert (snapshot.binning, snapshot.counted(), snapshot.now(), len(snapshot.history)) == (other, None, None, 1)


def test_it_is_read_as_it_was_written() -> None:
    snapshot = Snapshot(pipeline="inspect")
    add(snapshot, 0, 9)
    assert read_snapshot(snapshot.encode()).encode() == snapshot.encode()


def test_whatever_is_damaged_is_refused_with_a_reason() -> None:
    snapshot = Snapshot(pipeline="inspect")
    add(snapshot, 0, 9)
    content = snapshot.encode()
    said = msgspec.json.decode(content)
    damaged: list[bytes] = [content[: len(content) // 2], b"", b"\x00" * 99, b"[" * 100_000, b"[]", b"{}"]
    for key, value in (
        ("schema", "edge-agent/drift-snapshot/2"),
        ("report", {"rows": 3}),
        ("latest", {}),
        ("binning", said["binning"][:1]),
        ("usual", [None]),
        ("history", [{**said["history"][0], "tv": [0.1]}]),
        ("recent", [{**said["recent"][0], "bins": [[1, 2]]}]),
    ):
        damaged.append(msgspec.json.encode({**said, key: value}))
    for one in damaged:
        with pytest.raises(ValueError, match=r".+"):
            read_snapshot(one)
