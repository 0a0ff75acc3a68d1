"""The thread behind ``[http]``: an ill daemon says so, and a port that is taken keeps nothing from working."""

from __future__ import annotations

import json
import socket
import threading
import urllib.error
import urllib.request
from types import SimpleNamespace
from typing import Any, ClassVar

import pytest

from edge_agent.config.schema import Config, HttpConfig
from edge_agent.io.clock import SystemClock
from edge_agent.records import Event
from edge_agent.serving import make_http
from edge_agent.stages.worker import Services
from tests.simulators.waiting import wait_for


class Stuck:
    """What the worker asks of the rest of the daemon: a pipeline makes no progress."""

    last_stats: ClassVar[dict[str, Any]] = {}
    reports = SimpleNamespace(uptime_s=lambda: 61.0, info=dict)

    @staticmethod
    def without_progress() -> list[str]:
        return ["pipeline inspect"]


@pytest.fixture
def taken() -> Any:
    """A port that somebody else listens on."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        yield other


def test_no_progress_is_503_and_a_taken_port_is_tried_again(
    taken: socket.socket, caplog: pytest.LogCaptureFixture
) -> None:
    port = taken.getsockname()[1]
    events: list[Event] = []
    stopping = threading.Event()
    services = Services(SystemClock(), stopping, events.append, lambda *_: None)
    parts: Any = SimpleNamespace(config=Config(http=HttpConfig(port=port)))
    control: Any = Stuck()
    worker = make_http(parts, control, services)
    assert worker is not None
    worker.start()
    try:
        wait_for(lambda: events, "an event")
        assert (events[0].kind, events[0].subject) == ("worker_failed", "http")
        assert events[0].detail.startswith(f"[http] host = '127.0.0.1', port = {port}: Address already in use; ")
        assert "Traceback" not in caplog.text
        taken.close()
        status, body = wait_for(lambda: health(port), "an answer")
        assert (status, json.loads(body)["no_progress"]) == (503, ["pipeline inspect"])
    finally:
        stopping.set()
        worker.join(30)
    assert not worker.is_alive()


def health(port: int) -> tuple[int, bytes] | None:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/healthz", timeout=30) as response:
            return response.status, response.read()
    except urllib.error.HTTPError as error:
        return error.code, error.read()
    except OSError:
        return None
