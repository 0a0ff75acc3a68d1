"""Devices' counts add up to those of the whole, and only devices that have shifted are named."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from converters.tflite.archive import with_members
from edge_agent.core.drift.bins import binning_id
from edge_agent.core.drift.counts import Accumulator
from edge_agent.core.drift.effect import total_variation
from edge_agent.core.drift.payload import Origin, drift_body
from edge_agent.core.drift.reference import encode_reference, make_reference
from edge_agent.core.wire import rfc3339
from edge_agent.monitoring import REFERENCE_MEMBER, DriftView, FeatureState, Learning, Level
from edge_agent.records import Array, ModelIdentity
from fleet.__main__ import main
from fleet.drift_text import text
from fleet.drift_view import FleetDrift, Gathering, e_benjamini_hochberg, e_value
from fleet.intake import read
from fleet.records import Sequenced
from fleet.store import Item, Store
from tests.converters.handmade_models import float_hybrid
from tests.core.drift.streams import NAMES, SPECS, rows_of
from tests.fleet.payloads import BOOT

REFERENCE = make_reference(SPECS, rows_of(2000, seed=0))
LEARNT = Learning(done=True, days=14.0, of_days=14.0, block_s=1800.0, correlation=0.1, contexts=8)
INFO, WARNING = (float(np.log10(days * 48)) for days in (30, 365))
BLOCKS = 480  # ten days
NOON_NS = 1_763_726_400 * 10**9  # 2025-11-21T12:00:00Z


def report(
    rows: Array,
    e: float | None = 0.5,
    device: str = "line3-cam1",
    seq: int = 0,
    level: Level = Level.OK,
    raised: Sequence[str] = (),
    seed: int = 0,
) -> bytes:
    """A sealed report of a device; ``e`` None: its baseline is not there yet. ``seed``: of the reference's binning."""
    reference = REFERENCE if not seed else make_reference(SPECS, rows_of(2000, seed=seed))
    counting = Accumulator(reference.binning)
    counting.add(rows)
    states = tuple(
        FeatureState(name, Level.CRITICAL, "reference", NOON_NS) if name in raised else FeatureState(name, Level.OK)
        for name in NAMES
    )
    evidence = -np.inf if not e else float(np.log10(e * BLOCKS))
    seen = DriftView(level, NOON_NS, LEARNT, states, evidence, (INFO, WARNING), 0 if e is None else BLOCKS)
    origin = Origin(device, BOOT, seq, "inspect", ModelIdentity("conveyor", "1.4.2", "0" * 64), 300.0)
    body = drift_body(origin, reference.binning, counting.tally(), seen, {}, {})
    time = rfc3339(NOON_NS + seq * 300 * 10**9)
    return f'{{"schema":"edge-agent/drift/1","time":"{time}","clock_synced":true,'.encode() + body[1:]


def gathered(reports: dict[str, bytes], rate: float = 0.1) -> FleetDrift:
    gathering = Gathering()
    for device, payload in reports.items():
        gathering.add(device, "inspect", "2025-11-21T12:00:00.000Z", payload)
    return gathering.result({binning_id(REFERENCE.binning): REFERENCE}, rate)


def test_the_counts_of_all_devices_are_compared_with_the_reference_as_one() -> None:
    parts = [rows_of(100, seed=seed) for seed in range(1, 9)]
    for part in parts:
        part[:, NAMES.index("humidity")] += 3.0
    (pooled,) = gathered({f"cam{place}": report(part) for place, part in enumerate(parts)}).pooled
    whole = np.concatenate(parts)
    counting = Accumulator(REFERENCE.binning)
    counting.add(whole)
    humidity = pooled.features[NAMES.index("humidity")]
    assert (pooled.devices, pooled.rows, pooled.reference) == (8, 800, True)
    column = NAMES.index("humidity")
    assert humidity.tv == total_variation(np.array(counting.tally().bins[column]), np.array(REFERENCE.counts[column]))
    assert humidity.tv > 0.2 > max(item.tv or 0 for item in pooled.features if item.name != "humidity")
    assert humidity.mean == pytest.approx(whole[:, column].mean(), rel=1e-2)
    assert humidity.unit == "%"


def test_devices_of_two_binnings_are_not_mixed() -> None:
    found = gathered({"cam1": report(rows_of(50, seed=1)), "cam2": report(rows_of(60, seed=2), seed=9)})
    assert sorted((pooled.rows, pooled.reference) for pooled in found.pooled) == [(50, True), (60, False)]


def test_only_the_devices_that_have_shifted_are_named() -> None:
    rows = rows_of(10, seed=1)
    values = {f"cam{place:03d}": 2000.0 if place < 5 else 1.5 for place in range(150)}
    found = gathered({device: report(rows, e) for device, e in values.items()})
    assert [device.device for device in found.devices if device.shifted] == [f"cam{place:03d}" for place in range(5)]
    assert [device.shifted for device in found.devices[:6]] == [True] * 5 + [False]
    assert not found.good
    assert "5 of 150 have shifted" in text(found)
    assert "at warning or critical" not in text(found)


