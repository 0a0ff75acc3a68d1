"""Writing results: a file appears whole or not at all."""

from __future__ import annotations

import contextlib
import hashlib
import os
import tempfile
from pathlib import Path

from converters.records import Written
from edge_agent.errors import ConfigError


def check_output(path: Path) -> None:
    """Raises ConfigError where ``path`` can't be written: said before minutes of work, not after."""
    folder = path.parent
    if path.is_dir():
        raise ConfigError(f"{path}: a folder; name the file to write")
    if not folder.is_dir():
        raise ConfigError(f"{path}: there is no folder {folder}; make it first")
    if not os.access(folder, os.W_OK):
        raise ConfigError(f"{path}: the folder {folder} is not writable")


def write_whole(path: Path, content: bytes) -> Written:
    """Write beside ``path``, then move into place; an older file stays until then. Raises ConfigError."""
    check_output(path)
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        umask = os.umask(0)
        os.umask(umask)
        Path(name).chmod(0o666 & ~umask)
        Path(name).replace(path)
    except OSError as error:
        raise ConfigError(f"{path}: can't be written: {error.strerror or error}") from error
    finally:
        with contextlib.suppress(FileNotFoundError):
            Path(name).unlink()
    return Written(path, len(content), hashlib.sha256(content).hexdigest())
