"""A Debian or Ubuntu with a real systemd in a container, and a line to it that only this machine is on.

Needs root, systemd-nspawn and, for the systems themselves, mmdebstrap. The container reaches nothing else: what is to
be installed lies in it.
"""

from __future__ import annotations

import json
import os
import re
import secrets
import shutil
import subprocess
import tempfile
from contextlib import suppress
from pathlib import Path

from tests.simulators.waiting import wait_for

REPOSITORY = Path(__file__).resolve().parents[2]
CONTROL_GROUPS = Path("/sys/fs/cgroup")
ENTER = ("-m", "-u", "-i", "-n", "-p", "-C", "-r", "-w")


def unavailable() -> str | None:
    """Why no machine can be had here."""
    if os.geteuid() != 0:
        return "a container with systemd needs root"
    needed = {
        "mmdebstrap": "mmdebstrap",
        "systemd-nspawn": "systemd-container",
        "nsenter": "util-linux",
        "ip": "iproute2",
    }
    missing = [package for tool, package in needed.items() if shutil.which(tool) is None]
    return f"not installed: apt-get install {' '.join(missing)}" if missing else None


def cache() -> Path:
    """The folder that outlives a run: $EDGE_AGENT_TEST_CACHE, or one of this user in the temporary folder."""
    default = Path(tempfile.gettempdir()) / f"edge-agent-tests-{os.geteuid()}"
    folder = Path(os.environ.get("EDGE_AGENT_TEST_CACHE", default))
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if folder.stat().st_uid != os.geteuid():
        raise PermissionError(f"{folder} belongs to somebody else; set EDGE_AGENT_TEST_CACHE to a folder of yours")
    return folder


