"""Log records in the journal's own protocol, with fields: ``journalctl MESSAGE_ID=…`` finds them, ``journalctl -x``
explains them (https://systemd.io/JOURNAL_NATIVE_PROTOCOL).

Nothing here waits: a journal that takes no message costs the message, never the daemon's time.
"""

from __future__ import annotations

import array
import errno
import fcntl
import logging
import os
import socket
import stat
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Final

SOCKET: Final = Path("/run/systemd/journal/socket")
IDENTIFIER: Final = "edge-agent"
STDERR: Final = 2

# A message id never changes: alarms and searches of others are built on it. Each is made of this and the event's kind.
_NAMESPACE: Final = uuid.UUID("0d1ffb0b-b438-4c5c-85d7-839e8b3bbf78")

# syslog(3)
_PRIORITIES: Final = {logging.DEBUG: 7, logging.INFO: 6, logging.WARNING: 4, logging.ERROR: 3, logging.CRITICAL: 2}
_SEALS: Final = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE | fcntl.F_SEAL_SEAL
_TOO_LARGE: Final = (errno.EMSGSIZE, errno.ENOBUFS)


def message_id(kind: str) -> str:
    """The id of an event's kind as the journal wants it: 32 hexadecimal digits."""
    return uuid.uuid5(_NAMESPACE, kind).hex


def is_journal(stream: int, environment: Mapping[str, str] = os.environ) -> bool:
    """Whether that file descriptor is what systemd connected to the journal (systemd.exec(5), $JOURNAL_STREAM)."""
    try:
        state = os.fstat(stream)
    except OSError:
        return False
    given = environment.get("JOURNAL_STREAM") == f"{state.st_dev}:{state.st_ino}"
    return given and stat.S_ISSOCK(state.st_mode)


def encode(fields: Mapping[str, str]) -> bytes:
    """One entry. Names are [A-Z0-9_]; a value of several lines goes with its length in front."""
    entry = bytearray()
    for name, value in fields.items():
        content = value.encode("utf-8", "backslashreplace")
        if b"\n" in content:
            entry += name.encode() + b"\n" + len(content).to_bytes(8, "little") + content + b"\n"
        else:
            entry += name.encode() + b"=" + content + b"\n"
    return bytes(entry)


class JournalHandler(logging.Handler):
    """Sends to the journal's socket; where that takes nothing to ``stream``, the journal's end of standard error; where
    that is full too the record is lost, counted, and the number said with the next one that gets through."""

    def __init__(self, address: Path = SOCKET, stream: int = STDERR) -> None:
        super().__init__()
        self.lost = 0  # since it was last said
        self._address = str(address)
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK)
        # A socket object, since MSG_DONTWAIT is each call's own: the descriptor is shared with whoever else writes.
        self._stream = socket.socket(fileno=os.dup(stream))

    def emit(self, record: logging.LogRecord) -> None:
        try:
            if self.lost and self._send(self._about_lost()):
                self.lost = 0
            if not self._send(self._fields(record)) and not self._write(record):
                self.lost += 1
        except Exception:  # noqa: BLE001 - logging's own rule for what a handler can't do
            self.handleError(record)

    def close(self) -> None:
        self._socket.close()
        self._stream.close()
        super().close()

    def _fields(self, record: logging.LogRecord) -> dict[str, str]:
        fields = {
            "MESSAGE": self.format(record),
            "PRIORITY": str(_PRIORITIES.get(record.levelno, 6)),
            "SYSLOG_IDENTIFIER": IDENTIFIER,
            "CODE_FILE": record.pathname,
            "CODE_LINE": str(record.lineno),
            "CODE_FUNC": record.funcName or "",
            "THREAD_NAME": record.threadName or "",
        }
        if event := getattr(record, "event", None):
            fields |= {"MESSAGE_ID": message_id(event), "EDGE_AGENT_EVENT": event}
            fields["EDGE_AGENT_SUBJECT"] = getattr(record, "subject", "")
        return fields

    def _about_lost(self) -> dict[str, str]:
        kind = "log_lost"
        return {
            "MESSAGE": f"{self.lost} log messages were lost: the journal took none",
            "PRIORITY": str(_PRIORITIES[logging.WARNING]),
            "SYSLOG_IDENTIFIER": IDENTIFIER,
            "MESSAGE_ID": message_id(kind),
            "EDGE_AGENT_EVENT": kind,
            "EDGE_AGENT_SUBJECT": "journal",
        }

    def _send(self, fields: Mapping[str, str]) -> bool:
        entry = encode(fields)
        try:
            self._socket.sendto(entry, self._address)
        except OSError as error:
            return error.errno in _TOO_LARGE and self._send_file(entry)
        return True

    def _send_file(self, entry: bytes) -> bool:
        """What no datagram can hold goes as a sealed file in memory."""
        try:
            with os.fdopen(os.memfd_create("journal-entry", os.MFD_ALLOW_SEALING), "wb") as file:
                file.write(entry)
                file.flush()
                fcntl.fcntl(file, fcntl.F_ADD_SEALS, _SEALS)
                rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [file.fileno()]))]
                self._socket.sendmsg([], rights, 0, self._address)
        except OSError:
            return False
        return True

    def _write(self, record: logging.LogRecord) -> bool:
        """A line as sd-daemon(3) has it: the priority in front."""
        line = f"<{_PRIORITIES.get(record.levelno, 6)}>{self.format(record)}\n".encode("utf-8", "backslashreplace")
        try:
            return self._stream.send(line, socket.MSG_DONTWAIT) == len(line)
        except OSError:
            return False
