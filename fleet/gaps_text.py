"""What is missing, as a table for a person."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from fleet.gaps import StreamGaps
from fleet.records import Told

RANGES_SHOWN = 5
_HEAD = ("DEVICE", "RUN", "STREAM", "SEQ", "RECEIVED", "DUPLICATES", "CONFLICTS", "MISSING", "EXPLAINED", "UNEXPLAINED")
_TEXT_COLUMNS = 4  # to the left; the rest are numbers


def table(streams: Sequence[StreamGaps], rejected: Mapping[str, int]) -> str:
    if not streams:
        return "\n".join(["nothing with a seq is in this file yet", *_rejected(rejected)])
    rows = [_HEAD, *map(_cells, streams)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(_HEAD))]
    lines = [_line(_HEAD, widths)]
    for gaps, cells in zip(streams, rows[1:], strict=True):
        lines.append(_line(cells, widths))
        lines += [f"    {line}" for line in _details(gaps)]
    return "\n".join([*lines, "", _verdict(streams), *_rejected(rejected)])


def ranges_text(gaps: StreamGaps) -> str:
    shown = [str(first) if first == last else f"{first}..{last}" for first, last in gaps.ranges[:RANGES_SHOWN]]
    more = gaps.ranges_in_all - len(shown)
    return ", ".join(shown) + (f" and {more} more" if more else "")


def _cells(gaps: StreamGaps) -> tuple[str, ...]:
    span = "-" if gaps.last_seq is None else f"{gaps.first_seq}..{gaps.last_seq}"
    numbers = (
        gaps.received,
        gaps.duplicates,
        gaps.conflicts,
        gaps.missing,
        gaps.explained,
        gaps.unexplained,
    )
    # A UUID is told from another by its beginning
    return (gaps.key.device, gaps.key.boot_id[:8], gaps.key.stream, span, *map(str, numbers))


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    padded = [
        cell.ljust(width) if column < _TEXT_COLUMNS else cell.rjust(width)
        for column, (cell, width) in enumerate(zip(cells, widths, strict=True))
    ]
    return "  ".join(padded).rstrip()


def _details(gaps: StreamGaps) -> list[str]:
    if not gaps.missing:
        return []
    return [f"missing: {ranges_text(gaps)}", f"the device: {_word(gaps.told)}"]


def _word(told: Told | None) -> str:
    if told is None:
        return "has said nothing of this stream"
    parts = [f"{told.produced} produced", f"{told.acknowledged} acknowledged"]
    parts += [f"{count} discarded ({reason})" for reason, count in told.discarded.items() if count]
    parts += [f"{told.stored} still stored"] if told.stored else []
    parts += [f"{told.memory} in memory"] if told.memory else []
    return ", ".join(parts)


def _verdict(streams: Sequence[StreamGaps]) -> str:
    received = sum(gaps.received for gaps in streams)
    explained = sum(gaps.explained for gaps in streams)
    unexplained = sum(gaps.unexplained for gaps in streams)
    conflicts = sum(gaps.conflicts for gaps in streams)
    missing = f"{explained + unexplained} missing: {explained} explained by the device, {unexplained} not"
    return f"{received} received; {missing if explained + unexplained else 'nothing is missing'}" + (
        f"; {conflicts} conflicts" if conflicts else ""
    )


def _rejected(rejected: Mapping[str, int]) -> list[str]:
    if not rejected:
        return []
    return ["rejected: " + ", ".join(f"{count} {reason}" for reason, count in rejected.items())]