def test_a_fleet_that_shifts_a_little_everywhere_is_seen_as_a_whole() -> None:
    rows = rows_of(10, seed=1)
    found = gathered({f"cam{place}": report(rows, 110.0) for place in range(20)})
    assert found.fleet_shifted
    assert found.mean_e == pytest.approx(110, rel=0.01)
    assert not gathered({f"cam{place}": report(rows, 90.0) for place in range(20)}).fleet_shifted


def test_a_device_without_a_baseline_is_not_judged() -> None:
    found = gathered({"cam1": report(rows_of(10, seed=1), None, level=Level.LEARNING)})
    assert (found.devices[0].e_value, found.mean_e, found.good) == (None, None, True)
    assert "none with its baseline yet" in text(found)


def test_after_a_heartbeat_the_last_evidence_and_alarms_stand_and_the_level_is_new() -> None:
    gathering = Gathering()
    first = report(rows_of(10, seed=1), 40.0, level=Level.CRITICAL, raised=["image.red"])
    for payload in (first, report(rows_of(10, seed=1)[:0], 40.0, seq=1, level=Level.WARNING)):
        gathering.add("cam1", "inspect", "2025-11-21T12:00:00.000Z", payload)
    (device,) = gathering.result({}, 0.1).devices
    assert (device.level, device.alarms, device.rows, device.shifted) == (Level.WARNING, ("image.red",), 10, True)


@pytest.mark.parametrize(("blocks", "block_s", "expected"), [(480, 1800.0, 2.0), (10, 86_400.0, 2.0), (1, 1800.0, 960)])
def test_the_e_value_is_the_statistic_over_the_time_since_its_start(
    blocks: int, block_s: float, expected: float
) -> None:
    gathering = Gathering()
    tree = json.loads(report(rows_of(3, seed=1)))
    statistic = 20 * 86_400 / block_s  # twenty days, in blocks
    tree["evidence"] = [float(np.log10(statistic)), float(np.log10(30 * 86_400 / block_s)), 9.0]
    tree["blocks"], tree["learning"]["block_s"] = blocks, block_s
    gathering.add("cam1", "inspect", "", json.dumps(tree).encode())
    assert gathering.result({}, 0.1).devices[0].e_value == pytest.approx(expected)


def test_evidence_beyond_what_a_float_holds_is_a_large_number() -> None:
    tree = json.loads(report(rows_of(3, seed=1)))
    found = gathered({"cam1": json.dumps({**tree, "evidence": [4000.0, 3.2, 4.2]}).encode()})
    assert found.mean_e is not None
    assert np.isfinite(found.mean_e)
    assert e_value(None) is None


@settings(max_examples=60, deadline=None)
@given(st.lists(st.floats(0, 1e6), max_size=40), st.floats(0.01, 0.5))
def test_the_procedure_names_the_largest_set_that_holds_the_rate(values: list[float], rate: float) -> None:
    named = e_benjamini_hochberg(dict(enumerate(values)), rate)
    n, ordered = len(values), sorted(values, reverse=True)
    fitting = [k for k in range(1, n + 1) if ordered[k - 1] * k * rate >= n]
    assert len(named) == (fitting[-1] if fitting else 0)
    if 0 < len(named) < n:
        assert min(values[key] for key in named) >= max(values[key] for key in range(n) if key not in named)


def test_hostile_reports_are_counted_and_spoil_nothing() -> None:
    whole = report(rows_of(10, seed=1))
    other = json.loads(whole)
    other["features"] = other["features"][::-1]
    bad = [b"", b"{}", b"[" * 100_000, whole[:-5], json.dumps(other).encode()]
    gathering = Gathering()
    for payload in (whole, *bad):
        gathering.add("cam1", "inspect", "2025-11-21T12:00:00.000Z", payload)
    found = gathering.result({}, 0.1)
    assert (found.reports, found.unreadable, found.pooled[0].rows) == (6, 5, 10)
    assert "5 of 6 reports could not be read" in text(found)


@pytest.fixture
def database(tmp_path: Path) -> Path:
    """Two days of two devices; cam2 shifts on the second."""
    store = Store(tmp_path / "collected.sqlite")
    for device, e, level in (("cam1", 0.8, Level.OK), ("cam2", 900.0, Level.CRITICAL)):
        for seq in (0, 288, 289):
            rows = rows_of(20, seed=seq)
            shifted = device == "cam2" and seq > 0
            payload = report(
                rows, e if shifted else 0.8, device, seq, level if shifted else Level.OK, ["load"] * shifted
            )
            row = read("edge-agent", f"edge-agent/{device}/drift/inspect", payload)
            assert isinstance(row, Sequenced)
            store.commit([Item(row)], rfc3339(NOON_NS + seq * 300 * 10**9))
    store.close()
    return tmp_path / "collected.sqlite"


