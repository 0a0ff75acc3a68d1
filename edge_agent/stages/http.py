"""The thread that answers over HTTP."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Protocol

from edge_agent.stages.worker import Services, Worker

WAIT_S = 0.5  # how soon a stop is seen


class Port(Protocol):
    """A server that listens."""

    def serve(self, timeout_s: float) -> None: ...


class HttpWorker(Worker):
    """A port that is taken, or an address that this machine does not have yet, is tried again with backoff: metrics are
    no reason not to start."""

    def __init__(self, listen: Callable[[], AbstractContextManager[Port]], services: Services) -> None:
        """``listen`` opens the port; raises TransportError."""
        super().__init__("http", services)
        self._listen = listen

    def work(self) -> None:
        with self._listen() as port:
            while not self.services.stopping.is_set():
                self.beat()
                port.serve(WAIT_S)
