"""A serial instrument on a pseudo-terminal behind a name that stays, as udev's /dev/serial/by-id does.

It says ``line`` again and again until it is unplugged; a test changes ``line`` meanwhile.
"""

from __future__ import annotations

import os
import pty
import threading
from pathlib import Path
from types import TracebackType


class SerialDevice:
    def __init__(self, link: Path, line: str, period_s: float = 0.05) -> None:
        self.link = link
        self.line = line
        self._period_s = period_s
        self._unplugged = threading.Event()
        self._thread: threading.Thread | None = None

    def plug_in(self) -> None:
        device, terminal = pty.openpty()
        os.set_blocking(device, False)
        self.link.unlink(missing_ok=True)
        self.link.symlink_to(os.ttyname(terminal))
        self._unplugged.clear()
        self._thread = threading.Thread(target=self._speak, args=(device, terminal), daemon=True)
        self._thread.start()

    def unplug(self) -> None:
        """Whoever has the port open gets an error. May be called twice."""
        if self._thread is not None:
            self._unplugged.set()
            self._thread.join(20)
            self._thread = None

    def _speak(self, device: int, terminal: int) -> None:
        while not self._unplugged.wait(self._period_s):
            try:
                os.write(device, f"{self.line}\r\n".encode())
            except BlockingIOError:
                continue  # nobody reads: the kernel's buffer is full
        self.link.unlink()
        os.close(terminal)
        os.close(device)

    def __enter__(self) -> SerialDevice:
        self.plug_in()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.unplug()
