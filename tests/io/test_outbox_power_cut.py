"""The power is cut at any moment of the store's life: what a commit had returned for is there, once, and it adds up.

The real store writes under a shim that notes all that it does to its files; a model of the disk plays that again up to
some step, and loses, tears or reorders what had not been synced. Every such disk must hold the state after the last
commit that had returned, or after the one under way.
"""

from __future__ import annotations

import json
import random
import shutil
import sqlite3
from collections import Counter
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from edge_agent.io.outbox_ledger import read_ledger
from edge_agent.io.outbox_sqlite import SqliteOutbox
from edge_agent.outgoing import Lane
from tests.simulators import write_log
from tests.simulators.outbox_records import ALL, StillClock, unaccounted
from tests.simulators.write_log import Disk, Step

ROOT = Path(__file__).resolve().parents[2]
CUTS = 300
RUNS = 3

# One life of the store: puts, acknowledgements, trims, all acknowledged once (the file is rewritten). After each commit
# that returned, the state that it left is written to `marks`. An even run is killed, the others stop.
SESSION = """
import json, os, random, sys
from pathlib import Path
from edge_agent.io import outbox_schema, outbox_sqlite
from edge_agent.outgoing import Batch, Count, Lane, Trim
from tests.simulators.outbox_records import prediction
folder = Path(sys.argv[1])
outbox_sqlite.EMPTY_BYTES_MOST = 64 * 2**10
outbox_schema._SETTINGS += ("PRAGMA wal_autocheckpoint = 40",)  # pages: the log goes over into the file often
marks = os.open(folder / "marks", os.O_RDWR | os.O_CREAT)
os.lseek(marks, 0, os.SEEK_END)
lines = (folder / "marks").read_text().splitlines()
state = json.loads(lines[-1]) if lines else {"run": -1, "next": 0, "stored": [], "counts": {}}
run = state["run"] = state["run"] + 1
chance = random.Random(run)
store = outbox_sqlite.SqliteOutbox(folder / "outbox.sqlite")
store.open(f"run-{run}")
numbers = {}
if state["stored"]:
    found = store.load(Lane.PREDICTIONS, -10**9, 10**6, 2**30).records
    numbers = {int(kept.record.body.split(b":")[0]): kept.number for kept in found}

def count(owner):
    return state["counts"].setdefault(f"run-{owner}", {"produced": 0, "acknowledged": 0, "outbox_full": 0})

number = 0
for step in range(24):
    counts, insert, gone, trim = {}, [], [], None
    if step % 4 != 3:
        for _ in range(chance.randint(1, 40)):
            body = b"%d:" % state["next"] + chance.randbytes(700 - len(str(state["next"])))
            insert.append(prediction(number, f"run-{run}", body=body))
            numbers[state["next"]] = number
            state["stored"].append([state["next"], run])
            number, state["next"] = number + 1, state["next"] + 1
        counts[(f"run-{run}", "prediction/inspect")] = Count(produced=len(insert))
        count(run)["produced"] += len(insert)
    if step % 2 or step == 18:
        some = len(state["stored"]) if step == 18 else chance.randint(0, min(60, len(state["stored"])))
        gone, state["stored"] = state["stored"][:some], state["stored"][some:]
        for _, owner in gone:
            key = (f"run-{owner}", "prediction/inspect")
            counts.setdefault(key, Count()).acknowledged += 1
            count(owner)["acknowledged"] += 1
    if step % 5 == 4:
        some = chance.randint(0, len(state["stored"]))
        size = prediction(0, body=bytes(701)).record.size
        trim = Trim(-10**9, size * (len(state["stored"]) - some))
        for _, owner in state["stored"][:some]:
            count(owner)["outbox_full"] += 1
        state["stored"] = state["stored"][some:]
    delete = [numbers[body] for body, _ in gone]
    store.commit(Batch(insert=insert, delete=delete, counts=counts, trim=trim, clean=step == 23 and run % 2 == 1))
    os.write(marks, json.dumps(state).encode() + b"\\n")
if run % 2 == 0:
    os._exit(0)
store.close()
"""

State = dict[str, Any]
EMPTY: State = {"stored": [], "counts": {}}


@pytest.fixture(scope="module")
def shim(tmp_path_factory: pytest.TempPathFactory) -> Path:
    shim = write_log.build(tmp_path_factory.mktemp("shim"))
    if shim is None:
        pytest.skip("needs a C compiler for the shim that notes writes")
    return shim


@pytest.fixture(scope="module")
def steps(shim: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Step]:
    return lives(shim, SESSION, tmp_path_factory.mktemp("session"))


