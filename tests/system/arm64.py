"""The board of the arm64 tests: Debian 12 with the package of this checkout, as a root file system and as a disk."""

from __future__ import annotations

from collections.abc import Mapping

from tests.system.debian_root import SUITES, package
from tests.system.virtual_machine import ARM64
from tests.system.vm_image import SUITE, Recipe

PACKAGES = ("python3", "mosquitto", "mosquitto-clients", "v4l-utils")
EXAMPLE = "/usr/share/edge-agent/conveyor"


def board(files: Mapping[str, str] | None = None) -> Recipe:
    """Debian's packages, then this checkout's, then files of the test's own."""
    return Recipe(ARM64, PACKAGES, debs=[package(SUITES[SUITE], "arm64")], files=files or {})
