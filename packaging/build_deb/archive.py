"""From a folder to the .deb: control files, one owner, one date, the same bytes every time."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
from pathlib import Path

from build_deb.target import Target
from build_deb.tree import CONFIG, DEBIAN

SCRIPTS = ("postinst", "prerm", "postrm")
# Found with objdump -p in the shared libraries of the wheels; everything else they bring along.
LIBRARIES = ("libgcc-s1", "libstdc++6", "zlib1g")
# The maintainer scripts need sysusers and tmpfiles; a container has them without the rest.
SYSTEMD = ("systemd | systemd-standalone-sysusers", "systemd | systemd-standalone-tmpfiles")
DESCRIPTION = """\
 on-device inference: camera and sensors to MQTT predictions
 A daemon that runs TensorFlow Lite models on frames of cameras and readings of
 sensors, aligned in time, and publishes what they say to an MQTT broker. It
 brings its Python packages along in an environment of its own; the models it
 runs, after the example that it comes with, are yours."""


def debian_version(version: str, revision: int, suite: str) -> str:
    """Of a Python version: a pre-release comes before its release, and a suite's package before the next suite's."""
    upstream = re.sub(r"\.?(a|b|rc|dev)(?=\d)", r"~\1", version)
    return f"{upstream}-{revision}~{suite}"


def control(target: Target, version: str, maintainer: str, installed_kib: int) -> str:
    major, minor = target.suite.python
    depends = (
        f"python3 (>= {major}.{minor}~)",
        f"python3 (<< {major}.{minor + 1})",
        f"libc6 (>= 2.{target.suite.glibc_minor})",
        *LIBRARIES,
        *SYSTEMD,
    )
    fields = {
        "Package": "edge-agent",
        "Version": version,
        "Architecture": target.arch,
        "Maintainer": maintainer,
        "Installed-Size": str(installed_kib),
        "Depends": ", ".join(depends),
        "Recommends": "ca-certificates, mosquitto",
        "Suggests": "bash-completion, libvulkan1, mosquitto-clients, python3-picamera2",
        "Section": "misc",
        "Priority": "optional",
    }
    return "".join(f"{name}: {value}\n" for name, value in fields.items()) + f"Description:{DESCRIPTION}\n"


def pack(target: Target, root: Path, version: str, maintainer: str, epoch: int, deb: Path) -> None:
    """Makes ``deb`` of the folder ``root``, which gets a folder DEBIAN and has its modes and dates set. ``epoch``: the
    date of every file, seconds since 1970."""
    files = sorted(path for path in root.rglob("*") if not path.is_dir() or path.is_symlink())
    sums = [
        f"{hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest()}  {path.relative_to(root)}\n"
        for path in files
        if not path.is_symlink() and path != root / CONFIG
    ]
    installed_kib = sum(_kib(path) for path in root.rglob("*"))
    meta = root / "DEBIAN"
    meta.mkdir()
    (meta / "control").write_text(control(target, version, maintainer, installed_kib))
    (meta / "conffiles").write_text(f"/{CONFIG}\n")
    (meta / "md5sums").write_text("".join(sums))
    for script in SCRIPTS:
        (meta / script).write_text((DEBIAN / script).read_text().replace("@VERSION@", version))
    _settle(root, epoch)
    unfinished = deb.with_suffix(".unfinished")
    # dpkg-deb sorts, and the number of its threads changes no byte. Three minutes of work are xz's; with
    # DPKG_DEB_COMPRESSOR_LEVEL=0 it is 20 s, and a third larger.
    environment = os.environ | {"SOURCE_DATE_EPOCH": str(epoch)}
    command = ["dpkg-deb", "--root-owner-group", "-Zxz", "--build", str(root), str(unfinished)]
    subprocess.run(command, env=environment, stdout=subprocess.DEVNULL, check=True)
    shutil.move(unfinished, deb)


def _kib(path: Path) -> int:
    """As Debian's policy counts: each file in whole KiB, everything else one."""
    return 1 if path.is_symlink() or path.is_dir() else -(-path.stat().st_size // 1024)


def _settle(root: Path, epoch: int) -> None:
    programs = {root / "DEBIAN" / script for script in SCRIPTS} | {root / "usr/lib/edge-agent/bin/edge-agent"}
    for path in (root, *root.rglob("*")):
        if not path.is_symlink():
            path.chmod(0o755 if path.is_dir() or path in programs else 0o644)
        os.utime(path, (epoch, epoch), follow_symlinks=False)