def lives(shim: Path, script: str, folder: Path) -> list[Step]:
    """All that RUNS runs of the script did to the disk."""
    (folder / "state").mkdir()
    for _ in range(RUNS):
        steps = write_log.record(shim, script, folder / "state", folder / "log", ROOT)
    return steps


def states(steps: list[Step]) -> list[State]:
    return [json.loads(step.data) for step in steps if step.path.endswith("marks") and step.what == "write"]


def place(image: dict[str, bytes], folder: Path) -> Path:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    for path, content in image.items():
        (folder / Path(path).name).write_bytes(content)
    return folder / "outbox.sqlite"


def found_after(path: Path) -> State:
    """What a daemon finds that starts on that disk, in the form of the marks."""
    store = SqliteOutbox(path, StillClock())
    opened = store.open("run-after")
    assert opened.set_aside is None
    loaded = store.load(Lane.PREDICTIONS, ALL, 10**6, 2**30)
    assert loaded.end
    assert not loaded.damaged
    ledger = read_ledger(path)
    store.close()
    assert unaccounted(ledger) == {}
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    stored = [[int(kept.record.body.split(b":")[0]), int(kept.stamp.boot_id[4:])] for kept in loaded.records]
    assert (opened.records, ledger.records) == (len(stored), len(stored))
    assert ledger.bytes == sum(kept.record.size for kept in loaded.records)
    counts = {}
    for run in ledger.runs:
        for count in run.counts.values():
            row = {"produced": count.produced, "acknowledged": count.acknowledged}
            counts[run.boot_id] = {**row, "outbox_full": count.discarded.get("outbox_full", 0)}
            assert count.stored == sum(1 for _, owner in stored if f"run-{owner}" == run.boot_id)
    return {"stored": stored, "counts": counts}


def test_the_log_of_writes_is_whole(steps: list[Step]) -> None:
    disk = Disk()
    for step in steps:
        disk.play(step)
    # the index of the log is mapped into memory: it is not written, and made anew after a cut
    image = {path: content for path, content in disk.whole().items() if not path.endswith("-shm")}
    folder = Path(next(iter(image))).parent
    found = {str(file): file.read_bytes() for file in folder.iterdir() if not file.name.endswith("-shm")}
    assert found == image
    kinds = Counter((step.what, Path(step.path).name) for step in steps)
    assert kinds["sync", "outbox.sqlite-wal"] >= RUNS * 24
    assert kinds["write", "outbox.sqlite"] > 100
    assert kinds["truncate", "outbox.sqlite"] >= 1
    assert kinds["unlink", "outbox.sqlite-wal"] >= 1
    assert kinds["sync", folder.name] >= 1


@pytest.mark.parametrize("fate", ["whole", "dropped", "torn", "reordered"])
def test_nothing_that_a_commit_returned_for_is_lost_wherever_the_power_is_cut(
    steps: list[Step], tmp_path: Path, fate: str
) -> None:
    landed = cut_everywhere(steps, fate, tmp_path / "cut")
    if fate == "whole":
        assert landed > 0  # cuts between a commit's last write and its return are among them


def test_a_store_that_does_not_sync_would_be_found_out(shim: Path, tmp_path: Path) -> None:
    careless = "from edge_agent.io import outbox_schema\noutbox_schema._SETTINGS += ('PRAGMA synchronous = OFF',)\n"
    steps = lives(shim, careless + SESSION, tmp_path)
    with pytest.raises(AssertionError, match="cut before step"):
        cut_everywhere(steps, "dropped", tmp_path / "cut")


def cut_everywhere(steps: list[Step], fate: str, folder: Path) -> int:
    """Returns how many of the cuts found the commit under way on the disk already."""
    chance = random.Random(fate)
    all_states = [EMPTY, *states(steps)]
    cuts = set(chance.sample(range(len(steps) + 1), min(CUTS, len(steps) + 1)))
    disk = Disk()
    returned = landed = 0
    for position in range(len(steps) + 1):
        if position in cuts:
            image = disk.whole() if fate == "whole" else getattr(disk, fate)(chance)
            image = {path: content for path, content in image.items() if not path.endswith(("marks", "-shm"))}
            found = found_after(place(image, folder))
            possible = [{key: state[key] for key in EMPTY} for state in all_states[returned : returned + 2]]
            assert found in possible, f"cut before step {position}, after commit {returned}"
            landed += found != possible[0]
        if position < len(steps):
            disk.play(steps[position])
            returned += steps[position].path.endswith("marks")
    assert returned == RUNS * 24
    return landed
