"""The rules of an update under anything in any order: a crash after any action, a disk that fails, a network that is
away, an operator who publishes, pauses and stops. What must hold is asserted by the world itself and here."""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from edge_agent.core.rollout_steps import Ask, Hold
from edge_agent.core.rollout_steps import Wake as Bell
from edge_agent.core.rollout_window import Window
from edge_agent.rollouts import FACTORY, UpdateState
from tests.simulators.update_world import Nature, World, slot_of

MODELS = st.sampled_from(["hall", "gate"])


class Anything(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.world = World(window=Window.parse("22:00-04:00"))

    @rule(name=MODELS, nature=st.sampled_from(Nature), shadow_s=st.sampled_from([0.0, 600.0]))
    def publish(self, name: str, nature: Nature, shadow_s: float) -> None:
        self.world.publish(name, nature, shadow_s=shadow_s)

    @rule(name=MODELS, back=st.integers(1, 3))
    def sign_old_bytes_again(self, name: str, back: int) -> None:
        old = [rollout for rollout in self.world.rollouts if rollout.model == name][-back:]
        if old:
            self.world.publish(name, sha256=old[0].sha256)

    @rule(which=st.integers(0, 9), state=st.sampled_from(["active", "paused", "stopped"]))
    def turn(self, which: int, state: str) -> None:
        if self.world.rollouts:
            self.world.turn(self.world.rollouts[which % len(self.world.rollouts)], state)

    @rule(works=st.booleans())
    def disk(self, works: bool) -> None:
        self.world.disk_works = works

    @rule(works=st.booleans())
    def network(self, works: bool) -> None:
        self.world.network_works = works

    @rule()
    def bell(self) -> None:
        self.world.happen(Bell("bell"))

    @rule(seconds=st.sampled_from([1.0, 70.0, 1000.0, 8 * 3600.0]))
    def pass_time(self, seconds: float) -> None:
        self.world.pass_time(seconds)

    @rule(times=st.integers(1, 4))
    def answer(self, times: int) -> None:
        for _ in range(times):
            self.world.answer()

    @rule()
    def live(self) -> None:
        self.world.live()

    @rule(after=st.integers(0, 3))
    def crash_soon(self, after: int) -> None:
        self.world.cut = after

    @rule()
    def crash(self) -> None:
        self.world.crash()

    @rule()
    def restart(self) -> None:
        self.world.restart()

    @rule()
    def healthy(self) -> None:
        self.world.healthy()

    @rule(what=st.sampled_from(["pin", "unpin", "rollback"]), name=MODELS)
    def ask(self, what: str, name: str) -> None:
        wish = Ask(what, name)
        if self.world.machine.objection(wish) is None:
            self.world.happen(wish)

    @rule(minutes=st.sampled_from([None, 10, 10**6]))
    def hold(self, minutes: int | None) -> None:
        until = None if minutes is None else self.world.wall_ns + minutes * 60 * 10**9
        self.world.happen(Hold(until))

    @invariant()
    def what_is_on_the_disk_can_run(self) -> None:
        world = self.world
        for held in world.disk.models.values():
            assert held.current.sha256 in world.slots
            assert held.previous is None or held.previous.sha256 in world.slots
        if world.disk.trial is not None:
            assert world.disk.trial.candidate.release.sha256 in world.slots

    def teardown(self) -> None:
        """Once the world is mended it converges: each model is at what its newest rollout wants, or has a reason."""
        world = self.world
        world.settle()
        status = world.machine.status()
        assert status.state is UpdateState.IDLE, status
        for name in ("hall", "gate"):
            meant = [one for one in world.rollouts if one.model == name and one.state != "stopped"]
            held, newest = world.disk.models.get(name), max(meant, key=lambda one: one.number, default=None)
            if newest is None or newest.state == "paused" or (held is not None and held.pinned):
                continue
            at, floor = slot_of(world, name), 0 if held is None else held.floor
            numbers = {one.id: one.number for one in world.rollouts}
            assert (
                (at.sha256 == newest.sha256 and at.rollout == newest.id)
                or any((bad.sha256, bad.rollout) == (newest.sha256, newest.id) for bad in world.disk.bad)
                or world.releases[newest.target].seq < floor
                or numbers.get(at.rollout, 0) > newest.number
            ), (name, at, newest, status)
            assert world.running.get(name, FACTORY) == at.sha256


Anything.TestCase.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
TestAnything = Anything.TestCase
