"""A device and its repository as the rules of an update see them: a disk, models that behave well or not, an operator
who publishes, and a process that can die after any action. The rules are the real ones; the world is a small model.
"""

from __future__ import annotations

from collections import Counter
from enum import Enum

from msgspec.structs import replace

from edge_agent.core import boot
from edge_agent.core.rollout import Machine
from edge_agent.core.rollout_choice import Device, choose, wanted
from edge_agent.core.rollout_mind import Now, Settings
from edge_agent.core.rollout_state import keep
from edge_agent.core.rollout_steps import (
    Action,
    Cancel,
    Check,
    Checked,
    Collect,
    Done,
    Failed,
    Fetch,
    Happening,
    Save,
    Settle,
    Shadow,
    Shadowed,
    Sick,
    Swap,
    SwapBack,
    Tell,
    Tick,
    Unshadow,
    Verify,
    Wake,
)
from edge_agent.core.rollout_window import Window
from edge_agent.core.trial_watch import Tried
from edge_agent.rollouts import (
    FACTORY,
    Audience,
    Candidate,
    Channel,
    DeviceState,
    Reason,
    Release,
    Rollout,
    Slot,
)

SECOND = 10**9
NOON_NS = 1_800_014_400 * SECOND  # 2027-01-15 12:00 UTC
DEVICE = Device(id="cam", groups=frozenset({"line"}), models=frozenset({"hall", "gate"}), profile="pi5", agent="1.2.0")


class Nature(str, Enum):
    """How a model behaves once it is signed."""

    GOOD = "good"
    WRONG_BYTES = "wrong bytes"  # the server gives others
    NO_MODEL = "no model"  # verification refuses it
    DISAGREES = "disagrees"  # in shadow
    SICK = "sick"  # on trial
    DEADLY = "deadly"  # the process dies on loading it


class GoneError(Exception):
    """The process, or the power, is gone."""


