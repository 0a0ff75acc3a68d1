"""The failures of one worker, so that a row of them is one event and its log stays readable."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

from edge_agent import limits
from edge_agent.errors import EdgeAgentError
from edge_agent.ports import Clock
from edge_agent.records import Event

log = logging.getLogger("edge_agent")
TEXT_MOST = 300  # characters of an error's own text in an event


class Faults:
    """Each failure is counted; a row of them is reported once, and so is its end. Safe for threads."""

    def __init__(self, name: str, clock: Clock, emit: Callable[[Event], None]) -> None:
        self.count = 0
        self._name = name
        self._clock = clock
        self._emit = emit
        self._lock = threading.Lock()
        self._steady_from_ns: int | None = None  # of the row that is not over
        self._logged_ns: dict[str, int] = {}

    def add(self, error: Exception, consequence: str, resumes_in_s: float = 0.0) -> None:
        """Count it and log it, with its traceback where the error is none of ours; ``worker_failed`` if it is the first
        of a row. ``consequence`` tells what follows. The time until the row counts as over begins when the worker
        resumes."""
        now_ns = self._clock.monotonic_ns()
        ours = isinstance(error, EdgeAgentError)  # it says by itself what is wrong and what to do
        text = " ".join((str(error) if ours else f"{type(error).__name__}: {error}").split())[:TEXT_MOST]
        with self._lock:
            self.count += 1
            first = self._steady_from_ns is None
            self._steady_from_ns = now_ns + round((resumes_in_s + limits.WORKER_STEADY_S) * 1e9)
            shown = self._to_be_logged(text, now_ns)
        if shown:
            log.error("%s failed: %s; %s", self._name, text, consequence, exc_info=None if ours else error)
        if first:
            self._emit(Event("worker_failed", "error", self._name, f"{text}; {consequence}"))

    def over(self) -> bool:
        """True once for each row, when it is over; reports ``worker_back``. Cheap: called at each beat."""
        if self._steady_from_ns is None:
            return False
        with self._lock:
            if self._steady_from_ns is None or self._clock.monotonic_ns() < self._steady_from_ns:
                return False
            self._steady_from_ns = None
        detail = f"no failure for {limits.WORKER_STEADY_S:g} s; {self.count} in all"
        self._emit(Event("worker_back", "info", self._name, detail))
        return True

    def _to_be_logged(self, text: str, now_ns: int) -> bool:
        """Once a distinct text and minute."""
        horizon_ns = now_ns - round(limits.WORKER_STEADY_S * 1e9)
        self._logged_ns = {known: at_ns for known, at_ns in self._logged_ns.items() if at_ns > horizon_ns}
        if text in self._logged_ns or len(self._logged_ns) >= limits.WORKER_TRACEBACKS_MOST:
            return False
        self._logged_ns[text] = now_ns
        return True
