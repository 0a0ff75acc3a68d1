"""What the operator at the device asks of a running daemon, and its answers: a file each, in a folder of its own.

``<id>.request`` comes whole by a rename; the daemon writes ``<id>.answer``, then removes the request.
"""

from __future__ import annotations

import contextlib
import secrets
import time
from pathlib import Path
from typing import Final, Literal, TypeVar

import msgspec
from msgspec import Struct

from edge_agent.errors import StorageError
from edge_agent.io.durable import make_folder, write_whole

BYTES_MOST: Final = 64 * 2**10
POLL_S: Final = 0.05
T = TypeVar("T")


class Request(Struct, frozen=True, kw_only=True):
    """``folder``: of a repository, for install; ``id`` is given by ``post``."""

    what: Literal["pin", "unpin", "rollback", "install"]
    model: str = ""
    folder: str = ""
    id: str = ""


class Answer(Struct, frozen=True):
    """``text``: what was done, or why not; one line. An ``install`` is answered as soon as its check is over."""

    ok: bool
    text: str


class Requests:
    """The folder. Both sides use it: the daemon, and the command beside it."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    # --- the command -------------------------------------------------------------------------------------------------

    def post(self, request: Request) -> str:
        """Returns its id. Raises StorageError."""
        name = f"{time.time_ns():020d}-{secrets.token_hex(4)}"  # in the order in which they were asked
        try:
            make_folder(self._folder)
            write_whole(self._path(name, "request"), msgspec.json.encode(msgspec.structs.replace(request, id=name)))
        except OSError as error:
            raise StorageError(f"{self._folder}: {error.strerror}; run this as the user of the daemon") from error
        return name

    def wait(self, name: str, limit_s: float) -> Answer | None:
        """The daemon's answer. None: there was none in time; the request is withdrawn."""
        end = time.monotonic() + limit_s
        path = self._path(name, "answer")
        while (answer := _read(path, Answer)) is None and time.monotonic() < end:
            time.sleep(POLL_S)
        for kind in ("request", "answer"):
            _remove(self._path(name, kind))
        return answer

    # --- the daemon --------------------------------------------------------------------------------------------------

    def waiting(self) -> list[Request]:
        """All that is to be answered, the oldest first. What is no request is removed. Never raises."""
        found = []
        for path in self._all("*.request"):
            request = _read(path, Request)
            if request is None or request.id != path.stem:
                _remove(path)
            else:
                found.append(request)
        return found

    def answer(self, name: str, answer: Answer) -> None:
        """Never raises: nobody may be there any more to read it."""
        request = self._path(name, "request")
        if request.exists():  # else it was withdrawn
            with contextlib.suppress(OSError):
                write_whole(self._path(name, "answer"), msgspec.json.encode(answer))
        _remove(request)

    def clear(self) -> None:
        """Of what was asked of an earlier run: who asked has gone. Never raises."""
        for path in self._all("*"):
            _remove(path)

    def _all(self, pattern: str) -> list[Path]:
        try:
            return sorted(self._folder.glob(pattern))
        except OSError:
            return []

    def _path(self, name: str, kind: str) -> Path:
        return self._folder / f"{name}.{kind}"


def _remove(path: Path) -> None:
    with contextlib.suppress(OSError):
        path.unlink(missing_ok=True)


def _read(path: Path, kind: type[T]) -> T | None:
    """None: not there, or not what it should be."""
    try:
        with path.open("rb") as file:
            return msgspec.json.decode(file.read(BYTES_MOST), type=kind)
    except (OSError, msgspec.DecodeError, UnicodeDecodeError):
        return None
