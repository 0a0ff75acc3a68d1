"""The third journey: what the pipelines see and say, watched for drift. One thread for all of them.

It takes what the taps have put by, keeps what was learnt on the disk, and answers what is asked. It gates nothing: a
failure here costs no prediction.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, Final

from edge_agent import limits
from edge_agent.core.drift.requests import Asked, parse_rebaseline, parse_silence
from edge_agent.core.drift.snapshot import read_snapshot
from edge_agent.core.feedback import parse_feedback, transaction_of
from edge_agent.core.wire import Topics, response_body
from edge_agent.errors import StorageError
from edge_agent.monitoring import Moment
from edge_agent.outgoing import Kind, Record, Schema
from edge_agent.ports import DriftStore
from edge_agent.records import Event
from edge_agent.stages.watched import Watched
from edge_agent.stages.worker import Services, Worker

MONITOR: Final = ".monitor"  # behind the pipeline's name
LABELS: Final = ".labels"
SNAPSHOT: Final = ".json"
TICK_S: Final = 1.0

Respond = Callable[[Mapping[str, Any] | None, str | None], None]
"""Publishes the answer to one request: its data, or what was wrong."""


class DriftWorker(Worker):
    """``publish`` takes reports and answers. Requests and labels come from other threads."""

    outlives_stopping = True  # until ``close``: what the pipelines still finish is watched too

    def __init__(
        self,
        watched: Sequence[Watched],
        store: DriftStore,
        topics: Topics,
        publish: Callable[[Record], None],
        services: Services,
    ) -> None:
        super().__init__("drift", services)
        self.silence_most_s = limits.DISK_SILENCE_MOST_S
        self._watched = {one.site.name: one for one in watched}
        self._store = store
        self._topics = topics
        self._publish = publish
        self._news = threading.Event()
        self._ended = threading.Event()
        self._lock = threading.Lock()
        self._asked: list[Callable[[Moment], None]] = []
        self._ignored = 0  # labels and requests
        self._failing: set[str] = set()  # what the disk did not take
        self._begun = False

    # --- from other threads --------------------------------------------------------------------------------------

    def close(self) -> None:
        """The process stops, and nothing more comes from the pipelines: the last words are due."""
        self._ended.set()
        self._news.set()

    def hurry(self) -> None:
        """Much is waiting to be taken."""
        self._news.set()

    def requests(self) -> dict[str, Callable[[Any, Respond], None]]:
        """By name: given the value of the command, and how to answer."""
        return {
            "drift-rebaseline": lambda value, respond: self._request(self._rebaseline, value, respond),
            "drift-silence": lambda value, respond: self._request(self._silence, value, respond),
        }

    def feedback(self, _topic: str, payload: bytes, retained: bool) -> None:
        """A label, as it came over the network. A retained one was counted when it was new."""
        if retained:
            self._ignore()
        elif len(payload) > limits.FEEDBACK_BYTES_MOST:
            self._respond(None, None, f"Expected at most {limits.FEEDBACK_BYTES_MOST} bytes")
        else:
            self._ask(lambda now: self._label(payload, now))

    def report(self) -> dict[str, int]:
        """For ``stats``. ``ignored``: retained labels, and labels and requests that came faster than they could be
        taken; ``given_up``: observations and predictions that came faster than they could be watched."""
        watched = self._watched.values()
        samples = [one.sampling for one in watched if one.sampling is not None]
        return {
            "given_up": sum(one.given_up for one in watched),
            "ignored": self._ignored,
            "samples_kept": sum(sampling.kept for sampling in samples),
            "samples_lost": sum(sampling.lost for sampling in samples),
        }

    def _request(self, what: Callable[[Any, Respond, Moment], None], value: Any, respond: Respond) -> None:
        if not self._ask(lambda now: what(value, respond, now)):
            respond(None, "too many labels and requests wait already: ask again later")

    def _ask(self, what: Callable[[Moment], None]) -> bool:
        with self._lock:
            room = len(self._asked) < limits.FEEDBACK_WAITING_MOST
            if room:
                self._asked.append(what)
        if not room:
            self._ignore()
        self._news.set()
        return room

    def _ignore(self) -> None:
        with self._lock:
            self._ignored += 1

    # --- this worker's thread ------------------------------------------------------------------------------------

    def work(self) -> None:
        if not self._begun:
            self._begin()
        while not self._ended.is_set():
            self.beat()
            self._news.wait(TICK_S)
            self._news.clear()
            self._step()

    def leave(self) -> None:
        """What was counted since the last report goes out, and what was learnt is on the disk. The disk comes last: it
        may take longer than the process has left."""
        if not self._begun:
            return
        now = self._moment()
        for one in self._watched.values():
            self._try(partial(self._last_words, one, now), f"{one.site.name} has no last report")
        for one in self._watched.values():
            self._keep_snapshot(one)
            self._save(one, now)

    def _last_words(self, one: Watched, now: Moment) -> None:
        one.step(now)
        one.report(now)
        self._tell(one)

    def _begin(self) -> None:
        now = self._moment()
        for name, one in self._watched.items():
            self._take_up(name + MONITOR, one.take_up_monitor)
            self._take_up(name + LABELS, one.take_up_labels)
            content = self._load(name + SNAPSHOT)
            if content is not None:
                try:
                    one.snapshot = read_snapshot(content)
                except ValueError:
                    """A picture of the past: the next report makes another."""
            one.begin(now)
            self._tell(one)
        self._begun = True

    def _step(self) -> None:
        now = self._moment()
        with self._lock:
            asked, self._asked = self._asked, []
        for one in self._watched.values():
            self._try(partial(one.step, now), f"{one.site.name} is not watched in this second")
        for what in asked:
            self._try(partial(what, now), "a label or a request is left out")
        for one in self._watched.values():
            if self._tell(one):
                self._keep_snapshot(one)
            if one.save_due(now):
                self._save(one, now)

    def _try(self, what: Callable[[], None], consequence: str) -> None:
        """One pipeline's failure is no other's."""
        try:
            what()
        except MemoryError:
            raise
        except Exception as error:  # noqa: BLE001 - of any part of what is watched: counted and told
            self.faults.add(error, consequence)

    def _tell(self, one: Watched) -> bool:
        """What there is to tell goes out. Whether there was a report."""
        name, (reports, events) = one.site.name, one.take()
        for made_ns, body in reports:
            topic = self._topics.drift(name)
            self._publish(Record(Kind.DRIFT, topic, Schema.DRIFT, body, made_ns, retain=True, pipeline=name))
        for event in events:
            self.services.emit(event)
        for error in one.take_failures():
            self.faults.add(error, "a frame was not watched")
        return bool(reports)

    def _moment(self) -> Moment:
        mono_ns = self.clock.monotonic_ns()
        return Moment(mono_ns, self.clock.wall_ns(mono_ns), self.clock.synced())

    # --- what is asked -------------------------------------------------------------------------------------------

    def _label(self, payload: bytes, now: Moment) -> None:
        try:
            feedback = parse_feedback(payload)
            one = self._watched.get(feedback.id.pipeline)
            if one is None:
                raise ValueError(f"no pipeline {feedback.id.pipeline!r}; known: {', '.join(self._watched)}")
        except ValueError as error:
            self._respond(transaction_of(payload), None, str(error))
            return
        answer = one.label(feedback, now)
        data = {"id": answer.id, "result": answer.result, "wrong": answer.wrong, "detail": answer.detail}
        self._respond(feedback.transaction, data, None)

    def _rebaseline(self, value: Any, respond: Respond, now: Moment) -> None:
        self._do(lambda: parse_rebaseline(value, self._watched), respond, lambda one, a: one.rebaseline(a.reason, now))

    def _silence(self, value: Any, respond: Respond, now: Moment) -> None:
        self._do(
            lambda: parse_silence(value, self._watched), respond, lambda one, a: one.silence(a.for_ns, a.reason, now)
        )

    def _do(self, parse: Callable[[], Asked], respond: Respond, act: Callable[[Watched, Asked], None]) -> None:
        try:
            asked = parse()
        except ValueError as error:
            respond(None, str(error))
            return
        for name in asked.pipelines:
            act(self._watched[name], asked)
        respond({"pipelines": list(asked.pipelines), "reason": asked.reason}, None)

    def _respond(self, transaction: object, data: Mapping[str, Any] | None, error: str | None) -> None:
        body = response_body(transaction, data, error)
        now_ns = self.clock.monotonic_ns()
        self._publish(Record(Kind.RESPONSE, self._topics.response("feedback"), Schema.RESPONSE, body, now_ns))

    # --- the disk ------------------------------------------------------------------------------------------------

    def _keep_snapshot(self, one: Watched) -> None:
        self._keep(one.site.name + SNAPSHOT, one.snapshot.encode())

    def _save(self, one: Watched, now: Moment) -> None:
        self._keep(one.site.name + MONITOR, one.saved_monitor(now))
        self._keep(one.site.name + LABELS, one.saved_labels(now))

    def _keep(self, name: str, content: bytes) -> None:
        try:
            self._store.save(name, content)
            self._failing.discard(name)
        except StorageError as error:
            self._disk_failed(name, error)

    def _load(self, name: str) -> bytes | None:
        try:
            return self._store.load(name)
        except StorageError as error:
            self._disk_failed(name, error)
            return None

    def _take_up(self, name: str, take_up: Callable[[bytes], None]) -> None:
        content = self._load(name)
        if content is None:
            return
        try:
            take_up(content)
        except ValueError as error:
            try:
                where = f"it lies at {self._store.set_aside(name)}"
            except StorageError as failure:
                where = f"it could not be set aside: {failure}"
            detail = f"{name} can't be used: {error}; {where}, learning starts again"
            self.services.emit(Event("drift_state_set_aside", "warning", "drift", detail))

    def _disk_failed(self, name: str, error: StorageError) -> None:
        """Told once, until all is well again: what is small may find room where what is large does not."""
        if not self._failing:
            detail = f"{error}; what is learnt is lost with the process until this is mended"
            self.services.emit(Event("drift_not_saved", "error", "drift", detail))
        self._failing.add(name)
