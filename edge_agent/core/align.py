"""Frames and readings become samples: each wanted sensor field gets at most one value from the readings in the
frame's window, by the configured rule.

A sample depends on the frame's time and on the readings that had arrived by that time plus ``wait``, and on nothing
else: not on their order or doubles, not on when ``align`` is called, not on the wall clock.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from collections.abc import Callable, Sequence
from operator import itemgetter
from typing import Final, NamedTuple

from msgspec import Struct

from edge_agent.config.schema import AlignConfig
from edge_agent.core.kept_readings import INVALID, Entry, KeptReadings, ordered
from edge_agent.records import AlignedReading, Discard, DiscardReason, Flag, Reading, Sample

DECIDED_KEPT: Final = 64  # frames that a late reading is held against: about two seconds of a camera


class Wanted(Struct, frozen=True):
    """One sensor field that a pipeline needs: a feature of its model, or a reading that only travels along."""

    name: str  # in the payload: the model's feature name, or "sensor.field" for an attached reading
    key: str  # "sensor.field"
    unit: str  # of the reading as configured
    feature: bool = False
    fill: float | None = None  # in the card's unit; needed by a feature unless missing = "discard"
    to_card: tuple[float, float] = (1.0, 0.0)  # value in the card's unit = value * scale + offset
    valid: tuple[float, float] | None = None  # the card's range, in the card's unit


class View:
    """What one model wants of the readings. Made by ``Aligner.view``."""

    __slots__ = ("keys", "wanted")

    def __init__(self, wanted: Sequence[Wanted]) -> None:
        self.wanted = tuple(wanted)
        self.keys = tuple(dict.fromkeys(want.key for want in wanted))


# What the rule makes of the readings: value, age_ns, flags.
_Outcome = tuple[float | None, int | None, tuple[Flag, ...]]


class _Seen(NamedTuple):
    """All that one frame's outcome for one field comes from, and the outcome."""

    left: Entry | None  # the last valid reading of the window at or before the frame
    right: Entry | None  # the first one after it
    invalid: bool  # an invalid one is in the window; only looked up where the rule can use no valid one
    older: bool  # there is one before the window; likewise
    outcome: _Outcome


class Aligner:
    """The readings of one pipeline and the rule that picks from them.

    Windows: ``nearest`` frame +- max_skew (a tie goes to the earlier reading); ``hold`` from max_age before the frame
    to the frame; ``interpolate`` frame +- max_age, where a neighbour on one side only is used within max_skew.
    Among readings of one time the smallest value counts, in whatever order they came.

    Frames are expected in non-decreasing time. An earlier one is aligned by the same rule over the readings still
    kept, which are all that the last DECIDED_KEPT frames could use, at most READINGS_KEPT for each key.

    Where a second model is tried beside the first, each has a view of its own on the same readings, so a change of the
    model costs no reading that it needs too.

    Not thread-safe: the caller holds one lock over ``add`` and ``align``. A reading that arrived in time must be added
    before its frame is aligned to take part in it.
    """

    def __init__(self, wanted: Sequence[Wanted], config: AlignConfig) -> None:
        """Raises ValueError when two wanted fields share a name, or a feature could be neither filled nor discarded."""
        self._discard = config.missing == "discard"
        self._max_skew, self._wait = int(config.max_skew), int(config.wait)
        self._rule, self._before, self._after = _RULES[config.method], int(config.max_skew), int(config.max_skew)
        if config.method != "nearest":
            self._before = int(config.max_age)
            self._after = 0 if config.method == "hold" else self._before
        self._kept: dict[str, KeptReadings] = {}
        self.own = self.view(wanted)
        self._decided: list[tuple[int, dict[str, _Seen]]] = []  # by frame time
        self.late = 0

    @property
    def ahead_ns(self) -> int:
        """How far after a frame a reading may be used."""
        return self._after

    def view(self, wanted: Sequence[Wanted]) -> View:
        """For a further model. What nobody wanted before is kept from now on. Raises ValueError as the constructor
        does."""
        if len({want.name for want in wanted}) < len(wanted):
            raise ValueError(f"two wanted readings share a name: {', '.join(want.name for want in wanted)}")
        for want in wanted:
            if want.feature and want.fill is None and not self._discard:
                raise ValueError(f'feature {want.name!r} has no fill value: give one or set align.missing = "discard"')
        view = View(wanted)
        for key in view.keys:
            self._kept.setdefault(key, KeptReadings())
        return view

    def __len__(self) -> int:
        """How many readings are held."""
        return sum(len(kept) for kept in self._kept.values())

    def add(self, reading: Reading, arrival_ns: int) -> None:
        """Take in one reading; one of a key that nobody wants is ignored.

        ``arrival_ns`` is CLOCK_MONOTONIC when this process got it; a reading known beforehand (media time) has any
        time before its frame. ``late`` counts, once each, the readings that came too late for one of the last
        DECIDED_KEPT frames: taken by its deadline (frame plus ``wait``), arrived after it or added after it was
        decided, and it would have changed what the frame got for this field. One that was taken after the deadline
        could not have been in time, so it is never late.
        """
        kept = self._kept.get(reading.key)
        if kept is None:
            return
        entry = kept.add(reading, arrival_ns)
        if entry is None:
            return
        first = bisect_left(self._decided, entry[0] - min(self._after, self._wait), key=itemgetter(0))
        end = bisect_right(self._decided, entry[0] + self._before, key=itemgetter(0))
        for at in range(end - 1, first - 1, -1):
            frame_ns, seen = self._decided[at]
            looked = seen.get(reading.key)  # None: the frame's model did not want it
            if looked is not None and self._count_late(kept, entry, frame_ns, looked):
                break

    def align(self, frame_ns: int, view: View | None = None) -> Sample | Discard:
        """The sample of the frame taken at ``frame_ns``, or why there is none. Never raises. ``view``: None for the one
        that the aligner was made with."""
        view = view or self.own
        seen = {key: self._look(self._kept[key], frame_ns) for key in view.keys}
        insort(self._decided, (frame_ns, seen), key=itemgetter(0))
        if len(self._decided) > DECIDED_KEPT:
            del self._decided[0]
        for kept in self._kept.values():
            kept.forget_before(self._decided[0][0] - self._before)
        return self._sample(seen, view.wanted)

    def _look(self, kept: KeptReadings, frame_ns: int) -> _Seen:
        first, last, deadline = frame_ns - self._before, frame_ns + self._after, frame_ns + self._wait
        left, right, missed = kept.neighbours(frame_ns, first, last, deadline)
        used = self._rule(frame_ns, left, right, self._max_skew)
        if used is not None:
            seen = _Seen(left, right, False, False, used)
        else:
            invalid, missed_invalid = kept.invalid_within(first, last, deadline)
            older = kept.any_before(first, deadline)
            seen = _Seen(left, right, invalid, older, _missing(left, invalid, older))
            missed += missed_invalid
        for entry in missed:
            if entry[0] <= deadline:
                self._count_late(kept, entry, frame_ns, seen)
        return seen

    def _count_late(self, kept: KeptReadings, entry: Entry, frame_ns: int, seen: _Seen) -> bool:
        """Whether the frame's outcome would have been another one with this reading; then it is counted."""
        left, right, invalid, older, outcome = seen
        if entry[1] == INVALID:
            invalid = True
        elif entry[0] > frame_ns:
            if right is not None and right[:3] <= entry[:3]:
                return False
            right = entry
        elif left is None or entry[0] > left[0] or (entry[0] == left[0] and entry[:3] < left[:3]):
            left = entry
        else:
            return False
        used = self._rule(frame_ns, left, right, self._max_skew)
        if (used or _missing(left, invalid, older)) == outcome:
            return False
        if kept.mark_late(entry):
            self.late += 1
        return True

    def _sample(self, seen: dict[str, _Seen], wanted: Sequence[Wanted]) -> Sample | Discard:
        """``quality`` of the sample has a word "name:flag" for each flag of each reading."""
        readings: dict[str, AlignedReading] = {}
        features: dict[str, float] = {}
        quality: list[str] = []
        lacking: list[str] = []
        for want in wanted:
            value, age_ns, flags = seen[want.key].outcome
            if want.feature:
                if value is not None:
                    scale, offset = want.to_card
                    card = features[want.name] = value * scale + offset
                    if want.valid is not None and not want.valid[0] <= card <= want.valid[1]:
                        flags = ordered((*flags, Flag.OUT_OF_RANGE))
                elif self._discard or want.fill is None:
                    lacking.append(f"{want.name} ({want.key}): {_why(flags)}")
                else:
                    features[want.name] = want.fill
                    flags = ordered((*flags, Flag.FILLED))
            readings[want.name] = AlignedReading(value, want.unit, age_ns, flags)
            if flags:
                quality += [f"{want.name}:{flag.value}" for flag in flags]
        if lacking:
            return Discard(DiscardReason.MISSING_FEATURE, "; ".join(lacking))
        return Sample(readings, features, tuple(quality))


