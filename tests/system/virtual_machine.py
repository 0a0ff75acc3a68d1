"""A whole machine in QEMU: a Debian kernel, a disk, a root shell for the tests, snapshots, and a plug to pull.

QEMU translates every instruction (TCG), so nothing of the host's CPU or kernel is used. What the machine boots is an
``Image`` of ``vm_image``; the image itself is never written to.
"""

from __future__ import annotations

import json
import re
import shlex
import shutil
import socket
import subprocess
import tempfile
import time
import uuid
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from tests.simulators.broker import free_port
from tests.simulators.waiting import wait_for

# Two busy cores translate a boot that takes a board 10 s.
BOOT_LIMIT_S = 900.0
COMMAND_LIMIT_S = 300.0
SHELL_IS_READY = b"the shell is ready"


class Kind(NamedTuple):
    """What QEMU is told of a sort of machine."""

    architecture: str
    program: str
    arguments: tuple[str, ...]
    console: str


ARM64 = Kind("arm64", "qemu-system-aarch64", ("-machine", "virt", "-cpu", "cortex-a72"), "ttyAMA0")
AMD64 = Kind("amd64", "qemu-system-x86_64", ("-machine", "q35", "-cpu", "max"), "ttyS0")


class Image(NamedTuple):
    """What a machine starts from."""

    kind: Kind
    kernel: Path
    initrd: Path
    disk: Path  # raw, one ext4 file system


def missing_tools(kind: Kind) -> str | None:
    """Which programs a machine of that kind needs and does not find."""
    packages = {"qemu-img": "qemu-utils", "mkfs.ext4": "e2fsprogs", "mmdebstrap": "mmdebstrap"}
    packages[kind.program] = {"arm64": "qemu-system-arm", "amd64": "qemu-system-x86"}[kind.architecture]
    missing = [package for tool, package in packages.items() if shutil.which(tool) is None]
    return f"not installed: {', '.join(missing)}" if missing else None


