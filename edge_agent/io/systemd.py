"""Word to systemd over $NOTIFY_SOCKET: ready, status, watchdog, reloading, stopping.

Without the socket every call does nothing; no call ever raises: the service works on without its manager.
"""

from __future__ import annotations

import logging
import os
import socket
import time
from collections.abc import Mapping
from typing import Final

_log = logging.getLogger(__name__)

# The manager's socket may be full for a moment; a daemon that waits longer for it would miss its own work.
_SEND_TIMEOUT_S: Final = 1.0


class Notifier:
    """The protocol of sd_notify(3). May be used from any thread."""

    def __init__(self, environment: Mapping[str, str] = os.environ) -> None:
        address = environment.get("NOTIFY_SOCKET", "")
        # "@" stands for the NUL byte that begins an abstract address (sd_notify(3)).
        self._address = "\0" + address[1:] if address.startswith("@") else address
        self.watchdog_period_s = _watchdog_period_s(environment)

    def ready(self) -> None:
        self._send("READY=1")

    def status(self, text: str) -> None:
        """One line for ``systemctl status``."""
        self._send("STATUS=" + " ".join(text.split()))

    def starting(self, step: str, within_s: float) -> None:
        """A step of the start has begun, and what came before it is done. The manager waits ``within_s`` for the next
        one, even where that is beyond its own time for the whole start."""
        self._send(f"STATUS={' '.join(step.split())}\nEXTEND_TIMEOUT_USEC={round(within_s * 1e6)}")

    def watchdog(self) -> None:
        """Sign of life; due every ``watchdog_period_s`` seconds where that is not None."""
        self._send("WATCHDOG=1")

    def stopping(self) -> None:
        self._send("STOPPING=1")

    def reloading(self) -> None:
        """Say that a reload has begun; ``ready`` ends it."""
        self._send(f"RELOADING=1\nMONOTONIC_USEC={time.monotonic_ns() // 1000}")

    def _send(self, message: str) -> None:
        if not self._address:
            return
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as to_manager:
                to_manager.settimeout(_SEND_TIMEOUT_S)
                to_manager.connect(self._address)
                to_manager.sendall(message.encode("utf-8", "replace"))
        except (OSError, ValueError) as error:
            _log.debug("systemd did not take %r: %s", message, error)


def _watchdog_period_s(environment: Mapping[str, str]) -> float | None:
    """Half of the manager's limit, as sd_watchdog_enabled(3) advises; None where this process is not watched."""
    if environment.get("WATCHDOG_PID", str(os.getpid())) != str(os.getpid()):
        return None
    try:
        limit_us = int(environment.get("WATCHDOG_USEC", ""))
    except ValueError:
        return None
    return limit_us / 2e6 if limit_us > 0 else None