def _missing(left: Entry | None, invalid: bool, older: bool) -> _Outcome:
    """Why there is no value. ``left`` is there under interpolation alone: too old to stand without a right one."""
    if invalid:
        return None, None, (Flag.MISSING, Flag.INVALID)
    if older or left is not None:
        return None, None, (Flag.MISSING, Flag.STALE)
    return None, None, (Flag.MISSING,)


def _nearest(frame_ns: int, left: Entry | None, right: Entry | None, max_skew: int) -> _Outcome | None:
    used = left
    if left is None or (right is not None and right[0] - frame_ns < frame_ns - left[0]):
        used = right
    return None if used is None else (used[1], frame_ns - used[0], used[2])


def _hold(frame_ns: int, left: Entry | None, right: Entry | None, max_skew: int) -> _Outcome | None:
    if left is None:
        return None
    age_ns = frame_ns - left[0]
    return left[1], age_ns, ordered((*left[2], Flag.HELD)) if age_ns > max_skew else left[2]


def _interpolate(frame_ns: int, left: Entry | None, right: Entry | None, max_skew: int) -> _Outcome | None:
    nearer = _nearest(frame_ns, left, right, max_skew)
    if nearer is None:
        return None
    value, age_ns, flags = nearer
    if not age_ns:
        return nearer
    if left is None or right is None:
        return (value, age_ns, ordered((*flags, Flag.NOT_INTERPOLATED))) if abs(age_ns) <= max_skew else None
    part = (frame_ns - left[0]) / (right[0] - left[0])
    value = left[1] * (1 - part) + right[1] * part  # this form can't overflow; rounding may leave the two by a hair
    low, high = min(left[1], right[1]), max(left[1], right[1])
    return min(max(value, low), high), age_ns, ordered((*left[2], *right[2]))


_RULES: Final[dict[str, Callable[[int, Entry | None, Entry | None, int], _Outcome | None]]] = {
    "nearest": _nearest,
    "interpolate": _interpolate,
    "hold": _hold,
}


def _why(flags: tuple[Flag, ...]) -> str:
    if Flag.INVALID in flags:
        return "only invalid readings in the window"
    return "the last reading is too old" if Flag.STALE in flags else "no reading yet"