class VirtualMachine:
    """One machine on a disk of its own.

    >>> machine = VirtualMachine(image, folder, forwards=[1883])
    >>> machine.start()  # returns when root's shell answers
    >>> machine.run("systemctl is-active edge-agent")  # what it printed; AssertionError unless it exits with 0
    >>> machine.save("ready"); machine.kill(); machine.start("ready")

    ``folder``: gets the disk (``disk.qcow2``, the differences from the image) and what the kernel says (in
    ``console.log``). ``forwards``: ports of the machine that are reached at ``port(number)`` of the host's loopback;
    nothing else connects the machine with the world. ``extra``: further arguments of QEMU, such as devices.
    ``drive``: the value of ``-blockdev`` for the node ``disk``, instead of the disk in ``folder``. ``paced``: its
    clock goes by what it has executed, 2 ns an instruction, or by the world's while it idles. However busy the host
    is, a limit of some seconds then leaves it the work that a slow board does in that time (500 million instructions
    a second; one thread translates for all cores).
    """

    def __init__(
        self,
        image: Image,
        folder: Path,
        *,
        memory_mib: int = 512,
        cores: int = 2,
        forwards: Sequence[int] = (),
        extra: Sequence[str] = (),
        drive: Mapping[str, Any] | None = None,
        paced: bool = False,
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._image, self._folder = image, folder
        self._memory_mib, self._cores, self._extra = memory_mib, cores, list(extra)
        self._ports = {inside: free_port() for inside in forwards}
        # The path of a Unix socket has 107 bytes at most, a test's folder may have more.
        self._sockets = Path(tempfile.mkdtemp(prefix="vm-"))
        self._disk = folder / "disk.qcow2"
        self._drive = drive
        self._pace = ["-accel", "tcg", "-icount", "shift=1"] if paced else ["-accel", "tcg,thread=multi,tb-size=256"]
        if drive is None and not self._disk.exists():
            create = ["qemu-img", "create", "-q", "-f", "qcow2", "-F", "raw", "-b", str(image.disk), str(self._disk)]
            subprocess.run(create, check=True)
        self._qemu: subprocess.Popen[bytes] | None = None
        self._shell: socket.socket | None = None
        self._heard = b""

    @property
    def disk(self) -> Path:
        return self._disk

    @property
    def console(self) -> str:
        """What the kernel and systemd wrote to the serial console."""
        return (self._folder / "console.log").read_text(errors="replace")

    def port(self, inside: int) -> int:
        """The host's loopback port that leads to that port of the machine."""
        return self._ports[inside]

    # -- power

    def start(self, snapshot: str | None = None) -> float:
        """Switch on, or go on from a snapshot; returns the seconds until the shell answered."""
        began = time.monotonic()
        self.switch_on(snapshot)
        try:
            self._shell = self._connected("shell")
            if snapshot is None:
                self._hear(re.compile(re.escape(SHELL_IS_READY) + b"\n"), BOOT_LIMIT_S)
            self.run("true")
        except BaseException:
            self.kill()
            raise
        return time.monotonic() - began

    def switch_on(self, snapshot: str | None = None) -> None:
        """As ``start``, without waiting for anything; then only ``kill`` is of use."""
        assert self._qemu is None, "it is running"
        self._heard = b""
        for name in ("shell", "monitor"):
            (self._sockets / name).unlink(missing_ok=True)
        with (self._folder / "qemu.log").open("ab") as log:
            # A session of its own: the scheduler shares out the cores by session, and Ctrl-C is for the tests.
            self._qemu = subprocess.Popen(
                ["nice", *self._command(snapshot)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def kill(self) -> None:
        """Pull the plug: SIGKILL, nothing in the machine gets to say goodbye."""
        if self._qemu is not None:
            self._qemu.kill()
            self._qemu.wait()
            self._qemu = None
        if self._shell is not None:
            self._shell.close()
            self._shell = None

    def remove(self) -> None:
        """Kill it and give the disk space back."""
        self.kill()
        self._disk.unlink(missing_ok=True)
        shutil.rmtree(self._sockets, ignore_errors=True)

    def save(self, snapshot: str) -> None:
        """Keep memory, devices and disk under that name in the disk's file."""
        self.monitor(f"savevm {snapshot}")

    # -- commands inside

    def run(self, command: str, *, check: bool = True, limit_s: float = COMMAND_LIMIT_S) -> str:
        """Run a shell command as root; returns what it printed (both streams), without the last line break."""
        status, output = self._run(command, limit_s)
        assert not check or status == 0, f"{command}: {status}\n{output}"
        return output

    def status(self, command: str, *, limit_s: float = COMMAND_LIMIT_S) -> int:
        """Run a shell command as root; returns its exit status."""
        return self._run(command, limit_s)[0]

    def write(self, path: str, text: str) -> None:
        """A small text file in the machine."""
        self.run(f"printf %s {shlex.quote(text)} >{shlex.quote(path)}")

    def _run(self, command: str, limit_s: float) -> tuple[int, str]:
        assert self._shell is not None, "it is not running"
        end = f"end-{uuid.uuid4().hex}"
        line = f"sh -c {shlex.quote(command)} </dev/null 2>&1; printf '\\n%s %d\\n' {end} $?\n"
        self._shell.sendall(line.encode())
        output, found = self._hear(re.compile(rf"\n{end} (\d+)\n".encode()), limit_s)
        return int(found[1]), output.decode(errors="replace").rstrip("\n")

    def _hear(self, pattern: re.Pattern[bytes], limit_s: float) -> tuple[bytes, re.Match[bytes]]:
        """What came before the pattern, and the pattern; both are taken out of the stream."""
        assert self._shell is not None and self._qemu is not None
        end = time.monotonic() + limit_s
        while not (found := pattern.search(self._heard)):
            assert self._qemu.poll() is None, f"QEMU ended: {(self._folder / 'qemu.log').read_text()}"
            assert time.monotonic() < end, f"not within {limit_s:g} s; last heard: {self._heard[-2000:]!r}"
            with suppress(TimeoutError):
                self._heard += self._shell.recv(65536)
        before, self._heard = self._heard[: found.start()], self._heard[found.end() :]
        return before, found

    # -- the machine seen from outside

    def monitor(self, line: str) -> str:
        """A line of QEMU's human monitor (``savevm``, ``device_del``, …); AssertionError if it complains."""
        answer = self.execute("human-monitor-command", {"command-line": line})
        assert not (answer.startswith("Error") or "unknown command" in answer), f"{line}: {answer}"
        return str(answer)

    def execute(self, command: str, arguments: Mapping[str, Any] | None = None) -> Any:
        """A command of the machine protocol (QMP); returns its ``return``."""
        with self._connected("monitor") as monitor, monitor.makefile("rw", encoding="utf-8") as stream:
            monitor.settimeout(COMMAND_LIMIT_S)
            answer: dict[str, Any] = json.loads(stream.readline())  # the greeting
            for request in ({"execute": "qmp_capabilities"}, {"execute": command, "arguments": arguments or {}}):
                stream.write(json.dumps(request) + "\n")
                stream.flush()
                answer = {"event": None}
                while "event" in answer:
                    answer = json.loads(stream.readline())
                assert "return" in answer, f"{command}: {answer}"
        return answer["return"]

    def _connected(self, name: str) -> socket.socket:
        path = self._sockets / name

        def try_once() -> socket.socket | None:
            assert self._qemu is not None
            assert self._qemu.poll() is None, f"QEMU ended: {(self._folder / 'qemu.log').read_text()}"
            connection = socket.socket(socket.AF_UNIX)
            connection.settimeout(1.0)
            try:
                connection.connect(str(path))
            except (FileNotFoundError, ConnectionRefusedError):
                connection.close()
                return None
            return connection

        return wait_for(try_once, f"QEMU's socket {name}")

    def _command(self, snapshot: str | None) -> list[str]:
        kind = self._image.kind
        drive = self._drive or {"driver": "qcow2", "file": {"driver": "file", "filename": str(self._disk)}}
        network = "user,id=net,restrict=on" + "".join(
            f",hostfwd=tcp:127.0.0.1:{outside}-:{inside}" for inside, outside in self._ports.items()
        )
        sockets = [f"socket,id={name},path={self._sockets / name},server=on,wait=off" for name in ("shell", "monitor")]
        return [
            *(kind.program, *kind.arguments, *self._pace),
            *("-m", str(self._memory_mib), "-smp", str(self._cores), "-nodefaults", "-display", "none", "-no-reboot"),
            *("-kernel", str(self._image.kernel), "-initrd", str(self._image.initrd)),
            # Looking for LVM's snapshots, of which there are none, is a fifth of what a boot executes.
            *("-append", f"root=/dev/vda rw console={kind.console} quiet systemd.mask=e2scrub_reap.service"),
            *("-serial", f"file:{self._folder / 'console.log'}"),
            *("-blockdev", json.dumps({"node-name": "disk", **drive}), "-device", "virtio-blk-pci,drive=disk"),
            *("-netdev", network, "-device", "virtio-net-pci,netdev=net,romfile="),
            *("-device", "virtio-rng-pci", "-device", "virtio-serial-pci"),
            *("-chardev", sockets[0], "-device", "virtconsole,chardev=shell"),
            *("-chardev", sockets[1], "-mon", "chardev=monitor,mode=control"),
            *(("-loadvm", snapshot) if snapshot else ()),
            *self._extra,
        ]
