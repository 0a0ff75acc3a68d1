"""Which back-ends ran which model before, so that a start need not try them again. One small JSON file.

Only what was usable is remembered: a device that was absent may be back. A file that can't be read is as good as
none, and one that can't be written costs a probe at the next start.
"""

from __future__ import annotations

import os
import tempfile
from contextlib import suppress
from pathlib import Path

import msgspec

from edge_agent.io.runtimes.external import Plugin

_ENTRIES_MOST = 32  # a few models times a few back-ends; the oldest goes


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


class _Content(msgspec.Struct, frozen=True, tag="edge-agent/probe-cache/1", tag_field="schema"):
    usable: tuple[_Entry, ...] = ()


class ProbeCache:
    """Remembered probes in ``folder``; None remembers nothing."""

    def __init__(self, folder: Path | None) -> None:
        self._path = folder / "probe-cache.json" if folder else None

    def library_of(self, key: Key) -> str | None:
        """None unless that was usable; else the delegate's library file, unchanged since ("" where it has none)."""
        for entry in self._read():
            if entry.key == key and entry.file == _look(entry.file):
                return entry.file.path if entry.file else ""
        return None

    def remember(self, key: Key, library_file: str) -> None:
        """Note that it was usable; not where its library can't be found again."""
        file = _look(_LibraryFile(library_file, 0, 0)) if library_file else None
        if bool(file) == bool(library_file):
            self._write((*self._without(key), _Entry(key, file)))

    def forget(self, key: Key) -> None:
        self._write(self._without(key))

    def _without(self, key: Key) -> tuple[_Entry, ...]:
        return tuple(entry for entry in self._read() if entry.key != key)

    def _read(self) -> tuple[_Entry, ...]:
        try:
            return msgspec.json.decode(self._path.read_bytes(), type=_Content).usable if self._path else ()
        except (OSError, msgspec.MsgspecError, UnicodeDecodeError):
            return ()

    def _write(self, entries: tuple[_Entry, ...]) -> None:
        if self._path is None:
            return
        with suppress(OSError):
            self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)  # as XDG wants it for a first cache
            _replace(self._path, msgspec.json.encode(_Content(entries[-_ENTRIES_MOST:])))


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
