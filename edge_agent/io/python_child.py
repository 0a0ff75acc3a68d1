"""Starting a Python process of ours that gets its input from memory: no pipe to feed, no file on a disk."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path


def start(
    module: str,
    *arguments: str,
    stdin: int,
    stdout: int,
    stderr: int,
    environment: Mapping[str, str] | None = None,
    pass_fds: Sequence[int] = (),
) -> subprocess.Popen[bytes]:
    """``python -m MODULE ARGUMENT…`` in a session of its own; ``environment``: beside ours. Raises OSError."""
    path = os.pathsep.join(str(Path(entry).absolute()) for entry in sys.path)
    return subprocess.Popen(
        [sys.executable, "-m", module, *arguments],
        stdin=stdin,
        stdout=stdout,
        stderr=stderr,
        cwd="/",  # -m puts the working folder first on the path: a stray numpy.py in it would be run
        env={**os.environ, **(environment or {}), "PYTHONPATH": path},
        pass_fds=pass_fds,
        start_new_session=True,
    )


def in_memory(content: bytes, name: str) -> int:
    """A descriptor to read ``content`` from, from its start; the caller's to close. Raises OSError."""
    descriptor = os.memfd_create(name)
    with open(descriptor, "wb", closefd=False) as file:
        file.write(content)
    os.lseek(descriptor, 0, os.SEEK_SET)
    return descriptor