class World:
    """Only ``disk`` and ``slots`` outlive a crash."""

    def __init__(self, *, window: Window | None = None, poll_s: float | None = 3600.0) -> None:
        self.settings = Settings(device=DEVICE.id, poll_s=poll_s, window=window)
        self.mono_ns, self.wall_ns = 0, NOON_NS
        self.disk, self.slots = DeviceState(), {FACTORY}
        self.disk_works = self.network_works = True
        self.rollouts: list[Rollout] = []
        self.releases: dict[str, Release] = {}
        self.natures: dict[str, Nature] = {}
        self.loads: Counter[tuple[str, str]] = Counter()  # (hash, rollout) -> swaps in its trial, less clean stops
        self.verified: set[str] = set()  # in this process
        self.left: set[tuple[str, str]] = set()  # given up, and on the disk
        self.floors: Counter[str] = Counter()
        self.told: list[Tell] = []
        self.cut: int | None = None  # the process dies before so many more actions
        self.begin()

    @property
    def now(self) -> Now:
        return Now(self.mono_ns, self.wall_ns, synced=True)

    # --- the operator ----------------------------------------------------------------------------------------------

    def publish(self, name: str, nature: Nature = Nature.GOOD, sha256: str | None = None, **fields: object) -> Rollout:
        """A new release of ``name`` and a rollout of it; ``sha256`` of an earlier one signs those bytes again."""
        number = len(self.rollouts) + 1
        sha256 = sha256 or f"{name}-{number}"
        target = f"models/{name}/{sha256}.tflite"
        self.releases[target] = Release(
            name=name, version=f"{number}.0", target=target, length=8, sha256=sha256, seq=number
        )
        self.natures.setdefault(sha256, nature)
        plain = {"to": Audience(everyone=True), "trial_s": 60.0, "agreement": 0.9}
        rollout = Rollout(id=f"r{number}", number=number, model=name, target=target, sha256=sha256, **(plain | fields))
        self.rollouts.append(rollout)
        return rollout

    def turn(self, rollout: Rollout, state: str) -> None:
        self.rollouts = [replace(one, state=state) if one.id == rollout.id else one for one in self.rollouts]

    # --- the process -----------------------------------------------------------------------------------------------

    def begin(self) -> None:
        """As the daemon does: boot, save, load what is safe, take up what was under way."""
        self.errand: Action | None = None
        self.shadow: Candidate | None = None
        self.verified = set()
        started = boot.begin(self.disk, self.wall_ns)
        self._save(started.state)
        self.running: dict[str, str] = {}
        for name, slot in started.run.items():
            assert slot.sha256 in self.slots, "what is committed is on the disk"
            self.running[name] = slot.sha256
        self.on_trial: Candidate | None = None
        self.machine = Machine(started.state, self.settings, self.now)
        self._do(lambda: self.machine.start(self.now))

    def crash(self) -> None:
        self.cut = None
        self.mono_ns += SECOND
        self.wall_ns += SECOND
        self.begin()

    def restart(self) -> None:
        """An orderly stop, and a start."""
        for action in self.machine.stop(self.now):
            assert isinstance(action, Save)
            if self._save(action.state) and self.on_trial is not None:
                self.loads[_key(self.on_trial)] -= 1
            elif isinstance(self.errand, Swap) and self.disk_works:
                self.loads[_key(self.errand.candidate)] -= 1
        self.crash()

    def happen(self, happening: Happening | Tried) -> None:
        self._do(lambda: self.machine.handle(happening, self.now))

    def healthy(self) -> None:
        self._do(lambda: self.machine.healthy(self.now))

    def pass_time(self, seconds: float) -> None:
        """With a Tick at each deadline, as the shell does."""
        end_ns = self.mono_ns + round(seconds * SECOND)
        for _ in range(1000):
            deadline_ns = self.machine.next_deadline()
            if deadline_ns is None or deadline_ns > end_ns:
                break
            assert deadline_ns > self.mono_ns, "a deadline that is over would spin"
            self._advance(deadline_ns)
            self.happen(Tick())
        self._advance(max(end_ns, self.mono_ns))

    def answer(self) -> None:
        """The errand ends, as the world has it."""
        errand, self.errand = self.errand, None
        if errand is not None:
            self.happen(self._answer(errand))

    def live(self) -> None:
        """What a shell reports by itself while a model is tried."""
        if self.shadow is not None:
            agreement = 0.5 if self._nature(self.shadow) is Nature.DISAGREES else 0.99
            self.happen(Shadowed(20, agreement, 3.0, 40.0))
        elif self.on_trial is not None and self._nature(self.on_trial) is Nature.SICK:
            self.happen(Sick(Reason.OUTPUT, "not a number"))
        elif self.on_trial is not None:
            self.happen(Tried(20, {"p95_ms": 3.0}))

    def settle(self, days: int = 20, quiet_h: int = 26) -> None:
        """Mend the world and let time pass until nothing has changed for so long: longer than a day where windows are
        to open and holds to end."""
        self.cut, self.disk_works, self.network_works = None, True, True
        self.happen(Wake("operator"))
        quiet = 0
        for _ in range(days * 24):
            before = self.disk
            self.pass_time(3600.0)
            for _ in range(8):
                self.answer()
                self.live()
            self.healthy()
            quiet = quiet + 1 if self.disk == before else 0
            if quiet >= quiet_h and self.errand is None:
                return

    def _advance(self, mono_ns: int) -> None:
        self.wall_ns += mono_ns - self.mono_ns
        self.mono_ns = mono_ns

    def _do(self, decide) -> None:
        try:
            self._perform(decide())
        except GoneError:
            self.crash()

    def _perform(self, actions: list[Action]) -> None:
        saves = [action for action in actions if isinstance(action, Save)]
        assert saves == actions[: len(saves)] and len(saves) <= 1, "the state comes first"
        for action in actions:
            if self.cut is not None:
                self.cut -= 1
                if self.cut < 0:
                    raise GoneError
            if isinstance(action, Save):
                if not self._save(action.state):
                    unsaved = self.machine.unsaved(Failed(Reason.DISK_FULL, "no room"), self.now)
                    assert not any(isinstance(action, Save | Collect) for action in unsaved)
                    return self._perform(unsaved)
            else:
                self._act(action)
        return None

    def _act(self, action: Action) -> None:
        if isinstance(action, Check | Fetch | Verify | Swap | SwapBack):
            assert self.errand is None, f"{action} while {self.errand} is under way"
            self.errand = action
            if isinstance(action, Swap):
                self._swap(action)
        elif isinstance(action, Cancel):
            self.errand = None
        elif isinstance(action, Shadow):
            self.shadow = action.candidate
        elif isinstance(action, Unshadow):
            self.shadow = None
        elif isinstance(action, Settle):
            assert self.on_trial is not None
            self.loads[_key(self.on_trial)] = 0
            self.running[action.model], self.on_trial = self.on_trial.release.sha256, None
        elif isinstance(action, Collect):
            assert keep(self.disk) <= action.keep, "what the disk's state names is never deleted"
            self.slots = {FACTORY} | (self.slots & action.keep)
        elif isinstance(action, Tell):
            self.told.append(action)

    def _swap(self, action: Swap) -> None:
        candidate = action.candidate
        trial = self.disk.trial
        assert trial is not None and trial.candidate == candidate and trial.starts >= 1, "counted before it is loaded"
        assert candidate.release.sha256 in self.slots
        assert _key(candidate) not in self.left, "given up under this rollout before"
        self.loads[_key(candidate)] += 1
        assert self.loads[_key(candidate)] <= boot.STARTS_MOST
        if self._nature(candidate) is Nature.DEADLY:
            raise GoneError

    def _answer(self, errand: Action) -> Happening:
        if isinstance(errand, Check):
            return self._check()
        if isinstance(errand, Fetch):
            return self._fetch(errand.candidate)
        if isinstance(errand, Verify):
            assert errand.candidate.release.sha256 in self.slots
            if self._nature(errand.candidate) is Nature.NO_MODEL:
                return Failed(Reason.GOLDEN, "another output than it should have", final=True)
            self.verified.add(errand.candidate.release.sha256)
        if isinstance(errand, Swap):
            self.on_trial = errand.candidate
        if isinstance(errand, SwapBack):
            assert errand.to.sha256 in self.slots
            self.running[errand.model], self.on_trial = errand.to.sha256, None
        return Done({"ms": 1.0})

    def _check(self) -> Happening:
        if not self.network_works:
            return Failed(Reason.UNREACHABLE, "nobody answers")
        channel = Channel(schema="edge-agent/rollouts/1", channel="main", rollouts=tuple(self.rollouts))
        found = {rollout.target: self.releases[rollout.target] for rollout in wanted(channel, DEVICE)}
        checked: Checked = choose(channel, found, DEVICE, self.machine.status().device, self.wall_ns)
        return checked

    def _fetch(self, candidate: Candidate) -> Happening:
        if not self.network_works:
            return Failed(Reason.UNREACHABLE, "nobody answers")
        if not self.disk_works:
            return Failed(Reason.DISK_FULL, "no room")
        if self._nature(candidate) is Nature.WRONG_BYTES:
            return Failed(Reason.HASH, "other bytes than were signed", final=True)
        self.slots.add(candidate.release.sha256)
        return Done()

    def _save(self, state: DeviceState) -> bool:
        if not self.disk_works:
            return False
        for name, held in state.models.items():
            assert held.floor >= self.floors[name], "a floor never falls"
            self.floors[name] = held.floor
        self.left |= {(bad.sha256, bad.rollout) for bad in state.bad}
        self.disk = state
        return True

    def _nature(self, candidate: Candidate) -> Nature:
        return self.natures[candidate.release.sha256]


def slot_of(world: World, name: str) -> Slot:
    """What the disk says that this model runs."""
    held = world.disk.models.get(name)
    return Slot() if held is None else held.current


def _key(candidate: Candidate) -> tuple[str, str]:
    return candidate.release.sha256, candidate.rollout.id
