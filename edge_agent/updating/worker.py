"""One thread owns the device's updates: it hears of bells, answers and time, asks the rules what is to be done, and
does it in that order, the state on the disk before anything that follows it.
"""

from __future__ import annotations

import queue
from collections.abc import Callable, Sequence

from msgspec import Struct

from edge_agent import limits
from edge_agent.core import rollout_state
from edge_agent.core.rollout import Machine
from edge_agent.core.rollout_mind import Now
from edge_agent.core.rollout_steps import (
    Action,
    Cancel,
    Check,
    Collect,
    Done,
    Failed,
    Fetch,
    Happening,
    Hold,
    Report,
    Save,
    Settle,
    Shadow,
    Shadowed,
    ShadowFailed,
    Swap,
    SwapBack,
    Tell,
    Tick,
    Unshadow,
    Verify,
    Wake,
)
from edge_agent.core.trial_watch import Tried
from edge_agent.core.update_hold import parse_hold
from edge_agent.errors import UpdateError
from edge_agent.io.model_store import ModelStore
from edge_agent.outgoing import Record
from edge_agent.parts import Parts
from edge_agent.records import Event
from edge_agent.rollouts import DeviceState, Reason, UpdateState
from edge_agent.stages.worker import Services, Worker
from edge_agent.updating.errands import Answer, Errands, Restore
from edge_agent.updating.operator import OperatorDesk
from edge_agent.updating.shadow import ShadowSeat
from edge_agent.updating.status import status_record
from edge_agent.updating.swapping import Swapping
from edge_agent.updating.trial import TrialSeat

TICK_S = 1.0


class _Answered(Struct, frozen=True):
    number: int  # of the errand, or of the shadow
    answer: Answer | Shadowed | ShadowFailed


