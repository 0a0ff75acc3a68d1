"""The delegate of tests/io/runtimes/delegate.c and the bus that its devices are plugged into."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

SOURCE = Path(__file__).resolve().parents[1] / "io" / "runtimes" / "delegate.c"


def compiled(library: Path, *flags: str) -> Path:
    """A shared library of that name. Skips the test where there is no compiler."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if not compiler:
        pytest.skip("no C compiler to build the test delegate with; install gcc")
    subprocess.run([compiler, "-shared", "-fPIC", *flags, "-o", str(library), str(SOURCE)], check=True)
    return library


class Bus:
    """A folder with a file for each device; what it holds is what the device does."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._gone = 0
        folder.mkdir()

    def plug(self, device: str = "usb:0", mode: str = "success") -> None:
        """Another device than the one before, also where it has its name."""
        new = self.folder / ".new"
        new.write_text(mode)
        new.replace(self.folder / device)

    def unplug(self, device: str = "usb:0") -> None:
        self._gone += 1
        # renamed, so that the next one can't get its number in the file system
        (self.folder / device).replace(self.folder / f".gone{self._gone}")

    def behave(self, mode: str, device: str = "usb:0") -> None:
        """From its next run on, the device that is there does that."""
        with (self.folder / device).open("r+") as file:
            file.write(mode)
            file.truncate()
