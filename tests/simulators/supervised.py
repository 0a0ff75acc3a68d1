"""What workers are given in a test: a real clock, a list of what they said, a list of who died."""

from __future__ import annotations

import threading

from edge_agent.io.clock import SystemClock
from edge_agent.ports import Clock
from edge_agent.records import Event
from edge_agent.stages.worker import Services


class Site:
    """The composition root's part, as far as supervision needs it."""

    def __init__(self, clock: Clock | None = None) -> None:
        self.stopping = threading.Event()
        self.events: list[Event] = []
        self.deaths: list[tuple[str, BaseException]] = []
        self.services = Services(
            clock or SystemClock(), self.stopping, self.events.append, lambda *death: self.deaths.append(death)
        )

    def said(self, kind: str) -> list[Event]:
        return [event for event in list(self.events) if event.kind == kind]


class ManualClock:
    """``ports.Clock`` that a test moves."""

    def __init__(self) -> None:
        self.now_ns = 0

    def monotonic_ns(self) -> int:
        return self.now_ns

    def wall_ns(self, mono_ns: int) -> int:
        return mono_ns

    def synced(self) -> bool:
        return True
