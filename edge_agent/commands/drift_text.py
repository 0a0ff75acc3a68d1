"""One pipeline's drift for a person at a terminal."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

import msgspec

from edge_agent.core.drift.payload import Report
from edge_agent.core.drift.reasons import LOOK_AT, SAID, days_text
from edge_agent.core.drift.snapshot import Snapshot
from edge_agent.core.wire import printable
from edge_agent.monitoring import LEVELS

_BARS: Final = "▁▂▃▄▅▆▇█"
_POINTS: Final = 24  # of a sparkline
_FULL: Final = 0.4  # a total variation that fills it: from there on two pictures of the world have little in common
_CLASSES: Final = ("labels", "accuracy", "precision", "recall", "F1", "AUC")  # as performance_report.figures
_VALUES: Final = ("labels", "MAE", "RMSE", "R2")
_HEADINGS: Final = ("feature", "level", "TV reference", "TV baseline", "evidence", "TV so far")


def as_text(name: str, snapshot: Snapshot | None) -> str:
    if snapshot is None:
        return f"{name}: no report yet; the daemon writes one every drift.report, and at each change"
    return "\n".join(_lines(name, snapshot))


def sparkline(values: Sequence[float | None], full: float = _FULL) -> str:
    """The newest on the right; a dot where nothing is known."""
    return "".join(
        "·" if value is None else _BARS[min(len(_BARS) - 1, int(value / full * len(_BARS)))]
        for value in values[-_POINTS:]
    )


def _lines(name: str, snapshot: Snapshot) -> Iterator[str]:
    latest, counted = snapshot.said(), snapshot.counted()
    since = f" since {latest.since}" if latest.since else ""
    yield f"{name}: {latest.level.value}{since}"
    if latest.silenced_until:
        yield f"  no events until {latest.silenced_until}: somebody asked for silence"
    time = snapshot.history[-1].time if snapshot.history else "unknown time"
    yield f"  report of {time}: {latest.rows} rows in {latest.seconds:g} s"
    if counted is None:
        yield "  nothing was seen yet"
    else:
        yield from _seen(snapshot, counted, stale=not latest.rows)
    yield from _quality(latest.quality)
    yield from _labels(msgspec.json.decode(snapshot.performance))


def _seen(snapshot: Snapshot, report: Report, *, stale: bool) -> Iterator[str]:
    if report.model is not None:
        yield f"  model {printable(report.model.name)} {printable(report.model.version)} ({report.model.sha256})"
    yield from _learning(snapshot, report)
    if stale:
        times = [point.time for point in snapshot.history if point.rows]
        yield f"  the table is of {times[-1] if times else 'earlier'}, when something was seen last"
    yield ""
    yield from _table(snapshot, report)
    yield from _alarms(snapshot, report)


def _learning(snapshot: Snapshot, report: Report) -> Iterator[str]:
    learning = report.learning
    if learning is None:
        return
    contexts = (
        f"{learning.contexts} parts of the day" if learning.contexts > 1 else "no parts of the day (clock not set)"
    )
    if learning.done:
        yield f"  baseline learnt; blocks of {learning.block_s:g} s, {contexts}, {report.blocks} judged"
    else:
        yield f"  baseline: {days_text(learning.days or 0)} of {days_text(learning.of_days or 0)}; {contexts}"
    if snapshot.ignored:
        yield f"  the model's reference is not used: {printable(snapshot.ignored)}"
    elif snapshot.usual_of == "baseline":
        yield "  the model file has no reference: only the baseline is compared with"
    if learning.daily:
        yield f"  judged by whole days: {', '.join(map(printable, learning.daily))}"
    if snapshot.reason:
        yield f"  learnt anew because: {printable(snapshot.reason)}"


def _table(snapshot: Snapshot, report: Report) -> Iterator[str]:
    rows = [_HEADINGS]
    order = sorted(range(len(report.features)), key=lambda place: _rank(report, place), reverse=True)
    for place in order:
        past = [point.tv[place] for point in snapshot.history if len(point.tv) == len(report.features)]
        rows.append(
            (
                printable(report.features[place]),
                report.level_of(place).value,
                _percent(report.tv_reference, place),
                _percent(report.tv_baseline, place),
                f"{report.feature_evidence[place]:+.1f}",
                sparkline(past),
            )
        )
    widths = [max(len(row[column]) for row in rows) for column in range(len(_HEADINGS))]
    for row in rows:
        cells = [cell.ljust(width) if n in (0, 1, 5) else cell.rjust(width) for n, (cell, width) in _cells(row, widths)]
        yield ("  " + "  ".join(cells)).rstrip()


def _alarms(snapshot: Snapshot, report: Report) -> Iterator[str]:
    """Of each raised feature: which tier said so, since when, and what to look at."""
    for feature in snapshot.binning:
        if (alarm := report.alarms.get(feature.name)) is not None:
            since = f" since {alarm.since}" if alarm.since else ""
            said = SAID.get(alarm.tier, printable(alarm.tier))
            yield f"  {printable(feature.name)}{since}: {said}; {LOOK_AT[feature.group]}"


def _cells(row: Sequence[str], widths: Sequence[int]) -> Iterator[tuple[int, tuple[str, int]]]:
    yield from enumerate(zip(row, widths, strict=True))


def _rank(report: Report, place: int) -> tuple[int, float]:
    sizes = [size[place] for size in (report.tv_reference, report.tv_baseline) if size]
    return LEVELS.index(report.level_of(place)), max((size for size in sizes if size is not None), default=-1)


def _percent(sizes: Sequence[int | None], place: int) -> str:
    size = sizes[place] if sizes else None
    return "-" if size is None else f"{size / 100:.2f}"


def _quality(said: Mapping[str, Any]) -> Iterator[str]:
    if not said:
        return
    rate = said.get("fps") or [None]
    fps = f", {rate[0]:g} frames a second" if rate[0] is not None else ""
    yield ""
    yield f"  camera {said.get('camera', 'streaming')}{fps}"
    for subject, word, level, _since in said.get("faults", ()):
        yield f"  {level}: {printable(subject) or 'readings'} {word.replace('_', ' ')}"


def _labels(said: Mapping[str, Any]) -> Iterator[str]:
    counts = said.get("labels")
    if not counts:
        return
    yield f"  labels: {', '.join(f'{number} {result}' for result, number in counts.items())}"
    for output, figures in said.get("outputs", {}).items():
        total, window = figures.get("total"), figures.get("window")
        if total:
            named = zip(_CLASSES if len(total) == len(_CLASSES) else _VALUES, total, strict=True)
            shown = ", ".join(f"{name} {value:g}" for name, value in named if value is not None)
            yield f"  {printable(output)}: {shown}" + (f" (last day: {window[0]} labels)" if window else "")
