"""The real daemon in a process of its own, started as a user would start it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from tests.simulators.waiting import wait_for


class Daemon:
    def __init__(self, configuration: Path, environment: dict[str, str], program: Sequence[str] = ()) -> None:
        """``program``: arguments of Python instead of those that start ``edge-agent run`` with the configuration."""
        self._log = configuration.with_suffix(".log")
        with self._log.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, *(program or ("-m", "edge_agent", "run", "--config", str(configuration)))],
                stdout=log,
                stderr=log,
                env={
                    **os.environ,
                    "XDG_CACHE_HOME": str(configuration.parent / "cache"),
                    "XDG_STATE_HOME": str(configuration.parent / "state"),
                    **environment,
                },
            )

    @property
    def log(self) -> str:
        return self._log.read_text(errors="replace")

    def wait_ready(self) -> None:
        wait_for(lambda: "ready: device" in self.log or self.process.poll() is not None, "the daemon is ready")
        assert self.process.poll() is None, self.log

    def wait_exit(self, limit_s: float = 60.0) -> int:
        """The exit code of a daemon that ends by itself."""
        return self.process.wait(limit_s)

    def stop(self) -> int:
        """SIGTERM; returns the exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(30)

    def kill(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(30)
