"""The report fits its budget, says all that was promised, and adds up over devices exactly."""

from __future__ import annotations

import json
import math
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_agent.core.drift.bins import binning_id, binning_of
from edge_agent.core.drift.counts import Accumulator, add_tallies, empty_tally
from edge_agent.core.drift.payload import TIERS, Alarm, Origin, Report, drift_body, read_report
from edge_agent.monitoring import DriftView, FeatureState, Learning, Level, Tally
from edge_agent.records import Array, ModelIdentity
from tests.core.drift.streams import NAMES, SPECS, rows_of

SEAL = b'{"schema":"edge-agent/drift/1","time":"2026-11-21T12:00:00.000Z","clock_synced":true,'
BINNING = binning_of(SPECS, rows_of(2000, seed=0))
ORIGIN = Origin(
    device="line3-cam1",
    boot_id="6e0c9f9e-0000-4000-8000-000000000001",
    seq=18231,
    pipeline="inspect",
    model=ModelIdentity("conveyor", "1.4.2", "0123456789ab" + "c" * 52),
    seconds=300.0,
)
LEARNT = Learning(
    done=True, days=14.0, of_days=14.0, block_s=1800.0, correlation=0.123, contexts=8, daily=("temperature",)
)
SINCE_NS = 1_764_000_000 * 10**9


def tally_of(rows: Array) -> Tally:
    counting = Accumulator(BINNING)
    counting.add(rows)
    return counting.tally()


def view(
    level: Level = Level.OK, raised: dict[str, FeatureState] | None = None, learning: Learning = LEARNT
) -> DriftView:
    tier = "" if level in (Level.OK, Level.LEARNING) else "shape"
    states = [
        (raised or {}).get(name)
        or FeatureState(name, level, tier, None, 0.061, 0.034, 0.112, 0.087, evidence=(place % 7 - 3) * 0.41)
        for place, name in enumerate(NAMES)
    ]
    return DriftView(level, SINCE_NS, learning, tuple(states[::-1]), 0.42, (3.158, 4.243), 1234)


def report_of(
    tally: Tally, seen: DriftView | None = None, quality: dict[str, Any] | None = None, **performance: object
) -> bytes:
    return drift_body(ORIGIN, BINNING, tally, seen or view(), quality or {}, performance)


def sealed(body: bytes) -> int:
    return len(SEAL) + len(body) - 1


def test_a_usual_report_of_27_features_and_5_minutes_takes_at_most_3_kb() -> None:
    body = report_of(tally_of(rows_of(600, seed=1)), quality={"missing": {"temperature": 0.013}})
    assert sealed(body) <= 3000


def test_a_report_in_which_everything_has_drifted_takes_little_more() -> None:
    assert sealed(report_of(tally_of(rows_of(600, seed=1)), view(Level.CRITICAL))) <= 3500


def test_a_heartbeat_takes_at_most_300_bytes() -> None:
    for seen in (view(), view(Level.CRITICAL)):
        assert sealed(report_of(empty_tally(BINNING), seen)) <= 300


def test_a_heartbeat_says_who_is_alive_and_how_it_is() -> None:
    assert json.loads(report_of(empty_tally(BINNING), view(Level.WARNING), {"front": "black"}, labels=3)) == {
        "device": "line3-cam1",
        "boot_id": "6e0c9f9e-0000-4000-8000-000000000001",
        "seq": 18231,
        "pipeline": "inspect",
        "seconds": 300.0,
        "rows": 0,
        "level": "warning",
        "since": "2025-11-24T16:00:00.000Z",
        "quality": {"front": "black"},
        "performance": {"labels": 3},
    }


