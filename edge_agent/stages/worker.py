"""What every thread of the daemon has in common: a name, a heart-beat, and an end that nobody can overlook."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from msgspec import Struct

from edge_agent.ports import Clock
from edge_agent.records import Event


class Services(Struct, frozen=True):
    """What every worker is given by the composition root."""

    clock: Clock
    stopping: threading.Event  # set once, when the process is told to end
    emit: Callable[[Event], None]  # logs and publishes; from any thread
    died: Callable[[str, BaseException], None]  # a worker ended by an exception: name and reason


class Worker(threading.Thread):
    """A thread whose death is reported. Subclasses implement ``work`` and call ``beat`` at least once a second or at
    each return from a bounded wait: the watchdog is fed only while every worker beats."""

    def __init__(self, name: str, services: Services) -> None:
        super().__init__(name=name, daemon=True)
        self.services = services
        self.clock = services.clock
        self._beat_ns = self.clock.monotonic_ns()
        self._excused = False
        self.silence_most_s = 30.0  # longer than the longest bounded wait of this worker

    def beat(self) -> None:
        self._beat_ns = self.clock.monotonic_ns()

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
            self.work()
        except BaseException as error:  # noqa: BLE001 - handed on: the process ends with this as its reason
            self.services.died(self.name, error)

    def work(self) -> None:
        raise NotImplementedError
