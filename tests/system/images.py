"""Images of containers: built from a Containerfile by buildah, and run in a chroot, which needs no namespaces."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

AUTHORITIES = Path("/etc/ssl/certs/ca-certificates.crt")
INSIDE = "/usr/local/share/authorities-of-the-host.crt"
BASE = "localhost/base"


class Images:
    """A store of images of its own. ``root``: the file system that takes the place of the base image."""

    def __init__(self, folder: Path, root: Path) -> None:
        self._buildah = ["buildah", "--storage-driver=vfs", f"--root={folder}/root", f"--runroot={folder}/run"]
        container = self._run("from", "scratch")
        self._run("add", "--quiet", container, str(root), "/")
        if AUTHORITIES.exists():  # behind a proxy, pip must trust what this machine trusts
            self._run("copy", "--quiet", container, str(AUTHORITIES), INSIDE)
            self._run("config", f"--env=PIP_CERT={INSIDE}", container)
        self._run("commit", "--quiet", container, BASE)
        self._run("rm", container)

    def build(self, file: Path, context: Path, tag: str) -> None:
        arguments = ["--isolation=chroot", "--format=docker", f"--build-arg=BASE={BASE}", f"--tag={tag}"]
        self._run("bud", *arguments, f"--file={file}", str(context))

    def configuration(self, tag: str) -> dict[str, Any]:
        """``User``, ``Entrypoint``, ``Cmd``, ``Healthcheck``, …"""
        found: dict[str, Any] = json.loads(self._run("inspect", "--type=image", tag))["Docker"]["config"]
        return found

    def container(self, tag: str) -> str:
        """A new one, which does not run."""
        return self._run("from", tag)

    def change(self, container: str, *command: str) -> None:
        """By root, before it starts."""
        self._run("run", "--isolation=chroot", "--user=root", container, "--", *command)

    def start(self, container: str, command: Sequence[str], log: Path, *options: str) -> subprocess.Popen[bytes]:
        """In the container as its image's user; the network is this machine's."""
        with log.open("wb") as file:
            command = self._command(container, command, *options)
            return subprocess.Popen(command, stdout=file, stderr=subprocess.STDOUT)

    def status(self, container: str, command: Sequence[str]) -> int:
        done = subprocess.run(self._command(container, command), check=False, capture_output=True)
        return done.returncode

    def remove(self) -> None:
        self._run("rm", "--all")
        self._run("rmi", "--all", "--force")

    def _command(self, container: str, command: Sequence[str], *options: str) -> list[str]:
        return [*self._buildah, "run", "--isolation=chroot", *options, container, "--", *command]

    def _run(self, *arguments: str) -> str:
        done = subprocess.run([*self._buildah, *arguments], check=False, capture_output=True, text=True)
        assert done.returncode == 0, f"{' '.join(arguments)}: {done.stderr[-4000:]}"
        return done.stdout.strip()


def unavailable() -> str | None:
    """Why no image can be had here."""
    missing = [tool for tool in ("buildah", "mmdebstrap") if shutil.which(tool) is None]
    return f"not installed: apt-get install {' '.join(missing)}" if missing else None


def descendants(pid: int) -> list[int]:
    """Of a process, as the kernel lists them. Any of them may be gone already."""
    try:
        texts = [path.read_text() for path in Path(f"/proc/{pid}/task").glob("*/children")]
    except OSError:  # it, or a thread of it, ended between two looks
        return []
    return [one for child in " ".join(texts).split() for one in (int(child), *descendants(int(child)))]
