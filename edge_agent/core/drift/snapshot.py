"""What ``edge-agent drift`` shows: the last report, and how it came to it. The daemon writes, the command reads."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Literal

import msgspec
from msgspec import Raw, Struct

from edge_agent.core.drift.bins import binning_id
from edge_agent.core.drift.counts import add_tallies
from edge_agent.core.drift.payload import Report, read_report
from edge_agent.monitoring import Binning, DriftView, Level, Tally

POINTS_MOST: Final = 288  # a day of reports every five minutes
RECENT_MOST: Final = 12  # reports that ``recent`` adds up: the last hour of them
NOTHING: Final = b"{}"

Shares = tuple[float, ...] | None
"""Of the bins of a feature, missing last; None where they are not known."""


class Point(Struct, frozen=True):
    """One report. ``evidence`` and ``tv``: as in DriftView and FeatureState, by feature; from the baseline, else from
    the reference."""

    time: str
    rows: int
    level: Level
    evidence: float
    tv: tuple[float | None, ...]


class Snapshot(Struct):
    """``latest``: the payload as published last; ``report``: the last one with counts, ``recent``: counts of the last
    RECENT_MOST reports of its binning. ``usual``: what they are drawn against, by feature, and ``usual_of``: whose it
    is. ``reason``: why the baseline is learnt anew, "" for the first one. ``ignored``: why the model's reference is not
    used, "" where it is, and where there is none."""

    schema: Literal["edge-agent/drift-snapshot/1"] = "edge-agent/drift-snapshot/1"
    pipeline: str = ""
    latest: Raw = Raw(NOTHING)
    report: Raw = Raw(NOTHING)
    binning: Binning = ()
    usual: tuple[Shares, ...] = ()
    usual_of: Literal["reference", "baseline"] = "baseline"
    recent: tuple[Tally, ...] = ()
    history: tuple[Point, ...] = ()
    performance: Raw = Raw(NOTHING)
    reason: str = ""
    ignored: str = ""

    def add(self, time: str, payload: bytes, tally: Tally, binning: Binning, view: DriftView) -> None:
        """A report was made."""
        if binning_id(binning) != binning_id(self.binning):
            self.binning, self.recent, self.history, self.report = binning, (), (), Raw(NOTHING)
        self.latest = Raw(payload)
        if tally.rows:
            self.report = self.latest
            self.recent = (*self.recent, tally)[-RECENT_MOST:]
        by_name = {state.name: state for state in view.features}
        states = [by_name[feature.name] for feature in binning]
        sizes = [state.tv_reference if state.tv_baseline is None else state.tv_baseline for state in states]
        point = Point(time, tally.rows, view.level, round(view.evidence, 2), tuple(map(_short, sizes)))
        self.history = (*self.history, point)[-POINTS_MOST:]

    def about(
        self, usual: Sequence[Shares], of_reference: bool, reason: str, performance: bytes, ignored: str = ""
    ) -> None:
        self.usual, self.usual_of = tuple(usual), "reference" if of_reference else "baseline"
        self.reason, self.performance, self.ignored = reason, Raw(performance), ignored

    def now(self) -> Tally | None:
        """All of ``recent`` together."""
        total = None
        for tally in self.recent:
            total = tally if total is None else add_tallies(total, tally)
        return total

    def said(self) -> Report:
        """``latest``, read."""
        return read_report(bytes(self.latest))

    def counted(self) -> Report | None:
        """``report``, read; None: no row came yet."""
        return None if bytes(self.report) == NOTHING else read_report(bytes(self.report))

    def encode(self) -> bytes:
        return msgspec.json.encode(self)


def read_snapshot(content: bytes) -> Snapshot:
    """Raises ValueError that says what is wrong with it."""
    try:
        snapshot = msgspec.json.decode(content, type=Snapshot)
        msgspec.json.decode(snapshot.performance)
    except RecursionError:
        raise ValueError("is nested too deeply") from None
    snapshot.said()
    counted = snapshot.counted()
    features = len(snapshot.binning)
    parts = (
        [len(tally.bins) for tally in snapshot.recent] + [len(snapshot.usual)] + [len(p.tv) for p in snapshot.history]
    )
    if any(part != features for part in parts) or (counted and len(counted.features) != features):
        raise ValueError(f"has lists of other lengths than its {features} features")
    return snapshot


def _short(size: float | None) -> float | None:
    return None if size is None else round(size, 3)
