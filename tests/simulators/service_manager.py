"""The service manager's end of sd_notify(3): a real datagram socket that keeps what a daemon says to it."""

from __future__ import annotations

import socket
import threading
from pathlib import Path
from types import TracebackType

from tests.simulators.waiting import wait_for


class ServiceManager:
    """``environment()`` is what the daemon must be started with."""

    def __init__(self, folder: Path, watchdog_s: float | None = None) -> None:
        self._path = folder / "notify"
        self._watchdog_s = watchdog_s
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(str(self._path))
        self._lock = threading.Lock()
        self._said: list[str] = []
        self._thread = threading.Thread(target=self._listen, daemon=True)
        self._thread.start()

    def environment(self) -> dict[str, str]:
        watchdog = {} if self._watchdog_s is None else {"WATCHDOG_USEC": str(round(self._watchdog_s * 1e6))}
        return {"NOTIFY_SOCKET": str(self._path), **watchdog}

    def said(self, word: str) -> list[str]:
        """The messages that begin with that word, without it, in order."""
        with self._lock:
            return [message[len(word) :] for message in self._said if message.startswith(word)]

    def words(self) -> list[str]:
        """What was said, but for the status lines, in order."""
        with self._lock:
            return [message for message in self._said if not message.startswith("STATUS=")]

    def wait_said(self, word: str, count: int = 1) -> None:
        wait_for(lambda: len(self.said(word)) >= count, f"{count} times {word}")

    def wait_waiting(self, count: int, limit_s: float = 90.0) -> None:
        """Until the status line says that so many messages wait for the broker."""
        wait_for(lambda: max(self.waiting(), default=0) >= count, f"{count} messages wait for the broker", limit_s)

    def waiting(self) -> list[int]:
        """What each status line of a working daemon said of messages that wait for the broker."""
        return [int(text.rpartition("waiting ")[2]) for text in self.said("STATUS=") if "waiting " in text]

    def __enter__(self) -> ServiceManager:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as itself:
            itself.sendto(b"", str(self._path))  # an empty message ends the thread
        self._thread.join(20)
        self._socket.close()

    def _listen(self) -> None:
        while message := self._socket.recv(65536):
            with self._lock:
                self._said += message.decode().splitlines()
