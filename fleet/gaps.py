"""What is missing of a stream, and what of that the device's own word explains. Pure: numbers in, numbers out.

A device gives the seq of a run's stream from 0 without a gap. Its last word (``stats``) says how many it had made by
then and what became of them; what it says it discarded or still has can't be here, everything else should.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from msgspec import Struct

from fleet.records import PREDICTIONS, Told

RANGES_MOST = 1000  # a stream of which every second is missing must not fill the memory


class StreamKey(Struct, frozen=True):
    device: str
    boot_id: str
    stream: str

    @property
    def pipeline(self) -> str | None:
        """None for the events."""
        return self.stream.removeprefix(PREDICTIONS) if self.stream.startswith(PREDICTIONS) else None


class StreamGaps(Struct, frozen=True):
    """``expected``: how many there should be, seq 0 to expected - 1. ``ranges``: the first of them, both ends
    included. missing = explained + unexplained; ``told`` None: the device said nothing of this stream."""

    key: StreamKey
    received: int
    first_seq: int | None
    last_seq: int | None
    duplicates: int
    conflicts: int
    expected: int
    missing: int
    ranges: Sequence[tuple[int, int]]
    ranges_in_all: int
    explained: int
    unexplained: int
    told: Told | None

    @property
    def good(self) -> bool:
        return not (self.unexplained or self.conflicts)


class _Holes:
    """Counts and ranges of missing numbers as they are passed."""

    def __init__(self, told_of: int) -> None:
        self._told_of = told_of  # the device's word covers the numbers below this
        self.missing = 0
        self.covered = 0
        self.ranges: list[tuple[int, int]] = []
        self.in_all = 0

    def add(self, first: int, last: int) -> None:
        self.missing += last - first + 1
        self.covered += max(0, min(last + 1, self._told_of) - first)
        self.in_all += 1
        if len(self.ranges) < RANGES_MOST:
            self.ranges.append((first, last))


def find_gaps(
    key: StreamKey,
    pages: Iterable[Sequence[int]],
    told: Told | None,
    *,
    duplicates: int = 0,
    conflicts: int = 0,
    ended: bool = False,
) -> StreamGaps:
    """``pages`` hold every seq that was received, each once, ascending over all pages; ``ended``: a later run of the
    device is known. Constant memory."""
    produced = told.produced if told else 0
    holes = _Holes(produced)
    received, first, following = 0, None, 0  # following: the next number if nothing is missing
    for page in pages:
        if not page:
            continue
        first = page[0] if first is None else first
        received += len(page)
        # Most pages are whole: then their ends say it all
        for seq in (page[0],) if page[-1] - page[0] == len(page) - 1 else page:
            if seq > following:
                holes.add(following, seq - 1)
            following = seq + 1
        following = page[-1] + 1
    last = following - 1 if received else None
    if produced > following:
        holes.add(following, produced - 1)
    # Of what it made after its last word the device has said nothing: that explains no gap there
    explained = min(holes.covered, told.not_delivered(ended=ended)) if told else 0
    return StreamGaps(
        key=key,
        received=received,
        first_seq=first,
        last_seq=last,
        duplicates=duplicates,
        conflicts=conflicts,
        expected=max(following, produced),
        missing=holes.missing,
        ranges=holes.ranges,
        ranges_in_all=holes.in_all,
        explained=explained,
        unexplained=holes.missing - explained,
        told=told,
    )


def as_json(gaps: StreamGaps) -> Mapping[str, object]:
    """An element of ``streams`` in edge-fleet/gaps/1."""
    told = gaps.told
    return {
        "device": gaps.key.device,
        "boot_id": gaps.key.boot_id,
        "stream": gaps.key.stream,
        "pipeline": gaps.key.pipeline,
        "first_seq": gaps.first_seq,
        "last_seq": gaps.last_seq,
        "received": gaps.received,
        "duplicates": gaps.duplicates,
        "conflicts": gaps.conflicts,
        "expected": gaps.expected,
        "missing": gaps.missing,
        "ranges": gaps.ranges,
        "ranges_in_all": gaps.ranges_in_all,
        "explained": gaps.explained,
        "unexplained": gaps.unexplained,
        "told": told,
    }
