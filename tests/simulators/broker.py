"""A real mosquitto of the test's own, on a free loopback port, that can be killed and brought back."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
from pathlib import Path

import pytest

from tests.simulators.waiting import wait_for


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def answers(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), 1).close()
    except OSError:
        return False
    return True


class Mosquitto:
    def __init__(self, folder: Path, extra: str = "") -> None:
        self._program = shutil.which("mosquitto", path=os.environ["PATH"] + ":/usr/sbin")
        if self._program is None:
            pytest.skip("mosquitto is not installed (Debian package mosquitto)")
        folder.mkdir(parents=True, exist_ok=True)
        self.port = free_port()
        self._configuration = folder / "mosquitto.conf"
        self._configuration.write_text(
            f"listener {self.port} 127.0.0.1\nallow_anonymous true\nuser root\n"
            f"persistence true\npersistence_location {folder}/\nautosave_on_changes true\nautosave_interval 1\n{extra}"
        )
        self._log = folder / "mosquitto.log"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with self._log.open("ab") as log:
            self._process = subprocess.Popen([self._program, "-c", self._configuration], stdout=log, stderr=log)
        wait_for(lambda: answers(self.port), f"mosquitto answers; its log: {self._log}")

    def freeze(self) -> None:
        """Connections stay open, nothing is answered (SIGSTOP), until ``thaw`` or ``kill``."""
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self._signal(signal.SIGCONT)

    def kill(self) -> None:
        """End it at once, frozen or not, with what it had in memory."""
        assert self._process is not None, "not started"
        self._process.kill()
        self._process.wait(20)
        self._process = None

    def _signal(self, number: signal.Signals) -> None:
        assert self._process is not None, "not started"
        self._process.send_signal(number)

    def stop(self) -> None:
        if self._process is not None:
            self._process.terminate()
            self._process.wait(20)
            self._process = None