def test_lists_are_in_the_order_of_the_features() -> None:
    raised = FeatureState("image.red", Level.CRITICAL, "reference", SINCE_NS, 0.31, 1.404, None, None, evidence=2.26)
    tally = tally_of(rows_of(600, seed=1))
    found = json.loads(report_of(tally, view(Level.OK, {"image.red": raised})))
    place = NAMES.index("image.red")
    assert found["features"] == list(NAMES)
    assert found["binning"] == binning_id(BINNING)
    assert found["model"] == {"name": "conveyor", "version": "1.4.2", "sha256": "0123456789ab"}
    assert found["levels"] == [4 if column == place else 1 for column in range(27)]
    assert found["raised"] == [[place, TIERS.index("reference"), SINCE_NS // 10**9]]
    since = "2025-11-24T16:00:00.000Z"
    assert read_report(json.dumps(found).encode()).alarms == {"image.red": Alarm("reference", since)}
    assert [found[name][place] for name in ("tv_reference", "psi_reference", "tv_baseline")] == [31, 140, None]
    assert found["feature_evidence"][place] == 2.3
    assert found["evidence"] == [0.42, 3.158, 4.243]
    assert found["counts"] == [list(bins) for bins in tally.bins]
    assert found["repeated"] == list(tally.repeated)
    assert "outside" not in found  # none was


def test_every_feature_at_info_is_an_alarm_and_one_at_ok_is_none() -> None:
    tally = tally_of(rows_of(9, seed=2))
    assert [place for place, _, _ in json.loads(report_of(tally, view(Level.INFO)))["raised"]] == list(range(27))
    assert not {"raised", "levels", "since"} & set(json.loads(report_of(tally, view(Level.OK))))


def test_what_says_nothing_is_left_out() -> None:
    plain = tuple(FeatureState(name, Level.LEARNING, evidence=-math.inf) for name in NAMES)
    learning = Learning(done=False, days=1.25, of_days=7.0, block_s=900.0, correlation=None, contexts=1)
    seen = DriftView(Level.LEARNING, None, learning, plain, -math.inf, (3.158, 4.243), 0)
    found = json.loads(report_of(tally_of(rows_of(9, seed=2)), seen))
    missing = {"levels", "raised", "tv_reference", "psi_baseline", "quality", "performance", "since", "outside"}
    assert not missing & set(found)
    assert found["learning"] == {"done": False, "block_s": 900.0, "contexts": 1, "days": 1.25, "of_days": 7.0}
    assert found["evidence"][0] == -99.0


def test_a_report_is_read_back_with_or_without_its_seal() -> None:
    body = report_of(tally_of(rows_of(600, seed=1)), view(Level.INFO))
    found = read_report(body)
    assert read_report(SEAL + body[1:]) == found
    assert found.level_of(3) is Level.INFO
    assert found.seq == 18231


@settings(max_examples=25, deadline=None)
@given(st.lists(st.integers(1, 60), min_size=1, max_size=8), st.integers(0, 2**31))
def test_summed_reports_of_devices_are_the_report_of_the_pooled_stream(sizes: list[int], seed: int) -> None:
    rows = rows_of(sum(sizes), seed)
    counting, total, start = Accumulator(BINNING), empty_tally(BINNING), 0
    for size in sizes:
        counting.add(rows[start : start + size])
        total = add_tallies(total, read_report(report_of(counting.tally())).tally())
        counting.clear()
        start += size
    assert total == tally_of(rows)


WHOLE = report_of(tally_of(rows_of(600, seed=1)))


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"sums": [1]}, "other lengths than its 27 features"),
        ({"tv_reference": [1]}, "other lengths"),
        ({"repeated": [0] * 26}, "other lengths"),
        ({"rows": 599}, "add up to its 599 rows"),
        ({"rows": 601}, "add up to its 601 rows"),
        ({"rows": -1}, "rows"),
        ({"levels": [5] * 27}, "levels"),
        ({"level": "bad"}, "level"),
        ({"device": "d" * 300}, "device"),
        ({"counts": None}, "counts"),
    ],
)
def test_a_report_that_does_not_add_up_is_refused(changed: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        read_report(json.dumps({**json.loads(WHOLE), **changed}).encode())


@pytest.mark.parametrize("content", [b"", b"[]", b"[" * 100_000, WHOLE[:-9], b"\xff" + WHOLE])
def test_bytes_that_are_no_report_are_refused(content: bytes) -> None:
    with pytest.raises(ValueError):
        read_report(content)


def test_a_feature_that_the_monitor_does_not_know_is_an_error() -> None:
    seen = view()
    with pytest.raises(KeyError):
        drift_body(ORIGIN, BINNING, tally_of(rows_of(5, seed=1)), msgspec.structs.replace(seen, features=()), {}, {})


def test_later_versions_may_add_keys() -> None:
    assert isinstance(read_report(json.dumps({**json.loads(WHOLE), "more": 1}).encode()), Report)
