"""What takes its time: one errand after the other on a thread of its own, so that a bell, an order to stop or a sick
trial never waits for a server. An errand that was cancelled is not answered any more.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Mapping

from msgspec import Struct

from edge_agent.children.requirements import requirements_of
from edge_agent.children.verify import RefusedModelError, verify_model
from edge_agent.core.rollout_steps import Check, Checked, Done, Failed, Fetch, Progress, Swap, SwapBack, Verify
from edge_agent.errors import EdgeAgentError, UpdateError
from edge_agent.io.model_store import ModelStore
from edge_agent.rollouts import Candidate, DeviceState, Reason, Slot
from edge_agent.stages.worker import Services, Worker
from edge_agent.updating.repository import Access, Look
from edge_agent.updating.swapping import Swapping

PROGRESS_S = 1.0


class Restore(Struct, frozen=True):
    """Whatever was broken off: each model runs what this names, the factory's where it names none. No wish of the
    rules, but of who begins them anew. Answered by Done or Failed."""

    slots: Mapping[str, Slot]


Errand = Check | Fetch | Verify | Swap | SwapBack | Restore
Answer = Checked | Progress | Done | Failed


class Errands(Worker):
    """``answer`` takes the errand's number with Checked, Progress, Done or Failed, on this thread; ``state`` gives the
    device's state then."""

    def __init__(
        self,
        access: Access,
        swapping: Swapping,
        answer: Callable[[int, Answer], None],
        state: Callable[[], DeviceState],
        services: Services,
    ) -> None:
        super().__init__("errands", services)
        self._access = access
        self._store: ModelStore = access.store
        self._swapping = swapping
        self._answer = answer
        self._state = state
        self._queue: queue.SimpleQueue[tuple[int, Errand] | None] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._number = 0  # of the errand that is still to be answered
        self._halt = threading.Event()  # of that one
        self._look: Look | None = None
        self._source: str | None = None  # of the last check: what it found is fetched from there

    # --- from the updater's thread -------------------------------------------------------------------------------

    def begin(self, errand: Errand) -> None:
        self.cancel()
        self._queue.put((self._number, errand))

    def cancel(self) -> None:
        """What is under way ends soon, and is not answered. A swap is not interrupted: it is undone by the next one."""
        with self._lock:
            self._number += 1
            self._halt.set()
            self._halt = threading.Event()
            look, self._look = self._look, None
        if look is not None:
            look.stop()

    def awaits(self, number: int) -> bool:
        """Whether that errand is still the one to be answered: an answer may lie in a queue when it is cancelled."""
        return number == self._number

    def end(self) -> None:
        self.cancel()
        self._queue.put(None)

    # --- this thread ---------------------------------------------------------------------------------------------

    def work(self) -> None:
        while not self.services.stopping.is_set():
            self.beat()
            try:
                item = self._queue.get(timeout=1.0)
            except queue.Empty:
                continue
            if item is None:
                return
            self._run(*item)

    def _run(self, number: int, errand: Errand) -> None:
        with self._lock:
            if number != self._number:
                return
            stop = self._halt
        try:
            with self.excused():  # all of them may take long, and have time-outs of their own
                answer = self._do(number, errand, stop)
        except RefusedModelError as error:
            answer = Failed(Reason(error.reason), str(error), error.final, error.evidence)
        except UpdateError as error:
            answer = Failed(Reason(error.reason), str(error), error.final)
        except EdgeAgentError as error:
            looking = isinstance(errand, Check | Fetch)
            answer = Failed(
                Reason.UNREACHABLE if looking else Reason.LOAD, str(error), final=isinstance(errand, Verify | Swap)
            )
        except Exception as error:
            reason = Reason.UNREACHABLE if isinstance(errand, Check) else Reason.CRASHED
            self._say(number, Failed(reason, f"{type(error).__name__}: {error}"))
            raise
        self._say(number, answer)

    def _do(self, number: int, errand: Errand, stop: threading.Event) -> Answer:
        if isinstance(errand, Check):
            self._source = errand.source
            return self._looking(number).check(self._state())
        if isinstance(errand, Fetch):
            return self._fetch(number, errand.candidate)
        if isinstance(errand, Verify):
            release = errand.candidate.release
            path = self._store.slot(release.sha256)
            if path is None:
                raise UpdateError(Reason.HASH, f"{release.version} is not on the disk as it was signed")
            live = self._swapping.live(release.name)
            if live is None:  # no sample would ever come: it would stay on trial for ever
                raise UpdateError(Reason.INCOMPATIBLE, f"no pipeline uses [model.{release.name}]", final=True)
            requirements = requirements_of(self._access.loaded, release, live.engine.card)
            return Done(verify_model(path, requirements, stop=stop))
        if isinstance(errand, Swap):
            return Done(self._swapping.swap(errand.candidate, errand.share))
        if isinstance(errand, SwapBack):
            self._swapping.back(errand.model, errand.to)
        else:
            self._swapping.restore(errand.slots)
        return Done()

    def _fetch(self, number: int, candidate: Candidate) -> Done:
        said_s = 0.0

        def progress(done: int) -> None:
            nonlocal said_s
            if time.monotonic() - said_s >= PROGRESS_S:
                said_s = time.monotonic()
                self._say(number, Progress(done, candidate.release.length))

        self._looking(number).fetch(candidate.release, self._state(), progress)
        return Done()

    def _looking(self, number: int) -> Look:
        look = Look(self._access, self._source)
        with self._lock:
            if number != self._number:
                look.stop()
            else:
                self._look = look
        return look

    def _say(self, number: int, answer: Answer) -> None:
        with self._lock:
            if number != self._number:
                return
        self._answer(number, answer)
