"""The power is cut at any moment while a device takes one good model and two bad ones: whatever the disk kept, the next
start runs a model that gives its golden output, goes on where it was, and ends as it would have without the cut.

The store and the rules are the real ones; what joins them here does one thing after the other, without threads.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import random
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from edge_agent.core import boot, rollout_state
from edge_agent.core.rollout import Machine
from edge_agent.core.rollout_choice import Device as Facts
from edge_agent.core.rollout_choice import choose
from edge_agent.core.rollout_mind import Now, Settings
from edge_agent.core.rollout_steps import (
    Action,
    Check,
    Collect,
    Done,
    Failed,
    Fetch,
    Happening,
    Save,
    Sick,
    Swap,
    SwapBack,
    Tick,
    Verify,
)
from edge_agent.core.trial_watch import Tried
from edge_agent.errors import StorageError, UpdateError
from edge_agent.io import durable, update_state
from edge_agent.io.durable import disk_failure
from edge_agent.io.model_store import ModelStore
from edge_agent.rollouts import Audience, Candidate, Channel, Held, Reason, Release, Rollout, UpdateState
from tests.simulators.power_cut import BROKEN, FULL, READ_ONLY, Disk, Image, Recorder, look, place

NAME = "hall"
GOOD, CRASHES, SICK = (kind * 300 for kind in (b"good", b"crashes", b"sick"))
NOON_NS = 1_800_000_000 * 10**9
FACTS = Facts(id="line1", groups=frozenset(), models=frozenset({NAME}), profile="pi", agent="1.0")
SETTINGS = Settings(device="line1", poll_s=60.0)


def sha(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def candidate(content: bytes, seq: int) -> Candidate:
    target = f"models/{NAME}/{seq}.0.0.tflite"
    release = Release(name=NAME, version=f"{seq}", target=target, length=len(content), sha256=sha(content), seq=seq)
    to = Audience(everyone=True)
    rollout = Rollout(id=f"r{seq}", number=seq, model=NAME, target=target, sha256=sha(content), to=to, trial_s=10.0)
    return Candidate(release, rollout)


CONTENTS = {sha(content): content for content in (GOOD, CRASHES, SICK)}
PLAN = [candidate(GOOD, 1), candidate(CRASHES, 2), candidate(SICK, 3)]
RELEASES = {new.release.target: new.release for new in PLAN}


class ProcessDiedError(Exception):
    """The service manager starts it again."""


@dataclass
class World:
    """What happened outside of the disk, which no cut undoes. The operator publishes the next model of the plan when
    the device has told how the last one ended."""

    published: int = 1
    over: bool = False
    floor: int = 0
    gone: set[str] = field(default_factory=set)  # rolled back, and said so
    starts: dict[str, int] = field(default_factory=dict)
    now_ns: int = 0

    def copy(self) -> World:
        return World(self.published, self.over, self.floor, set(self.gone), dict(self.starts), self.now_ns)

    def now(self) -> Now:
        return Now(self.now_ns, NOON_NS + self.now_ns, True)

    def hears(self, rollout: str, state: UpdateState, sha256: str) -> None:
        if state is UpdateState.ROLLED_BACK:
            self.gone.add(sha256)
        if rollout == PLAN[self.published - 1].rollout.id:
            self.over = self.published == len(PLAN)
            self.published = min(self.published + 1, len(PLAN))


class Device:
    """One life of the process."""

    def __init__(self, folder: Path, world: World) -> None:
        self.world = world
        self.store = ModelStore(folder)

    def live(self) -> None:
        """From the start until the last model's end was told. Raises ProcessDiedError, UpdateError, StorageError."""
        try:
            self.store.lock()
            self._start()
            self._do(self.machine.start(self.world.now()))
            self._do(self.machine.healthy(self.world.now()))
            while not (self.world.over and self.machine.status().state is UpdateState.IDLE):
                deadline_ns = self.machine.next_deadline()
                assert deadline_ns is not None, "I5: waits for ever"
                self.world.now_ns = max(self.world.now_ns, deadline_ns)
                self._do(self.machine.handle(Tick(), self.world.now()))
        finally:
            self.store.close()

    def _start(self) -> None:
        """Whatever ended the process before: a model that is whole runs."""
        state = self.store.load()
        assert self.store.damage is None, f"I6: {self.store.damage}"
        assert state.models.get(NAME, Held()).floor >= self.world.floor, "I3: the floor fell"
        begun = boot.begin(state, self.world.now().wall_ns)
        self.store.save(begun.state)
        while NAME in begun.run and not self._run(begun.run[NAME].sha256):
            begun = boot.fall_back(begun.state, NAME, Reason.HASH, "is damaged", self.world.now().wall_ns)
            self.store.save(begun.state)
        self.store.collect(rollout_state.keep(begun.state))  # a cut may have undone the last one
        self.machine = Machine(begun.state, SETTINGS, self.world.now())

    def _do(self, actions: list[Action]) -> None:
        """All of them, and what follows from their answers."""
        while actions:
            answers: list[Happening | Tried] = []
            for action in actions:
                answers += self._act(action)
            self._tell()
            actions = [more for answer in answers for more in self.machine.handle(answer, self.world.now())]

    def _act(self, action: Action) -> list[Happening | Tried]:
        if isinstance(action, Save):
            self.store.save(action.state)
            self.world.floor = action.state.models.get(NAME, Held()).floor
        elif isinstance(action, Collect):
            self.store.collect(action.keep)
        elif isinstance(action, Check):
            rollouts = tuple(new.rollout for new in PLAN[: self.world.published])
            channel = Channel(schema="edge-agent/rollouts/1", channel="main", rollouts=rollouts)
            state = self.machine.status().device
            return [choose(channel, RELEASES, FACTS, state, self.world.now().wall_ns)]
        elif isinstance(action, Fetch):
            return [self._fetch(action.candidate.release)]
        elif isinstance(action, Verify):
            return [Done()]
        elif isinstance(action, Swap):
            return self._swap(action.candidate.release.sha256)
        elif isinstance(action, SwapBack):
            return [Done() if self._run(action.to.sha256) else Failed(Reason.HASH, "is damaged")]
        return []

    def _fetch(self, release: Release) -> Happening:
        """A part that a cut has torn is found by its hash; the next check fetches all of it."""
        try:
            if self.store.slot(release.sha256) is None:
                self.store.room(release.sha256, release.length)
                fetch(self.store.part(release.sha256), CONTENTS[release.sha256])
            self.store.stage(release.sha256, release.length)
            return Done()
        except UpdateError as error:
            if error.reason != Reason.HASH:
                raise
            return Failed(Reason.HASH, str(error))

    def _swap(self, sha256: str) -> list[Happening | Tried]:
        if not self._run(sha256):
            return [Failed(Reason.HASH, "is damaged")]
        if sha256 == sha(CRASHES):
            raise ProcessDiedError
        return [Done(), Tried(100, {}) if sha256 == sha(GOOD) else Sick(Reason.OUTPUT, "is not finite")]

    def _run(self, sha256: str) -> bool:
        if sha256:
            path = self.store.slot(sha256)
            if path is None:
                return False
            assert path.read_bytes() == CONTENTS[sha256], "I1: runs other bytes than were signed"
        assert sha256 not in self.world.gone, "I2: runs what was rolled back"
        self.world.starts[sha256] = self.world.starts.get(sha256, 0) + 1
        return True

    def _tell(self) -> None:
        last = self.machine.status().device.last
        if last is not None and self.machine.status().state is UpdateState.IDLE:
            self.world.hears(last.rollout, last.state, last.sha256)