def told(capsys: pytest.CaptureFixture[str], *options: object) -> tuple[int, Any]:
    code = main(["drift", *map(str, options), "--json"])
    return code, json.loads(capsys.readouterr().out)


def test_the_last_day_of_the_file_is_added_up(database: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, found = told(capsys, "--db", database)
    assert (code, found["schema"], found["ok"]) == (1, "edge-fleet/drift/1", False)
    assert (found["since"], found["until"]) == ("2025-11-21T12:05:00.000Z", "2025-11-22T12:05:00.000Z")
    assert found["pooled"][0]["rows"] == 80
    assert [(device["device"], device["shifted"]) for device in found["devices"]] == [("cam2", True), ("cam1", False)]


def test_sql_alone_adds_up_the_same(database: Path) -> None:
    query = """
        SELECT feature.value, bin.key, sum(bin.value) FROM drift,
            json_each(CAST(payload AS TEXT), '$.features') AS feature,
            json_each(CAST(payload AS TEXT), '$.counts[' || feature.key || ']') AS bin
        GROUP BY json_extract(CAST(payload AS TEXT), '$.binning'), feature.key, bin.key ORDER BY feature.key, bin.key
    """
    counting = Accumulator(REFERENCE.binning)
    for seq in (0, 288, 289) * 2:
        counting.add(rows_of(20, seed=seq))
    bins = zip(NAMES, counting.tally().bins, strict=True)
    with closing(sqlite3.connect(database)) as connection:
        found = connection.execute(query).fetchall()
    assert found == [(name, place, count) for name, counts in bins for place, count in enumerate(counts)]


def test_another_day_and_one_device_can_be_asked_for(database: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, found = told(capsys, "--db", database, "--until", "2025-11-21T12:00:00Z", "--last", "1h")
    assert (code, found["pooled"][0]["rows"]) == (0, 40)
    # a report at the very beginning belongs to the time before
    code, found = told(capsys, "--db", database, "--until", "2025-11-22T12:00:00Z")
    assert (code, found["pooled"][0]["rows"]) == (1, 40)
    code, found = told(capsys, "--db", database, "--device", "cam1", "--last", "48h")
    assert (code, found["pooled"][0]["rows"]) == (0, 60)
    code, found = told(capsys, "--db", database, "--pipeline", "other")
    assert (code, found["devices"]) == (0, [])


def test_a_device_without_a_clock_is_taken_by_the_time_of_receipt(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "collected.sqlite"
    payload = report(rows_of(20, seed=1)).replace(b'"clock_synced":true', b'"clock_synced":false')
    row = read("edge-agent", "edge-agent/line3-cam1/drift/inspect", payload.replace(b'"time":"2025', b'"time":"1970'))
    store = Store(path)
    store.commit([Item(row)], rfc3339(NOON_NS))
    store.close()
    assert told(capsys, "--db", path)[1]["pooled"][0]["rows"] == 20


def test_a_person_gets_a_table(database: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["drift", "--db", str(database)]) == 1
    out = capsys.readouterr().out
    assert "cam2    inspect   critical  2025-11-21T12:00:00" in out
    assert "load" in out
    assert "no reference given" in out
    assert "1 of 2 have shifted" in out
    assert out.endswith("; 1 of 2 at warning or critical by its own alarm\n")  # why the result is a bad one


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--until", "yesterday"], "expected a time such as"),
        (["--until", "2025-11-21T12:00:00+01:00"], "expected UTC"),
        (["--rate", "1"], "above 0 and below 1"),
        (["--rate", "x"], "above 0 and below 1"),
        (["--last", "1"], "a time with its unit"),
    ],
)
def test_bad_usage_is_said(options: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["drift", "--db", "collected.sqlite", *options])
    assert said in capsys.readouterr().err


def test_a_model_brings_the_reference_to_compare_with(
    database: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = tmp_path / "conveyor.tflite"
    model.write_bytes(with_members(float_hybrid(), {REFERENCE_MEMBER: encode_reference(REFERENCE)}))
    _, found = told(capsys, "--db", database, "--reference", model)
    assert found["pooled"][0]["reference"] is True
    assert all(0 <= feature["tv"] < 0.5 for feature in found["pooled"][0]["features"])


@pytest.mark.parametrize(
    ("members", "said"),
    [({}, "has no drift reference; edge-convert baseline"), ({REFERENCE_MEMBER: b"{}"}, "missing required field")],
)
def test_a_model_without_a_usable_reference_is_refused(
    database: Path, tmp_path: Path, members: dict[str, bytes], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    model = tmp_path / "conveyor.tflite"
    model.write_bytes(with_members(float_hybrid(), members))
    assert main(["drift", "--db", str(database), "--reference", str(model)]) == 2
    assert said in capsys.readouterr().err


def test_a_file_without_a_report_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Store(tmp_path / "collected.sqlite").close()
    assert main(["drift", "--db", str(tmp_path / "collected.sqlite")]) == 0
    assert capsys.readouterr().out == "no drift report in this time\n"