class Machine:
    """One container. ``address`` is its own on the line, on which this machine is its only neighbour."""

    def __init__(self, folder: Path, template: Path) -> None:
        """A copy of the file system ``template`` below ``folder``."""
        self.root = folder / "root"
        subprocess.run(["cp", "-a", "--reflink=auto", str(template), str(self.root)], check=True)
        self.name = f"ea{secrets.token_hex(3)}"  # short: it becomes part of an interface's name
        (self.root / "etc/hostname").write_text(f"{self.name}\n")
        block = 4 * secrets.randbelow(2**15)  # of 198.18.0.0/15, which is kept for tests (RFC 2544)
        self._neighbour, self.address = (
            f"198.{18 + (n >> 16)}.{n >> 8 & 255}.{n & 255}" for n in (block + 1, block + 2)
        )
        self._leader = 0
        self._nspawn: subprocess.Popen[bytes] | None = None
        self._log = folder / "nspawn.log"
        self._groups = _own_groups(self.name)

    def start(self) -> None:
        command = ["systemd-nspawn", "--quiet", f"--directory={self.root}", "--register=no", "--network-veth"]
        # nspawn forbids even reading whether the clock is synchronised; a real machine's systemd does not.
        command += [f"--machine={self.name}", "--console=pipe", "--system-call-filter=adjtimex clock_adjtime", "--boot"]
        if not Path("/run/systemd/system").exists():
            command.insert(1, "--keep-unit")  # nobody here could make a scope for it
        for group in self._groups:
            group.mkdir()
        join = "for group; do echo $$ > $group/cgroup.procs || exit 1; done; exec " + " ".join(
            f"'{word}'" for word in command
        )
        with self._log.open("wb") as log:
            self._nspawn = subprocess.Popen(
                ["sh", "-c", join, "sh", *map(str, self._groups)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        try:
            wait_for(self._has_booted, "the container's boot")
            self._connect()
            self._hand_over_groups()
        except AssertionError as error:
            self.stop()
            raise AssertionError(f"{error}\n{self._log.read_text()}") from None

    def stop(self) -> None:
        assert self._nspawn is not None
        # The first SIGTERM asks the container's systemd for an orderly shutdown, the second ends it at once.
        for _ in range(2):
            self._nspawn.terminate()
            with suppress(subprocess.TimeoutExpired):
                self._nspawn.wait(30)
                break
        else:
            self._nspawn.kill()
            self._nspawn.wait()
        for group in self._groups:
            wait_for(lambda group=group: _removed(group), f"the end of the control group {group}")
        shutil.rmtree(self.root, ignore_errors=True)  # half a gigabyte

    def run(self, *command: str, check: bool = True, limit_s: float = 300.0, **environment: str) -> str:
        """Run in the container as root; returns what it printed, without the last line break."""
        clean = ["env", "-i", "PATH=/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LANG=C.UTF-8"]
        clean += [f"{name}={value}" for name, value in environment.items()]
        return _output(["nsenter", f"--target={self._leader}", *ENTER, *clean, *command], check, limit_s)

    def from_outside(self, *command: str) -> str:
        """Run a program of this machine with this machine's rights on the container's files, devices and network."""
        return _output(["nsenter", f"--target={self._leader}", "-m", "-n", *command], True, 60.0)

    def status(self, *command: str, **environment: str) -> int:
        """Run in the container; returns the exit status."""
        shell = f"{' '.join(command)} >/dev/null 2>&1; echo $?"
        return int(self.run("sh", "-c", shell, **environment))

    def install(self, deb: Path, *options: str) -> str:
        """``apt install ./FILE.deb``; returns what it said."""
        shutil.copy(deb, self.root / "srv" / deb.name)
        try:
            command = ["apt-get", "install", "-y", "-q", *options, f"/srv/{deb.name}"]
            return self.run("sh", "-c", f"{' '.join(command)} 2>&1", DEBIAN_FRONTEND="noninteractive")
        finally:
            (self.root / "srv" / deb.name).unlink()

    def show(self, unit: str, name: str) -> str:
        """One property of a unit."""
        return self.run("systemctl", "show", "--value", "-p", name, unit)

    def journal(self, *matches: str) -> list[dict[str, str]]:
        """The entries of this boot that match, such as ``-u``, ``edge-agent`` or ``MESSAGE_ID=…``."""
        lines = self.run("journalctl", "--no-pager", "-b", "-o", "json", *matches, check=False).splitlines()
        return [json.loads(line) for line in lines]

    def group(self, controller: str, unit: str) -> Path:
        """The control group of a service."""
        found = self.run("cat", f"/proc/{self.show(unit, 'MainPID')}/cgroup")
        path = re.search(rf"^\d+:(?:.*,)?{controller}(?:,.*)?:/(.*)$", found, re.MULTILINE)
        assert path, found
        return next(group for group in self._groups if group.parts[4] == controller) / path[1]

    def _connect(self) -> None:
        """An address on either end. No way leads further, and no name server is there."""
        _output(["ip", "address", "add", f"{self._neighbour}/30", "dev", f"ve-{self.name}"], True, 10.0)
        _output(["ip", "link", "set", f"ve-{self.name}", "up"], True, 10.0)
        enter = ["nsenter", f"--target={self._leader}", "-n"]
        for command in (f"address add {self.address}/30 dev host0", "link set host0 up", "link set lo up"):
            _output([*enter, "ip", *command.split()], True, 10.0)
        resolver = self.root / "etc/resolv.conf"
        resolver.unlink(missing_ok=True)
        resolver.write_text(f"nameserver {self._neighbour}\n")  # nobody answers there

    def _hand_over_groups(self) -> None:
        """Of the first version of control groups a container may only read the controllers, and then its systemd
        ignores every limit without a word."""
        controllers = [group.parts[4] for group in self._groups if group.parts[4] not in ("systemd", "unified")]
        for controller in controllers:
            mount = f"mount -o remount,bind,rw,nosuid,nodev,noexec /sys/fs/cgroup/{controller}"
            _output(["nsenter", f"--target={self._leader}", "-m", *mount.split()], True, 10.0)
        if controllers:
            self.run("systemctl", "daemon-reexec")

    def _has_booted(self) -> bool:
        assert self._nspawn is not None
        assert self._nspawn.poll() is None, "systemd-nspawn ended"
        children = Path(f"/proc/{self._nspawn.pid}/task/{self._nspawn.pid}/children").read_text().split()
        # nspawn's first child only prepares the second, which is number 1 of the container.
        first = [int(pid) for pid in children if _number_inside(int(pid)) == "1"]
        if not first:
            return False
        self._leader = first[0]
        return self.run("systemctl", "is-system-running", check=False) in ("running", "degraded")


def _own_groups(name: str) -> list[Path]:
    """A group for the container below each of our own; empty where control groups are of the second version alone,
    which nspawn hands over by itself."""
    if (CONTROL_GROUPS / "cgroup.controllers").exists():
        return []
    groups = []
    for line in Path("/proc/self/cgroup").read_text().splitlines():
        number, controllers, path = line.split(":", 2)
        folder = "unified" if number == "0" else controllers.removeprefix("name=")
        if folder != "cpuset":  # a new one has no processors, and nobody limits those here
            groups.append(CONTROL_GROUPS / folder / path.lstrip("/") / name)
    return groups


def _removed(group: Path) -> bool:
    """Deepest first; a group can be removed once its last process is gone."""
    if not group.exists():
        return True
    with suppress(OSError):
        for folder, _, _ in os.walk(group, topdown=False):
            Path(folder).rmdir()
    return not group.exists()


def _number_inside(pid: int) -> str | None:
    """The process's number in its own namespace, None for one of ours."""
    with suppress(FileNotFoundError):
        numbers = re.search(r"^NSpid:\s+\d+\s+(\d+)$", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)
        return numbers[1] if numbers else None
    return None


def _output(command: list[str], check: bool, limit_s: float) -> str:
    done = subprocess.run(
        command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=limit_s, check=False
    )
    if check:
        assert done.returncode == 0, f"{' '.join(command)}: {done.returncode}\n{done.stdout}{done.stderr}"
    return done.stdout.rstrip("\n")
