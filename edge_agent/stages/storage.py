"""The thread that owns the store: an SD card's fsync can stall for seconds, and nobody else waits for it.

Jobs come from the publisher and are answered in order. After a failure the jobs of before it are void (``generation``):
the publisher has taken everything back, and begins again when the store is open again.
"""

from __future__ import annotations

import queue
import random
from collections.abc import Callable
from typing import Literal

from msgspec import Struct

from edge_agent import limits
from edge_agent.core.backoff import Backoff
from edge_agent.core.wire import rfc3339
from edge_agent.errors import StorageError
from edge_agent.outgoing import Batch, Committed, Lane, Loaded, Opened, RunRow
from edge_agent.ports import OutboxStore
from edge_agent.records import Event
from edge_agent.stages.worker import Services, Worker


class Usable(Struct, frozen=True):
    """The store is open; jobs of this generation are taken."""

    store: Opened
    generation: int


class Written(Struct, frozen=True):
    result: Committed


class Page(Struct, frozen=True):
    lane: Lane
    loaded: Loaded


class Failed(Struct, frozen=True):
    """Nothing of what was asked and not answered has happened."""


class Full(Struct, frozen=True):
    """The commit under way has not happened; what is there can be read."""


class Room(Struct, frozen=True):
    """After Full: a commit is worth trying again."""


class _Job(Struct, frozen=True):
    generation: int
    run: Callable[[], object]


class StorageWorker(Worker):
    """Runs one ``ports.OutboxStore``; ``answer`` takes Usable, Written, Page, Failed, Full and Room, on this
    thread."""

    outlives_stopping = True

    def __init__(
        self, store: OutboxStore, boot_id: str, answer: Callable[[object], None], where: str, services: Services
    ) -> None:
        """``where``: the file, for messages."""
        super().__init__("storage", services)
        self.silence_most_s = limits.DISK_SILENCE_MOST_S
        self._store = store
        self._boot_id = boot_id
        self._answer = answer
        self._where = where
        self._queue: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._generation = 0
        self._open = self._was_open = False
        self._said_failed = False
        self._full_until_ns: int | None = None
        self._ending = False
        self._backoff = Backoff(limits.DISK_FIRST_S, limits.DISK_LAST_S)

    # --- from the publisher's thread -----------------------------------------------------------------------------

    def commit(self, batch: Batch, generation: int) -> None:
        self._queue.put(_Job(generation, lambda: self._commit(batch)))

    def load(self, lane: Lane, after: int, bytes_most: int, generation: int) -> None:
        self._queue.put(_Job(generation, lambda: self._load(lane, after, bytes_most)))

    def finish(self) -> None:
        """Close the store after the jobs that wait, and end."""
        self._queue.put(None)

    # --- this thread ---------------------------------------------------------------------------------------------

    def work(self) -> None:
        wait_s = 0.0
        while not self._ending:
            self.beat()
            if not self._open and wait_s <= 0:
                wait_s = self._try_to_open()
            before_ns = self.clock.monotonic_ns()
            if self._full_until_ns is not None and before_ns >= self._full_until_ns:
                self._full_until_ns = None
                self._answer(Room())
            self._next_job(1.0 if self._open else min(1.0, wait_s))
            wait_s -= (self.clock.monotonic_ns() - before_ns) / 1e9

    def leave(self) -> None:
        self._store.close()

    def recover(self) -> None:
        """An error of the program itself: what was under way is void, like after any other failure."""
        self._fail()

    def _next_job(self, timeout_s: float) -> None:
        try:
            job = self._queue.get(timeout=timeout_s)
        except queue.Empty:
            return
        if job is None:
            self._ending = True
        elif self._open and job.generation == self._generation:
            try:
                self._answer(job.run())
            except StorageError as error:
                self._failed(error)

    def _try_to_open(self) -> float:
        """Returns the seconds to wait before the next attempt."""
        try:
            store = self._store.open(self._boot_id)
        except StorageError as error:
            self._failed(error)
            return self._backoff.next(random.random())
        self._open = True
        if store.set_aside:
            self._say("outbox_damaged", "error", f"what it held is lost to this daemon: {store.set_aside}")
        if store.unclean and not self._was_open:
            self._say("unclean_stop", "warning", _unclean(store.unclean))
        self._was_open = True
        self._generation += 1
        self._answer(Usable(store, self._generation))
        return 0.0

    def _commit(self, batch: Batch) -> Written:
        result = self._store.commit(batch)
        self._backoff.reset()
        if self._said_failed:
            self._said_failed = False
            self._say("outbox_restored", "info", "the disk takes records again")
        return Written(result)

    def _load(self, lane: Lane, after: int, bytes_most: int) -> Page:
        return Page(lane, self._store.load(lane, after, limits.PAGE_RECORDS, bytes_most))

    def _failed(self, error: StorageError) -> None:
        if error.readable:
            self._full_until_ns = self.clock.monotonic_ns() + round(self._backoff.next(random.random()) * 1e9)
            self._answer(Full())
        else:
            self._fail()
        if not self._said_failed:  # one event for a row of failures
            self._said_failed = True
            detail = str(error).removeprefix(self._where).lstrip(": ")  # the event's subject says it
            self._say("outbox_degraded", "error", f"{detail}; until it works again, all waits in memory alone")

    def _fail(self) -> None:
        self._open = False
        self._full_until_ns = None
        self._generation += 1
        self._store.close()
        self._answer(Failed())

    def _say(self, kind: str, severity: Literal["info", "warning", "error"], detail: str) -> None:
        self.services.emit(Event(kind, severity, self._where, detail))


def _unclean(run: RunRow) -> str:
    stored = sum(count.stored for count in run.counts.values())
    checkpoint = rfc3339(run.checkpoint_wall_ns)
    return (
        f"run {run.boot_id} ended without a clean stop; its last checkpoint was at {checkpoint}, {stored} messages "
        "of it are on the disk and will be delivered; what it made later is not counted"
    )
