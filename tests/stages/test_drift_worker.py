"""The worker of drift: its last words, its disk, what is asked of it, and that nothing of it stops the daemon."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import msgspec
import numpy as np
import pytest

from edge_agent import limits
from edge_agent.core.drift.payload import read_report
from edge_agent.core.wire import Topics
from edge_agent.errors import StorageError
from edge_agent.outgoing import Kind, Record
from edge_agent.records import Frame
from edge_agent.stages.drift import DriftWorker
from tests.simulators.supervised import Site
from tests.simulators.tiny_models import tiny_engine
from tests.simulators.waiting import wait_for
from tests.simulators.watched_line import Line

ENGINE = tiny_engine("1", features={"warmth": {"unit": "degC"}})


class Folder:
    """``ports.DriftStore`` in memory. ``full``: nothing large fits; ``broken``: nothing does."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.aside: list[str] = []
        self.full = self.broken = False
        self.on_save: Callable[[str], None] = lambda _name: None

    def load(self, name: str) -> bytes | None:
        return self.files.get(name)

    def save(self, name: str, content: bytes) -> None:
        self.on_save(name)
        if self.broken or (self.full and name.endswith(".monitor")):
            raise StorageError(f"{name}: no space left")
        self.files[name] = content

    def set_aside(self, name: str) -> str:
        self.aside.append(name)
        return f"{name}.damaged"


class Desk:
    """A worker at work, for one pipeline or several."""

    def __init__(self, names: tuple[str, ...] = ("inspect",), folder: Folder | None = None) -> None:
        self.site = Site()
        self.folder = folder or Folder()
        self.records: list[Record] = []
        self.lines = [Line(ENGINE, name=name) for name in names]
        for line in self.lines:  # as it is before ``begin``
            line.mono_ns, line.wall_ns = self.site.services.clock.monotonic_ns(), 0
            line.watched = line.unbegun()
        self.worker = DriftWorker(
            [line.watched for line in self.lines],
            self.folder,
            Topics("edge-agent", "line1"),
            self.records.append,
            self.site.services,
        )

    @contextmanager
    def working(self) -> Iterator[Line]:
        self.worker.start()
        try:
            yield self.lines[0]
        finally:
            self.site.stopping.set()
            self.worker.close()
            self.worker.join(30)
            assert not self.worker.is_alive()

    def reports(self) -> list[Record]:
        return [record for record in list(self.records) if record.kind is Kind.DRIFT]

    def answers(self) -> list[dict[str, Any]]:
        return [msgspec.json.decode(record.body) for record in list(self.records) if record.kind is Kind.RESPONSE]

    def ask(self, what: str, value: object) -> list[tuple[Mapping[str, Any] | None, str | None]]:
        """Fills with the answer."""
        answers: list[tuple[Mapping[str, Any] | None, str | None]] = []
        self.worker.requests()[what](value, lambda data, error: answers.append((data, error)))
        return answers


def saw(desk: Desk, line: Line, frames: int) -> None:
    line.mono_ns = desk.site.services.clock.monotonic_ns()
    for _ in range(frames):
        line.publish(ENGINE, looked_at=True)


# --- the end -----------------------------------------------------------------------------------------------------


def test_what_the_pipelines_finish_after_the_order_to_stop_is_in_the_last_report() -> None:
    desk = Desk()
    with desk.working() as line:
        wait_for(lambda: desk.folder.files or desk.worker.is_alive(), "it works")
        saw(desk, line, 3)
        desk.site.stopping.set()
        for wanted in (1, 2):  # it looks around twice at least
            desk.worker.feedback("t", b"{}", False)
            wait_for(lambda wanted=wanted: len(desk.answers()) == wanted or not desk.worker.is_alive(), "an answer")
        saw(desk, line, 4)
    assert sum(read_report(record.body).rows for record in desk.reports()) == 7
    assert set(desk.folder.files) == {"inspect.monitor", "inspect.labels", "inspect.json"}


def test_the_last_reports_of_all_pipelines_go_out_before_the_disk_is_waited_for() -> None:
    desk = Desk(("left", "right"))
    gone: list[int] = []
    desk.folder.on_save = lambda _name: gone.append(len(desk.reports()))
    with desk.working():
        wait_for(desk.worker.is_alive, "it works")
    assert gone
    assert min(gone) == 2


def test_a_process_that_never_began_has_no_last_words() -> None:
    desk = Desk()
    desk.worker.leave()
    assert desk.records == []
    assert desk.folder.files == {}


# --- the disk ----------------------------------------------------------------------------------------------------


def test_a_disk_with_room_for_small_files_alone_is_told_once() -> None:
    desk = Desk()
    desk.folder.full = True
    with desk.working() as line:
        for number in range(3):
            desk.ask("drift-rebaseline", {"reason": f"number {number}"})  # saves
            wait_for(lambda wanted=number + 1: len(desk.site.said("drift_rebaselined")) == wanted, "it was done")
            saw(desk, line, 1)
            wait_for(lambda wanted=number + 1: len(desk.reports()) >= wanted, "a report")
    assert len(desk.site.said("drift_not_saved")) == 1
    assert "inspect.json" in desk.folder.files


def test_a_disk_that_was_mended_and_fails_again_is_told_again() -> None:
    desk = Desk()
    with desk.working():
        for wanted in (1, 2):
            desk.folder.broken = True
            desk.ask("drift-rebaseline", {"reason": "x"})
            wait_for(lambda wanted=wanted: len(desk.site.said("drift_not_saved")) == wanted, "it is told")
            desk.folder.broken = False
            desk.folder.files.clear()
            desk.ask("drift-rebaseline", {"reason": "x"})
            wait_for(lambda: {"inspect.monitor", "inspect.labels", "inspect.json"} <= set(desk.folder.files), "saved")


