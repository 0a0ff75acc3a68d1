"""A small file system of a test's own (tmpfs, in memory), which can be filled and made read-only."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from types import TracebackType

import pytest

from tests.simulators.waiting import wait_for

CHUNK = 4096


class SmallDisk:
    """Mounted at ``folder``, which is made. Skips the test where nobody may mount."""

    def __init__(self, folder: Path, size: str) -> None:
        """``size`` as mount takes it, such as "2m"."""
        self._folder = folder
        self._filler = folder / "filler"
        folder.mkdir(parents=True, exist_ok=True)
        if os.geteuid() != 0 or shutil.which("mount") is None:
            pytest.skip("a small disk needs root, to mount it")
        options = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)]
        mounted = subprocess.run(options, capture_output=True, text=True, check=False)
        if mounted.returncode:
            pytest.skip(f"no tmpfs here: {mounted.stderr.strip()}")

    def fill(self) -> None:
        """To the last byte."""
        with self._filler.open("ab", buffering=0) as filler:
            for size in (CHUNK, 1):
                try:
                    while True:
                        filler.write(b"\0" * size)
                except OSError:
                    continue

    def make_room(self) -> None:
        self._filler.unlink(missing_ok=True)

    def read_only(self) -> None:
        """As soon as nobody has a file open for writing."""
        wait_for(lambda: self._remount("ro"), f"{self._folder} is read-only")

    def writable(self) -> None:
        assert self._remount("rw")

    def close(self) -> None:
        """Lazily: a process that is still there goes on with its open files."""
        subprocess.run(["umount", "--lazy", str(self._folder)], check=True, capture_output=True)

    def __enter__(self) -> SmallDisk:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _remount(self, how: str) -> bool:
        command = ["mount", "-o", f"remount,{how}", str(self._folder)]
        return subprocess.run(command, capture_output=True, check=False).returncode == 0