class Updater(Worker):
    """The owner of Machine and ModelStore."""

    def __init__(
        self,
        parts: Parts,
        make_machine: Callable[[DeviceState], Machine],
        state: DeviceState,
        store: ModelStore,
        make_errands: Callable[[Swapping, Callable[[int, Answer], None], Callable[[], DeviceState]], Errands],
        changed: Callable[[], None],
        services: Services,
    ) -> None:
        """``state``: what ``parts`` run; ``changed``: another model is live; called on this thread."""
        super().__init__("updater", services)
        self._parts = parts
        self._make_machine = make_machine
        self._machine = make_machine(state)
        self._state = state  # as last saved
        self._store = store
        self._changed = changed
        self._swapping = Swapping(parts, store)
        self._queue: queue.SimpleQueue[Happening | _Answered] = queue.SimpleQueue()
        self.errands = make_errands(self._swapping, self._answered, lambda: self._state)
        self._shadow = ShadowSeat(parts, store, self._swapping, self._answered, services)
        self._desk = OperatorDesk(store.requests, self._machine)
        self._trial = TrialSeat(parts, self._swapping)
        self._healthy_ns: int | None = self.clock.monotonic_ns() + round(limits.HEALTHY_S * 1e9)
        self._begun = self._broken_off = False
        self._told = self._live()  # what runs, as ``info`` says it
        self._rung = False
        self._held_said: bytes | None = None  # on update/hold, and not looked at yet
        self._held_until_ns: int | None = None  # wall clock, when the rules begin
        self._hold_ns = 0  # not before

    # --- from any thread -----------------------------------------------------------------------------------------

    def bell(self) -> None:
        """Anybody at the broker may ring as often as they like: what has not been heard yet is one bell."""
        if not self._rung:
            self._rung = True
            self._queue.put(Wake("bell"))

    def hold(self, payload: bytes) -> None:
        """As ``update/hold`` says it; heard within a second, of a flood the last one."""
        self._held_said = payload

    def wake(self) -> None:
        """The process stops: not a second later than it must."""
        self._queue.put(Tick())

    def _answered(self, number: int, answer: Answer | Shadowed | ShadowFailed) -> None:
        self._queue.put(_Answered(number, answer))

    def greeting(self) -> list[Record]:
        """What every new connection is told."""
        return [self._status_record()]

    # --- this thread ---------------------------------------------------------------------------------------------

    def work(self) -> None:
        if not self._begun:
            self._begin()
        while not self.services.stopping.is_set():
            self.beat()
            self._one(self._next())
        self._end()

    def recover(self) -> None:
        """Actions may have been dropped, and the rules wait for their answers: they begin anew with what was saved, as
        after the death of the process, and with the hold that there was."""
        self._held_until_ns = self._machine.status().held_until_ns
        self.errands.cancel()
        self._shadow.end()
        self._trial.end()
        self._machine = self._make_machine(self._state)
        self._desk = OperatorDesk(self._store.requests, self._machine)
        self._begun, self._broken_off = False, True

    def leave(self) -> None:
        self._shadow.end()
        self._store.close()

    def _begin(self) -> None:
        """Raises UpdateError where what runs is not what was saved, and can't be made so now."""
        if not self._broken_off:
            self._store.requests.clear()
        elif not self._restored():
            return
        self._begun, self._broken_off = True, False
        self._collect_at_start()
        self._do(self._machine.start(self._now()))
        self._settle(Hold(self._held_until_ns))

    def _restored(self) -> bool:
        """False: told to stop meanwhile."""
        self.errands.begin(Restore({name: held.current for name, held in self._state.models.items()}))
        while not self.services.stopping.is_set():
            self.beat()
            answer = self._next()
            if isinstance(answer, Failed):
                raise UpdateError(answer.reason, answer.detail)
            if isinstance(answer, Done):
                return True
        return False

    def _next(self) -> Happening | None:
        wait_s = TICK_S
        due_ns = self._machine.next_deadline()
        if due_ns is not None:
            wait_s = min(wait_s, max(0.0, (due_ns - self.clock.monotonic_ns()) / 1e9))
        try:
            item = self._queue.get(timeout=wait_s)
        except queue.Empty:
            return None
        if isinstance(item, Wake):
            self._rung = False  # one that comes from now on may mean something newer
        if not isinstance(item, _Answered):
            return item
        answer = item.answer
        if isinstance(answer, Shadowed | ShadowFailed):
            return answer if self._shadow.awaits(item.number) else None
        if not self.errands.awaits(item.number):
            return None
        self._trial.answered(answer)
        self._desk.answered(answer)
        return answer

    def _one(self, happening: Happening | None) -> None:
        self._settle(happening or Tick())
        self._hear_hold()
        self._watch_trial()
        self._serve_operator()
        self._tell_of_change()
        if self._healthy_ns is not None and self.clock.monotonic_ns() >= self._healthy_ns:
            self._do(self._machine.healthy(self._now()))
            self._healthy_ns = None

    def _settle(self, happening: Happening | Tried) -> None:
        self._do(self._machine.handle(happening, self._now()))

    def _hear_hold(self) -> None:
        """What makes no sense is told and changes nothing."""
        now_ns = self.clock.monotonic_ns()
        if self._held_said is None or now_ns < self._hold_ns:
            return
        payload, self._held_said = self._held_said, None
        self._hold_ns = now_ns + round(TICK_S * 1e9)
        try:
            self._settle(Hold(parse_hold(payload, self._now().wall_ns)))
        except ValueError as error:
            self.services.emit(Event("command_refused", "warning", "update/hold", str(error)))

    def _watch_trial(self) -> None:
        if self._machine.status().state is not UpdateState.TRIAL:
            self._trial.end()
        elif (found := self._trial.look()) is not None:
            self._settle(found)

    def _serve_operator(self) -> None:
        for happening in self._desk.wishes():
            self._settle(happening)

    def _tell_of_change(self) -> None:
        live = self._live()
        if live != self._told:
            self._told = live
            self._changed()

    def _live(self) -> dict[str, str]:
        return {name: model.file.sha256 for name, model in self._parts.models.items()}

    def _do(self, actions: Sequence[Action]) -> None:
        """In their order. Where the state can't be written down nothing that follows it is done."""
        todo = list(actions)
        while todo:
            action = todo.pop(0)
            if isinstance(action, Save):
                try:
                    self._store.save(action.state)
                except UpdateError as error:
                    todo = self._machine.unsaved(Failed(Reason(error.reason), str(error)), self._now())
                    continue
                self._state = action.state
            else:
                self._act(action)

    def _act(self, action: Action) -> None:
        if isinstance(action, Report):
            self._parts.publisher.publish(self._status_record())
        elif isinstance(action, Tell):
            self.services.emit(action.event)
        elif isinstance(action, Check | Fetch | Verify | Swap | SwapBack):
            self._trial.awaits(action.candidate if isinstance(action, Swap) else None)
            self._desk.check_begins(action.source if isinstance(action, Check) else None)
            self.errands.begin(action)
        elif isinstance(action, Cancel):
            self._trial.awaits(None)
            self._desk.check_cancelled()
            self.errands.cancel()
        elif isinstance(action, Shadow):
            self._shadow.begin(action.candidate)
        elif isinstance(action, Unshadow):
            self._shadow.end()
        elif isinstance(action, Settle):
            self._swapping.settle(action.model)
        elif isinstance(action, Collect):
            self._collect(action.keep)

    def _collect(self, keep: frozenset[str]) -> None:
        try:
            self._store.collect(keep)
        except UpdateError as error:  # the next one goes on
            self.faults.add(error, "old models stay on the disk until later")

    def _collect_at_start(self) -> None:
        """A power cut may have undone the last one."""
        self._collect(rollout_state.keep(self._state))

    def _end(self) -> None:
        self.errands.end()
        if self._parts.failure is None:  # else this start counts: a worker died of something, perhaps of the trial
            self._do(self._machine.stop(self._now()))

    def _status_record(self) -> Record:
        return status_record(self._parts, self._machine.status())

    def _now(self) -> Now:
        mono_ns = self.clock.monotonic_ns()
        return Now(mono_ns, self.clock.wall_ns(mono_ns), self.clock.synced())