def fetch(part: Path, content: bytes) -> None:
    """Append what is missing, as a Source does; but the last bytes are not synced: the store does not rely on it."""
    try:
        _append(part, content)
    except OSError as error:
        raise disk_failure(part, error) from error


def _append(part: Path, content: bytes) -> None:
    descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    try:
        if os.fstat(descriptor).st_size > len(content):
            os.ftruncate(descriptor, 0)
        while (done := os.fstat(descriptor).st_size) < len(content):
            os.fsync(descriptor)
            os.write(descriptor, content[done : done + 700])
    finally:
        os.close(descriptor)


def live(folder: Path, world: World) -> Recorder:
    """Until there is nothing left to do. Raises UpdateError, StorageError."""
    recorder = Recorder(folder, world.copy)
    with recorder.watch():
        while True:
            try:
                Device(folder, world).live()
                return recorder
            except ProcessDiedError:
                continue


def check_end(folder: Path, world: World) -> None:
    """What must be so at the end, whatever happened on the way."""
    store = ModelStore(folder)
    state = store.load()
    held = state.models[NAME]
    assert (held.current.sha256, held.floor) == (sha(GOOD), 1), "I5: did not converge"
    assert store.slot(sha(GOOD)), "I5: the good model is damaged"
    assert {bad.sha256 for bad in state.bad} == {sha(CRASHES), sha(SICK)}, "I5: a bad model is not known as one"
    assert (state.trial, state.pending) == (None, None), "I5: something is under way for ever"
    assert world.starts[sha(CRASHES)] <= boot.STARTS_MOST, "I4: a bad model was started too often"
    assert [path.parent.name for path in folder.glob("slots/*/model.tflite")] == [sha(GOOD)], "is not tidied up"
    assert list((folder / "parts").iterdir()) == [], "is not tidied up"


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """In memory where that is possible: it is written some hundred thousand times."""
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=memory if os.access(memory, os.W_OK) else tmp_path) as made:
        folder = Path(made) / "update"
        folder.mkdir()
        yield folder


def test_the_model_of_the_disk_ends_as_the_real_folder(folder: Path) -> None:
    world = World()
    steps = live(folder, world).steps
    check_end(folder, world)
    disk = Disk()
    for step in steps:
        disk.play(step)
    assert without_lock(disk.now()) == without_lock(look(folder))
    assert {step.what for step in steps} == {"create", "write", "sync", "rename", "unlink", "mkdir", "rmdir"}


