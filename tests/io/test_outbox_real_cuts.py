"""Real power cuts: the store writes to an ext4 in a file, and a reflink copy of that file is the disk at one instant.

The copy keeps the order in which the kernel wrote to the disk; what was in the kernel's memory is lost, as at a cut.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from threading import Thread

import pytest

from edge_agent.io.outbox_ledger import read_ledger
from edge_agent.io.outbox_sqlite import SqliteOutbox
from edge_agent.outgoing import Lane
from tests.simulators.outbox_records import ALL, unaccounted
from tests.simulators.waiting import wait_for

pytestmark = pytest.mark.soak

ROOT = Path(__file__).resolve().parents[2]
CUTS = 500
LIVES = 10  # the writer is killed and started again so often

# Puts and acknowledges in order for ever; after each commit it says how far it has come.
WRITER = """
import json, os, random, sys
from pathlib import Path
from edge_agent.io import outbox_sqlite
from edge_agent.outgoing import Batch, Count, Lane
from tests.simulators.outbox_records import prediction
folder, run, following = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
outbox_sqlite.EMPTY_BYTES_MOST = 2**18
store = outbox_sqlite.SqliteOutbox(folder / "outbox.sqlite")
store.open(run)
stream = "prediction/inspect"
waiting = [
    (int(kept.record.body.split(b":")[0]), kept.number, kept.stamp.boot_id)
    for kept in store.load(Lane.PREDICTIONS, -10**9, 10**6, 2**30).records
]
chance, number = random.Random(run), 0
while True:
    insert, counts = [], {(run, stream): Count()}
    for _ in range(chance.randint(0, 60)):
        insert.append(prediction(number, run, body=b"%d:" % following + os.urandom(chance.randint(0, 2000))))
        waiting.append((following, number, run))
        number, following = number + 1, following + 1
    counts[run, stream].produced = len(insert)
    some = len(waiting) if chance.random() < 0.02 else chance.randint(0, min(60, len(waiting)))
    gone, waiting = waiting[:some], waiting[some:]
    for _, _, owner in gone:
        counts.setdefault((owner, stream), Count()).acknowledged += 1
    store.commit(Batch(insert=insert, delete=[place for _, place, _ in gone], counts=counts))
    print(json.dumps([following - len(waiting), following]), flush=True)
"""


def run(*command: str | Path) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise AssertionError(f"{' '.join(map(str, command))}: {done.stderr.strip()}")


class Machine:
    """A disk that can be copied at any instant, and the program that writes to it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.cuts, self.disk, self.look = folder / "cuts", folder / "disk", folder / "look"
        for mount in (self.cuts, self.disk, self.look):
            mount.mkdir()
        self.first, self.following = 0, 0  # acknowledged is all below the first, produced all below the second
        self._child: subprocess.Popen[str] | None = None
        self._mounted: list[Path] = []

    def build(self) -> None:
        with (self.folder / "cuts.img").open("wb") as file:
            file.truncate(2**30)
        run("mkfs.xfs", "-q", "-m", "reflink=1", self.folder / "cuts.img")
        self.mount(self.folder / "cuts.img", self.cuts)
        with (self.cuts / "disk.img").open("wb") as file:
            file.truncate(64 * 2**20)
        run("mkfs.ext4", "-q", self.cuts / "disk.img")
        self.mount(self.cuts / "disk.img", self.disk)

    def mount(self, image: Path, folder: Path) -> None:
        run("mount", "-o", "loop", image, folder)
        self._mounted.append(folder)

    def unmount(self, folder: Path) -> None:
        run("umount", folder)
        self._mounted.remove(folder)

    def start(self, life: int) -> None:
        command = [sys.executable, "-c", WRITER, str(self.disk), f"run-{life}", str(self.following)]
        self._child = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT)
        Thread(target=self._listen, args=(self._child,), daemon=True).start()
        before = self.following
        wait_for(lambda: self.following > before, "the writer's first commits")

    def _listen(self, child: subprocess.Popen[str]) -> None:
        assert child.stdout is not None
        for line in child.stdout:
            if line.endswith("\n"):
                self.first, self.following = json.loads(line)

    def kill(self) -> None:
        """What the writer's last commit, maybe not told of any more, has left is what the next one begins with."""
        if self._child is not None:
            self._child.kill()
            self._child.wait()
            self._child = None

    def close(self) -> None:
        self.kill()
        for folder in reversed(self._mounted[:]):
            run("umount", "-l", folder)


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    missing = [tool for tool in ("mkfs.xfs", "mkfs.ext4", "mount") if shutil.which(tool) is None]
    if os.getuid() != 0 or missing:
        pytest.skip(f"needs root, mkfs.xfs, mkfs.ext4 and loop devices{': no ' if missing else ''}{', '.join(missing)}")
    machine = Machine(tmp_path)
    try:
        try:
            machine.build()
        except AssertionError as error:
            pytest.skip(f"no reflink copies of a mounted file system here: {error}")
        yield machine
    finally:
        machine.close()


def look(path: Path, first: int, following: int) -> tuple[int, int]:
    """Check a disk after a cut, on which all below ``first`` had been acknowledged and all below ``following`` put in.
    Returns how far the store on it has come."""
    store = SqliteOutbox(path)
    opened = store.open("run-after")
    assert opened.set_aside is None
    loaded = store.load(Lane.PREDICTIONS, ALL, 10**6, 2**30)
    assert loaded.end
    assert not loaded.damaged
    store.close()
    with contextlib.closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    ledger = read_ledger(path)
    assert unaccounted(ledger) == {}
    counts = [count for row in ledger.runs for count in row.counts.values()]
    produced, acknowledged = (sum(getattr(count, what) for count in counts) for what in ("produced", "acknowledged"))
    # what waits is all from the first that is not acknowledged to the last that was put in, each once and in order
    found = [int(kept.record.body.split(b":")[0]) for kept in loaded.records]
    assert found == list(range(acknowledged, produced))
    assert first <= acknowledged
    assert following <= produced
    return acknowledged, produced


def test_500_real_power_cuts_lose_nothing_that_a_commit_had_returned_for(machine: Machine) -> None:
    chance = random.Random(9)
    copy = machine.cuts / "cut.img"
    under_way = 0
    for cut in range(CUTS):
        if cut % (CUTS // LIVES) == 0:
            machine.kill()
            if cut:
                store = machine.disk / "outbox.sqlite"
                machine.first, machine.following = look(store, machine.first, machine.following)
            machine.start(cut)
        before = machine.following
        commits = chance.randint(1, 8)
        wait_for(lambda wanted=before + 30 * commits: machine.following >= wanted, "further commits")
        first, following = machine.first, machine.following
        run("cp", "--reflink=always", machine.cuts / "disk.img", copy)
        machine.mount(copy, machine.look)
        _, produced = look(machine.look / "outbox.sqlite", first, following)
        under_way += produced > following
        machine.unmount(machine.look)
    assert under_way > 0
