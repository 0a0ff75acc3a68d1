"""Which systems a package can be made for, and which wheels fit them."""

from __future__ import annotations

import platform
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

# What manylinux1 to manylinux2014 became: the oldest glibc that wheels of today are built for.
OLDEST_GLIBC_MINOR = 17
MACHINES = {"amd64": "x86_64", "arm64": "aarch64"}


@dataclass(frozen=True, slots=True)
class Suite:
    """A release of Debian or Ubuntu. Raspberry Pi OS has the names of Debian's, JetPack 6 is Ubuntu's jammy."""

    name: str
    python: tuple[int, int]  # of its package python3
    glibc_minor: int  # of glibc 2
    lib: str  # of systemd's units and udev's rules: /lib is no link to /usr/lib on a jammy that was upgraded to


SUITES = {
    suite.name: suite
    for suite in (
        Suite("bookworm", (3, 11), 36, "usr/lib"),
        Suite("trixie", (3, 13), 41, "usr/lib"),
        Suite("jammy", (3, 10), 35, "lib"),
    )
}


@dataclass(frozen=True, slots=True)
class Target:
    suite: Suite
    arch: str  # Debian's word: amd64, arm64

    @property
    def python(self) -> str:
        """For example ``3.11``."""
        return ".".join(map(str, self.suite.python))

    def platforms(self) -> Iterator[str]:
        """Every platform tag of wheels that run there, best first."""
        machine = MACHINES[self.arch]
        for minor in range(self.suite.glibc_minor, OLDEST_GLIBC_MINOR - 1, -1):
            yield f"manylinux_2_{minor}_{machine}"
        yield f"manylinux2014_{machine}"

    def pip_options(self) -> list[str]:
        """What makes pip choose wheels of this target, whatever it runs on. pip still reads environment markers
        (``; python_version < "3.11"``) with its own Python, so what it is given may not have any."""
        abi = f"cp{self.suite.python[0]}{self.suite.python[1]}"
        options = ["--only-binary=:all:", "--implementation=cp", f"--python-version={self.python}"]
        options += [f"--abi={name}" for name in (abi, "abi3", "none")]
        return [*options, *(f"--platform={name}" for name in self.platforms())]


def this_suite(os_release: Path = Path("/etc/os-release")) -> str | None:
    """The suite of the system that this runs on; None where no package can be made for it."""
    text = os_release.read_text() if os_release.exists() else ""
    found = re.search(r'^VERSION_CODENAME="?([a-z]+)"?$', text, re.MULTILINE)
    return found[1] if found and found[1] in SUITES else None


def this_arch() -> str | None:
    """Debian's name of this machine; None where no package can be made for it. A Raspberry Pi with a 64-bit kernel and
    32-bit programs is none of ours."""
    if sys.maxsize < 2**32:
        return None
    return next((arch for arch, machine in MACHINES.items() if machine == platform.machine()), None)