@pytest.mark.parametrize("content", [b"", b"\x00" * 5000, b"edge-agent/drift-state/1\n" + b"x" * 99, b"{}"])
def test_what_is_damaged_is_set_aside_and_learnt_anew(content: bytes) -> None:
    desk = Desk()
    desk.folder.files = dict.fromkeys(("inspect.monitor", "inspect.labels", "inspect.json"), content)
    with desk.working() as line:
        saw(desk, line, 2)
    assert desk.folder.aside == ["inspect.monitor", "inspect.labels"]
    assert len(desk.site.said("drift_state_set_aside")) == 2
    assert sum(read_report(record.body).rows for record in desk.reports()) == 2
    assert desk.site.deaths == []


# --- what is asked -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "value",
    [
        None,
        7,
        [],
        {},
        {"reason": "x", "pipeline": ["inspect"]},
        {"reason": "x", "pipeline": {"a": 1}},
        {"reason": "x", "pipeline": "nobody"},
        {"reason": 5},
        {"reason": " \n"},
        {"reason": "x", "for": "-2h"},
        {"reason": "x", "for": 3},
        {"reason": "x", "for": "366d"},
        {"reason": "x", "other": 1},
    ],
)
def test_a_request_that_means_nothing_is_answered_and_changes_nothing(value: object) -> None:
    desk = Desk()
    with desk.working():
        for what in ("drift-rebaseline", "drift-silence"):
            answers = desk.ask(what, value)
            wait_for(lambda answers=answers: answers, f"an answer to {value!r}")
            ((data, error),) = answers
            assert data is None
            assert error
            assert len(error) < 300
    assert not desk.site.said("drift_rebaselined")
    assert not desk.site.said("drift_silenced")
    assert desk.worker.crashes == 0


def test_of_a_flood_what_finds_no_room_is_answered_and_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "FEEDBACK_WAITING_MOST", 3)
    desk = Desk()  # does not work yet
    answers = [desk.ask("drift-silence", {"reason": "x", "for": "1s"}) for _ in range(5)]
    assert [bool(answer) for answer in answers] == [False, False, False, True, True]
    assert "later" in str(answers[-1][0][1])
    for _ in range(4):
        desk.worker.feedback("t", b"{}", False)
    assert desk.worker.report()["ignored"] == 2 + 4
    with desk.working():
        wait_for(lambda: all(answers), "the first three are answered too")
    assert len(desk.site.said("drift_silenced")) == 3


def test_labels_are_answered_and_those_that_can_be_none_are_counted() -> None:
    desk = Desk()
    with desk.working() as line:
        line.mono_ns = desk.site.services.clock.monotonic_ns()
        name = line.publish(ENGINE, looked_at=False)
        message = msgspec.json.encode({"id": name, "label": 1.0, "transaction": 5})
        desk.worker.feedback("t", message, True)
        assert desk.worker.report()["ignored"] == 1
        desk.worker.feedback("t", message, False)
        wait_for(lambda: len(desk.answers()) == 1, "the answer")
        assert desk.answers()[0]["transaction"] == 5
        assert desk.answers()[0]["data"]["result"] == "counted"
        stranger = name.replace("inspect", "elsewhere")
        for payload in (b"", b"[" * 10_000, b"\xff", msgspec.json.encode({"id": stranger, "label": 1}), b"x" * 70_000):
            before = len(desk.answers())
            desk.worker.feedback("t", payload, False)
            wait_for(lambda before=before: len(desk.answers()) > before, f"an answer to {payload[:9]!r}")
            assert desk.answers()[-1]["status"] == "error"
    assert desk.worker.crashes == 0


# --- failures ----------------------------------------------------------------------------------------------------


def test_a_pipeline_that_can_not_be_watched_keeps_no_other_from_it_and_ends_nothing() -> None:
    desk = Desk(("left", "right"))
    left, right = desk.lines
    broken = left.watch.take  # whatever it is that fails

    def fails() -> None:
        raise RuntimeError("broken")

    left.watch.take = fails  # type: ignore[method-assign, assignment]
    with desk.working():
        saw(desk, right, 3)
        wait_for(lambda: desk.site.said("worker_failed"), "it is told")
        assert "left is not watched" in desk.site.said("worker_failed")[0].detail
        answers = desk.ask("drift-silence", {"reason": "x", "for": "1s"})
        wait_for(lambda: answers, "requests are answered")
        left.watch.take = broken  # type: ignore[method-assign]
        saw(desk, left, 2)
    assert desk.site.deaths == []
    rows: Counter[str] = Counter()
    for record in desk.reports():
        rows[record.pipeline or ""] += read_report(record.body).rows
    assert rows == {"left": 2, "right": 3}


# --- the camera's thread -----------------------------------------------------------------------------------------


def test_a_picture_that_can_not_be_looked_at_costs_no_frame_and_is_told() -> None:
    desk = Desk()
    with desk.working() as line:
        frame = Frame("belt", 0, 0, 0, "arrival", np.zeros((8, 8, 3), np.uint8))
        assert line.watch.look(ENGINE, {"image": np.zeros(3, np.float32)}, frame) is None
        wait_for(lambda: desk.site.said("worker_failed"), "it is told")
        assert "was not watched" in desk.site.said("worker_failed")[0].detail
        assert desk.worker.crashes == 1
    assert desk.site.deaths == []


def test_what_the_worker_was_too_late_for_is_counted_in_its_report() -> None:
    desk = Desk()
    line = desk.lines[0]
    saw(desk, line, 100)  # of which 64 may wait
    with desk.working():
        wait_for(lambda: desk.worker.report()["given_up"], "it is counted")
    assert desk.worker.report()["given_up"] == 36
