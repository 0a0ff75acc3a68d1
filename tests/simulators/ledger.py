"""What the outbox's file says and what arrived, held against each other. The file is read as a stranger would: with SQL
alone, and on a copy, so that the next start finds it exactly as the daemon left it."""

from __future__ import annotations

import json
import shutil
import sqlite3
import tempfile
from collections import Counter, defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

NOT_THE_SAME_AGAIN = ("buffered", "time", "clock_synced")  # said anew each time a prediction is sent


class Row(NamedTuple):
    """The ledger of one run and stream; all but ``missing`` as it stands in the file."""

    boot_id: str
    stream: str
    clean: bool
    produced: int
    acknowledged: int
    stored: int
    discarded: dict[str, int]

    @property
    def missing(self) -> int:
        """Of what nothing is known; below 0: more became of them than there were."""
        return self.produced - self.acknowledged - self.stored - sum(self.discarded.values())


class Ledger:
    """The file at ``path`` of a daemon that has ended, however it did."""

    def __init__(self, path: Path) -> None:
        self.path = path
        with tempfile.TemporaryDirectory() as folder:
            copy = Path(folder) / "copy.sqlite"
            for ending in ("", "-wal"):
                part = path.with_name(path.name + ending)
                if part.exists():
                    shutil.copyfile(part, copy.with_name(copy.name + ending))
            database = sqlite3.connect(copy)
            try:
                self._read(database)
            finally:
                database.close()

    def _read(self, database: sqlite3.Connection) -> None:
        self._verdict = database.execute("PRAGMA integrity_check").fetchone()[0]
        runs = {
            number: (boot, bool(clean))
            for number, boot, clean in database.execute("SELECT id, boot_id, clean FROM run")
        }
        self.boot_ids = [runs[number][0] for number in sorted(runs)]
        self.rows = [
            Row(runs[run][0], stream, runs[run][1], produced, acknowledged, stored, json.loads(discarded))
            for run, stream, produced, acknowledged, stored, discarded in database.execute(
                "SELECT run, stream, produced, acknowledged, stored, discarded FROM ledger ORDER BY run"
            )
        ]
        self.stored: dict[str, set[int]] = defaultdict(set)
        """boot_id -> the seq of the predictions that wait in the file (of a single pipeline)."""
        self._found: Counter[str] = Counter()
        for table in ("prediction", "event"):
            for run, body in database.execute(f"SELECT run, body FROM {table}"):
                self._found[runs[run][0]] += 1
                if table == "prediction":
                    self.stored[runs[run][0]].add(json.loads(body)["seq"])

    def check(self) -> Ledger:
        """Each row adds up, and what it says is stored is there."""
        assert self._verdict == "ok", (self.path, self._verdict)
        assert not [row for row in self.rows if row.missing], self.rows
        said: Counter[str] = Counter()
        for row in self.rows:
            said[row.boot_id] += row.stored
        assert +said == +self._found, self.rows
        return self

    def predictions(self, boot_id: str, pipeline: str = "inspect") -> Row:
        """Of a run that has made predictions."""
        return next(row for row in self.rows if (row.boot_id, row.stream) == (boot_id, f"prediction/{pipeline}"))


def once_each(predictions: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """In the order of their first arrival; what came twice was the same prediction."""
    by_id: dict[str, dict[str, Any]] = {}
    for item in predictions:
        first = by_id.setdefault(item["id"], item)
        assert _content(first) == _content(item)
    seqs = {(item["boot_id"], item["pipeline"], item["seq"]) for item in by_id.values()}
    assert len(seqs) == len(by_id)
    return list(by_id.values())


def seqs_by_run(predictions: Iterable[dict[str, Any]]) -> dict[str, list[int]]:
    """boot_id -> seq in the order of their first arrival."""
    found: dict[str, list[int]] = defaultdict(list)
    for item in once_each(predictions):
        found[item["boot_id"]].append(item["seq"])
    return found


def check_order(predictions: Iterable[dict[str, Any]]) -> None:
    """The backlog came in order, and so did what was live."""
    for flag in (True, False):
        seqs = [item["seq"] for item in once_each(predictions) if item["buffered"] is flag]
        assert seqs == sorted(seqs)


def _content(prediction: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in prediction.items() if key not in NOT_THE_SAME_AGAIN}
