"""Where a back-end keeps what it has compiled: a folder for each model, of which the newest few stay."""

from __future__ import annotations

import hashlib
import logging
import os
import shutil
from contextlib import suppress
from pathlib import Path
from typing import Final

log = logging.getLogger("edge_agent")

_KEPT: Final = 4  # the live model's, that of the one before it, the factory's, and of one on trial


def kept_folder(cache_dir: Path, name: str, model: bytes) -> Path | None:
    """The folder of this very model among those of the back-end ``name``; None where the disk does not take it."""
    folder = cache_dir.absolute() / name / hashlib.sha256(model).hexdigest()[:16]
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        os.utime(folder)
        newest = sorted(folder.parent.iterdir(), key=lambda path: path.stat().st_mtime_ns, reverse=True)
    except OSError as error:
        log.warning("nothing can be kept in %s: %s", folder, error)
        return None
    for path in newest[_KEPT:]:
        with suppress(OSError):
            shutil.rmtree(path)
    return folder
