"""All that is watched of one pipeline: drift, labels, data quality. Used by the worker of drift alone."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Final

import msgspec
import numpy as np
from msgspec.structs import replace

from edge_agent.config.words import duration_text
from edge_agent.core.data_quality import Quality
from edge_agent.core.drift.counts import probabilities
from edge_agent.core.drift.monitor import Monitor
from edge_agent.core.drift.observe import Observer
from edge_agent.core.drift.payload import Origin, drift_body
from edge_agent.core.drift.reference import CONFIDENCE
from edge_agent.core.drift.snapshot import Shares, Snapshot
from edge_agent.core.drift.state import Settings
from edge_agent.core.drift.telling import Kind, Severity, Telling
from edge_agent.core.feedback import Answer, Feedback
from edge_agent.core.performance import Performance
from edge_agent.core.performance_report import full_report, summary
from edge_agent.core.wire import rfc3339
from edge_agent.monitoring import LEVELS, Level, LevelChange, Moment, Tally
from edge_agent.records import Event
from edge_agent.stages.engine import Engine
from edge_agent.stages.sampling import Sampling
from edge_agent.stages.watch import Published, Seen, Site, Watch

FIRST_REPORT_NS: Final = 10 * 10**9


class Watched:
    """Of one pipeline. What there is to tell gathers, for the worker to ``take``. ``begin`` comes first, but for what
    takes up what was saved."""

    def __init__(self, site: Site, engine: Engine, watch: Watch, sampling: Sampling | None = None) -> None:
        self.site = site
        self.engine = engine
        self.level = Level.LEARNING
        self.given_up = 0
        self.snapshot = Snapshot(pipeline=site.name)
        self.sampling = sampling
        self._watch = watch
        self._reports: list[tuple[int, bytes]] = []
        self._events: list[Event] = []
        self._failures: list[Exception] = []
        self._observer = self._observe_with(engine)
        seed = int.from_bytes(hashlib.sha256(f"{site.device}/{site.name}".encode()).digest()[:8], "big")
        self._monitor = Monitor(self._observer.names, self._settings(), engine.drift.reference, seed)
        self._performance = self._new_performance()
        self._quality = Quality(engine.card, engine.runtime.inputs, site.fps, site.live)
        self._seq = 0
        self._since_wall_ns: int | None = None
        self._latest_ns = 0  # of what was seen: a file's time may run ahead of the clock
        self._reported_ns = self._estimated_ns = 0
        self._telling = Telling()
        self._asked = False  # something that the next report shows
        self._unplaced: list[Published] = []  # of no model that is known to be live
        self._confidence: dict[str, np.ndarray] = {}  # counts since the last estimate
        self._drift_level = Level.LEARNING
        self._saved_ns = self._saved_blocks = 0
        self._unsaved = False  # a level changed

    # --- life ----------------------------------------------------------------------------------------------------

    def take_up_monitor(self, content: bytes) -> None:
        """What ``saved_monitor`` gave to an earlier run. Raises ValueError where it is damaged or of another version:
        then it is learnt anew. Rows that were counted and not reported are given up: nobody knows whether a report
        with them went out after this was saved, and none may be counted twice."""
        monitor = Monitor.restore(content)
        if not monitor.fits(self._observer.names, self._settings(), self.engine.drift.reference):
            monitor.renew(self._observer.names, self._settings(), self.engine.drift.reference)
        monitor.take_tally()
        self._monitor = monitor

    def take_up_labels(self, content: bytes) -> None:
        """Likewise, of ``saved_labels``."""
        performance = self._new_performance()
        performance.restore(content)
        self._performance = performance

    def begin(self, now: Moment) -> None:
        self._performance.begin(self.site.boot_id, now)
        self._monitor.close_block(now)
        self._latest_ns = self._reported_ns = self._estimated_ns = self._saved_ns = now.mono_ns
        view = self._monitor.view()
        self._drift_level, self._since_wall_ns = view.level, view.since_wall_ns
        self.level = self._worst()
        self._saved_blocks = self._monitor.blocks_closed
        self._tell_fault()
        if self.sampling is not None:
            self.sampling.begin(self._observer.names)

    def step(self, now: Moment) -> None:
        """Take what has come, look whether a block is over or a rule holds, and report where that is due."""
        waiting = self._watch.take()
        self.given_up += waiting.given_up
        if waiting.failure is not None:
            self._failures.append(waiting.failure)
        for seen in waiting.seen:
            try:
                self._see(seen, now)
            except MemoryError:
                raise
            except Exception as error:  # noqa: BLE001 - of one frame: the others are watched, and the report goes out
                self._failures.append(error)
        self._remember(waiting.published, now)
        if self.sampling is not None:
            self.sampling.store(now)
            if failure := self.sampling.failure():
                self._tell("samples_lost", "warning", failure)
        moment = self._moment(now)
        self._follow(self._quality.look(moment, self.site.look()), "data_quality")
        self._follow(self._monitor.close_block(moment), "drift")
        self._follow(self._performance.changes(), "performance")
        self._tell_due(now)
        if self._report_due(now):
            self.report(now)

    def take(self) -> tuple[list[tuple[int, bytes]], list[Event]]:
        """Reports, each with its time on CLOCK_MONOTONIC, and events since the last call."""
        reports, self._reports = self._reports, []
        events, self._events = self._events, []
        return reports, events

    def take_failures(self) -> list[Exception]:
        """What kept a frame from being watched, here or on the camera's thread."""
        failures, self._failures = self._failures, []
        return failures

    def save_due(self, now: Moment) -> bool:
        """Once for each block, and for each change of a level; labels come without blocks too."""
        closed = self._monitor.blocks_closed != self._saved_blocks
        return closed or self._unsaved or now.mono_ns - self._saved_ns >= self.site.config.block

    def saved_monitor(self, now: Moment) -> bytes:
        content = self._monitor.save()
        self._saved_ns, self._saved_blocks, self._unsaved = now.mono_ns, self._monitor.blocks_closed, False
        return content

    def saved_labels(self, now: Moment) -> bytes:
        return self._performance.save(now)

    # --- reports -------------------------------------------------------------------------------------------------

    def report(self, now: Moment) -> None:
        """Make the next one: what was counted since the last."""
        site, moment = self.site, self._moment(now)
        tally, view = self._monitor.take_tally(), self._monitor.view()
        if (worst := self._worst()) is not self.level:
            self.level, self._since_wall_ns = worst, now.wall_ns if now.synced else None
        self._estimate(tally, moment)
        seconds = (moment.mono_ns - self._reported_ns) / 1e9
        self._reported_ns, self._asked = moment.mono_ns, False
        origin = Origin(site.device, site.boot_id, self._seq, site.name, self.engine.identity, seconds)
        self._seq += 1
        view = replace(view, level=worst, since_wall_ns=self._since_wall_ns)
        labels = summary(self._performance, now) if tally.rows else {}  # a heartbeat is small
        quality, silence = self._quality.take_report(), self._silenced_until(now)
        body = drift_body(origin, self._monitor.binning, tally, view, quality, labels, silence)
        self._reports.append((now.mono_ns, body))
        self.snapshot.add(rfc3339(now.wall_ns), body, tally, self._monitor.binning, view)
        self._show(now)

    def _show(self, now: Moment) -> None:
        """The rest of what a person may want to see."""
        told = msgspec.json.encode(full_report(self._performance, now))
        reference = self.engine.drift.reference
        usual: Sequence[Shares] = self._monitor.baseline()
        if reference is not None:
            usual = [tuple(probabilities(counts).tolist()) for counts in reference.counts]
        self.snapshot.about(usual, reference is not None, self._monitor.reason, told, self.engine.drift.fault)

    def _report_due(self, now: Moment) -> bool:
        """The first one comes soon: what is retained is of an earlier run."""
        if self._asked or self._worst() is not self.level:
            return True
        period_ns = self.site.config.report if self._seq else min(self.site.config.report, FIRST_REPORT_NS)
        return self._moment(now).mono_ns - self._reported_ns >= period_ns

    # --- what is asked -------------------------------------------------------------------------------------------

    def label(self, feedback: Feedback, now: Moment) -> Answer:
        answer = self._performance.label(feedback, now)
        if self.sampling is not None:
            self.sampling.answered(feedback, answer, [head.name for head in self.engine.card.outputs], now)
        return answer

    def rebaseline(self, reason: str, now: Moment) -> None:
        self._monitor.rebaseline(reason, self._moment(now))
        self._performance.rebaseline()
        self._drift_level, self._unsaved, self._asked = self._monitor.view().level, True, True
        self._tell("drift_rebaselined", "warning", f"what is usual is learnt anew: {reason}")

    def silence(self, for_ns: int, reason: str, now: Moment) -> None:
        """No events of levels until then; reports go on. It ends with the process."""
        self._telling.silent_until_ns, self._asked = now.mono_ns + for_ns, True
        what = f"no events of drift for {duration_text(for_ns)}" if for_ns else "events of drift are told again"
        self._tell("drift_silenced", "info", f"{what}: {reason}")

    # --- inside --------------------------------------------------------------------------------------------------

    def _observe_with(self, engine: Engine) -> Observer:
        projection = engine.drift.reference.projection if engine.drift.reference else None
        return Observer(engine.card, engine.runtime.outputs, projection)

    def _settings(self) -> Settings:
        config = self.site.config
        return Settings(int(config.block), int(config.commissioning), self.engine.identity.sha256)

    def _new_performance(self) -> Performance:
        engine, horizon_ns = self.engine, int(self.site.config.feedback)
        return Performance(engine.card, engine.identity, horizon_ns=horizon_ns, reference=engine.drift.reference)

    def _moment(self, now: Moment) -> Moment:
        """The same, but not before what was seen."""
        return now if now.mono_ns >= self._latest_ns else replace(now, mono_ns=self._latest_ns)

    def _silenced_until(self, now: Moment) -> int | None:
        left_ns = self._telling.silent_until_ns - now.mono_ns
        return now.wall_ns + left_ns if left_ns > 0 else None

    def _see(self, seen: Seen, now: Moment) -> None:
        if seen.engine is not self.engine:
            self._renew(seen.engine, now)
        self._latest_ns = max(self._latest_ns, seen.observation.mono_ns)
        self._quality.observe(seen.observation)
        row = self._observer.row(seen.observation)
        self._monitor.update(row[None], np.array([seen.observation.mono_ns]))
        if self.sampling is not None:
            self.sampling.offer(seen, row, now)

    def _renew(self, engine: Engine, now: Moment) -> None:
        """Another model has taken over. What was counted of the one before goes out as its own report."""
        if engine.identity == self.engine.identity:
            self.engine = engine  # the same one, loaded again
            return
        self._follow(self._monitor.close_block(self._moment(now)), "drift")
        self.report(now)
        self.engine = engine
        self._observer = self._observe_with(engine)
        if self.sampling is not None:
            self.sampling.renew(self._observer.names)
        reference = engine.drift.reference
        self._monitor.renew(self._observer.names, self._settings(), reference)
        self._drift_level, self._unsaved, self._asked = self._monitor.view().level, True, True
        self._performance = self._performance.renew(engine.card, engine.identity, reference, now)
        self._quality.renew(engine.card, engine.runtime.inputs)
        self._confidence.clear()
        self._tell_fault()

    def _remember(self, published: list[Published], now: Moment) -> None:
        """Those of the live model. Of another one they wait once: it may be known as the live one by then. Else they
        are of a model on trial, or of the one before."""
        waited, self._unplaced = self._unplaced, []
        for one in (*waited, *published):
            if one.prediction.model == self.engine.identity:
                self._performance.remember(one.identity.seq, one.outputs, now)
        self._unplaced = [one for one in published if one.prediction.model != self.engine.identity]

    def _estimate(self, tally: Tally, moment: Moment) -> None:
        """The accuracy that the reference's hits let expect, once for each block."""
        if self.engine.drift.reference is None:
            return
        for feature, bins in zip(self._monitor.binning, tally.bins, strict=True):
            if feature.name.endswith(CONFIDENCE):
                before = self._confidence.get(feature.name, 0)
                self._confidence[feature.name] = before + np.array(bins)
        if moment.mono_ns - self._estimated_ns < self.site.config.block:
            return
        self._estimated_ns = moment.mono_ns
        counts = {name.removesuffix(CONFIDENCE): bins.tolist() for name, bins in self._confidence.items()}
        self._performance.estimate(counts, moment)
        self._confidence.clear()

    def _worst(self) -> Level:
        """Of drift; where something else is worse, of that."""
        others = max(self._quality.level, self._performance.level, key=LEVELS.index)
        if LEVELS.index(others) <= LEVELS.index(Level.OK):
            return self._drift_level
        return max(self._drift_level, others, key=LEVELS.index)

    def _follow(self, changes: list[LevelChange], kind: Kind) -> None:
        if changes:
            self._drift_level, self._unsaved = self._monitor.view().level, True
            self._telling.gather(kind, changes)

    def _tell_due(self, now: Moment) -> None:
        for told in self._telling.due(now.mono_ns):
            self._tell(told.kind, told.severity, told.detail)
            if told.worst is Level.CRITICAL and told.kind != "data_quality":
                self._tell("retraining_suggested", "warning", f"evidence: {told.detail}")

    def _tell_fault(self) -> None:
        if fault := self.engine.drift.fault:
            self._tell("drift_reference_ignored", "warning", f"the model's reference is not used: {fault}")

    def _tell(self, kind: str, severity: Severity, detail: str) -> None:
        self._events.append(Event(kind, severity, self.site.name, detail))
