"""Writing results: a file appears whole or not at all."""

from __future__ import annotations

import hashlib
import os
import stat
import tempfile
from pathlib import Path

from converters.records import Written
from edge_agent.errors import ConfigError


def check_output(path: Path) -> None:
    """Raises ConfigError where ``path`` can't be written: said before minutes of work, not after."""
    folder = path.parent
    try:
        kind = path.stat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        kind = stat.S_IFREG  # it can be made
    except OSError as error:
        raise ConfigError(f"{path}: can't be written: {error.strerror}") from None
    if stat.S_ISDIR(kind):
        raise ConfigError(f"{path}: a folder; name the file to write")
    if not stat.S_ISREG(kind):
        raise ConfigError(f"{path}: not a regular file; name another one to write")
    if not folder.is_dir():
        raise ConfigError(f"{path}: there is no folder {folder}; make it first")
    if not os.access(folder, os.W_OK):
        raise ConfigError(f"{path}: the folder {folder} is not writable")


def write_whole(path: Path, content: bytes) -> Written:
    """Write beside ``path``, then move into place; an older file stays until then. Raises ConfigError."""
    check_output(path)
    target = path.resolve()  # a link stays a link
    name = ""
    try:
        handle, name = tempfile.mkstemp(prefix=".edge-", dir=target.parent)
        with os.fdopen(handle, "wb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        umask = os.umask(0)
        os.umask(umask)
        Path(name).chmod(0o666 & ~umask)
        Path(name).replace(target)
    except OSError as error:
        raise ConfigError(f"{path}: can't be written: {error.strerror or error}") from error
    finally:
        if name:
            Path(name).unlink(missing_ok=True)
    return Written(path, len(content), hashlib.sha256(content).hexdigest())
