"""A real ``python -m fleet collect`` and a publisher with flow control, for the tests."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion

from tests.simulators.waiting import wait_for

_started: list[subprocess.Popen[bytes]] = []


def end_all() -> None:
    """Of whatever a test left running, a failed one for example."""
    while _started:
        process = _started.pop()
        process.kill()
        process.wait(20)


class CollectorProcess:
    """Its output goes to files beside the database, so that no pipe fills up."""

    def __init__(self, database: Path, port: int, *options: str) -> None:
        self.database = database
        self._out = database.with_suffix(".out")
        self._err = database.with_suffix(".err")
        command = [sys.executable, "-m", "fleet", "collect", "--db", str(database), "--port", str(port), *options]
        with self._out.open("w") as out, self._err.open("w") as err:
            self.process = subprocess.Popen(command, stdout=out, stderr=err)
        _started.append(self.process)

    def out(self) -> str:
        return self._out.read_text()

    def said(self) -> str:
        return self._err.read_text()

    def wait_said(self, pattern: str) -> str:
        wait_for(lambda: re.search(pattern, self.said()), f"{pattern!r} in the collector's words")
        return self.said()

    def connected(self) -> CollectorProcess:
        self.wait_said("connected to")
        return self

    def kill(self) -> None:
        self.process.kill()
        self.process.wait(20)

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        self.process.send_signal(number)
        return self.process.wait(20)

    def ended(self) -> int:
        return self.process.wait(60)


class Publisher:
    def __init__(self, port: int) -> None:
        self.client = paho.Client(CallbackAPIVersion.VERSION2, client_id="publisher", clean_session=False)
        self.client.reconnect_delay_set(1, 1)
        self.client.connect("127.0.0.1", port)
        self.client.loop_start()

    def send(self, messages: Iterable[tuple[str, bytes]]) -> None:
        """All of them at QoS 1; returns when the broker has acknowledged each."""
        wait_for(self.client.is_connected, "the publisher is connected")
        sent = [self.client.publish(topic, payload, qos=1) for topic, payload in messages]
        for one in sent:
            one.wait_for_publish(60)
            assert one.is_published(), "the broker did not acknowledge"

    def close(self) -> None:
        self.client.disconnect()
        self.client.loop_stop()
