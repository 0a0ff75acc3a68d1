"""What every thread of the daemon has in common: a name, a heart-beat, supervision, and an end that nobody overlooks.

A worker that fails is started again by itself, after a backoff, while all others go on.
"""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from msgspec import Struct

from edge_agent import limits
from edge_agent.core.backoff import Backoff
from edge_agent.ports import Clock
from edge_agent.records import Event
from edge_agent.stages.faults import Faults


class Services(Struct, frozen=True):
    """What every worker is given by the composition root."""

    clock: Clock
    stopping: threading.Event  # set once, when the process is told to end
    emit: Callable[[Event], None]  # logs and publishes; from any thread
    died: Callable[[str, BaseException], None]  # a worker ended by an exception: name and reason


class Worker(threading.Thread):
    """Subclasses implement ``work`` and call ``beat`` at least once a second or at each return from a bounded wait: the
    watchdog is fed only while every worker beats.

    An Exception out of ``work`` is counted and reported, then ``work`` is called again. Out of memory, or what is no
    Exception, ends the process: nobody knows what state that left.
    """

    restartable = True  # False: any exception ends the process
    outlives_stopping = False  # True: it has work left after the process was told to stop, and is started again for it

    def __init__(self, name: str, services: Services) -> None:
        super().__init__(name=name, daemon=True)
        self.services = services
        self.clock = services.clock
        self.faults = Faults(name, services.clock, services.emit)
        self.silence_most_s = 30.0  # longer than the longest bounded wait of this worker
        self._beat_ns = self.clock.monotonic_ns()
        self._excused = False
        self._restarts = Backoff(limits.BACKOFF_FIRST_S, limits.BACKOFF_LAST_S)

    @property
    def crashes(self) -> int:
        """How often it failed so far."""
        return self.faults.count

    def beat(self) -> None:
        self._beat_ns = self.clock.monotonic_ns()
        if self.faults.over():
            self._restarts.reset()

    def pause(self, seconds: float) -> None:
        """Wait, beating, until the time is over or the process is told to stop."""
        end_ns = self.clock.monotonic_ns() + round(seconds * 1e9)
        while not self.services.stopping.is_set() and (left_ns := end_ns - self.clock.monotonic_ns()) > 0:
            self.beat()
            self.services.stopping.wait(min(1.0, left_ns / 1e9))
        self.beat()

    @contextmanager
    def excused(self) -> Iterator[None]:
        """While this thread waits for another worker, which has its own heart-beat to show."""
        self._excused = True
        try:
            yield
        finally:
            self.beat()
            self._excused = False

    def silent(self) -> bool:
        """Whether the thread should run but has not shown progress for too long."""
        if self._excused or not self.is_alive():
            return False
        return self.clock.monotonic_ns() - self._beat_ns > self.silence_most_s * 1e9

    def run(self) -> None:
        try:
            try:
                self._supervise()
            finally:
                self.leave()
        except BaseException as error:  # noqa: BLE001 - handed on: the process ends with this as its reason
            self.services.died(self.name, error)

    def work(self) -> None:
        """Until the source ends or the process stops. Called again after an Exception."""
        raise NotImplementedError

    def recover(self) -> None:
        """After a failure of ``work``, before the wait for its next call: back to a known state. If this fails too,
        the process ends."""

    def leave(self) -> None:
        """The last words of the thread, in whatever way it ends."""

    def _supervise(self) -> None:
        while True:
            try:
                self.work()
                return
            except MemoryError:
                raise
            except Exception as error:
                if not self.restartable:
                    raise
                if self._stays_ended():
                    self.faults.add(error, "not started again: the process ends")
                    return
                delay_s = self._restarts.next(random.random())
                self.faults.add(error, f"started again in {delay_s:.1f} s", delay_s)
            self.recover()
            self.pause(delay_s)
            if self._stays_ended():
                return
            if self.services.stopping.is_set():  # ``pause`` did not wait: a failure at each call must not spin
                threading.Event().wait(limits.WORKER_STOPPING_S)

    def _stays_ended(self) -> bool:
        return self.services.stopping.is_set() and not self.outlives_stopping
