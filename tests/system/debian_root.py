"""Debian and Ubuntu as an installer has them, and the package for each: made once, kept in the cache."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tests.system.debian_machine import REPOSITORY, cache

# An installer, what the package wants, a broker, and what a board's system has beside systemd: udev and modprobe.
PACKAGES = "apt,systemd,systemd-sysv,dbus,udev,kmod,python3,libstdc++6,mosquitto,mosquitto-clients"
DEBIAN_MIRROR = "http://deb.debian.org/debian"
UBUNTU_MIRROR = "http://archive.ubuntu.com/ubuntu"
# Debian 12 has no package of Ubuntu's keys: Ubuntu's own, known by its hash.
UBUNTU_KEYS = "pool/main/u/ubuntu-keyring/ubuntu-keyring_2021.03.26_all.deb"
UBUNTU_KEYS_SHA256 = "0d0e7ed6b112f5d03eabf3c7eb01ebdacf9c57714b279e90495cfc58c8c4520f"
# What a package is built from.
SOURCES = (
    *("edge_agent", "device_profiles", "converters", "fleet", "packaging", "systemd", "examples/conveyor", "docs"),
    *("setup.cfg", "pyproject.toml", "README.md", "LICENSE", "CHANGELOG.md"),
)


@dataclass(frozen=True)
class Suite:
    name: str
    mirror: str = DEBIAN_MIRROR
    components: str = "main"


SUITES = {
    suite.name: suite for suite in (Suite("bookworm"), Suite("trixie"), Suite("jammy", UBUNTU_MIRROR, "main,universe"))
}


def system_root(suite: Suite, packages: str = PACKAGES) -> Path:
    """A root file system that is copied, never booted."""
    key = hashlib.sha256(f"{packages} {suite}".encode()).hexdigest()[:12]
    return _made(f"{suite.name}-{key}", lambda folder: _bootstrap(suite, packages, folder))


def package(suite: Suite, arch: str = "amd64") -> Path:
    """What script/package builds from this checkout as it is now."""
    folder = _made(f"deb-{suite.name}-{arch}-{_sources_key()}", lambda folder: _build(suite, arch, folder))
    for earlier in cache().glob(f"deb-{suite.name}-{arch}-*"):
        if earlier != folder:  # 80 MB each
            shutil.rmtree(earlier, ignore_errors=True)
    return next(folder.glob("*.deb"))


def changed_package(deb: Path, destination: Path, version: str, change: Callable[[Path], None]) -> Path:
    """The package again with another version, after ``change`` of its files; not compressed, which takes the time."""
    unpacked = destination / "unpacked"
    subprocess.run(["dpkg-deb", "-R", str(deb), str(unpacked)], check=True)
    control = unpacked / "DEBIAN/control"
    lines = control.read_text().splitlines()
    control.write_text(
        "\n".join(f"Version: {version}" if line.startswith("Version:") else line for line in lines) + "\n"
    )
    change(unpacked)
    made = destination / f"edge-agent_{version}.deb"
    subprocess.run(["dpkg-deb", "--root-owner-group", "-Znone", "-b", str(unpacked), str(made)], check=True)
    shutil.rmtree(unpacked)
    return made


def _made(name: str, make: Callable[[Path], None]) -> Path:
    """The folder of that name in the cache, whole or not at all."""
    folder = cache() / name
    if not folder.exists():
        unfinished = Path(tempfile.mkdtemp(dir=cache()))
        try:
            make(unfinished)
            unfinished.rename(folder)
        except BaseException:
            shutil.rmtree(unfinished, ignore_errors=True)
            raise
    return folder


def _bootstrap(suite: Suite, packages: str, folder: Path) -> None:
    keys = Path("/usr/share/keyrings") if suite.mirror == DEBIAN_MIRROR else _made("ubuntu-keys", _ubuntu_keys)
    command = ["mmdebstrap", "--quiet", "--variant=minbase", f"--include={packages}", f"--keyring={keys}"]
    subprocess.run([*command, f"--components={suite.components}", suite.name, str(folder), suite.mirror], check=True)


def _ubuntu_keys(folder: Path) -> None:
    with urllib.request.urlopen(f"{UBUNTU_MIRROR}/{UBUNTU_KEYS}", timeout=60) as answer:
        content = answer.read()
    assert hashlib.sha256(content).hexdigest() == UBUNTU_KEYS_SHA256, "Ubuntu's keys are not those that are known"
    (folder / "keys.deb").write_bytes(content)
    subprocess.run(["dpkg-deb", "-x", str(folder / "keys.deb"), str(folder / "unpacked")], check=True)
    shutil.copy(folder / "unpacked/usr/share/keyrings/ubuntu-archive-keyring.gpg", folder)
    shutil.rmtree(folder / "unpacked")
    (folder / "keys.deb").unlink()
    folder.chmod(0o755)  # apt reads them as a user of its own


def _sources_key() -> str:
    key = hashlib.sha256()
    for name in SOURCES:
        top = REPOSITORY / name
        for path in sorted(top.rglob("*")) if top.is_dir() else [top]:
            if path.is_file() and "__pycache__" not in path.parts:
                key.update(f"{path.relative_to(REPOSITORY)} {hashlib.sha256(path.read_bytes()).hexdigest()}\n".encode())
    return key.hexdigest()[:12]


def _build(suite: Suite, arch: str, folder: Path) -> None:
    # The fastest of xz: nothing here reads how small it is.
    environment = {**os.environ, "DPKG_DEB_COMPRESSOR_LEVEL": "0", "PYTHONPATH": str(REPOSITORY / "packaging")}
    command = [sys.executable, "-m", "build_deb", "--for", suite.name, "--arch", arch, "--output", str(folder)]
    subprocess.run(command, check=True, env=environment, cwd=REPOSITORY)
