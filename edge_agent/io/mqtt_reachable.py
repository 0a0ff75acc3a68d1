"""Whether a broker accepts a connection, asked once: for ``doctor`` and ``check``."""

from __future__ import annotations

import threading
from pathlib import Path

from edge_agent.config.schema import MqttConfig
from edge_agent.errors import ConfigError
from edge_agent.io.mqtt import MqttBroker
from edge_agent.outgoing import Refusal


def reachable(config: MqttConfig, folder: Path, timeout_s: float = 3.0) -> str | None:
    """None when the broker accepts a connection with this configuration, else the reason in one line."""
    first = _FirstNews()
    try:
        broker = MqttBroker(config, folder, "", None, first)
    except ConfigError as error:
        return str(error)
    broker.start()
    first.there.wait(timeout_s)
    broker.stop()
    if not first.there.is_set():
        return f"{config.host}:{config.port} did not answer within {timeout_s:g} s"
    return first.problem


class _FirstNews:
    """A BrokerListener that keeps how the first attempt ended."""

    def __init__(self) -> None:
        self.there = threading.Event()
        self.problem: str | None = None

    def connection(self, up: bool, detail: str) -> None:
        if not self.there.is_set():
            self.problem = None if up else detail
            self.there.set()

    def acknowledged(self, token: int, refusal: Refusal | None) -> None:
        """Nothing was published."""

    def reset(self) -> None:
        """Nothing was published."""

    def fault(self, kind: str, detail: str) -> None:
        """The end of the connection says it."""
