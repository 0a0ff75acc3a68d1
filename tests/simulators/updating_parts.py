"""What an updater is given, as far as no frame comes: the example's configuration, no pipeline, no broker."""

from __future__ import annotations

import threading
from pathlib import Path

from edge_agent.core.wire import Topics
from edge_agent.io.clock import SystemClock
from edge_agent.io.systemd import Notifier
from edge_agent.loading import load_configuration
from edge_agent.outgoing import Record
from edge_agent.parts import Parts


class Said:
    """In the publisher's place: keeps what is to be published."""

    connected = False

    def __init__(self) -> None:
        self.records: list[Record] = []

    def publish(self, record: Record) -> None:
        self.records.append(record)


def updating_parts(example: Path) -> Parts:
    loaded = load_configuration(example / "agent.toml")
    stopping = threading.Event()
    parts = Parts(loaded, "boot", Topics("edge-agent", "cam"), SystemClock(), Notifier(), stopping, lambda _: None)
    parts.publisher = Said()
    return parts
