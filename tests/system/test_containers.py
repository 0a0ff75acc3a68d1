"""The two Containerfiles: built on a bare Debian, and run over a real broker."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from fleet.collected import Collected
from tests.fleet.collector_process import Publisher
from tests.fleet.payloads import TOPIC, encoded, prediction
from tests.simulators.broker import Mosquitto, free_port
from tests.simulators.subscriber import Subscriber
from tests.simulators.waiting import wait_for
from tests.system import debian_machine, images
from tests.system.debian_machine import REPOSITORY
from tests.system.debian_root import SUITES, package, system_root
from tests.system.images import Images, descendants

sys.path.insert(0, str(REPOSITORY / "packaging"))

from build_deb.environment import build_wheel

WHY_NOT = debian_machine.unavailable() or images.unavailable()
pytestmark = [pytest.mark.system, pytest.mark.skipif(WHY_NOT is not None, reason=WHY_NOT or "")]

CONFIGURATION = "/etc/edge-agent/agent.toml"
BOOKWORM = SUITES["bookworm"]


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Images]:
    store = Images(tmp_path_factory.mktemp("images"), system_root(BOOKWORM, "apt"))
    yield store
    store.remove()


@contextmanager
def running(store: Images, container: str, command: list[str], log: Path, *options: str) -> Iterator[int]:
    """The process id of that command's own process."""
    process = store.start(container, command, log, *options)
    program = os.fsencode(command[0])
    try:
        try:
            found = wait_for(
                lambda: next((pid for pid in descendants(process.pid) if _runs(pid, program)), None),
                f"{command[0]} runs",
            )
        except AssertionError as error:
            raise AssertionError(f"{error}; it said: {log.read_text()}") from None
        yield found
    finally:
        wait_for(lambda: _killed(process), "the end of the container")


def _killed(process: subprocess.Popen[bytes]) -> bool:
    """Whether nothing of it is left to kill."""
    for pid in descendants(process.pid):
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    return process.poll() is not None


def _runs(pid: int, script: bytes) -> bool:
    """Whether it is the interpreter of that script, not what of buildah stands before it."""
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except OSError:
        return False
    return script in words[1:] and not words[0].startswith(b"buildah")


def test_the_daemon(store: Images, broker: Mosquitto, tmp_path: Path) -> None:
    (tmp_path / "dist").mkdir()
    shutil.copy(package(BOOKWORM), tmp_path / "dist")
    store.build(REPOSITORY / "containers/daemon.Containerfile", tmp_path / "dist", "edge-agent")
    image = store.configuration("edge-agent")
    assert image["User"] == "edge-agent"
    assert image["Entrypoint"] + image["Cmd"] == ["/usr/bin/edge-agent", "run", "--config", CONFIGURATION]
    health = image["Healthcheck"]["Test"][1:]

    container, http = store.container("edge-agent"), free_port()
    store.change(container, "sed", "-i", f"s/1883/{broker.port}/; s/9477/{http}/", CONFIGURATION)
    health = [word.replace("9477", str(http)) for word in health]
    assert store.status(container, health) != 0
    subscriber = Subscriber(broker.port)
    with running(store, container, image["Entrypoint"] + image["Cmd"], tmp_path / "log") as daemon:
        subscriber.wait_predictions(10)
        assert store.status(container, health) == 0
        os.kill(daemon, signal.SIGTERM)
        wait_for(lambda: subscriber.raw("/availability")[-1][1] == b"offline", "its last words")
        # the broker says "offline" of a daemon that died, too
        wait_for(lambda: "stopped: " in (tmp_path / "log").read_text(), "the end of an orderly stop")
    subscriber.close()


def test_the_fleets_side(store: Images, broker: Mosquitto, tmp_path: Path) -> None:
    wheel = build_wheel(tmp_path)
    (tmp_path / "dist").mkdir()
    shutil.copy(wheel, tmp_path / "dist")
    store.build(REPOSITORY / "containers/fleet.Containerfile", tmp_path / "dist", "edge-fleet")
    image = store.configuration("edge-fleet")
    assert image["User"] == "edge-fleet"
    container = store.container("edge-fleet")
    command = [*image["Entrypoint"], *image["Cmd"], "--port", str(broker.port)]
    volume = tmp_path / "volume"
    volume.mkdir()
    volume.chmod(0o777)  # a named volume would get the owner of the image's folder
    with running(store, container, command, tmp_path / "log", f"--volume={volume}:/var/lib/edge-fleet"):
        publisher = Publisher(broker.port)
        wait_for(lambda: "connected to" in (tmp_path / "log").read_text(), "it listens")
        publisher.send((TOPIC, encoded(prediction(seq))) for seq in range(5))
        publisher.close()
        wait_for(lambda: stored(volume / "collected.sqlite") == [0, 1, 2, 3, 4], "the predictions in the database")


def stored(database: Path) -> list[int]:
    with Collected(database) as collected:
        return [one.seq for one in collected.predictions()]