def without_lock(image: Image) -> Image:
    """The pid in it is only for a message, and is not written as the rest is."""
    return tuple((path, content) for path, content in image if path != "lock")


@dataclass
class Tally:
    singles: int = 0
    pairs: int = 0

    def __str__(self) -> str:
        both = self.singles + self.pairs
        return f"{self.singles} disks after one power cut, {self.pairs} after two: {both} images, all end well"


def cut_everywhere(folder: Path, chance: random.Random, second: int) -> Tally:
    """Cut between any two steps of a life, and the life that follows on each disk that this could leave at ``second``
    places more."""
    tally = Tally()
    place((), folder)
    life, disk, seen = live(folder, World()), Disk(), set[Image]()
    for at, step in enumerate(life.steps):
        for image in disk.images(chance):
            if image in seen:
                continue
            seen.add(image)
            tally.singles += 1
            after = recover(folder, image, life.marks[at], f"cut before step {at}")
            for again in chance.sample(range(len(after.steps)), min(second, len(after.steps))):
                tally.pairs += 1
                twice = cut_again(image, after, again, chance)
                recover(folder, twice, after.marks[again], f"cut before step {at}, then before step {again}")
        disk.play(step)
    return tally


def cut_again(image: Image, life: Recorder, at: int, chance: random.Random) -> Image:
    disk = Disk(image)
    for step in life.steps[:at]:
        disk.play(step)
    return chance.choice(list(disk.images(chance)))


def recover(folder: Path, image: Image, world: World, where: str) -> Recorder:
    """Live on from ``image`` to the end."""
    place(image, folder)
    world = world.copy()
    try:
        life = live(folder, world)
        check_end(folder, world)
    except (AssertionError, KeyError, UpdateError, StorageError) as error:
        raise AssertionError(f"{where}: {error}") from error
    return life


def test_wherever_the_power_is_cut_the_device_ends_well(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tally = cut_everywhere(folder, random.Random(1), second=1)
    with capsys.disabled():
        print(f"\n{tally}")
    assert tally.singles > 100


@pytest.mark.soak
def test_every_disk_that_a_cut_could_leave_and_many_pairs(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tally = cut_everywhere(folder, random.Random(2), second=90)
    with capsys.disabled():
        print(f"\n{tally}")
    assert tally.singles + tally.pairs > 17_000


def _no_sync(_: Path) -> None:
    """A careless program."""


@pytest.mark.parametrize(
    "careless",
    [
        lambda patch: patch.setattr("edge_agent.io.durable.sync_folder", _no_sync),
        lambda patch: patch.setattr("edge_agent.io.model_store.sync_folder", _no_sync),
        lambda patch: patch.setattr(update_state, "write_whole", _write),
        lambda patch: patch.setattr(update_state, "write_whole", _rename_unsynced),
        lambda patch: patch.setattr("edge_agent.io.model_store.sync_file", _no_sync),
    ],
    ids=["names of states", "names of slots", "states in place", "states unsynced", "slots unsynced"],
)
def test_each_omission_would_be_found_out(
    folder: Path, monkeypatch: pytest.MonkeyPatch, careless: Callable[[pytest.MonkeyPatch], None]
) -> None:
    careless(monkeypatch)
    with pytest.raises(AssertionError, match=r"cut before step|I\d"):
        cut_everywhere(folder, random.Random(3), second=2)


def _write(path: Path, content: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT, 0o600)
    os.write(descriptor, content)
    os.fsync(descriptor)
    os.close(descriptor)
    durable.sync_folder(path.parent)


def _rename_unsynced(path: Path, content: bytes) -> None:
    beside = path.with_name("new")
    descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT, 0o600)
    os.write(descriptor, content)
    os.close(descriptor)
    beside.replace(path)
    durable.sync_folder(path.parent)


@pytest.mark.parametrize(("first", "error"), [(1, FULL), (2, READ_ONLY), (3, BROKEN)])
def test_a_disk_that_fails_at_any_step_is_one_reason_and_loses_nothing(folder: Path, first: int, error: int) -> None:
    for at in range(first, len(live(folder, World()).steps), 3):  # each step is somebody's
        world = World()
        place((), folder)
        with Recorder(folder, fail=(at, error)).watch():
            try:
                go_on_until_it_fails(folder, world)
            except UpdateError as failed:
                assert failed.reason == (Reason.DISK_FULL if error == FULL else Reason.DISK_FAILED)
                assert not failed.final
                assert "\n" not in str(failed)
            except StorageError as failed:
                assert "[update] path" in str(failed)  # at its start: the daemon infers without updates
        live(folder, world)  # somebody freed some room
        check_end(folder, world)


def go_on_until_it_fails(folder: Path, world: World) -> None:
    while True:
        with contextlib.suppress(ProcessDiedError):
            Device(folder, world).live()
            return  # what failed was only for comfort: the copy of the state
