"""Whether what comes in is fit to be judged at all: readings that are missing, stuck or outside their range, a camera
that shows nothing or nothing new. These are rules that hold at once, not statistics.

Counts add up over intervals and devices. The time is an argument.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import Final

import numpy as np
from msgspec import Struct

from edge_agent.core.card_schema import Feature
from edge_agent.core.frame_rate import FrameRate
from edge_agent.core.model_card import ResolvedCard
from edge_agent.core.wire import rfc3339
from edge_agent.monitoring import LEVELS, Level, LevelChange, Moment, Observation
from edge_agent.records import Flag, TensorSpec

COLUMNS: Final = ("missing", "stale", "stuck", "out_of_range", "invalid", "clipped")
"""What is counted of each feature: its reading's flags, and ``clipped``, where the value is beyond the card's clip or
beyond what the tensor can hold, so that the model gets another one."""
PICTURES: Final = ("black", "overexposed", "frozen")
"""What is counted of the pictures: the words of core/quality.py."""
CAMERA: Final = "camera"

_RULES: Final = {
    "disconnected": (Level.CRITICAL, "look at its cable, its power and its network"),
    "black": (Level.CRITICAL, "look at the lens, its cover and the light"),
    "frozen": (Level.CRITICAL, "it delivers one picture again and again: restart it, look at its driver"),
    "overexposed": (Level.WARNING, "look at the exposure, the aperture and the light"),
    "frame_rate": (Level.WARNING, "look at the exposure time, the connection and the load of the board"),
    "missing": (Level.CRITICAL, "look at the sensor, its connection and align.max_age"),
    "stuck": (Level.CRITICAL, "look at the sensor; a value that may rest for long needs a larger stuck_after"),
    "out_of_range": (Level.WARNING, "look at the sensor, its unit and its range in the model's card"),
}
_STEADY: Final = 3  # observations in a row before a word holds or is over: one odd picture is nothing
# Shares are of the last half to whole minute, or of the last five to ten observations where there were fewer in it. So
# a sensor has half a minute to come up after the start.
_HALF_NS: Final = 30_000_000_000
_HALF_ROWS: Final = 5
_TOO_MUCH: Final = 0.5  # a share above it makes the rule hold
_ENOUGH: Final = 0.25  # a share below it ends it
_FLAGS: Final = tuple(Flag(word) for word in COLUMNS[:-1])
_SHARED: Final = (Flag.MISSING, Flag.OUT_OF_RANGE)  # the flags that may come now and then

_Key = tuple[str, str]  # feature, or CAMERA, or "" for the pipeline as a whole; and the word of the rule


class _Steady:
    """Whether a word is said: after _STEADY observations in a row that say other than before."""

    def __init__(self) -> None:
        self.holds = False
        self._others = 0

    def add(self, there: bool) -> None:
        self._others = self._others + 1 if there != self.holds else 0
        if self._others == _STEADY:
            self.holds, self._others = there, 0


class _Share:
    """Whether a word is said too often, over the half that is being filled and the one before it."""

    def __init__(self) -> None:
        self.holds = False
        self.share = 0.0
        self._since_ns: int | None = None
        self._before = self._now = (0, 0)  # all, and those that say the word

    def add(self, mono_ns: int, rows: int, said: int) -> None:
        self._now = self._now[0] + rows, self._now[1] + said
        if self._since_ns is None:
            self._since_ns = mono_ns
        if mono_ns - self._since_ns >= _HALF_NS and self._now[0] >= _HALF_ROWS:
            self._since_ns, self._before, self._now = mono_ns, self._now, (0, 0)
        if self._before[0]:
            self.share = (self._before[1] + self._now[1]) / (self._before[0] + self._now[0])
            self.holds = self.share > (_ENOUGH if self.holds else _TOO_MUCH)


class CameraLook(Struct, frozen=True):
    """How things stand now. ``state``: of the pipeline's cameras together (``state_of``); ``frames``: its own camera's.
    ``predictions`` and ``lacking`` count, since the start, what the pipeline predicted and the frames it discarded
    because a reading was missing."""

    state: str  # opening | streaming | lost | ended
    frames: int
    predictions: int = 0
    lacking: int = 0


def state_of(own: str, further: Iterable[str]) -> str:
    """Of the cameras of a pipeline together: lost where one of them is, for then no sample is complete."""
    return "lost" if "lost" in further else own


class Quality:
    """Of one pipeline. Used by one thread."""

    def __init__(
        self, card: ResolvedCard, inputs: Sequence[TensorSpec], fps: float | None = None, live: bool = True
    ) -> None:
        """``inputs``: the model's. ``fps``: the rate that the camera was asked for; None: it is learnt. ``live``: False
        for a file or a folder, which have no rate of their own."""
        self._rate = FrameRate(fps) if live else None
        self._seen: dict[str, _Steady] = {}  # words about the pictures
        self._camera = CameraLook("opening", 0)
        self._lacking = _Share()
        self._faults: dict[_Key, Moment] = {}  # what holds, since when
        self._pictures: Counter[str] = Counter()
        self.renew(card, inputs)

    @property
    def faults(self) -> tuple[tuple[str, str, Level], ...]:
        """The rules that hold: feature (or "camera", or "" for the pipeline as a whole), word, level."""
        return tuple((subject, word, _RULES[word][0]) for subject, word in self._faults)

    @property
    def level(self) -> Level:
        """Of the worst rule that holds; ok where none does."""
        return max((level for _, _, level in self.faults), key=LEVELS.index, default=Level.OK)

    def renew(self, card: ResolvedCard, inputs: Sequence[TensorSpec]) -> None:
        """Another model: what is known of the camera stays, its features begin anew."""
        specs = {spec.name: spec for spec in inputs}
        self._features = {
            feature.name: _Readings(feature, specs[item.tensor])
            for item in card.feature_inputs
            for feature in item.features
        }

    def observe(self, seen: Observation) -> None:
        for word in PICTURES:
            self._pictures[word] += word in seen.quality
            self._seen.setdefault(word, _Steady()).add(word in seen.quality)
        for name, readings in self._features.items():
            reading = seen.readings.get(name)
            readings.add(seen.mono_ns, () if reading is None else reading.flags, seen.features.get(name))

    def look(self, now: Moment, camera: CameraLook) -> list[LevelChange]:
        """What began to hold and what is over since the last look: about once a second, with or without frames."""
        predicted, lacking = camera.predictions - self._camera.predictions, camera.lacking - self._camera.lacking
        self._camera = camera
        self._lacking.add(now.mono_ns, predicted + lacking, lacking)
        if camera.state != "streaming":
            self._seen.clear()  # what was said of its pictures says nothing now
        if self._rate is not None:
            self._rate.look(now.mono_ns, camera.frames if camera.state == "streaming" else None)
        holding = dict(self._holding())
        changes = [self._ended(key, now) for key in list(self._faults) if key not in holding]
        for (subject, word), detail in holding.items():
            if (subject, word) not in self._faults:
                self._faults[subject, word] = now
                level, advice = _RULES[word]
                changes.append(LevelChange(subject, Level.OK, level, f"{detail}: {advice}"))
        return changes

    def take_report(self) -> dict[str, object]:
        """The interval since the last call, for the payload, without what is as it should be. ``features``: counts by
        name, in the order of COLUMNS; ``pictures``: counts in the order of PICTURES; ``camera``: its state unless it
        streams; ``fps``: measured and expected (None: not known yet); ``faults``: feature, word, level, and since when,
        None where the clock was not synchronised then."""
        report: dict[str, object] = {}
        if any(any(item.counts) for item in self._features.values()):
            report["features"] = {name: item.counts for name, item in self._features.items() if any(item.counts)}
        if any(self._pictures.values()):
            report["pictures"] = [self._pictures[word] for word in PICTURES]
        if self._camera.state != "streaming":
            report["camera"] = self._camera.state
        if self._rate is not None and self._rate.measured is not None:
            report["fps"] = [_rounded(self._rate.measured), _rounded(self._rate.expected)]
        if self._faults:
            report["faults"] = [
                [subject, word, _RULES[word][0].value, rfc3339(since.wall_ns) if since.synced else None]
                for (subject, word), since in self._faults.items()
            ]
        self._pictures.clear()
        for item in self._features.values():
            item.counts = [0] * len(COLUMNS)
        return report

    def _holding(self) -> Iterator[tuple[_Key, str]]:
        """The rules that hold, each with what is the matter."""
        if self._camera.state == "lost":
            yield (CAMERA, "disconnected"), "the camera is disconnected"
        for word, steady in self._seen.items():
            if steady.holds:
                yield (CAMERA, word), f"the camera's pictures are {word}"
        rate = self._rate
        if rate is not None and rate.off:
            rates = f"{_rounded(rate.measured)} frames a second instead of {_rounded(rate.expected)}"
            yield (CAMERA, "frame_rate"), f"the camera delivers {rates}"
        if self._lacking.holds:
            yield ("", "missing"), f"{self._lacking.share:.0%} of the frames are discarded: a reading is missing"
        for name, readings in self._features.items():
            for word, detail in readings.holding():
                yield (name, word), f'"{name}": {detail}'

    def _ended(self, key: _Key, now: Moment) -> LevelChange:
        """Takes it from the faults."""
        lasted_s = (now.mono_ns - self._faults.pop(key).mono_ns) / 1e9
        subject, word = key
        who = {CAMERA: "the camera", "": "the pipeline"}.get(subject, f'"{subject}"')
        return LevelChange(subject, _RULES[word][0], Level.OK, f"{who}: no longer {word}, after {lasted_s:.0f} s")


class _Readings:
    """Of one feature. ``counts``: in the order of COLUMNS."""

    def __init__(self, feature: Feature, spec: TensorSpec) -> None:
        self.counts = [0] * len(COLUMNS)
        self._low, self._high = _bounds(feature, spec)
        self._stuck = _Steady()
        self._shares = {flag: _Share() for flag in _SHARED}

    def add(self, mono_ns: int, flags: Sequence[Flag], value: float | None) -> None:
        """``value``: what the model got, in the card's unit."""
        for column, flag in enumerate(_FLAGS):
            self.counts[column] += flag in flags
        self.counts[-1] += value is not None and not self._low <= value <= self._high
        if Flag.MISSING not in flags:  # where there is no reading, nobody knows whether the sensor is stuck
            self._stuck.add(Flag.STUCK in flags)
        for flag, share in self._shares.items():
            share.add(mono_ns, 1, flag in flags)

    def holding(self) -> Iterator[tuple[str, str]]:
        if self._stuck.holds:
            yield "stuck", "every reading is the same, to the last bit"
        for flag, share in self._shares.items():
            if share.holds:
                yield flag.value, f"{share.share:.0%} of the last readings are {flag.value.replace('_', ' ')}"


def _bounds(feature: Feature, spec: TensorSpec) -> tuple[float, float]:
    """The least and the largest value, in the card's unit, that the model gets as it is. Half a step more than the
    tensor holds rounds to what it holds."""
    low = high = math.inf
    if spec.dtype.kind in "iu":
        steps, scale = np.iinfo(spec.dtype), spec.scale or 1.0
        low, high = (spec.zero_point - steps.min + 0.5) * scale, (steps.max - spec.zero_point + 0.5) * scale
    if feature.clip is not None:
        low, high = min(low, feature.clip), min(high, feature.clip)
    return feature.mean - low * feature.std, feature.mean + high * feature.std


def _rounded(rate: float | None) -> float | None:
    """Four digits: of one frame an hour too."""
    return None if rate is None else float(f"{rate:.4g}")
