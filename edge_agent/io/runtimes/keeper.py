"""The thread behind failover.py: buries what was lost, tries it again at a growing distance, and brings it back ready.

It also keeps the note of what this process uses: a library that kills it is known at the next start.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Collection, Sequence

from edge_agent import limits
from edge_agent.errors import DeviceError
from edge_agent.io.runtimes.builder import Builder
from edge_agent.io.runtimes.candidates import Candidate, stand_ins
from edge_agent.io.runtimes.probe import Probe
from edge_agent.ports import Runtime

log = logging.getLogger("edge_agent")
Arrival = tuple[int, Runtime]


class Keeper(threading.Thread):
    """One for each runtime. It stays for as long as that one: a child that it started ends with this thread."""

    def __init__(
        self,
        candidates: Sequence[Candidate],
        position: int,
        builder: Builder,
        misfit: Callable[[Candidate, Runtime], str],
        no_fallback: Callable[[str], None],
        lost: Collection[int],
    ) -> None:
        """``misfit``: what forbids a change to that runtime; ``no_fallback``: told why nothing can stand in; ``lost``:
        positions of what this process has lost already, and of the other devices that may come in its place."""
        super().__init__(name=f"delegate {candidates[position].name}", daemon=True)
        self._candidates = candidates
        self._position = position  # of what runs
        self._builder = builder
        self._misfit = misfit
        self._no_fallback = no_fallback
        self._changed = threading.Condition()
        self._closing = False
        self._graves: list[tuple[Runtime, Candidate, bool]] = []  # to be closed; whether it failed
        self._arrival: Arrival | None = None
        self._probe: Probe | None = None
        self._delay_s = limits.DELEGATE_RETRY_FIRST_S
        self._due_s: float | None = None  # of the next attempt, monotonic
        self._steady_s: float | None = None  # when what runs has proved itself
        self._missed = self._missed_at_start(lost)
        self._begin_use(position)  # at once: it may kill the process in its first run

    # --- the thread of the run -----------------------------------------------------------------------------------

    def lost(self, position: int, runtime: Runtime | None, lived_s: float, missed: Collection[int]) -> float:
        """It ran for so long; ``missed``: its position, and those of other devices that may come in its place. Returns
        the seconds until they are tried."""
        with self._changed:
            if lived_s >= limits.DELEGATE_STEADY_S:
                self._delay_s = limits.DELEGATE_RETRY_FIRST_S
            self._missed.update(missed)
            self._steady_s = None
            if runtime is not None:
                self._graves.append((runtime, self._candidates[position], True))
            delay_s = self._delay()
            self._changed.notify_all()
            return delay_s

    def arrival(self) -> Arrival | None:
        """What is ready to take over; it is the caller's from now on."""
        if self._arrival is None:  # without the lock: asked before each run
            return None
        with self._changed:
            arrival, self._arrival = self._arrival, None
            return arrival

    def replaced(self, position: int, runtime: Runtime | None) -> None:
        """Nobody uses it any more."""
        with self._changed:
            if runtime is not None:
                self._graves.append((runtime, self._candidates[position], False))
            self._changed.notify_all()

    # --- whoever ends it -----------------------------------------------------------------------------------------

    def close(self) -> None:
        """It brings nothing any more; its own affairs it ends by itself."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()
            if self._probe is not None:
                self._probe.kill()

    def put_away(self) -> None:
        """What ran was closed in an orderly way."""
        self._end_use(self._candidates[self._position])

    # --- this thread ---------------------------------------------------------------------------------------------

    def run(self) -> None:
        self._rehearse()
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._closing or bool(self._graves), self._wait_s())
                closing, graves, self._graves = self._closing, self._graves, []
            for runtime, candidate, failed in graves:
                self._bury(runtime, candidate, failed=failed)
            if closing:
                break
            self._look()
        self._drop_arrival()

    def _missed_at_start(self, lost: Collection[int]) -> set[int]:
        """Positions of what was passed over at the start and may come: a stick that the system has not seen yet, and
        what ran before, until it killed the process. The others did not run the model, and won't."""
        missed = set(lost)
        for position, candidate in enumerate(self._candidates[: self._position]):
            deadly = self._builder.cache.deadly(candidate.key)
            if deadly:
                self._builder.cache.spare(candidate.key)
                self._delay_s = limits.DELEGATE_RETRY_LAST_S
            if deadly or candidate.exclusive:
                missed.add(position)
        if missed:
            self._delay()
        return missed

    def _rehearse(self) -> None:
        """Whether another build of the model could stand in: that is to be known before it must."""
        others = stand_ins(self._candidates[self._position + 1 :])
        source = self._candidates[self._position].source
        if not others or others[0].source.sha256 == source.sha256:
            return
        reasons = []
        for candidate in others:
            try:
                runtime = self._ready(candidate)
            except Exception as error:  # noqa: BLE001 - reported: whatever it is, nothing stands in
                reasons.append(f"{candidate.label}: {error}")
                continue
            runtime.close()
            return
        if not self._closing:
            self._no_fallback("; ".join(reasons))

    def _look(self) -> None:
        now_s = time.monotonic()
        if self._steady_s is not None and now_s >= self._steady_s:
            self._steady_s = None
            self._end_use(self._candidates[self._position])
        if self._due_s is not None and now_s >= self._due_s:
            self._due_s = None
            self._climb()

    def _climb(self) -> None:
        """Bring the most wanted that answers again."""
        with self._changed:
            missed = sorted(self._missed)
        for position in missed:
            try:
                runtime = self._ready(self._candidates[position])
            except Exception as error:  # noqa: BLE001 - logged: whatever it is, the model runs where it does
                log.info("%s is not back: %s", self._candidates[position].name, error)
                continue
            self._drop_arrival()  # a less wanted one, which waits for a run
            self._begin_use(position)
            with self._changed:
                self._missed = {other for other in self._missed if other < position}
                self._position, self._arrival = position, (position, runtime)
            break
        if self._missed:
            with self._changed:
                self._delay()

    def _ready(self, candidate: Candidate) -> Runtime:
        """Tried, built, and warm. Raises DeviceError, ModelError, ConfigError."""
        with self._changed:
            if self._closing:
                raise DeviceError("nobody wants it any more")
            self._probe = self._builder.probe(candidate, behind=True)
        runtime = self._builder.build(candidate, self._probe)
        try:
            if difference := self._misfit(candidate, runtime):
                raise DeviceError(f"its tensors are others: {difference}")
            runtime.invoke({})
        except BaseException:
            runtime.close()
            raise
        return runtime

    def _delay(self) -> float:
        """Under the lock: set the next attempt, and make the one after it later."""
        delay_s = self._delay_s
        self._due_s = time.monotonic() + delay_s
        self._delay_s = min(2 * delay_s, limits.DELEGATE_RETRY_LAST_S)
        return delay_s

    def _wait_s(self) -> float | None:
        ends = [end_s for end_s in (self._due_s, self._steady_s) if end_s is not None]
        return max(0.0, min(ends) - time.monotonic()) if ends else None

    def _drop_arrival(self) -> None:
        """Nobody took it."""
        arrival = self.arrival()
        if arrival is not None:
            self._bury(arrival[1], self._candidates[arrival[0]], failed=False)

    def _bury(self, runtime: Runtime, candidate: Candidate, *, failed: bool) -> None:
        if failed:  # and killed nobody; the next start tries it in a child
            self._builder.cache.forget(candidate.key)
        runtime.close()
        self._end_use(candidate)

    def _begin_use(self, position: int) -> None:
        candidate = self._candidates[position]
        if _in_this_process(candidate):
            self._builder.cache.begin(candidate.key)
            self._steady_s = time.monotonic() + limits.DELEGATE_STEADY_S

    def _end_use(self, candidate: Candidate) -> None:
        if _in_this_process(candidate):
            self._builder.cache.end(candidate.key)


def _in_this_process(candidate: Candidate) -> bool:
    return candidate.backend.plugin is not None and not candidate.backend.own_process
