"""Disks for virtual machines: a Debian with its own kernel, the packages and files that a test wants, an initrd.

Everything is kept under the hash of what it was made from; of each recipe's disks only the newest is.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tests.system import qemu_user
from tests.system.debian_machine import cache
from tests.system.virtual_machine import SHELL_IS_READY, Image, Kind

SUITE = "bookworm"
# What a machine needs to boot, to reach its ports and to give the tests a shell.
ALWAYS = ("systemd", "systemd-sysv", "udev", "dbus", "kmod", "iproute2", "busybox-static", "apt")
KERNEL = {"arm64": "linux-image-arm64", "amd64": "linux-image-amd64"}
# Graphics, sound, wireless and foreign network cards are two thirds of a kernel's modules, and nobody has them here.
NOT_UNPACKED = (
    *("/usr/share/man/*", "/usr/share/locale/*", "/lib/modules/*/kernel/sound/*"),
    *("/lib/modules/*/kernel/drivers/gpu/*", "/lib/modules/*/kernel/drivers/net/wireless/*"),
    *("/lib/modules/*/kernel/drivers/net/ethernet/*", "/lib/modules/*/kernel/drivers/infiniband/*"),
)
# As needed to find and mount the disk; what these need is loaded before them.
INITRD_MODULES = ("virtio_pci", "virtio_blk", "crc32c_generic", "ext4")
INIT = """\
#!/bin/busybox sh
/bin/busybox mount -t proc proc /proc
/bin/busybox mount -t sysfs sysfs /sys
/bin/busybox mount -t devtmpfs devtmpfs /dev
for module in /modules/*.ko; do /bin/busybox insmod "$module"; done
tries=0
while [ ! -b /dev/vda ] && [ "$tries" -lt 300 ]; do /bin/busybox sleep 0.2; tries=$((tries + 1)); done
/bin/busybox mount -t ext4 /dev/vda /root || exec /bin/busybox sh
/bin/busybox umount /sys /proc
exec /bin/busybox switch_root /root /sbin/init
"""
SHELL_UNIT = f"""\
[Unit]
Description=The shell of the tests
After=systemd-modules-load.service
[Service]
ExecStart=/bin/sh -c 'stty raw -echo; echo; echo "{SHELL_IS_READY.decode()}"; exec sh'
StandardInput=tty-force
StandardOutput=tty
StandardError=null
TTYPath=/dev/hvc0
Restart=always
[Install]
WantedBy=multi-user.target
"""
FILES = {
    "etc/systemd/system/test-shell.service": SHELL_UNIT,
    "etc/modules-load.d/test-shell.conf": "virtio_console\n",
    # QEMU's own network; its gateway leads nowhere.
    "etc/systemd/network/10-test.network": "[Match]\nName=en*\n[Network]\nAddress=10.0.2.15/24\nGateway=10.0.2.2\n",
    "etc/hostname": "edge-test\n",
}
MIB = 1 << 20


@dataclass(frozen=True)
class Recipe:
    """``packages``: of Debian; ``debs``: files that apt installs without a network; ``files``: path to text, last;
    ``commands``: run by sh in the finished root, for instance ``systemctl enable …``."""

    kind: Kind
    packages: Sequence[str]
    debs: Sequence[Path] = ()
    files: Mapping[str, str] = field(default_factory=dict)
    commands: Sequence[str] = ()
    free_mib: int = 512

    def base_key(self) -> str:
        return _digest(self.kind.architecture, SUITE, *ALWAYS, *self.packages, *NOT_UNPACKED)

    def key(self) -> str:
        contents = [hashlib.sha256(deb.read_bytes()).hexdigest() for deb in self.debs]
        changes = [f"{path}\0{text}" for path, text in sorted({**FILES, **self.files}.items())]
        return _digest(self.base_key(), *contents, *changes, *self.commands, str(self.free_mib), INIT)


def _digest(*parts: str) -> str:
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:12]


def _in(kind: Kind, *command: str) -> list[str]:
    """A command in which that architecture's programs can be started."""
    return qemu_user.emulated(*command) if kind.architecture == "arm64" else list(command)


def base_root(recipe: Recipe) -> Path:
    """A root file system with the recipe's Debian packages: copied, never booted."""
    root = cache() / f"root-{recipe.kind.architecture}-{recipe.base_key()}"
    if not root.exists():
        with tempfile.TemporaryDirectory(dir=cache(), ignore_cleanup_errors=True) as folder:
            unfinished = Path(folder) / "root"
            packages = ",".join((*ALWAYS, KERNEL[recipe.kind.architecture], *recipe.packages))
            command = ["mmdebstrap", "--quiet", "--mode=root", "--skip=check/qemu", "--variant=minbase"]
            command += [f"--architectures={recipe.kind.architecture}", f"--include={packages}"]
            command += [f"--dpkgopt=path-exclude={pattern}" for pattern in NOT_UNPACKED]
            # INITRD: Debian's own initrd would take minutes under emulation, and is not used.
            whole = ["nice", *_in(recipe.kind, *command, SUITE, str(unfinished))]
            done = subprocess.run(
                whole, env={**os.environ, "INITRD": "No"}, capture_output=True, text=True, check=False
            )
            assert done.returncode == 0, done.stderr
            unfinished.rename(root)
    return root


def inside(kind: Kind, root: Path, *command: str) -> list[str]:
    """The command line that runs in a root file system, with the file systems of a running one, and nice."""
    mounts = 'mount -t proc proc "$0/proc"; mount -t tmpfs tmpfs "$0/dev/shm"; mount -t devpts devpts "$0/dev/pts"'
    # A mount namespace of its own: all three are gone with the command.
    own = ["nice", "unshare", "--mount", "sh", "-ec", f'mkdir -p "$0/dev/shm" "$0/dev/pts"; {mounts}; exec "$@"']
    clean = ["env", "-i", "PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LANG=C.UTF-8", "HOME=/root"]
    return [*own, str(root), *_in(kind, "chroot", str(root), *clean, *command)]


def enter(recipe: Recipe, root: Path, *command: str, limit_s: float = 1200.0) -> str:
    """Run in a root file system, without a network; returns what the command printed."""
    whole = ["unshare", "--net", *inside(recipe.kind, root, "DEBIAN_FRONTEND=noninteractive", *command)]
    done = subprocess.run(whole, capture_output=True, text=True, timeout=limit_s, check=False, stdin=subprocess.DEVNULL)
    assert done.returncode == 0, f"{' '.join(command)}: {done.returncode}\n{done.stdout}{done.stderr}"
    return done.stdout


@contextmanager
def finished_root(recipe: Recipe, folder: Path) -> Iterator[Path]:
    """The base with the recipe's own packages, files and commands above it, mounted below ``folder``."""
    root = folder / "root"
    for part in ("upper", "work", "root"):
        (folder / part).mkdir()
    layers = f"lowerdir={base_root(recipe)},upperdir={folder / 'upper'},workdir={folder / 'work'}"
    subprocess.run(["mount", "-t", "overlay", "overlay", "-o", layers, str(root)], check=True)
    try:
        _finish(recipe, root)
        yield root
    finally:
        subprocess.run(["umount", str(root)], check=True)


def _finish(recipe: Recipe, root: Path) -> None:
    for deb in recipe.debs:
        shutil.copy(deb, root / "tmp")
    if recipe.debs:
        names = [f"/tmp/{deb.name}" for deb in recipe.debs]
        enter(recipe, root, "apt-get", "install", "--yes", "--no-install-recommends", *names)
        for name in names:
            (root / name[1:]).unlink()
    for path, text in {**FILES, **recipe.files}.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(text)
    services = "systemctl enable test-shell systemd-networkd && systemctl mask serial-getty@.service getty@.service"
    for command in (services, *recipe.commands):
        enter(recipe, root, "sh", "-ec", command)


def built(recipe: Recipe) -> Image:
    """The recipe's disk, kernel and initrd."""
    folder = cache() / f"image-{recipe.kind.architecture}-{recipe.base_key()}-{recipe.key()}"
    if not folder.exists():
        with tempfile.TemporaryDirectory(dir=cache(), ignore_cleanup_errors=True) as scratch:
            unfinished = Path(scratch) / "image"
            unfinished.mkdir()
            with finished_root(recipe, Path(scratch)) as root:
                kernel = max((root / "boot").glob("vmlinuz-*"))
                shutil.copy(kernel, unfinished / "vmlinuz")
                (unfinished / "initrd").write_bytes(initrd(root, kernel.name.removeprefix("vmlinuz-")))
                _make_disk(root, unfinished / "disk.raw", recipe.free_mib)
            for earlier in cache().glob(f"image-{recipe.kind.architecture}-{recipe.base_key()}-*"):
                shutil.rmtree(earlier, ignore_errors=True)
            unfinished.rename(folder)
    return Image(recipe.kind, folder / "vmlinuz", folder / "initrd", folder / "disk.raw")


def _make_disk(root: Path, disk: Path, free_mib: int) -> None:
    """A raw file with one ext4 file system that holds the root; sparse."""
    used = int(subprocess.run(["du", "-sx", "-B1", root], check=True, capture_output=True, text=True).stdout.split()[0])
    size_mib = int(used * 1.1) // MIB + free_mib
    subprocess.run(["mkfs.ext4", "-q", "-F", "-d", str(root), str(disk), f"{size_mib}M"], check=True)


def initrd(root: Path, release: str) -> bytes:
    """An archive for the kernel: busybox, the modules that lead to the disk, and a script that goes there."""
    modules = root / "lib/modules" / release
    entries: list[tuple[str, int, bytes]] = [
        *((name, 0o040755, b"") for name in ("bin", "dev", "proc", "sys", "root", "modules")),
        ("bin/busybox", 0o100755, (root / "bin/busybox").read_bytes()),
        ("init", 0o100755, INIT.encode()),
    ]
    for number, path in enumerate(_in_order(modules)):
        entries.append((f"modules/{number:02d}.ko", 0o100644, (modules / path).read_bytes()))
    return b"".join(_newc(*entry) for entry in entries) + _newc("TRAILER!!!", 0, b"")


def _in_order(modules: Path) -> list[str]:
    """The files of INITRD_MODULES and of what they need, in the order of loading."""
    needs = dict(re.findall(r"^(\S+):[ ]*(.*)$", (modules / "modules.dep").read_text(), re.MULTILINE))
    names = {Path(path).name.split(".")[0].replace("-", "_"): path for path in needs}
    order: list[str] = []

    def add(path: str) -> None:
        for other in needs[path].split():
            add(other)
        if path not in order:
            order.append(path)

    for name in INITRD_MODULES:
        if name in names:  # not where it is built into the kernel
            add(names[name])
    return order


def _newc(name: str, mode: int, content: bytes) -> bytes:
    """One member of a cpio archive in the form ``newc`` (Documentation/driver-api/early-userspace/buffer-format)."""
    fields = [0, mode, 0, 0, 1, 0, len(content), 0, 0, 0, 0, len(name) + 1, 0]
    header = b"070701" + b"".join(f"{value:08x}".encode() for value in fields) + name.encode() + b"\0"
    return b"".join(part + bytes(-len(part) % 4) for part in (header, content))
