"""Programs for arm64 on this machine: qemu-user of Debian 13, and a kernel that calls it for whatever is started.

A kernel since 6.7 has a table of foreign formats (binfmt_misc) for each user namespace. The program below makes such a
namespace, with all users and groups in their places, enters QEMU there and becomes its command: nothing changes for
the rest of the machine. The kernel opens QEMU when it is entered, so a chroot need not hold it, and a program that
starts another (or itself) by its path gets the emulation again.

Usage: python qemu_user.py QEMU COMMAND…
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from functools import cache as once
from pathlib import Path

CLONE_NEWNS, CLONE_NEWUSER = 0x00020000, 0x10000000  # linux/sched.h
TABLE = Path("/proc/sys/fs/binfmt_misc")
# An ELF file: 64 bit, little-endian, of any system, executable or position-independent, for EM_AARCH64 (183).
MAGIC = b"\x7fELF\2\1\1" + bytes(9) + b"\2\0\xb7\0"
MASK = b"\xff" * 7 + b"\0" + b"\xff" * 8 + b"\xfe\xff\xff\xff"
# QEMU 7.2 of Debian 12 crashes, or hides the CPU's abilities, when XNNPACK asks for them.
QEMU_SUITE, QEMU_PACKAGE = "trixie", "qemu-user"


def unavailable() -> str | None:
    """Why nothing can be emulated here."""
    if os.geteuid() != 0:
        return "a root file system for arm64 needs root"
    release = tuple(int(part) for part in platform.release().split("-")[0].split(".")[:2])
    if release < (6, 7) or not TABLE.is_dir():
        return "a table of foreign formats of one's own needs Linux 6.7 or later with binfmt_misc"
    return None if shutil.which("mmdebstrap") else "not installed: mmdebstrap"


@once
def qemu() -> Path:
    """The emulator, taken out of Debian's package once."""
    # A run as a program must not depend on the tests' packages.
    from tests.system.debian_machine import cache

    kept = cache() / f"qemu-aarch64-{hashlib.sha256(f'{QEMU_SUITE} {QEMU_PACKAGE}'.encode()).hexdigest()[:12]}"
    if not kept.exists():
        with tempfile.TemporaryDirectory(dir=cache()) as folder:
            root = Path(folder) / "root"
            command = ["mmdebstrap", "--quiet", "--variant=extract", f"--include={QEMU_PACKAGE}"]
            subprocess.run([*command, QEMU_SUITE, str(root)], check=True)
            (root / "usr/bin/qemu-aarch64").rename(kept)
    return kept


def emulated(*command: str) -> list[str]:
    """The command line that runs a command in which programs for arm64 can be started."""
    return [sys.executable, __file__, str(qemu()), *command]


def _checked(status: int) -> None:
    if status != 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def _enter_namespace() -> None:
    """A user namespace in which everybody keeps the number from outside, and its own mounts."""
    inside, outside = os.pipe()
    helper = os.fork()
    if helper == 0:
        # Only a process outside may map more than one user.
        os.read(inside, 1)
        for table in ("uid_map", "gid_map"):
            Path(f"/proc/{os.getppid()}/{table}").write_text("0 0 4294967295")
        os._exit(0)
    _checked(ctypes.CDLL(None, use_errno=True).unshare(CLONE_NEWUSER | CLONE_NEWNS))
    os.write(outside, b"x")
    if os.waitpid(helper, 0)[1] != 0:
        raise OSError("the users could not be mapped into the namespace")


def _register(qemu_program: str) -> None:
    _checked(ctypes.CDLL(None, use_errno=True).mount(b"binfmt_misc", bytes(TABLE), b"binfmt_misc", 0, None))
    magic, mask = ("".join(f"\\x{byte:02x}" for byte in text) for text in (MAGIC, MASK))
    # F: open QEMU now; P: keep the name under which a program was called.
    (TABLE / "register").write_text(f":arm64:M::{magic}:{mask}:{qemu_program}:FP")


def main(arguments: list[str]) -> None:
    _enter_namespace()
    _register(arguments[0])
    os.execvp(arguments[1], arguments[1:])


if __name__ == "__main__":
    main(sys.argv[1:])
