"""Which back-ends ran which model before, so that a start need not try them again. One small JSON file.

Only what was usable is remembered: a device that was absent may be back. A file that can't be read is as good as
none, and one that can't be written costs a probe at the next start.

A library that is called inside this process may end it, or hang until the watchdog does, long after its trial went
well. So the file also says which ones are in use: an entry that outlives its process, and not the machine, stands for
such a death.
"""

from __future__ import annotations

import os
import tempfile
import threading
import uuid
from contextlib import suppress
from pathlib import Path

import msgspec

from edge_agent.io.runtimes.external import Plugin

_ENTRIES_MOST = 32  # a few models times a few back-ends; the oldest goes
_DEATHS_MOST = 2  # one may have been anybody's (a kill, a full memory): it only costs another trial in a child
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")  # of the machine: after a power cut nobody is to blame
_PROCESS = uuid.uuid4().hex
_LOCK = threading.RLock()  # several models, several threads, one file


class Key(msgspec.Struct, frozen=True):
    """What must be the same for a result to hold. ``runtime`` is the TFLite library and its version."""

    sha256: str
    backend: str
    runtime: str
    library: str = ""
    options: tuple[tuple[str, str], ...] = ()

    @classmethod
    def of(cls, sha256: str, backend: str, runtime: str, plugin: Plugin | None) -> Key:
        library, options = (plugin.library, tuple(sorted(plugin.options.items()))) if plugin else ("", ())
        return cls(sha256, backend, runtime, library, options)


class _LibraryFile(msgspec.Struct, frozen=True):
    path: str
    mtime_ns: int
    size: int


class _Entry(msgspec.Struct, frozen=True):
    key: Key
    file: _LibraryFile | None = None


class _Use(msgspec.Struct, frozen=True):
    """``times``: processes in a row that have not put it away in an orderly way, ``process`` is the last of them."""

    key: Key
    boot: str
    process: str
    times: int


class _Content(msgspec.Struct, frozen=True, tag="edge-agent/probe-cache/1", tag_field="schema"):
    usable: tuple[_Entry, ...] = ()
    used: tuple[_Use, ...] = ()


class ProbeCache:
    """Remembered probes in ``folder``; None remembers nothing."""

    def __init__(self, folder: Path | None) -> None:
        self._path = folder / "probe-cache.json" if folder else None

    def library_of(self, key: Key) -> str | None:
        """None unless that was usable; else the delegate's library file, unchanged since ("" where it has none)."""
        for entry in self._read().usable:
            if entry.key == key and entry.file == _look(entry.file):
                return entry.file.path if entry.file else ""
        return None

    def remember(self, key: Key, library_file: str) -> None:
        """Note that it was usable; not where its library can't be found again."""
        file = _look(_LibraryFile(library_file, 0, 0)) if library_file else None
        if bool(file) == bool(library_file):
            self._note_usable(key, (_Entry(key, file),))

    def forget(self, key: Key) -> None:
        self._note_usable(key, ())

    def deaths(self, key: Key) -> int:
        """Processes in a row before this one, since the machine started, that ended while they used it."""
        boot = _machine_boot()
        use = next((use for use in self._read().used if use.key == key and use.boot == boot), None)
        return 0 if use is None else use.times - (use.process == _PROCESS)

    def deadly(self, key: Key) -> bool:
        """Whether it is to be left alone for now."""
        return self.deaths(key) >= _DEATHS_MOST

    def begin(self, key: Key) -> None:
        """This process uses it from now on."""
        self._note(key, self.deaths(key) + 1, _PROCESS)

    def end(self, key: Key) -> None:
        """It was put away in an orderly way, or has worked for long."""
        self._note(key, 0)

    def spare(self, key: Key) -> None:
        """This process was warned and does without: the next use has one more chance."""
        self._note(key, _DEATHS_MOST - 1)

    def _note(self, key: Key, times: int, process: str = "") -> None:
        with _LOCK:
            content = self._read()
            rest = tuple(use for use in content.used if use.key != key)
            used = (*rest, _Use(key, _machine_boot(), process, times)) if times else rest
            if used != content.used:
                self._write(msgspec.structs.replace(content, used=used))

    def _note_usable(self, key: Key, now: tuple[_Entry, ...]) -> None:
        with _LOCK:
            content = self._read()
            rest = tuple(entry for entry in content.usable if entry.key != key)
            self._write(msgspec.structs.replace(content, usable=(*rest, *now)))

    def _read(self) -> _Content:
        try:
            return msgspec.json.decode(self._path.read_bytes(), type=_Content) if self._path else _Content()
        except (OSError, msgspec.MsgspecError, UnicodeDecodeError):
            return _Content()

    def _write(self, content: _Content) -> None:
        if self._path is None:
            return
        bounded = _Content(content.usable[-_ENTRIES_MOST:], content.used[-_ENTRIES_MOST:])
        with suppress(OSError):
            self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)  # as XDG wants it for a first cache
            _replace(self._path, msgspec.json.encode(bounded))


def _machine_boot() -> str:
    try:
        return _BOOT_ID.read_text(encoding="ascii").strip()
    except OSError:
        return ""


def _look(file: _LibraryFile | None) -> _LibraryFile | None:
    if file is None:
        return None
    try:
        found = Path(file.path).stat()
    except (OSError, ValueError):
        return None
    return _LibraryFile(file.path, found.st_mtime_ns, found.st_size)


def _replace(path: Path, content: bytes) -> None:
    """All of the new content or all of the old, whenever the power goes."""
    with tempfile.NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}.", delete=False) as file:
        try:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
            Path(file.name).replace(path)
        except OSError:
            Path(file.name).unlink(missing_ok=True)
            raise
