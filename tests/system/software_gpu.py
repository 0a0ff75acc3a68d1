"""A Vulkan driver in software (Mesa's llvmpipe, of Debian 12's backports) for single processes, not installed."""

from __future__ import annotations

import hashlib
import json
import platform
import re
import shutil
import subprocess
import tempfile
from functools import cache as once
from pathlib import Path

from tests.system.debian_machine import cache
from tests.system.debian_root import DEBIAN_MIRROR

SUITE, BACKPORTS = "bookworm", "bookworm-backports"
PACKAGES = "mesa-vulkan-drivers,libvulkan1"
LIBRARIES = "usr/lib/x86_64-linux-gnu"
# The process has its own of these, and no other fits its loader.
_NOT_TAKEN = re.compile(
    r"(ld-linux|lib(c|m|mvec|dl|rt|pthread|resolv|util|anl|nsl|thread_db|nss_\w+|crypt|gcc_s|stdc\+\+))[-.]"
)


def unavailable() -> str | None:
    """Why there is none here."""
    if platform.machine() != "x86_64":
        return "the software GPU is taken from Debian's packages for amd64"
    if shutil.which("mmdebstrap") is None:
        return "not installed: mmdebstrap"
    name, version = platform.libc_ver()
    if name != "glibc" or tuple(int(part) for part in version.split(".")) < (2, 36):
        return "the software GPU needs glibc 2.36 (Debian 12) or later"
    return None


@once
def environment() -> dict[str, str]:
    """What a process needs to find the driver, and ours to take it."""
    key = hashlib.sha256(f"{BACKPORTS} {PACKAGES}".encode()).hexdigest()[:12]
    root = cache() / f"software-gpu-{key}"
    if not root.exists():
        _extract(root)
    driver = root / "llvmpipe.json"
    return {
        "LD_LIBRARY_PATH": str(root / LIBRARIES),
        "VK_DRIVER_FILES": str(driver),
        "VK_ICD_FILENAMES": str(driver),  # its name until 2022
        "EDGE_AGENT_SOFTWARE_GPU": "1",
    }


def _extract(root: Path) -> None:
    with tempfile.TemporaryDirectory(dir=cache()) as folder:
        unfinished = Path(folder) / "root"
        sources = [f"deb {DEBIAN_MIRROR} {suite} main" for suite in (SUITE, BACKPORTS)]
        command = ["mmdebstrap", "--quiet", "--variant=extract", f"--include={PACKAGES}"]
        command.append(f'--aptopt=APT::Default-Release "{BACKPORTS}"')
        subprocess.run([*command, SUITE, str(unfinished), *sources], check=True)
        for library in (unfinished / LIBRARIES).iterdir():
            if _NOT_TAKEN.match(library.name):
                library.unlink()
        manifest = {
            "file_format_version": "1.0.0",
            "ICD": {"library_path": str(root / LIBRARIES / "libvulkan_lvp.so"), "api_version": "1.3.0"},
        }
        (unfinished / "llvmpipe.json").write_text(json.dumps(manifest))
        unfinished.rename(root)
