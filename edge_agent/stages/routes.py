"""Which model a frame goes to: the live one or, while another is on trial, that one for a share of the frames.

A frame stays with the route that was chosen for it, from its preprocessing to its prediction: a switch loses none.
"""

from __future__ import annotations

import hashlib
import threading
from typing import Final

from msgspec.structs import replace

from edge_agent.core.trial_watch import TrialCounts
from edge_agent.records import Frame
from edge_agent.stages.engine import Engine
from edge_agent.stages.further_images import Pictures
from edge_agent.stages.ring import Slot
from edge_agent.stages.route import Route
from edge_agent.stages.tally import Taken

STRETCH: Final = 256  # frames in a row for one model where one of the two has a state: it needs the ones before


class Routes:
    """The live route and the one on trial. Safe for threads."""

    def __init__(self, live: Route) -> None:
        self.live = live
        self._trial: Route | None = None
        self._share = 0.0
        self._stretch = 1
        self._counted = Taken()  # at the last look at the one on trial
        self._retired: list[Route] = []  # with frames still on their way
        self._changed = threading.Condition()

    # --- frames --------------------------------------------------------------------------------------------------

    def fill(self, slot: Slot, frame: Frame) -> None:
        """Make a frame ready in the slot for the model that is chosen for it. What the one on trial fails on is its
        own fault, and the live one gets it; raises what that one fails with."""
        route = self._occupy(slot, frame.seq)
        try:
            slot.crossing = route.engine.prepare(frame.pixels, slot.tensors)
        except MemoryError:
            raise
        except Exception as error:
            if route is self.live:
                raise
            route.tally.failed(error)
            route = self._occupy(slot, None)
            slot.crossing = route.engine.prepare(frame.pixels, slot.tensors)

    def leave(self, slot: Slot) -> None:
        """The slot's frame is done with, or was given up: the buffers are its route's again."""
        with self._changed:
            self._leave(slot)

    def open(self) -> tuple[Route, ...]:
        """The routes that frames may go to, the live one last."""
        with self._changed:
            return (self.live,) if self._trial is None else (self._trial, self.live)

    def pictures(self) -> list[Pictures]:
        return [route.pictures for route in self.open()]

    def trial_failed(self, error: Exception) -> None:
        """A picture of a further camera could not be made ready for the model on trial."""
        trial = self._trial
        if trial is not None:
            trial.tally.failed(error)

    # --- the updater's thread ------------------------------------------------------------------------------------

    def begin(self, trial: Route, share: float, now: Taken) -> None:
        """``now``: what the pipeline's counters say. Raises RuntimeError where one is on trial."""
        with self._changed:
            if self._trial is not None:
                raise RuntimeError(f"another model is on trial: {self._trial.engine.identity}")
            self._trial, self._share, self._counted = trial, share, now
            self._stretch = STRETCH if trial.engine.stateful or self.live.engine.stateful else 1
            trial.leading = share >= 1
            self.live.taking = self.live.leading = share < 1

    def settle(self) -> Engine | None:
        """The one on trial is the live one from now on. Returns the one before it; None: none was on trial."""
        with self._changed:
            if self._trial is None:
                return None
            retired, self.live, self._trial = self.live, self._trial, None
            return self._retire(retired)

    def back(self) -> Engine | None:
        """All frames to the live one again. Returns the one that was on trial; None: there was none."""
        with self._changed:
            if self._trial is None:
                return None
            retired, self._trial = self._trial, None
            return self._retire(retired)

    def counts(self, now: Taken) -> TrialCounts | None:
        """Of the one on trial, since the last call; ``now``: what the pipeline's counters say."""
        trial, before = self._trial, self._counted
        self._counted = now
        if trial is None:
            return None
        counts = trial.tally.take(before, now)
        # a source that waits for a run that hangs offers nothing more: what is on its way still wants an answer
        return replace(counts, offered=max(counts.offered, trial.lent))

    def drained(self, engine: Engine, timeout_s: float) -> bool:
        """Wait until no frame is on its way to a retired engine. False: the time was over, or it is not retired."""
        with self._changed:
            return self._changed.wait_for(lambda: not self._uses(engine), timeout_s)

    # --- under the lock ------------------------------------------------------------------------------------------

    def _occupy(self, slot: Slot, frame_seq: int | None) -> Route:
        """Give the slot a route and its buffers. None: the live one, whatever the number."""
        with self._changed:
            self._leave(slot)
            route = slot.route = self.live if frame_seq is None else self._choose(frame_seq)
            slot.tensors = route.lend()
            return route

    def _choose(self, frame_seq: int) -> Route:
        trial = self._trial
        if trial is None or trial.tally.faulty or not trial.pictures.complete():
            return self.live  # a fault ends the trial: until the rules hear of it no more frames are spent on it
        if not takes(frame_seq // self._stretch, self._share):
            return self.live
        trial.tally.offered()
        return trial

    def _leave(self, slot: Slot) -> None:
        route = slot.route
        if route is None:
            return
        route.take_back(slot.tensors)
        slot.route, slot.tensors = None, {}
        if not route.lent and not route.taking:
            self._retired = [other for other in self._retired if other is not route]
            self._changed.notify_all()

    def _retire(self, route: Route) -> Engine:
        route.taking = route.leading = False
        self.live.taking = self.live.leading = True
        if route.lent:
            self._retired.append(route)
        return route.engine

    def _uses(self, engine: Engine) -> bool:
        used = [self.live, *self._retired, *([self._trial] if self._trial else [])]
        return any(route.engine is engine for route in used)


def takes(number: int, share: float) -> bool:
    """Whether a model with that share gets the frame (or stretch of frames) of that number: the first 8 bytes of the
    SHA-256 of its decimal digits, as a fraction of 2^64, lie below the share. The same on every device."""
    if share >= 1:
        return True
    return int.from_bytes(hashlib.sha256(str(number).encode()).digest()[:8], "big") < share * 2**64
