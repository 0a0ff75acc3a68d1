"""All that is watched of one pipeline: reports that add up, whatever becomes of the model, the process, the camera."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from edge_agent.core.data_quality import CameraLook
from edge_agent.core.drift.carried import Carried
from edge_agent.core.drift.monitor import Monitor
from edge_agent.core.drift.observe import Observer
from edge_agent.core.drift.payload import Report
from edge_agent.core.drift.reference import make_reference
from edge_agent.core.drift.telling import APART_NS
from edge_agent.monitoring import Level, Observation
from edge_agent.records import Array
from edge_agent.stages.engine import Engine
from tests.simulators.tiny_models import tiny_engine
from tests.simulators.watched_line import SECOND, Line, classifier

FEATURES = {"warmth": {"unit": "degC"}}
LEARNT_S = 21 * 60


def tiny(version: str) -> Engine:
    return tiny_engine(version, features=FEATURES)


def with_reference(version: str) -> Engine:
    engine = tiny(version)
    specs = Observer(engine.card, engine.runtime.outputs).names
    rows = np.random.default_rng(1).normal([20.0] + [100.0] * (len(specs) - 1), 4.0, (2000, len(specs)))
    engine.drift = Carried(make_reference(specs, rows))
    return engine


ENGINE, OTHER = tiny("1"), tiny("2")
REFERRED, OTHER_REFERRED = with_reference("3"), with_reference("4")


def rows(reports: list[Report]) -> int:
    return sum(report.rows for report in reports)


def learnt(engine: Engine) -> Line:
    line = Line(engine)
    line.see(LEARNT_S)
    learning = line.watched.snapshot.counted()
    assert learning is not None
    return line


def monitor_of(line: Line) -> Monitor:
    return Monitor.restore(line.save()[0])


def days_learnt(line: Line) -> dict[str, bool]:
    """Which features have a baseline."""
    return {state.name: state.tv_baseline is not None for state in monitor_of(line).view().features}


# --- reports -----------------------------------------------------------------------------------------------------


def test_the_first_report_comes_soon_then_one_each_interval_and_their_counts_add_up() -> None:
    line = Line(REFERRED)
    line.see(700)
    assert [round(report.seconds) for report in line.reports] == [10, 300, 300]
    assert [report.seq for report in line.reports] == [0, 1, 2]
    line.watched.report(line.now)
    line.take()
    assert rows(line.reports) == 1400
    assert sum(sum(report.counts[0]) for report in line.reports) == 1400


def test_without_a_frame_a_heartbeat_comes() -> None:
    line = Line(ENGINE)
    line.wait(320)
    assert [report.rows for report in line.reports] == [0, 0]
    assert all(len(body) <= 300 for body in line.bodies)
    assert line.watched.snapshot.counted() is None
    assert line.watched.snapshot.said().seq == 1


def test_frames_that_can_not_be_read_cost_neither_the_others_nor_the_report(monkeypatch: pytest.MonkeyPatch) -> None:
    row = Observer.row

    def every_second(self: Observer, seen: Observation) -> Array:
        if seen.mono_ns % SECOND:
            raise ArithmeticError("a square root of a negative number")
        return row(self, seen)

    monkeypatch.setattr(Observer, "row", every_second)
    line = Line(ENGINE)
    line.see(20)
    assert [type(error) for error in line.watched.take_failures()] == [ArithmeticError] * 20
    line.wait(300)
    assert rows(line.reports) == 20


def test_a_classifier_without_a_reference_reports_beyond_the_first_part_of_its_commissioning() -> None:
    line = Line(classifier("1"))
    line.see(LEARNT_S)  # its own edges come meanwhile: bins of another number
    widths = {len(report.counts[report.features.index("light.confidence")]) for report in line.reports if report.rows}
    assert len(widths) > 1
    assert line.reports[-1].learning is not None
    assert line.reports[-1].learning.done


def test_since_when_a_level_holds_outlives_the_process() -> None:
    line = learnt(ENGINE)
    line.see(3600, warmth=60)
    assert line.watched.level is Level.CRITICAL
    since = line.reports[-1].since
    assert since is not None
    line.killed(*line.save())
    line.see(20)
    assert (line.reports[-1].seq, line.reports[-1].level, line.reports[-1].since) == (0, Level.CRITICAL, since)


# --- the model ---------------------------------------------------------------------------------------------------


def test_what_was_counted_of_a_model_goes_out_as_its_own_report_when_another_takes_over() -> None:
    line = Line(REFERRED)
    line.see(100)
    line.live = OTHER_REFERRED
    line.see(100)
    line.watched.report(line.now)
    line.take()
    by_model: Counter[str] = Counter()
    for report in line.reports:
        assert report.model is not None
        by_model[report.model.version] += report.rows
    assert by_model == {"3": 200, "4": 200}
    assert [report.seq for report in line.reports] == list(range(len(line.reports)))


def test_another_model_learns_its_predictions_anew_and_keeps_what_is_known_of_its_inputs() -> None:
    line = learnt(ENGINE)
    assert days_learnt(line)["value.value"]
    line.live = OTHER
    line.see(2)
    known = days_learnt(line)
    assert not known["value.value"]
    assert not known.pop("value.value")
    assert all(known.values())


def test_so_it_does_where_the_model_changed_while_the_process_was_down() -> None:
    line = learnt(ENGINE)
    saved = line.save()
    line.live = OTHER
    line.killed(*saved)
    known = days_learnt(line)
    assert not known.pop("value.value")
    assert all(known.values())


def test_the_same_model_loaded_again_keeps_what_was_learnt() -> None:
    line = learnt(ENGINE)
    name = line.publish(line.live, looked_at=False)
    before = days_learnt(line)
    line.live = tiny("1")
    line.see(2)
    assert days_learnt(line) == before
    assert line.label(name, 20.0).result == "counted"


def test_a_prediction_is_known_though_it_was_published_before_the_first_look_at_its_model() -> None:
    line = Line(ENGINE)
    line.see(3)
    early = line.publish(OTHER, looked_at=False)
    line.step()
    line.live = OTHER
    line.see(1)
    assert line.label(early, 20.0).result == "counted"


def test_what_a_model_on_trial_predicts_is_not_taken_for_the_live_ones() -> None:
    line = Line(ENGINE)
    tried = [line.publish(OTHER, looked_at=False) for _ in range(3)]
    line.see(5)
    assert {line.label(name, 20.0).result for name in tried} == {"late"}


def test_a_reference_that_does_not_fit_is_told_when_its_model_takes_over() -> None:
    line = Line(ENGINE)
    engine = tiny("5")
    engine.drift = Carried(fault='the reference has "pressure", which is no feature of the model')
    line.live = engine
    line.see(1)
    (event,) = line.said("drift_reference_ignored")
    assert "pressure" in event.detail


# --- the process -------------------------------------------------------------------------------------------------


def test_killed_at_any_moment_no_row_is_reported_twice_and_at_most_one_block_is_learnt_again() -> None:
    line = Line(REFERRED)
    saved: tuple[bytes, bytes] | None = None
    seen = 0
    for life in range(6):
        lost_ns = 0
        for _ in range(311 + life):
            line.see(1)
            seen += 2
            if line.watched.save_due(line.now):
                saved, lost_ns = line.save(), 0
            lost_ns += SECOND
        assert lost_ns <= int(line.config.block) + SECOND
        assert rows(line.reports) <= seen
        line.killed(*saved or (None, None))
    assert rows(line.reports) > seen / 2
    seqs = Counter((report.boot_id, report.seq) for report in line.reports)
    assert set(seqs.values()) == {1}


def test_it_is_saved_as_soon_as_a_block_is_over_though_media_time_runs_ahead_of_the_clock() -> None:
    line = Line(ENGINE)
    due, media_ns = 0, line.mono_ns
    for _ in range(10):
        clock_ns = line.mono_ns
        for line.mono_ns in range(media_ns, media_ns + 60 * SECOND, SECOND // 2):
            line.publish(line.live, looked_at=True)
        media_ns += 60 * SECOND
        line.mono_ns = clock_ns + SECOND
        line.step()
        if line.watched.save_due(line.now):
            due += 1
            line.save()
    assert due >= 8


# --- events ------------------------------------------------------------------------------------------------------


def test_all_that_changed_at_one_look_is_one_event_and_nothing_is_told_while_nothing_changes() -> None:
    line = learnt(ENGINE)
    line.events.clear()
    line.see(3600, warmth=60, level=220)
    told = line.said("drift")
    assert 0 < len(told) < 20
    assert told[-1].severity == "error"
    assert any("warmth" in event.detail and "look at the sensor" in event.detail for event in told)
    assert any("warmth" in event.detail for event in line.said("retraining_suggested"))
    line.events.clear()
    line.see(1200, warmth=60, level=220)
    assert line.said("drift") == []


def test_a_fault_is_told_at_once_and_one_that_comes_and_goes_makes_no_flood() -> None:
    line = Line(ENGINE)
    line.see(2)
    line.camera = CameraLook("lost", 0)
    line.wait(1)
    (event,) = line.said("data_quality")
    assert (event.severity, event.subject) == ("error", "inspect")
    assert "the camera is disconnected" in event.detail
    for number in range(300):
        line.camera = CameraLook(("streaming", "lost")[number % 2], number)
        line.wait(1)
    assert len(line.said("data_quality")) <= 2 + 300 * SECOND // APART_NS


def test_a_silence_holds_events_back_is_shown_in_reports_and_nothing_is_forgotten_at_its_end() -> None:
    line = Line(ENGINE)
    line.see(30)
    line.watched.silence(600 * SECOND, "the belt is cleaned", line.now)
    line.camera = CameraLook("lost", 0)
    line.wait(500)
    assert line.said("data_quality") == []
    assert line.reports[-1].level is Level.CRITICAL
    assert line.reports[-1].silenced_until == "2026-09-21T14:23:50.000Z"
    line.wait(110)
    (event,) = line.said("data_quality")
    assert "the camera is disconnected" in event.detail
    line.watched.report(line.now)
    line.take()
    assert line.reports[-1].silenced_until is None


def test_a_silence_is_ended_by_another_of_no_time() -> None:
    line = Line(ENGINE)
    line.see(2)
    line.watched.silence(600 * SECOND, "cleaning", line.now)
    line.camera = CameraLook("lost", 0)
    line.wait(2)
    line.watched.silence(0, "done", line.now)
    line.wait(1)
    assert len(line.said("data_quality")) == 1


def test_a_new_baseline_keeps_its_reason_and_is_reported_at_once() -> None:
    line = learnt(ENGINE)
    reports = len(line.reports)
    line.watched.rebaseline("new lens", line.now)
    line.step()
    assert len(line.reports) == reports + 1
    assert line.watched.level is Level.LEARNING
    assert line.watched.snapshot.reason == "new lens"


# --- what is drawn -----------------------------------------------------------------------------------------------


def test_what_is_usual_comes_from_the_baseline_and_where_there_is_one_from_the_reference() -> None:
    line = learnt(ENGINE)
    line.see(300)
    snapshot = line.watched.snapshot
    assert snapshot.usual_of == "baseline"
    for shares, feature in zip(snapshot.usual, snapshot.binning, strict=True):
        assert shares is not None, feature.name
        assert sum(shares) == pytest.approx(1, abs=0.02)
    line.live = REFERRED
    line.see(400)
    snapshot = line.watched.snapshot
    assert snapshot.usual_of == "reference"
    assert all(shares is not None for shares in snapshot.usual)
