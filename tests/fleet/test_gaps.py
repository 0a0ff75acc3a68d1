"""Planted losses are found with their exact ranges, and told apart by the device's own word."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleet.__main__ import main
from fleet.gaps import RANGES_MOST, StreamKey, find_gaps
from fleet.gaps_text import ranges_text, table
from fleet.records import Sequenced, Stats, Told
from fleet.store import Item, Store
from tests.fleet.payloads import BOOT, DEVICE, NOW, encoded, event, row

KEY = StreamKey(DEVICE, BOOT, "prediction/inspect")


@pytest.mark.parametrize(
    ("received", "told", "ranges", "explained", "unexplained"),
    [
        ([], None, [], 0, 0),
        ([0, 1, 2], None, [], 0, 0),
        ([2, 3], None, [(0, 1)], 0, 2),
        ([0, 1, 4, 6, 7], None, [(2, 3), (5, 5)], 0, 3),
        ([0, 1], Told(5, acknowledged=5), [(2, 4)], 0, 3),
        ([0, 1], Told(5, acknowledged=2, stored=2, memory=1), [(2, 4)], 3, 0),
        ([0, 3], Told(5, acknowledged=2, discarded={"outbox_full": 2, "expired": 0}), [(1, 2), (4, 4)], 2, 1),
        # what it still had at its last word came later: it explains nothing more
        ([0, 1, 2, 3, 4, 5], Told(3, acknowledged=1, stored=2), [], 0, 0),
        # it said nothing yet of what lies behind its last word
        ([0, 1, 2, 9], Told(3, acknowledged=1, stored=2), [(3, 8)], 0, 6),
        ([0, 1, 5], Told(4, acknowledged=2, stored=2), [(2, 4)], 2, 1),
        ([], Told(3, memory=3), [(0, 2)], 3, 0),
    ],
)
def test_gaps_and_what_the_device_says_of_them(
    received: list[int], told: Told | None, ranges: list[tuple[int, int]], explained: int, unexplained: int
) -> None:
    gaps = find_gaps(KEY, [received], told)
    assert (gaps.ranges, gaps.explained, gaps.unexplained) == (ranges, explained, unexplained)
    assert gaps.missing == explained + unexplained
    assert gaps.expected == gaps.received + gaps.missing


def test_what_a_run_had_in_memory_explains_nothing_once_a_later_run_is_known() -> None:
    told = Told(5, acknowledged=2, stored=1, memory=2)
    assert find_gaps(KEY, [[0, 1]], told).unexplained == 0
    assert find_gaps(KEY, [[0, 1]], told, ended=True).unexplained == 2


@given(st.sets(st.integers(0, 60)), st.integers(1, 9), st.integers(0, 70))
def test_ranges_and_received_are_all_the_numbers_however_they_are_paged(
    numbers: set[int], page: int, produced: int
) -> None:
    ordered = sorted(numbers)
    pages = [ordered[start : start + page] for start in range(0, len(ordered), page)]
    gaps = find_gaps(KEY, pages, Told(produced))
    missing = {number for first, last in gaps.ranges for number in range(first, last + 1)}
    end = max([number + 1 for number in numbers] + [produced])
    assert missing == set(range(end)) - numbers
    assert (gaps.missing, gaps.received, gaps.expected) == (len(missing), len(numbers), end)
    assert all(one[1] + 1 < other[0] for one, other in zip(gaps.ranges, gaps.ranges[1:], strict=False))


def test_ranges_are_bounded_and_counted() -> None:
    gaps = find_gaps(KEY, [range(1, 4 * RANGES_MOST, 2)], None)
    assert (len(gaps.ranges), gaps.ranges_in_all, gaps.missing) == (RANGES_MOST, 2 * RANGES_MOST, 2 * RANGES_MOST)


def test_a_person_sees_five_ranges_and_how_many_more() -> None:
    gaps = find_gaps(KEY, [[3, 5, 7, 9, 11, 13, 20]], None)
    assert ranges_text(gaps) == "0..2, 4, 6, 8, 10 and 2 more"
    lines = table([gaps], {"not_json": 2}).splitlines()
    assert lines[0].split()[:3] == ["DEVICE", "RUN", "STREAM"]
    assert lines[1].split() == [DEVICE, BOOT[:8], "prediction/inspect", "3..20", "7", "0", "0", "14", "0", "14"]
    assert lines[2:4] == [
        "    missing: 0..2, 4, 6, 8, 10 and 2 more",
        "    the device: has said nothing of this stream",
    ]
    assert lines[-2:] == ["7 received; 14 missing: 0 explained by the device, 14 not", "rejected: 2 not_json"]


def collected(path: Path, received: Sequence[int], told: Told | None = None) -> None:
    store = Store(path)
    payload = encoded(event(0))
    items = [Item(row(seq)) for seq in received]
    items.append(Item(Sequenced(DEVICE, BOOT, "event", 0, NOW, True, payload)))
    if told:
        items.append(Item(Stats(DEVICE, BOOT, NOW, 10.0, {"prediction/inspect": told}, b"{}")))
    store.commit(items, NOW)
    store.close()


def test_the_command_answers_by_its_exit_code(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    whole, explained, lost = (tmp_path / name for name in ("whole", "explained", "lost"))
    collected(whole, range(10))
    collected(explained, range(8), Told(10, acknowledged=8, discarded={"refused": 2}))
    collected(lost, [*range(4), *range(6, 10)])
    assert main(["gaps", "--db", str(whole)]) == 0
    assert "nothing is missing" in capsys.readouterr().out
    assert main(["gaps", "--db", str(explained)]) == 0
    assert "2 discarded (refused)" in capsys.readouterr().out
    assert main(["gaps", "--db", str(lost)]) == 1
    assert "missing: 4..5" in capsys.readouterr().out


def test_the_answer_in_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "collected.sqlite"
    collected(path, [0, 1, 5], Told(8, acknowledged=5, stored=1, discarded={"expired": 2}))
    assert main(["gaps", "--db", str(path), "--device", DEVICE, "--json"]) == 1
    answer = json.loads(capsys.readouterr().out)
    assert (answer["schema"], answer["ok"]) == ("edge-fleet/gaps/1", False)
    predictions, events = answer["streams"]
    assert predictions == {
        "device": DEVICE,
        "boot_id": BOOT,
        "stream": "prediction/inspect",
        "pipeline": "inspect",
        "first_seq": 0,
        "last_seq": 5,
        "received": 3,
        "duplicates": 0,
        "conflicts": 0,
        "expected": 8,
        "missing": 5,
        "ranges": [[2, 4], [6, 7]],
        "ranges_in_all": 2,
        "explained": 3,
        "unexplained": 2,
        "told": {"produced": 8, "acknowledged": 5, "stored": 1, "memory": 0, "discarded": {"expired": 2}},
    }
    assert (events["stream"], events["pipeline"], events["missing"]) == ("event", None, 0)
    assert answer["totals"]["unexplained"] == 2


def test_an_unknown_device_or_file_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "collected.sqlite"
    collected(path, [0])
    assert main(["gaps", "--db", str(path), "--device", "nobody"]) == 2
    assert f"devices there: {DEVICE}" in capsys.readouterr().err
    assert main(["gaps", "--db", str(tmp_path / "none")]) == 2
    assert "no such file" in capsys.readouterr().err


def test_a_file_without_anything_is_good(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Store(tmp_path / "new").close()
    assert main(["gaps", "--db", str(tmp_path / "new")]) == 0
    assert "nothing with a seq" in capsys.readouterr().out
