"""The payload of ``drift/<pipeline>``, schema edge-agent/drift/1: written on the device, read by who adds devices up.

Numbers of features are positional: the n-th of every list belongs to the n-th of ``features``. docs/drift.md explains
them; ``wire.seal`` puts schema, time and clock_synced in front, and ``time`` is the end of the interval.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Final

import msgspec
from msgspec import Meta, Struct

from edge_agent.core.drift.bins import binning_id
from edge_agent.core.wire import rfc3339
from edge_agent.monitoring import LEVELS, Binning, DriftView, FeatureState, Learning, Level, Tally
from edge_agent.records import ModelIdentity

SHA_DIGITS: Final = 12  # of the model's sha256; `info` has all of it
PERCENT: Final = 100  # effect sizes are whole numbers of it
TIERS: Final = ("shape", "reference", "baseline")  # what raises a feature, as FeatureState.tier
EVIDENCE_LEAST: Final = -99.0  # log10; less is no news, and minus infinity no JSON

Count = Annotated[int, Meta(ge=0)]
Text = Annotated[str, Meta(max_length=256)]
Percents = tuple[Count | None, ...]


class ReportModel(Struct, frozen=True):
    """``sha256``: its first 12 digits."""

    name: Text
    version: Text
    sha256: Text


class ReportLearning(Struct, frozen=True, omit_defaults=True):
    """``days`` of ``of_days``: left out once it is done."""

    done: bool
    block_s: float
    contexts: int
    days: float | None = None
    of_days: float | None = None
    correlation: float | None = None
    daily: tuple[str, ...] = ()


class Alarm(Struct, frozen=True):
    """``since``: RFC 3339, None where the clock was not synchronised then."""

    tier: str
    since: str | None


class Report(Struct, frozen=True, omit_defaults=True, kw_only=True):
    """A body. That of an interval without a row, a heartbeat, ends at ``performance``.

    ``seconds``: length of the interval, which ends at the seal's time. ``since``: of a level that is not ok.
    ``silenced_until``: RFC 3339, no events of levels until then; left out where nobody asked for it.
    ``evidence``: log10 of the fast tier's statistic over all features, then its thresholds of info and warning;
    ``blocks``: closed since the baseline was there. ``levels``: places in monitoring.LEVELS, left out where every
    feature is at the pipeline's level. ``raised``: of each feature at info or worse its place in ``features``, the
    tier's in TIERS, and since when, in Unix seconds (None: the clock was not synchronised). Effect sizes are in
    percent, and left out where no feature has one. The lists of counts are those of a Tally; ``outside`` and
    ``repeated`` are left out where all of them are 0.
    """

    device: Text
    boot_id: Text
    seq: Count
    pipeline: Text
    seconds: float
    rows: Count
    level: Level
    since: str | None = None
    silenced_until: str | None = None
    quality: dict[str, Any] = {}
    performance: dict[str, Any] = {}
    model: ReportModel | None = None
    binning: Text = ""
    evidence: tuple[float, float, float] | None = None
    blocks: Count = 0
    learning: ReportLearning | None = None
    features: tuple[Text, ...] = ()
    levels: tuple[Annotated[int, Meta(ge=0, lt=len(LEVELS))], ...] = ()
    raised: tuple[tuple[Count, Annotated[int, Meta(ge=0, lt=len(TIERS))], int | None], ...] = ()
    feature_evidence: tuple[float, ...] = ()
    tv_reference: Percents = ()
    psi_reference: Percents = ()
    tv_baseline: Percents = ()
    psi_baseline: Percents = ()
    counts: tuple[tuple[Count, ...], ...] = ()
    sums: tuple[int, ...] = ()
    squares: tuple[Count, ...] = ()
    least: tuple[int | None, ...] = ()
    most: tuple[int | None, ...] = ()
    outside: tuple[Count, ...] = ()
    repeated: tuple[Count, ...] = ()

    def tally(self) -> Tally:
        """The counts as they can be added up; without any feature for a heartbeat."""
        zeros = (0,) * len(self.features)
        return Tally(
            rows=self.rows,
            bins=self.counts,
            sums=self.sums,
            squares=self.squares,
            least=self.least,
            most=self.most,
            outside=self.outside or zeros,
            repeated=self.repeated or zeros,
        )

    @property
    def alarms(self) -> dict[str, Alarm]:
        """By feature at info or worse."""
        return {
            self.features[place]: Alarm(TIERS[tier], None if since_s is None else rfc3339(since_s * 10**9))
            for place, tier, since_s in self.raised
        }

    def level_of(self, feature: int) -> Level:
        """Of the feature at this place."""
        return LEVELS[self.levels[feature]] if self.levels else self.level


class Origin(Struct, frozen=True):
    """Who says it, and of which time: ``seconds`` up to now."""

    device: str
    boot_id: str
    seq: int
    pipeline: str
    model: ModelIdentity
    seconds: float


def drift_body(
    origin: Origin,
    binning: Binning,
    tally: Tally,
    view: DriftView,
    quality: Mapping[str, object],
    performance: Mapping[str, object],
    silenced_until_wall_ns: int | None = None,
) -> bytes:
    """``tally`` is of ``binning``; ``view`` has a state for each of its features, in any order. ``quality`` and
    ``performance`` are plain values, empty where there is nothing to say. Raises KeyError for a missing state."""
    report = Report(
        device=origin.device,
        boot_id=origin.boot_id,
        seq=origin.seq,
        pipeline=origin.pipeline,
        seconds=round(origin.seconds, 1),
        rows=tally.rows,
        level=view.level,
        since=None if view.level is Level.OK else _time(view.since_wall_ns),
        silenced_until=_time(silenced_until_wall_ns),
        quality=dict(quality),
        performance=dict(performance),
    )
    return msgspec.json.encode(_with_features(report, origin.model, binning, tally, view) if tally.rows else report)


def read_report(payload: bytes) -> Report:
    """A payload, sealed or not. Raises ValueError that says what is wrong with it."""
    try:
        report = msgspec.json.decode(payload, type=Report)
    except RecursionError:
        raise ValueError("is nested too deeply") from None
    counted = (report.counts, report.sums, report.squares, report.least, report.most, report.feature_evidence)
    others = (report.levels, report.tv_reference, report.psi_reference, report.tv_baseline, report.psi_baseline)
    may_lack: tuple[tuple[object, ...], ...] = (*others, report.outside, report.repeated)
    if any(len(part) != len(report.features) for part in (*counted, *filter(None, may_lack))):
        raise ValueError(f"has lists of other lengths than its {len(report.features)} features")
    if any(place >= len(report.features) for place, _, _ in report.raised):
        raise ValueError("raises a feature that it does not have")
    if any(sum(bins) != report.rows for bins in report.counts):
        raise ValueError(f"has counts that do not add up to its {report.rows} rows")
    return report


def _with_features(report: Report, model: ModelIdentity, binning: Binning, tally: Tally, view: DriftView) -> Report:
    by_name = {state.name: state for state in view.features}
    states = [by_name[feature.name] for feature in binning]
    info, warning = view.threshold
    return msgspec.structs.replace(
        report,
        model=ReportModel(model.name, model.version, model.sha256[:SHA_DIGITS]),
        binning=binning_id(binning),
        evidence=(_evidence(view.evidence, 3), _evidence(info, 3), _evidence(warning, 3)),
        blocks=view.blocks,
        learning=_learning(view.learning),
        features=tuple(state.name for state in states),
        levels=_none_if_all([LEVELS.index(state.level) for state in states], LEVELS.index(view.level)),
        raised=tuple(_raised(place, state) for place, state in enumerate(states) if state.tier),
        feature_evidence=tuple(_evidence(state.evidence) for state in states),
        tv_reference=_percents([state.tv_reference for state in states]),
        psi_reference=_percents([state.psi_reference for state in states]),
        tv_baseline=_percents([state.tv_baseline for state in states]),
        psi_baseline=_percents([state.psi_baseline for state in states]),
        counts=tally.bins,
        sums=tally.sums,
        squares=tally.squares,
        least=tally.least,
        most=tally.most,
        outside=_none_if_all(tally.outside, 0),
        repeated=_none_if_all(tally.repeated, 0),
    )


def _raised(place: int, state: FeatureState) -> tuple[int, int, int | None]:
    since_ns = state.since_wall_ns
    return place, TIERS.index(state.tier), None if since_ns is None else since_ns // 10**9


def _learning(learning: Learning) -> ReportLearning:
    return ReportLearning(
        done=learning.done,
        days=None if learning.done else round(learning.days, 4),
        of_days=None if learning.done else round(learning.of_days, 4),
        block_s=round(learning.block_s, 1),
        correlation=None if learning.correlation is None else round(learning.correlation, 2),
        contexts=learning.contexts,
        daily=learning.daily,
    )


def _percents(sizes: Sequence[float | None]) -> Percents:
    if all(size is None for size in sizes):
        return ()
    return tuple(None if size is None else round(size * PERCENT) for size in sizes)


def _none_if_all(values: Sequence[int], same: int) -> tuple[int, ...]:
    """Nothing where every value is ``same``: the reader puts it there."""
    return () if all(value == same for value in values) else tuple(values)


def _evidence(log10: float, digits: int = 1) -> float:
    """Three digits for what a fleet reckons with, one for what a person reads."""
    return round(max(log10, EVIDENCE_LEAST), digits) + 0.0  # no minus in front of a zero


def _time(wall_ns: int | None) -> str | None:
    return None if wall_ns is None else rfc3339(wall_ns)
