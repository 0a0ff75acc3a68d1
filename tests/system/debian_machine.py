"""A Debian with a real systemd in a container: built once, copied and booted for each run of the tests.

Needs root, mmdebstrap and systemd-nspawn. The container has no network; what is to be installed lies in it.
"""

from __future__ import annotations

import configparser
import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
from contextlib import suppress
from pathlib import Path

from tests.simulators.waiting import wait_for

REPOSITORY = Path(__file__).resolve().parents[2]
PACKAGES = "systemd,systemd-sysv,dbus,python3,python3-venv,mosquitto,mosquitto-clients"
SUITE = "bookworm"
NOT_COPIED = (".git", ".venv", ".demo", "build", "*.egg-info", "__pycache__")


def unavailable() -> str | None:
    """Why no machine can be had here."""
    if os.geteuid() != 0:
        return "a container with systemd needs root"
    missing = [tool for tool in ("mmdebstrap", "systemd-nspawn", "nsenter") if shutil.which(tool) is None]
    return f"not installed: {', '.join(missing)}" if missing else None


def cache() -> Path:
    """The folder that outlives a run: $EDGE_AGENT_TEST_CACHE, or one of this user in the temporary folder."""
    default = Path(tempfile.gettempdir()) / f"edge-agent-tests-{os.geteuid()}"
    folder = Path(os.environ.get("EDGE_AGENT_TEST_CACHE", default))
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if folder.stat().st_uid != os.geteuid():
        raise PermissionError(f"{folder} belongs to somebody else; set EDGE_AGENT_TEST_CACHE to a folder of yours")
    return folder


def debian_root() -> Path:
    """A root file system that is copied, never booted."""
    root = cache() / f"{SUITE}-{hashlib.sha256(PACKAGES.encode()).hexdigest()[:12]}"
    if not root.exists():
        unfinished = Path(tempfile.mkdtemp(dir=cache()))
        command = ["mmdebstrap", "--quiet", "--variant=minbase", f"--include={PACKAGES}", SUITE, str(unfinished)]
        subprocess.run(command, check=True)
        unfinished.rename(root)
    return root


def wheelhouse(python_version: str) -> Path:
    """All packages that setup.cfg asks for, as wheels for that Python, and what pip builds with."""
    setup = configparser.ConfigParser()
    setup.read(REPOSITORY / "setup.cfg")
    lines = setup["options"]["install_requires"].splitlines()
    wanted = ["setuptools>=77", "wheel", *(line for line in lines if line and not line.startswith("#"))]
    folder = cache() / f"wheels-{python_version}-{hashlib.sha256(' '.join(wanted).encode()).hexdigest()[:12]}"
    if not folder.exists():
        unfinished = Path(tempfile.mkdtemp(dir=cache()))
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--only-binary=:all:"]
        subprocess.run([*command, "--python-version", python_version, "--dest", str(unfinished), *wanted], check=True)
        unfinished.chmod(0o755)
        unfinished.rename(folder)
    return folder


class Machine:
    """One booted container with a copy of the checkout in /srv/checkout and the wheels in /srv/wheels."""

    def __init__(self, folder: Path) -> None:
        self.root = folder / "root"
        subprocess.run(["cp", "-a", "--reflink=auto", str(debian_root()), str(self.root)], check=True)
        version = self._in_root("python3", "-c", "import sys; print('%d.%d' % sys.version_info[:2])")
        shutil.copytree(wheelhouse(version), self.root / "srv/wheels")
        self.copy_checkout()
        (self.root / "etc/hostname").write_text("edge-test\n")
        self._leader = 0
        self._nspawn: subprocess.Popen[bytes] | None = None
        self._log = folder / "nspawn.log"

    def copy_checkout(self) -> None:
        shutil.rmtree(self.root / "srv/checkout", ignore_errors=True)
        ignored = shutil.ignore_patterns(*NOT_COPIED)
        shutil.copytree(REPOSITORY, self.root / "srv/checkout", symlinks=True, ignore=ignored)

    def start(self) -> None:
        command = ["systemd-nspawn", "--quiet", f"--directory={self.root}", "--register=no", "--private-network"]
        # nspawn forbids even reading whether the clock is synchronised; a real machine's systemd does not.
        command += ["--machine=edge-test", "--console=pipe", "--system-call-filter=adjtimex clock_adjtime", "--boot"]
        if not Path("/run/systemd/system").exists():
            command.insert(1, "--keep-unit")  # nobody here could make a scope for it
        with self._log.open("wb") as log:
            self._nspawn = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )
        try:
            wait_for(self._has_booted, "the container's boot")
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
                return
        self._nspawn.kill()
        self._nspawn.wait()

    def run(self, *command: str, check: bool = True, limit_s: float = 300.0, **environment: str) -> str:
        """Run in the container as root; returns what it printed, without the last line break."""
        enter = ["nsenter", f"--target={self._leader}", "-m", "-u", "-i", "-n", "-p", "-C", "-r", "-w"]
        clean = ["env", "-i", "PATH=/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LANG=C.UTF-8"]
        clean += [f"{name}={value}" for name, value in environment.items()]
        return self._output([*enter, *clean, *command], check, limit_s)

    def status(self, *command: str, **environment: str) -> int:
        """Run in the container; returns the exit status."""
        shell = f"{' '.join(command)} >/dev/null 2>&1; echo $?"
        return int(self.run("sh", "-c", shell, **environment))

    def show(self, unit: str, name: str) -> str:
        """One property of a unit."""
        return self.run("systemctl", "show", "--value", "-p", name, unit)

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

    def _in_root(self, *command: str) -> str:
        return self._output(["chroot", str(self.root), *command], True, 60.0)

    @staticmethod
    def _output(command: list[str], check: bool, limit_s: float) -> str:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=limit_s, check=False
        )
        if check:
            assert done.returncode == 0, f"{' '.join(command)}: {done.returncode}\n{done.stdout}{done.stderr}"
        return done.stdout.rstrip("\n")


def _number_inside(pid: int) -> str | None:
    """The process's number in its own namespace, None for one of ours."""
    with suppress(FileNotFoundError):
        numbers = re.search(r"^NSpid:\s+\d+\s+(\d+)$", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)
        return numbers[1] if numbers else None
    return None
