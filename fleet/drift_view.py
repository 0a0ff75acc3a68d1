"""Drift over a fleet: what devices counted, added up, and which of them have shifted. Pure: reports in, values out.

Counts of one binning add up exactly. Devices are judged together by the e-BH procedure over their e-values, which holds
the share of false ones among those that it names under any dependence (Wang, Ramdas, False discovery rate control with
e-values, J. R. Stat. Soc. B 84, 2022): devices that see the same weather are not independent.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping
from statistics import fmean
from typing import TypeVar

from msgspec import Struct

from edge_agent.core.drift.counts import add_tallies, mean_and_deviation
from edge_agent.core.drift.effect import population_stability, total_variation
from edge_agent.core.drift.parameters import INFO_DAYS
from edge_agent.core.drift.payload import Report, ReportModel, read_report
from edge_agent.monitoring import LEVELS, Level, Numeric, Reference, Tally

DAY_S = 86_400
FLEET_E_VALUE = 100.0  # by Markov's inequality at most one look in a hundred reaches it while nothing changes
Key = TypeVar("Key", bound=Hashable)


class DeviceDrift(Struct, frozen=True):
    """The last word of a device on one pipeline. ``e_value`` None: its baseline is not there yet. ``shifted``: named by
    e-BH. ``alarms``: features at info or worse, the worst first."""

    device: str
    pipeline: str
    time: str
    level: Level
    since: str | None
    rows: int  # of all its reports
    e_value: float | None
    shifted: bool
    alarms: tuple[str, ...]


class FeatureDrift(Struct, frozen=True):
    """A feature over all devices of a binning. Effect sizes, mean and deviation are None without the reference;
    ``missing``: share of the rows; ``raised``: devices that have it at info or worse."""

    name: str
    tv: float | None
    psi: float | None
    missing: float
    outside: int
    mean: float | None
    deviation: float | None
    unit: str
    raised: int


class Pooled(Struct, frozen=True):
    """Devices whose counts add up. ``reference``: whether it was given."""

    pipeline: str
    binning: str
    model: ReportModel
    devices: int
    rows: int
    reference: bool
    features: tuple[FeatureDrift, ...]


class FleetDrift(Struct, frozen=True):
    """``mean_e``: an e-value of the fleet as a whole, large where many devices shift a little; None without any.
    ``unreadable``: reports that could not be read."""

    pooled: tuple[Pooled, ...]
    devices: tuple[DeviceDrift, ...]
    mean_e: float | None
    rate: float
    reports: int
    unreadable: int

    @property
    def fleet_shifted(self) -> bool:
        return self.mean_e is not None and self.mean_e >= FLEET_E_VALUE

    @property
    def good(self) -> bool:
        """Whether nobody needs to look."""
        bad = any(device.shifted or device.level in (Level.WARNING, Level.CRITICAL) for device in self.devices)
        return not (bad or self.fleet_shifted)


class _Watched(Struct):
    """One pipeline of one device. ``full``: its last report that is no heartbeat."""

    last: Report
    time: str
    rows: int = 0
    full: Report | None = None


class _Sum(Struct):
    tally: Tally
    newest: Report
    devices: set[str]


class Gathering:
    """Takes reports in, oldest first, and adds them up at once: memory grows with devices and binnings alone."""

    def __init__(self) -> None:
        self._watched: dict[tuple[str, str], _Watched] = {}
        self._sums: dict[tuple[str, str], _Sum] = {}
        self._reports = 0
        self._unreadable = 0

    def add(self, device: str, pipeline: str, time: str, payload: bytes) -> None:
        """``device`` and ``pipeline`` are those of the topic."""
        self._reports += 1
        try:
            report = read_report(payload)
            if report.features:
                self._count(device, pipeline, report)
        except ValueError:
            self._unreadable += 1
            return
        watched = self._watched.setdefault((device, pipeline), _Watched(report, time))
        watched.last, watched.time = report, time
        watched.rows += report.rows
        watched.full = report if report.features else watched.full

    def result(self, references: Mapping[str, Reference], rate: float) -> FleetDrift:
        """``references`` by the id of their binning; ``rate``: false ones among the devices that are named, 0..1."""
        values = {key: value for key, watched in self._watched.items() if (value := e_value(watched.full)) is not None}
        named = e_benjamini_hochberg(values, rate)
        devices = [_device(key, watched, values.get(key), key in named) for key, watched in self._watched.items()]
        return FleetDrift(
            pooled=tuple(self._pooled(*key, references.get(key[1])) for key in sorted(self._sums)),
            devices=tuple(sorted(devices, key=_worst_first)),
            mean_e=fmean(values.values()) if values else None,
            rate=rate,
            reports=self._reports,
            unreadable=self._unreadable,
        )

    def _count(self, device: str, pipeline: str, report: Report) -> None:
        found = self._sums.get((pipeline, report.binning))
        if found is None:
            self._sums[pipeline, report.binning] = _Sum(report.tally(), report, {device})
            return
        if found.newest.features != report.features:
            raise ValueError("the same binning with other features")
        found.tally = add_tallies(found.tally, report.tally())
        found.newest = report
        found.devices.add(device)

    def _pooled(self, pipeline: str, binning: str, reference: Reference | None) -> Pooled:
        found = self._sums[pipeline, binning]
        raised = [
            name
            for (_, of_pipeline), watched in self._watched.items()
            if of_pipeline == pipeline and watched.full is not None and watched.full.binning == binning
            for name in watched.full.alarms
        ]
        model = found.newest.model or ReportModel("", "", "")
        return Pooled(
            pipeline=pipeline,
            binning=binning,
            model=model,
            devices=len(found.devices),
            rows=found.tally.rows,
            reference=reference is not None,
            features=tuple(
                _feature(name, column, found.tally, reference, raised.count(name))
                for column, name in enumerate(found.newest.features)
            ),
        )


def e_value(report: Report | None) -> float | None:
    """Of a device: its mean is at most 1 while nothing changes. The mean of a Shiryaev-Roberts statistic is at most the
    time since its start, and the threshold of info is 30 days on the same scale. The time is never taken too short:
    blocks are counted in the least length, which is no more than ``block_s``."""
    if report is None or report.evidence is None or report.learning is None or not report.blocks:
        return None
    evidence, info, _ = report.evidence
    days = report.blocks * report.learning.block_s / DAY_S
    exponent = min(evidence - info, 290.0)  # a float ends at 1e308
    return float(10**exponent * INFO_DAYS / days)


def e_benjamini_hochberg(values: Mapping[Key, float], rate: float) -> set[Key]:
    """The k largest of n e-values, for the largest k whose smallest one is at least n / (k rate)."""
    ordered = sorted(values, key=lambda key: values[key], reverse=True)
    enough = [k for k, key in enumerate(ordered, 1) if values[key] * k * rate >= len(ordered)]
    return set(ordered[: max(enough, default=0)])


def _device(key: tuple[str, str], watched: _Watched, value: float | None, shifted: bool) -> DeviceDrift:
    report = watched.full
    raised: Iterable[tuple[Level, str]] = ()
    if report is not None:
        alarms = report.alarms
        raised = ((report.level_of(place), name) for place, name in enumerate(report.features) if name in alarms)
    worst = sorted(raised, key=lambda item: (-LEVELS.index(item[0]), item[1]))
    return DeviceDrift(
        device=key[0],
        pipeline=key[1],
        time=watched.time,
        level=watched.last.level,
        since=watched.last.since,
        rows=watched.rows,
        e_value=value,
        shifted=shifted,
        alarms=tuple(name for _, name in worst),
    )


def _worst_first(device: DeviceDrift) -> tuple[bool, int, float, str, str]:
    value = -1.0 if device.e_value is None else device.e_value
    return (not device.shifted, -LEVELS.index(device.level), -value, device.device, device.pipeline)


def _feature(name: str, column: int, tally: Tally, reference: Reference | None, raised: int) -> FeatureDrift:
    bins = tally.bins[column]
    known = None
    if reference is not None:
        # Same binning id: same features in the same order.
        known = (reference.binning[column], reference.counts[column])
    feature = known[0] if known else None
    moments = mean_and_deviation(tally, feature, column) if isinstance(feature, Numeric) else None
    return FeatureDrift(
        name=name,
        tv=total_variation(bins, known[1]) if known else None,
        psi=population_stability(bins, known[1]) if known else None,
        missing=bins[-1] / tally.rows,
        outside=tally.outside[column],
        mean=moments[0] if moments else None,
        deviation=moments[1] if moments else None,
        unit=feature.unit if isinstance(feature, Numeric) else "",
        raised=raised,
    )
